"""Rows whose whole distribution counts: temperature and min-p, without top-k and top-p.

Law: the numbers are those of `common.sampling.distribution.warped` in float64, up to the order of sums.
"""

import torch
from torch.nn.functional import pad

from cloud_worker.session.judging import Asked
from cloud_worker.target_model.arrays import to_device
from cloud_worker.target_model.judge.coupling import gumbel_noise, uniforms
from cloud_worker.target_model.judge.draws import block_sums, draw, padded_width
from cloud_worker.target_model.judge.kernels import kernels
from cloud_worker.target_model.judge.table import Table
from common.sampling.randomness import Purpose


def weights_of(
    rows: torch.Tensor, largest: torch.Tensor, temperature: torch.Tensor, width: int
) -> torch.Tensor:
    """exp((logit - largest) / temperature) in float64, [n, width]; 0 where there is no logit."""
    top = largest[:, None].double()
    made = kernels(rows.device)
    if made is not None:
        found = made.weight(rows, top, temperature)
    else:
        found = rows.double().sub_(top).div_(temperature).exp_()
    return found if width == rows.shape[1] else pad(found, (0, width - rows.shape[1]))


def judge_plain(rows: torch.Tensor, largest: torch.Tensor, table: Table) -> torch.Tensor:
    """The answers [n] of rows [n, width]."""
    width = padded_width(table.vocab_size)
    weights = weights_of(rows, largest, table.column("temperature"), width)
    if table.has_min_p:
        weights.masked_fill_(weights < table.column("min_p"), 0.0)
    total = block_sums(weights).sum(-1)
    answers = probs = weights.gather(1, table.column("token"))[:, 0] / total
    if choosing := table.rows_asked(Asked.CHOICE):
        index = to_device(torch.tensor(choosing), rows.device)
        chosen = _choices(rows, largest, weights, total, table.part(choosing, index), index)
        answers = answers.index_copy(0, index, chosen.double())
    if table.rows_asked(Asked.TOKEN):
        is_drafted = table["asked"] == Asked.TOKEN.value
        answers = torch.where(is_drafted, _tokens(weights, total, probs, table, is_drafted), answers)
    return answers


def _choices(
    rows: torch.Tensor,
    largest: torch.Tensor,
    weights: torch.Tensor,
    total: torch.Tensor,
    table: Table,
    index: torch.Tensor,
) -> torch.Tensor:
    """The target's own choices in some rows: argmax(log y + noise), or the only token with mass."""
    width = rows.shape[1]
    logits, top = rows.index_select(0, index), largest.index_select(0, index)[:, None].double()
    mine = weights.index_select(0, index)[:, :width]
    noise = gumbel_noise(table, torch.arange(width, device=rows.device)[None])
    made = kernels(rows.device)
    if made is not None:
        noisy = made.score(logits, top, table.column("temperature"), noise, mine)
    else:
        exponents = logits.double().sub_(top).div_(table.column("temperature"))
        noisy = exponents.masked_fill_(mine == 0.0, float("-inf")).add_(noise)
    is_certain = mine.amax(-1) / total.index_select(0, index) >= 1.0
    return torch.where(is_certain, mine.argmax(-1), noisy.argmax(-1))


def _tokens(
    weights: torch.Tensor, total: torch.Tensor, probs: torch.Tensor, table: Table, is_drafted: torch.Tensor
) -> torch.Tensor:
    """What the draft tokens become [n]: themselves, or a draw from the residual (y - q)+.

    Changes the weights, which are not needed after it.
    """
    accepts = uniforms(table, Purpose.ACCEPT) < (probs / table.draft_prob()).clamp(max=1.0)
    kept = table["token"].double()
    if weights.device.type == "cpu" and bool((accepts | ~is_drafted).all()):
        return kept
    if table.has_rest or table.whole is not None:
        excess = table.draft_probs(weights.shape[1]).mul_(total[:, None]).neg_().add_(weights).clamp_(min=0.0)
        has_mass = (excess > 0.0).any(-1, keepdim=True)
        weights = torch.where(has_mass, excess, weights)
    else:
        _leave_excess(weights, total, table)
    drawn, _ = draw(weights, uniforms(table, Purpose.RESAMPLE))
    return torch.where(accepts, kept, drawn.double())


def _leave_excess(weights: torch.Tensor, total: torch.Tensor, table: Table) -> None:
    """Leave (w - q)+ in each row: only the listed ids change; nothing does if that leaves no mass."""
    listed = table.listed
    mine = weights[listed.rows, listed.ids]
    excess = (mine - listed.probs * total.index_select(0, listed.rows)).clamp_(min=0.0)
    weights[listed.rows, listed.ids] = excess
    has_mass = (block_sums(weights).sum(-1) > 0.0).index_select(0, listed.rows)
    weights[listed.rows, listed.ids] = torch.where(has_mass, excess, mine)
