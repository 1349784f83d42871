"""Both state machines joined without a network: messages lie in two heaps until a test delivers them.

Time is a number; what happens next is the test's choice. So a test can lose, repeat and reorder messages,
kill workers, and let deadlines pass, and then let everything calm down.
"""

from dataclasses import dataclass, field
from typing import TypedDict

from cloud_worker.session.judging import judge
from cloud_worker.session.session import CloudSession, Target
from common.protocol.grammar import Grammar
from common.protocol.messages import Close, ToDevice
from common.sampling.distribution import Sampling, fit_vocabulary
from common.sampling.mask import forbid
from common.sampling.penalties import Penalties
from edge_agent.policy.policy import ForcedRun, Policy
from edge_agent.policy.schemes import SCHEMES, Form
from edge_agent.session.events import Connecting, Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.session.step import advance
from edge_agent.session.transcript import FinalToken
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, opening
from tests.support.narrowing import present
from tests.support.stopper import Stopper
from tests.support.toy_grammar import END, given, masks, toy_grammars

PROMPT = [3, 1, 4, 1]


class Chosen(TypedDict, total=False):
    """What the tests choose of a circle that nothing disturbs."""

    scheme: str
    seed: int
    temperature: float
    sampling: Sampling
    window: int | None
    block_length: int | None
    max_tokens: int
    stop_ids: frozenset[int]
    worker_ends: frozenset[int] | None
    stop: tuple[int, ...]
    stops_at_end: bool
    worker_limit: int
    max_positions: int
    grammar: Grammar | None


