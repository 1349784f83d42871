"""Rows whose whole distribution counts: temperature and min-p, without top-k and top-p.

Law: the numbers are those of `common.sampling.distribution.warped` in float64, up to the order of sums.
"""

import torch

from cloud_worker.session.judging import Asked
from cloud_worker.target_model.judge.coupling import gumbel_noise
from cloud_worker.target_model.judge.draws import block_sums, draw, padded_width
from cloud_worker.target_model.judge.table import Table


def scaled(rows: torch.Tensor, largest: torch.Tensor, temperature: torch.Tensor, width: int) -> torch.Tensor:
    """(logit - largest) / temperature in float64, [n, width]; -inf where there is no logit."""
    exponents = rows.new_full((len(rows), width), float("-inf"), dtype=torch.float64)
    exponents[:, : rows.shape[1]] = rows
    return exponents.sub_(largest[:, None].double()).div_(temperature)


def judge_plain(rows: torch.Tensor, largest: torch.Tensor, table: Table) -> torch.Tensor:
    """The answers [n] of rows [n, width]."""
    width = padded_width(table.vocab_size)
    weights = scaled(rows, largest, table.column("temperature"), width)
    choosing = table.rows_asked(Asked.CHOICE)
    exponents = None
    if choosing:
        exponents = weights if len(choosing) == len(rows) else weights[choosing]
        weights = weights.exp() if exponents is weights else weights.exp_()
    else:
        weights.exp_()
    if table.has_min_p:
        weights.masked_fill_(weights < table.column("min_p"), 0.0)
    total = block_sums(weights).sum(-1)
    probs = weights.gather(1, table.column("token"))[:, 0] / total
    answers = probs
    if table.rows_asked(Asked.TOKEN):
        answers = torch.where(
            table["asked"] == Asked.TOKEN.value, _tokens(weights, total, probs, table), probs
        )
    if exponents is not None:
        chosen = _choices(exponents, weights, total, table, choosing)
        answers = answers.index_put((torch.tensor(choosing, device=rows.device),), chosen.double())
    return answers


def _tokens(weights: torch.Tensor, total: torch.Tensor, probs: torch.Tensor, table: Table) -> torch.Tensor:
    """What the draft tokens become [n]: themselves, or a draw from the residual (y - q)+."""
    accepts = table["accept"] < (probs / table["draft_prob"]).clamp(max=1.0)
    kept = table["token"].double()
    if weights.device.type == "cpu" and bool(accepts.all()):
        return kept
    excess = table.draft_probs(weights.shape[1]).mul_(total[:, None]).neg_().add_(weights).clamp_(min=0.0)
    has_mass = (excess > 0.0).any(-1, keepdim=True)
    drawn, _ = draw(torch.where(has_mass, excess, weights), table["resample"])
    return torch.where(accepts, kept, drawn.double())


def _choices(
    exponents: torch.Tensor, weights: torch.Tensor, total: torch.Tensor, table: Table, rows: list[int]
) -> torch.Tensor:
    """The target's own choices [len(rows)]: argmax(log y + noise), or the only token with mass."""
    index = torch.tensor(rows, device=weights.device)
    seeds, positions = table.column("seed")[index], table.column("position")[index]
    ids = torch.arange(weights.shape[1], device=weights.device)[None]
    mine = weights[index]
    noisy = exponents.masked_fill(mine == 0.0, float("-inf")).add_(gumbel_noise(seeds, positions, ids))
    is_certain = mine.amax(-1) / total[index] >= 1.0
    return torch.where(is_certain, mine.argmax(-1), noisy.argmax(-1))
