"""Rows with top-k or top-p: only the most probable ids count, found by selection.

Law: which ids remain is what `common.sampling.distribution.warped` keeps, ties by the lower id. A row whose
kept ids may reach beyond the selection is reported, never guessed at.
"""

import torch

from cloud_worker.session.judging import Asked
from cloud_worker.target_model.judge.coupling import gumbel_noise
from cloud_worker.target_model.judge.draws import block_sums, draw_short, padded_width
from cloud_worker.target_model.judge.plain import scaled
from cloud_worker.target_model.judge.table import Table

SHORT_HEAD, LONG_HEAD = 64, 1024  # ids selected: for a small top-k, and for all else


def head_size(top_k: int) -> int:
    """How many ids to select for a row, by its own settings alone."""
    return SHORT_HEAD if 0 < top_k < SHORT_HEAD else LONG_HEAD


def judge_filtered(
    rows: torch.Tensor, largest: torch.Tensor, table: Table, head: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers [n] of rows [n, width], and which of them are sure; others need a longer head."""
    head = min(head, rows.shape[1])
    is_whole = head == rows.shape[1]
    logits, ids = rows.topk(head) if not is_whole else (rows, _all_ids(rows))
    ids, by_id = ids.sort(-1)
    logits = logits.gather(1, by_id).double()
    order = torch.sort(logits, stable=True, dim=-1, descending=True).indices
    exponents = (logits - largest[:, None].double()).div_(table.column("temperature"))
    kept, is_sure = _kept(rows, exponents, order, largest, table, is_whole)
    weights = torch.where(kept, exponents.exp(), 0.0)
    total = weights.sum(-1)
    probs = weights / total[:, None]
    at_token = (probs * (ids == table.column("token"))).sum(-1)
    answers = at_token
    is_drafted = table["asked"] == Asked.TOKEN.value
    if table.rows_asked(Asked.TOKEN):
        accepts = table["accept"] < (at_token / table["draft_prob"]).clamp(max=1.0)
        excess = (probs - table.draft_probs(padded_width(table.vocab_size)).gather(1, ids)).clamp_(min=0.0)
        has_mass = (excess > 0.0).any(-1, keepdim=True)
        place, _ = draw_short(torch.where(has_mass, excess, probs), table["resample"])
        drawn = ids.gather(1, place[:, None])[:, 0]
        answers = torch.where(is_drafted, torch.where(accepts, table["token"], drawn).double(), answers)
    if table.rows_asked(Asked.CHOICE):
        noise = gumbel_noise(table.column("seed"), table.column("position"), ids)
        noisy = torch.where(kept, exponents, float("-inf")) + noise
        best = torch.where(probs.amax(-1) >= 1.0, probs.argmax(-1), noisy.argmax(-1))
        chosen = ids.gather(1, best[:, None])[:, 0].double()
        answers = torch.where(table["asked"] == Asked.CHOICE.value, chosen, answers)
    return answers, is_sure


def _all_ids(rows: torch.Tensor) -> torch.Tensor:
    return torch.arange(rows.shape[1], device=rows.device).expand(rows.shape)


def _kept(
    rows: torch.Tensor,
    exponents: torch.Tensor,
    order: torch.Tensor,
    largest: torch.Tensor,
    table: Table,
    is_whole: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the selected ids remain, [n, head] in the order of ids; and whether these are surely all."""
    ordered = exponents.gather(1, order)
    weights = ordered.exp()
    ranks = torch.arange(weights.shape[1], device=rows.device)[None]
    top_k, top_p = table.column("top_k"), table.column("top_p")
    limited = (top_k > 0) & (top_k < table.vocab_size)
    weights = torch.where(~limited | (ranks < top_k), weights, 0.0)
    totals = weights.sum(-1, keepdim=True)
    if not is_whole and table.has_unlimited:
        everything = scaled(rows, largest, table.column("temperature"), padded_width(table.vocab_size)).exp_()
        totals = torch.where(limited, totals, block_sums(everything).sum(-1, keepdim=True))
    reached = (weights.cumsum(-1) / totals < top_p).sum(-1, keepdim=True) + 1
    count = torch.where(top_p < 1.0, reached, weights.shape[1])
    keeps = (ranks < count) & (weights > 0.0) & (weights >= table.column("min_p"))
    is_sure = torch.ones_like(keeps[:, 0])
    if not is_whole:
        num_kept = keeps.sum(-1)
        num_above = (ordered > ordered[:, -1:]).sum(-1)
        is_sure = num_kept <= num_above
    return torch.zeros_like(keeps).scatter_(1, order, keeps), is_sure
