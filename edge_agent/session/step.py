"""One step of a generation: what has happened goes in, what its driver does next comes out. Pure.

Law: the loop of the protocol exists once. The agent, the simulations, the tests and the benchmarks differ in
how they send, wait and run the draft model; each drives its session like this:

    step = advance(session, now)
    while not step.finished:
        run the draft model on `session.begin_draft()`, unless that is None
        send `step.messages`, hand out `step.finals`
        wait for events, until `step.deadline` at most
        step = advance(session, now, events)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_agent.errors import AgentError
from edge_agent.session.events import Connecting, Drafted, DraftFailed, Event, LinkEvent
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.transcript import FinalToken


@dataclass(frozen=True, slots=True)
class Step:
    """What to send, what became final, and how long to wait for the next event.

    `silence` says once for each silence of the cloud why the session keeps waiting. The session of a
    `finished` step may still have `messages` to send, and needs no further step. After a step with an `error`
    of the draft model the text cannot go on.
    """

    messages: Sequence[Outgoing]
    finals: Sequence[FinalToken]
    silence: str | None
    deadline: float | None
    finished: bool
    error: AgentError | None = None


def advance(session: EdgeSession, now: float, events: Iterable[Event] = ()) -> Step:
    """Take in `events` in their order, then act on every deadline that has passed by `now`.

    The first call begins the generation, after its events: they tell the state of the link. Raises
    RuntimeError when the session can only wait for something that never comes.
    """
    for event in events:
        _take(session, event, now)
    session.begin(now)
    session.tick(now)
    silence = session.silence(now)
    deadline, is_drafting = session.deadline, session.wants_draft or session.awaits_draft
    error = session.draft_error
    if deadline is None and not is_drafting and not session.finished and error is None:
        raise RuntimeError("the session waits for nothing")
    return Step(session.take_outgoing(), session.take_final(), silence, deadline, session.finished, error)


def _take(session: EdgeSession, event: Event, now: float) -> None:
    match event:
        case Drafted():
            session.drafted(event.proposal, now, event.seconds)
        case DraftFailed():
            session.draft_failed(event.error, now)
        case Connecting():
            session.connecting(event.since)
        case LinkEvent.NO_WORKER:
            session.no_worker(now)
        case LinkEvent.BUSY:
            session.broker_busy(now)
        case LinkEvent.FORBIDDEN | LinkEvent.INVALID:
            session.fail(event.value)
        case LinkEvent.DOWN:
            session.disconnected(now)
        case LinkEvent.UP:
            session.connected(now)
        case _:
            session.receive(event, now)
