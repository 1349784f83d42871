"""A generation without a link: both state machines in one process, every message answered at once.

Law: the text is a function of prompt, seed, models and threshold (law 3), so what comes out here
is what comes out over any network; only times and bytes are not there to be measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Draft, ToDevice
from common.sampling.distribution import fit_vocabulary
from edge_agent.assembly import build_policy, build_session_settings, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.policy.policy import Proposal
from edge_agent.session.events import Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.step import advance
from edge_agent.session.tally import Tally
from edge_agent.tuning.calibration import Calibration
from evaluation.models.pair import Pair

SESSION = "undelayed"

OnProposal = Callable[[int, Proposal], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What was generated, and the session's counts."""

    tokens: tuple[int, ...]
    text: str
    tally: Tally


def write(
    pair: Pair,
    config: AgentConfig,
    prompt: Sequence[int],
    seed: int,
    *,
    calibration: Calibration | None = None,
    on_proposal: OnProposal | None = None,
) -> Written:
    """Continue `prompt` as an agent with `config` and a worker would; `calibration` is what the agent found.

    `on_proposal(position, proposal)` sees each draft token when it is drawn. Raises RuntimeError with the
    session's reason when it cannot go on.
    """
    sampling = choose_sampling(config, pair.info.sampling)
    opening = pair.opening(sampling, seed)
    settings = build_session_settings(config, opening, pair.info.eos_ids, pair.max_positions)
    session = EdgeSession(prompt, settings)
    policy = build_policy(config, sampling, seed, calibration)
    cloud = CloudSession(
        Target(SESSION, pair.text.fingerprint, pair.vocab_size, pair.max_positions, pair.target.eos_ids)
    )
    tokens: list[int] = []
    step = advance(session, 0.0)
    while not step.finished:
        events: list[Event] = [*_answers(step.messages, cloud, pair)]
        if not events and (context := session.begin_draft()) is not None:
            logits = fit_vocabulary(pair.draft.logits(context), pair.vocab_size)
            proposal = policy.propose(logits, len(context))
            if on_proposal is not None:
                on_proposal(len(context), proposal)
            events.append(Drafted(proposal))
        if not events:
            raise RuntimeError("the session waits for an answer that will not come")
        step = advance(session, 0.0, events)
        tokens += [final.token for final in step.finals]
    pair.target.forget(SESSION)
    if session.failure is not None:
        raise RuntimeError(session.failure)
    return Written(tuple(tokens), pair.text.decode(tokens), session.tally)


def _answers(messages: Iterable[Outgoing], cloud: CloudSession, pair: Pair) -> list[ToDevice]:
    answers: list[ToDevice] = []
    for outgoing in messages:
        if isinstance(outgoing.message, Draft):
            answers += cloud.receive(outgoing.message)
    while cloud.ready:
        job, early = cloud.next_job()
        answers += early
        if job is not None:
            (rows,) = pair.target.logits([Pass(SESSION, job.tokens, job.num_rows)])
            answers += cloud.complete(judge(job, rows), 0.0)
    return answers
