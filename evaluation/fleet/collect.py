"""Traces and message sizes of a real pair, scheme by scheme, which a fleet's sessions replay.

Law: each token is drawn by the real policy and judged by the real verification, on the text so far. Since a
text depends only on prompt, seed, models and threshold, it is the text of a whole run with that seed, however
the run is split into blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloud_worker.session.verification import verify_block
from common.link.packets import publish_size
from common.link.properties import publish_properties
from common.protocol.codec import encode
from common.protocol.messages import Correction, Draft, DraftToken, Opening, ToDevice, ToWorker
from common.protocol.topics import Topics
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from edge_agent.policy.policy import Decision, Policy
from edge_agent.policy.schemes import Scheme
from evaluation.fleet.traces import ASKED, HELD, SKIPPED, SchemeTraces, Trace
from evaluation.models.pair import Pair

EXPIRY = 30
POOL, DEVICE, SESSION, WORKER = "demo", "sensor-0001", "0a1b2c3d", "worker-1"
LETTERS = {Decision.SKIP: SKIPPED, Decision.HOLD: HELD, Decision.UPLINK: ASKED}


@dataclass(slots=True)
class _Sizes:
    """Payload bytes of verified tokens, beyond those of an empty draft."""

    num_tokens: int = 0
    num_bytes: int = 0


def collect(
    pair: Pair,
    scheme: Scheme,
    prompts: Iterable[Sequence[int]],
    *,
    max_tokens: int,
    seed: int,
    sampling: Sampling | None = None,
) -> SchemeTraces:
    """Generate once per prompt, at the scheme's threshold; `sampling` None: temperature 1."""
    sampling = sampling or Sampling()
    sizes = _Sizes()
    traces = [
        _trace(pair, scheme, prompt, sizes, sampling, max_tokens=max_tokens, seed=seed + number)
        for number, prompt in enumerate(prompts)
    ]
    opening = pair.opening(sampling, seed)
    topics = Topics()
    to_worker, to_device = topics.draft(POOL, WORKER, DEVICE, SESSION), topics.correction(DEVICE, SESSION)
    follow_up = Draft(3, 1, 40, (), (), check=1 << 31)
    longer = Draft(3, 1, 40, tuple(range(100)), (), check=1 << 31)
    opener = Draft(0, 0, 0, (), (), opening=opening)
    return SchemeTraces(
        window=scheme.window,
        drafts=scheme.drafts,
        open_bytes=_packet(topics.open(POOL, DEVICE, SESSION), opener, qos=1),
        draft_bytes=_packet(to_worker, follow_up, alias=1),
        context_bytes=(_size(longer) - _size(follow_up)) / 100,
        token_bytes=sizes.num_bytes / max(1, sizes.num_tokens),
        correction_bytes=_packet(to_device, Correction(3, 4, None, WORKER, compute_ms=21.5), alias=1),
        traces=tuple(each for each in traces if each.steps),
    )


def _trace(
    pair: Pair,
    scheme: Scheme,
    prompt: Sequence[int],
    sizes: _Sizes,
    sampling: Sampling,
    *,
    max_tokens: int,
    seed: int,
) -> Trace:
    opening = pair.opening(sampling, seed)
    policy = Policy(scheme, opening.sampling, seed, scheme.threshold)
    tokens, steps, uncertainties = list(prompt), "", list[float]()
    last = min(len(prompt) + max_tokens, pair.max_positions)
    while len(tokens) < last and (len(steps) == 0 or tokens[-1] not in pair.eos_ids):
        step, token, uncertainty = _step(pair, policy, opening, tokens, sizes)
        tokens.append(token)
        uncertainties.append(round(uncertainty, 3))
        steps += step
    return Trace(len(prompt), steps, tuple(uncertainties) if scheme.window is None else ())


def _step(
    pair: Pair, policy: Policy, opening: Opening, tokens: Sequence[int], sizes: _Sizes
) -> tuple[str, int, float]:
    """Return the letter, the token and the uncertainty of the next position."""
    if not policy.scheme.drafts:
        return ASKED, _verdict(pair, opening, tokens, ())[1], 0.0
    logits = fit_vocabulary(pair.draft.logits(tokens), pair.vocab_size)
    proposal = policy.propose(logits, len(tokens))
    letter = LETTERS[proposal.decision]
    if proposal.decision is Decision.SKIP:
        return letter, proposal.draft.token, proposal.uncertainty
    sizes.num_tokens += 1
    sizes.num_bytes += _size(Draft(3, 1, 40, (), (proposal.draft,), check=1)) - _size(
        Draft(3, 1, 40, (), (), check=1)
    )
    num_accepted, token = _verdict(pair, opening, tokens, (proposal.draft,))
    if num_accepted:
        return letter, proposal.draft.token, proposal.uncertainty
    return letter.upper(), token, proposal.uncertainty


def _verdict(
    pair: Pair, opening: Opening, tokens: Sequence[int], block: tuple[DraftToken, ...]
) -> tuple[int, int]:
    row = fit_vocabulary(pair.target.row(tokens), opening.vocab_size)
    probs = warp(row, opening.sampling)
    verdict = verify_block(lambda _: probs, block, seed=opening.seed, position=len(tokens), bonus=not block)
    return verdict.num_accepted, -1 if verdict.token is None else verdict.token


def _size(message: ToDevice | ToWorker) -> int:
    return len(encode(message))


def _packet(topic: str, message: ToDevice | ToWorker, *, qos: int = 0, alias: int | None = None) -> int:
    """Return the size of the whole packet; an alias replaces the topic, as after the first packet."""
    properties = len(publish_properties(EXPIRY, alias).pack())
    return publish_size("" if alias else topic, encode(message), properties, qos)
