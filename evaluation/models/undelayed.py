"""A generation without a link: both state machines in one process, every message answered at once.

Law: the text is a function of prompt, seed, models and threshold (law 3 of the house), so what comes out here
is what comes out over any network; only times and bytes are not there to be measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Draft, ToDevice
from common.sampling.distribution import fit_vocabulary
from edge_agent.assembly import build_policy, build_session_settings, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.policy.policy import Policy, Proposal
from edge_agent.session.session import EdgeSession
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
    session.start(0.0)
    while True:
        _answer_all(session, cloud, pair)
        tokens += [final.token for final in session.take_final()]
        if session.finished:
            break
        _draft(session, policy, pair, on_proposal)
    pair.target.forget(SESSION)
    if session.failure is not None:
        raise RuntimeError(session.failure)
    return Written(tuple(tokens), pair.text.decode(tokens), session.tally)


def _answer_all(session: EdgeSession, cloud: CloudSession, pair: Pair) -> None:
    while outgoing := session.take_outgoing():
        answers: list[ToDevice] = []
        for each in outgoing:
            if isinstance(each.message, Draft):
                answers += cloud.receive(each.message)
        while cloud.ready:
            job, early = cloud.next_job()
            answers += early
            if job is not None:
                (rows,) = pair.target.logits([Pass(SESSION, job.tokens, job.num_rows)])
                answers += cloud.complete(judge(job, rows), 0.0)
        for answer in answers:
            session.receive(answer, 0.0)


def _draft(session: EdgeSession, policy: Policy, pair: Pair, on_proposal: OnProposal | None) -> None:
    if not session.wants_draft:
        raise RuntimeError("the session waits for an answer that will not come")
    position = len(session.tokens)
    proposal = policy.propose(fit_vocabulary(pair.draft.logits(session.tokens), pair.vocab_size), position)
    if on_proposal is not None:
        on_proposal(position, proposal)
    session.propose(proposal, 0.0)
