"""Record how a pair's texts are drafted: each token's uncertainty, and whether the target accepts it.

Law: each token is drawn by the real policy and judged by the real verification, on the text so far. A text
depends on prompt, seed, models and threshold alone, so a record is valid for any window and block length.
"""

from collections.abc import Mapping, Sequence

from benchmarks.drafting_ahead.records import Record, Recorded, Records
from cloud_worker.session.verification import verify_block
from common.sampling.distribution import fit_vocabulary, warp
from edge_agent.policy.policy import Decision, Policy
from edge_agent.policy.schemes import SCHEMES, Scheme
from evaluation.models.pair import Pair, load_pair

AHEAD = 6  # tokens drafted before the target reads them: fewer passes, the same text


def collect(
    draft: str, target: str, prompts: Mapping[str, Sequence[str]], *, max_tokens: int, num_threads: int
) -> Records:
    """Record every prompt under both of our gates."""
    with load_pair(draft, target, num_threads=num_threads, dtype="float32") as pair:
        texts: dict[str, dict[str, list[Record]]] = {}
        for name in ("lossless", "opportunistic"):
            for kind, asked in prompts.items():
                records = texts.setdefault(name, {}).setdefault(kind, [])
                for seed, prompt in enumerate(asked, 1):
                    records.append(record(pair, SCHEMES[name], pair.prompt(prompt), seed, max_tokens))
                    print(f"{name}, {kind}: {records[-1].described}", flush=True)
    return texts


def record(pair: Pair, scheme: Scheme, prompt: Sequence[int], seed: int, max_tokens: int) -> Record:
    """Generate one text, a few draft tokens per pass of the target."""
    policy = Policy(scheme, pair.info.sampling, seed, scheme.threshold)
    tokens, taken = list(prompt), list[Recorded]()
    last = min(len(prompt) + max_tokens, pair.max_positions)
    while len(tokens) < last and not (taken and tokens[-1] in pair.eos_ids):
        ahead, proposals = list(tokens), []
        for _ in range(min(AHEAD, last - len(tokens))):
            proposal = policy.propose(fit_vocabulary(pair.draft.logits(ahead), pair.vocab_size), len(ahead))
            proposals.append(proposal)
            ahead.append(proposal.draft.token)
            if ahead[-1] in pair.eos_ids:
                break
        rows = pair.target.rows(ahead[:-1], len(proposals))
        for proposal, row in zip(proposals, rows, strict=True):
            probs = warp(fit_vocabulary(row, pair.vocab_size), pair.info.sampling)
            verdict = verify_block(
                lambda _, probs=probs: probs, (proposal.draft,), seed=seed, position=len(tokens), bonus=False
            )
            is_kept = verdict.num_accepted == 1 or proposal.decision is Decision.SKIP
            taken.append(Recorded(round(proposal.uncertainty, 4), is_kept))
            tokens.append(proposal.draft.token if is_kept or verdict.token is None else verdict.token)
            if not is_kept:
                break
    return Record(len(prompt), tuple(taken))