@dataclass
class Circle:
    """One edge session, some workers, and the messages between them."""

    scheme: str = "lossless"
    seed: int = 1
    temperature: float = 1.0
    sampling: Sampling | None = None  # with its own temperature, which must be `temperature`
    window: int | None = 1  # None: automatic
    block_length: int | None = 4
    max_tokens: int = 24
    threshold: float = 0.6
    noise: float = 0.35
    stop_ids: frozenset[int] = frozenset()
    worker_ends: frozenset[int] | None = None  # the target model's own end tokens; None: the same
    stop: tuple[int, ...] = ()  # the tokens of a stop string
    stops_at_end: bool = False
    on_cloud_loss: OnCloudLoss = OnCloudLoss.WAIT
    max_positions: int = 512
    grammar: Grammar | None = None  # then `stop_ids` are those of the toy grammar, if there are none
    worker_limit: int = 512
    num_workers: int = 2
    cloud_timeout: float = 20.0
    audits: bool = False
    reads_ahead: bool = False
    connecting_since: float | None = None  # the link is still getting its first connection
    to_workers: list[Outgoing] = field(default_factory=list)
    to_device: list[ToDevice] = field(default_factory=list)
    now: float = 0.0
    knows_grammar: bool = False
    most_forced: int = 64  # tokens at once
    num_passes: int = 0  # of the draft model

    def __post_init__(self) -> None:
        scheme = SCHEMES[self.scheme]
        if self.grammar is not None:
            self.stop_ids = self.stop_ids or frozenset([END])
        grammar = None if self.grammar is None else given(self.grammar, len(PROMPT), self.stop_ids)
        self.masks = None if grammar is None else masks(grammar)
        opened = opening(
            self.seed,
            self.temperature,
            sampling=self.sampling,
            num_prompt=len(PROMPT) if self.sampling else 0,
            grammar=grammar,
        )
        self.penalties = Penalties(opened.sampling, opened.num_prompt)
        exact_choice = self.temperature == 0.0 or scheme.form is Form.COUPLED
        self.target, self.draft_model = FakeModel(0), FakeModel(5, noise=self.noise)
        self.policy = Policy(scheme, opened.sampling, self.seed, self.threshold, max_ids=4)
        self.edge = EdgeSession(
            PROMPT,
            SessionSettings(
                opened,
                stop_ids=self.stop_ids,
                max_tokens=self.max_tokens,
                max_positions=self.max_positions,
                knows_grammar=self.knows_grammar,
                drafts=scheme.drafts,
                may_stream=scheme.may_stream,
                asks_first=scheme.asks_first,
                wants_bonus=self.window == 1 and scheme.holds and exact_choice,
                measures_risk=scheme.measures_risk,
                audits=self.audits,
                window=self.window,
                block_length=self.block_length,
                flushes=self.window is not None,
                on_cloud_loss=self.on_cloud_loss,
                cloud_timeout=self.cloud_timeout,
            ),
        )
        if self.reads_ahead:
            self.edge.read_ahead()
        if self.stop:
            self.edge.stop_with(Stopper(self.stop, self.stops_at_end))
        self.workers = {f"w{i}": self.new_worker(f"w{i}") for i in range(self.num_workers)}
        self.final: list[FinalToken] = []
        self.silences: list[str] = []
        self.drafting: Drafted | None = None  # a draft under way, and what will come of it
        self.num_passes = 0
        self.advance(*([] if self.connecting_since is None else [Connecting(self.connecting_since)]))

    def new_worker(self, name: str) -> CloudSession:
        ends = self.stop_ids if self.worker_ends is None else self.worker_ends
        return CloudSession(
            Target(
                name,
                TOKENIZER,
                VOCAB_SIZE,
                max_tokens=self.worker_limit,
                eos_ids=ends,
                grammars=toy_grammars(),
            )
        )

    @property
    def text(self) -> list[int]:
        return [item.token for item in self.final]

    def advance(self, *events: Event) -> None:
        step = advance(self.edge, self.now, events)
        self.to_workers += step.messages
        self.final += step.finals
        self.silences += [step.silence] if step.silence is not None else []

    def begin_draft(self) -> None:
        """The draft model begins to write a token, if the session wants one and none is under way."""
        tokens = self.edge.begin_draft()
        if tokens is not None:
            logits = fit_vocabulary(self.draft_model.logits(tokens), VOCAB_SIZE)
            logits = self.penalties.apply(logits, tokens, len(tokens))
            run = [] if self.masks is None else self.masks.forced(tokens, self.most_forced)
            if self.masks is not None and not run:
                logits = forbid(logits, present(self.masks.mask(tokens, len(tokens))))
            proposal = ForcedRun(tuple(run)) if run else self.policy.propose(logits, len(tokens))
            self.num_passes += not run
            self.drafting = Drafted(proposal, seconds=0.0 if run else 0.05)

    def draft(self) -> None:
        """The draft model writes one token, if the session wants one, or ends the one it has begun: 50 ms."""
        self.begin_draft()
        if self.drafting is not None:
            self.now += self.drafting.seconds
            drafted, self.drafting = self.drafting, None
            self.advance(drafted)

    def deliver_to_worker(self, index: int, *, keep: bool = False, opener: str = "w0") -> None:
        """Hand a message over; `opener` is the worker that the broker deals an `open` message to."""
        outgoing = self.to_workers[index] if keep else self.to_workers.pop(index)
        name = outgoing.worker or opener
        if isinstance(outgoing.message, Close):
            self.workers[name] = self.new_worker(name)
        else:
            self.to_device += self.workers[name].receive(outgoing.message)

    def work(self, name: str) -> None:
        """One pass of a worker's loop."""
        job, answers = self.workers[name].next_job()
        self.to_device += answers
        if job is not None:
            rows = self.target.rows(job.tokens, job.num_rows)
            self.to_device += self.workers[name].complete(judge(job, rows), compute_ms=1.0)

    def deliver_to_device(self, index: int, *, keep: bool = False) -> None:
        message = self.to_device[index] if keep else self.to_device.pop(index)
        self.advance(message)

    def exchange(self) -> None:
        """Worker w0 gets all that was sent and makes one pass; the device gets all answers."""
        while self.to_workers:
            self.deliver_to_worker(0)
        self.work("w0")
        while self.to_device:
            self.deliver_to_device(0)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.advance()

    def settle(self, max_steps: int = 10_000) -> None:
        """A perfect link from here on: run until the generation ends."""
        for _ in range(max_steps):
            if self.edge.finished:
                return
            self.draft()
            while self.to_workers:
                self.deliver_to_worker(0)
            for name in self.workers:
                while self.workers[name].ready:
                    self.work(name)
            while self.to_device:
                self.deliver_to_device(0)
            if not self.edge.wants_draft and not self.to_workers and self.edge.deadline is not None:
                self.pass_time(max(0.0, self.edge.deadline - self.now))
        raise AssertionError("the generation does not end")
