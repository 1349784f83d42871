"""Judging where the logits lie: the verdicts of `session.judging`, in torch, for all rows of a pass."""

from cloud_worker.target_model.judge.judge import Judge

__all__ = ["Judge"]
