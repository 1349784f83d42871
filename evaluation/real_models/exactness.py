"""Whether the promises hold on a real pair: greedy texts by comparing, sampled tokens by chi-square tests.

Law: a greedy text is compared with what transformers' own `generate` writes. A sampled token is compared with
the target's distribution at a fixed prefix, over many seeds: the agent's policy drafts, the worker's judging
decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chisquare

from cloud_worker.session.verification import verify_token
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from common.sampling.randomness import FloatArray
from edge_agent.agent import EdgeAgent
from edge_agent.assembly import build_policy
from edge_agent.config import AgentConfig
from edge_agent.policy.schemes import SCHEMES
from evaluation.models.pair import Pair

EXACT = ("lossless", "coupled")
NUM_SEEDS = 2000
LEAST_EXPECTED = 5.0  # counts in a bin of the test; rarer tokens share one
CLOUD_TIMEOUT = 600.0


async def greedy_tokens(
    scheme: str,
    draft: str,
    broker_url: str,
    prompts: Sequence[str],
    max_tokens: int,
    progress: Callable[[], object],
) -> list[list[int]]:
    """Return what a real agent writes after each prompt, with the end token where there is one."""
    config = AgentConfig(
        model=draft,
        broker=broker_url,
        scheme=scheme,
        temperature=0.0,
        repetition_penalty=1.0,
        max_tokens=max_tokens,
        num_threads=1,
        cloud_timeout=CLOUD_TIMEOUT,
    )
    found: list[list[int]] = []
    async with EdgeAgent.open(config) as agent:
        for prompt in prompts:
            generation = agent.generate(prompt, seed=1)
            async for _ in generation:
                pass
            if generation.session.failure is not None:
                raise RuntimeError(agent.explain(generation.session.failure))
            session = generation.session
            found.append(list(session.tokens[len(session.tokens) - session.tally.num_tokens :]))
            progress()
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """How `NUM_SEEDS` tokens of one scheme fit the target's distribution after one prefix."""

    scheme: str
    sampling: str
    prompt: int
    position: int  # tokens of the answer before the tested one
    num_tokens: int  # tokens that the target can draw here
    acceptance: float
    p_value: float


def least_certain(pair: Pair, prompt: Sequence[int], answer: Sequence[int], sampling: Sampling) -> int:
    """Return after how many tokens of `answer` the target's distribution is the widest."""
    rows = pair.target.rows([*prompt, *answer[:-1]], len(answer))
    largest = [warp(fit_vocabulary(row, pair.vocab_size), sampling).max() for row in rows]
    return int(np.argmin(largest))


def fit(
    pair: Pair,
    scheme: str,
    number: int,
    prompt: Sequence[int],
    answer: Sequence[int],
    named: tuple[str, Sampling],
) -> Fit:
    """Draw and verify one token for each seed after prompt and answer, and test the counts."""
    name, sampling = named
    prefix = [*prompt, *answer]
    config = AgentConfig(scheme=scheme, threshold=-1.0 if SCHEMES[scheme].skips_certain else None)
    logits = fit_vocabulary(pair.draft.logits(prefix), pair.vocab_size)
    target_probs = warp(fit_vocabulary(pair.target.row(prefix), pair.vocab_size), sampling)
    counts = np.zeros(len(target_probs))
    num_accepted = 0
    for seed in range(1, NUM_SEEDS + 1):
        draft = build_policy(config, sampling, seed).propose(logits, len(prefix)).draft
        token = verify_token(target_probs, draft, seed, len(prefix))
        counts[token] += 1
        num_accepted += token == draft.token
    support = int(np.count_nonzero(target_probs))
    return Fit(
        scheme, name, number, len(answer), support, num_accepted / NUM_SEEDS, p_value(counts, target_probs)
    )


def p_value(counts: FloatArray, probs: FloatArray) -> float:
    """Return the chi-square test's p-value of `counts` [n] under `probs` [n]; rare tokens share a bin.

    A token that cannot be drawn makes it 0. With one bin it is 1.
    """
    if counts[probs == 0].any():
        return 0.0
    expected = probs * counts.sum()
    is_rare = expected < LEAST_EXPECTED
    seen = np.append(counts[~is_rare], counts[is_rare].sum())
    due = np.append(expected[~is_rare], expected[is_rare].sum())
    if due[-1] < LEAST_EXPECTED:  # too few for a bin of their own
        largest = int(np.argmax(due[:-1]))
        seen[largest], due[largest] = seen[largest] + seen[-1], due[largest] + due[-1]
        seen, due = seen[:-1], due[:-1]
    if len(due) < 2:
        return 1.0
    return float(chisquare(seen, due * seen.sum() / due.sum()).pvalue)
