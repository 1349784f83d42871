"""EdgeAgent: a draft model and a link, ready to generate. The Python API of a device.

async with EdgeAgent.open(AgentConfig(broker="mqtt://broker")) as agent:
    async for token in agent.generate("turn on the kitchen light"):
        print(token.text, end="")
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Unpack

from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.grammar.errors import UnusableGrammarError
from common.link import LinkStatistics
from common.process.http_pages import HttpPages, HttpPagesError, made_in
from common.process.log import about
from common.process.version import release
from common.protocol.grammar import MAX_END_IDS, AnswerGrammar, Grammar
from common.protocol.messages import Opening
from common.sampling.randomness import MAX_SEED
from edge_agent.assembly import (
    build_instructions,
    build_policy,
    build_session_settings,
    choose_sampling,
    random_seed,
)
from edge_agent.config import AgentConfig
from edge_agent.device.machine import threads_here
from edge_agent.device.memory import release_free_memory
from edge_agent.device.power import POWERS, Pace
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import ModelInfo, read_info
from edge_agent.draft_model.source import resolve
from edge_agent.errors import ConfigError, GrammarError, MetricsError, ModelError, PromptError, raised_as
from edge_agent.generation.app_line import AppLine
from edge_agent.generation.audits import Audits
from edge_agent.generation.draft_thread import DraftThread
from edge_agent.generation.drafting import Drafting, NextTokenModel
from edge_agent.generation.emission import Decoder
from edge_agent.generation.exchange import Exchange
from edge_agent.generation.generation import Generation
from edge_agent.generation.mailbox import Mailbox
from edge_agent.generation.slots import Slots
from edge_agent.monitoring.totals import Totals
from edge_agent.options import Options, configured
from edge_agent.session.session import EdgeSession
from edge_agent.text.instructions import Instructions
from edge_agent.text.prompts import Message, encode_prompt, has_system
from edge_agent.text.stop_strings import StopStrings
from edge_agent.text.template_vars import check_template_vars
from edge_agent.text.tokenizer import Text
from edge_agent.tools.asking import Asking, Prompt, Reading, asking
from edge_agent.tools.choosing import choose as choose_format
from edge_agent.tools.tool import tool_use
from edge_agent.tuning.tuner import Tuner
from edge_agent.tunings import Tunings

if TYPE_CHECKING:
    from edge_agent.monitoring.metrics import Metrics

MAX_KNOWN = 64  # grammars that workers are taken to hold

_log = logging.getLogger(__name__)


class EdgeAgent:
    """One device; use `open`. As many generations run at once as there are `slots`; others wait in turn."""

    def __init__(
        self,
        config: AgentConfig,
        info: ModelInfo,
        text: Text,
        model: NextTokenModel,
        app_line: AppLine | None = None,
    ) -> None:
        self.config = config
        self.app_line = app_line
        self.text = text
        self._instructions = build_instructions(config)
        if self._instructions and not self.text.has_chat_template:
            raise ModelError(
                "this model has no chat template for `system` or `template_vars`: leave them out"
            )
        self.text.check_template_vars(self._instructions.template_vars)
        self._info = info
        self._grammars = GrammarEngine(lambda: text.tokenizer)
        self._known_grammars: set[bytes] = set()  # that a worker of the pool has taken
        self._model = model
        self._thread = DraftThread(Pace(POWERS[config.power].share))
        self._slots = Slots(model, config.slots)
        self._totals = Totals()
        self._audits = Audits()
        self._tunings = Tunings(config, info, text)
        self._exchange = (
            Exchange(config, self._totals, self._tunings.link, app_line)
            if config.needs_cloud or app_line
            else None
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: AgentConfig, *, model: NextTokenModel | None = None, for_apps: bool = False
    ) -> AsyncGenerator["EdgeAgent"]:
        """Load the model and connect; raises AgentError.

        `model` is used in place of the config's graph; text and settings still come from the config's folder.
        With `for_apps` the connection also has the topics of apps, as its `app_line`.
        """
        # beside the event loop, which keeps other agents' connections and answers who asks for the health
        info, text, model = await asyncio.to_thread(_load, config, model)
        agent = cls(config, info, text, model, AppLine.of(config) if for_apps else None)
        with agent._thread, agent._metrics():
            async with agent._keeping_prompts():
                if agent._exchange is None:
                    yield agent
                    return
                async with agent._exchange.running():
                    try:
                        yield agent
                        await agent.audited()
                    finally:
                        await agent._audits.cancel()

    @property
    def num_slots(self) -> int:
        """How many generations run at once."""
        return len(self._slots)

    @property
    def num_running(self) -> int:
        """Generations that have a slot."""
        return self._totals.num_running

    @property
    def num_waiting(self) -> int:
        """Generations that wait for a slot."""
        return self._slots.num_waiting

    @property
    def connected(self) -> bool:
        """Whether the link to the broker is up; False for a scheme that needs none."""
        return self._exchange is not None and self._exchange.connected

    @property
    def reaches_cloud(self) -> bool:
        """Whether the link is up and a worker of the pool listens, as far as known."""
        return self._exchange is not None and self._exchange.connected and not self._exchange.is_pool_empty

    def watch_cloud(self, watch: Callable[[], None]) -> None:
        """Have `watch` called in the event loop when `reaches_cloud` may have changed."""
        if self._exchange is not None:
            self._exchange.watches.append(watch)

    @property
    def totals(self) -> Totals:
        """What this agent has counted since it began."""
        return self._totals

    @property
    def model_bytes(self) -> int:
        """The size of the draft model's files."""
        return self._info.num_bytes

    @property
    def max_positions(self) -> int:
        """The most tokens that the draft model takes, prompt and answer together."""
        return self._model.max_positions

    @property
    def link_statistics(self) -> LinkStatistics:
        """Messages and bytes since the agent began, as they crossed the network."""
        return self._exchange.statistics if self._exchange else LinkStatistics()

    @property
    def risk(self) -> float | None:
        """Measured drift per token since the agent began; None while nothing was measured."""
        return self._totals.tally.measured_risk

    async def audited(self) -> None:
        """Wait until what was generated so far is measured, as far as it will be: about a round trip."""
        await self._audits.finished()

    def generate(self, prompt: str | Sequence[Message], **options: Unpack[Options]) -> Generation:
        """A generation to iterate over. `prompt` is a text, or chat messages as in OpenAI's API.

        A text becomes a user message where the model has a chat template, unless `raw` is set. `options` are
        in place of the config's settings of the same names; `template_vars` are added to the config's. With a
        `grammar` or `tools` every token is one that they allow (see `prepare`); `Generation.calls` has the
        calls of tools, and `Generation.content` the text.
        Raises ConfigError for an option that cannot be used, PromptError for a prompt that is empty or too
        long, or that the chat template refuses, and GrammarError for a grammar that cannot be used.
        """
        wanted = configured(self.config, options)
        self.check(wanted)
        config = self._tunings.settled(wanted)
        instructions = self._instructed(prompt, options)
        asked = self._asked(prompt, instructions.system, config, options)
        tokens = self._encode(asked, config, instructions)
        sampling = choose_sampling(config, self._info.sampling)
        given = (options.get("seed"), config.seed, random_seed())
        seed = next(value for value in given if value is not None)
        if not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"`seed` must be between 0 and {MAX_SEED}, got {seed}")
        num_prompt = len(tokens) if sampling.has_penalties else 0
        grammar, masks = self._constrain(asked.grammar, len(tokens))
        opening = Opening(
            self.text.fingerprint,
            self.text.vocab_size,
            sampling,
            seed,
            num_prompt=num_prompt,
            grammar=grammar,
        )
        tuner, calibration = self._tunings.of(config, sampling)
        settings = build_session_settings(
            config,
            opening,
            self._info.eos_ids,
            self._model.max_positions,
            audits=tuner.wants_audit(),
            knows_grammar=grammar is not None and grammar.digest in self._known_grammars,
            experience=tuner.experience,
        )
        policy = build_policy(config, sampling, seed, calibration, tuner.numbers())
        return Generation(
            session=EdgeSession(tokens, settings),
            mailbox=Mailbox(secrets.token_hex(4), self._exchange if config.needs_cloud else None),
            drafting=Drafting(self._model, self._thread, policy, opening, len(tokens), masks),
            decoder=Decoder(self.text.stream(tokens), StopStrings(config.stop)),
            turn=partial(self._turn, tuner, chosen=wanted.chooses_scheme),
            new_reading=self._new_reading(asked),
        )

    async def prepare(self, grammar: Grammar) -> None:
        """Compile a grammar beside the event loop, so that `generate` can begin at once.

        Raises GrammarError. The first grammar of an agent takes up to a second, and `generate` would block
        the event loop for as long.
        """
        await asyncio.to_thread(self._constrain, grammar, 1)

    def _constrain(
        self, grammar: Grammar | None, num_prompt: int
    ) -> tuple[AnswerGrammar | None, AnswerMasks | None]:
        """What the opening and the drafting of an answer need of its grammar."""
        if grammar is None:
            return None, None
        if not self._info.eos_ids:
            raise GrammarError("a grammar needs an end token: add the draft model's `eos_token_id`")
        ends = tuple(sorted(self._info.eos_ids))[:MAX_END_IDS]
        with raised_as(GrammarError, UnusableGrammarError):
            matcher = self._grammars.compile(grammar)
            masks = AnswerMasks(matcher, num_prompt, ends, closing=ends[0])
            return AnswerGrammar(grammar, self._grammars.name, num_prompt, ends), masks

    def check(self, config: AgentConfig) -> None:
        """Raise ConfigError for a config of one generation that needs a broker this agent is not at."""
        if config.needs_cloud and self._exchange is None:
            raise ConfigError(
                f"this agent has no connection to a broker: it was started with the scheme "
                f"{self.config.chosen_scheme.name}, which needs none"
            )

    def _asked(self, prompt: Prompt, system: str | None, config: AgentConfig, options: Options) -> Asking:
        """The prompt, with the tools that its answer may call."""
        use = tool_use(*(options.get(name) for name in ("tools", "tool_choice", "parallel_tool_calls")))
        if use is not None and config.raw:
            raise PromptError("`tools` has no effect, since `raw` bypasses the chat template: leave one out")
        new_format = partial(choose_format, self.text.template, self.text.token_id)
        return asking(
            prompt,
            use,
            options.get("grammar"),
            new_format if self.text.has_chat_template else None,
            system=None if has_system(prompt) else system,
        )

    def _new_reading(self, asked: Asking) -> Callable[[], Reading] | None:
        new_reader = asked.new_reader
        return None if new_reader is None else lambda: Reading(new_reader(), self.text.special)

    def _instructed(self, prompt: Prompt, options: Options) -> Instructions:
        system, given = options.get("system"), self._instructions
        if system and has_system(prompt):
            raise PromptError("the messages have a system message already: leave `system` out")
        return Instructions(
            given.system if system is None else system or None,
            {**given.template_vars, **check_template_vars(options.get("template_vars") or {})},
        )

    def _encode(self, asked: Asking, config: AgentConfig, instructions: Instructions) -> list[int]:
        return encode_prompt(
            self.text,
            asked.prompt,
            raw=config.raw,
            max_positions=self._model.max_positions,
            instructions=instructions,
            tools=asked.tools,
            beginning=asked.beginning,
        )

    @asynccontextmanager
    async def _turn(
        self, tuner: Tuner, generation: Generation, *, chosen: bool = False
    ) -> AsyncGenerator[None]:
        """Wrap a generation: wait for a slot, receive answers, count, and learn from it at the end.

        `chosen`: its scheme was, by how fast the answers before it were.
        """
        session, mailbox = generation.session, generation.mailbox
        async with self._slots.one_for(session.tokens) as model:
            generation.drafting.use(model)
            mailbox.join()
            try:
                with self._totals.counting(session):
                    yield
            finally:
                with about(session=mailbox.name):
                    _log.info("%s: %d tokens, %d uplinks", *_outcome(session))
                if chosen and session.finish_reason in ("stop", "length"):
                    name, seconds = generation.policy.scheme.name, generation.clock.total
                    self._tunings.faster.ended(name, seconds, session.tally.num_tokens)
                self._conclude(session, mailbox, tuner)

    def explain(self, failure: str) -> str:
        """A generation's failure, with what the agent knows about the link and the pool."""
        if self._exchange is not None and not self._exchange.connected:
            return f"{failure}: no connection to {self.config.broker}"
        if self._exchange is not None and self._exchange.is_broker_busy:
            return f"{failure}: the broker at {self.config.broker} takes no more messages for now"
        if self._exchange is not None and self._exchange.is_pool_empty:
            return f"{failure}: no worker serves pool {self.config.pool}; start one (cloud-worker run)"
        return failure

    def _conclude(self, session: EdgeSession, mailbox: Mailbox, tuner: Tuner) -> None:
        """The text is final: measure what was skipped, if wanted, and learn from it."""
        audit = session.audit(time.monotonic())
        self._note_grammar(session)

        def ended() -> None:
            mailbox.leave()
            if audit is not None:
                session.tally.add(audit.tally)
                self._totals.audited(audit.tally)
            tuner.ended(session.tally, session.pacing.experience)

        if audit is None or self._exchange is None or not self._exchange.connected:
            ended()
        else:
            self._audits.begin(audit, mailbox, ended)

    def _note_grammar(self, session: EdgeSession) -> None:
        """Remember that a worker holds the session's grammar, if one has answered to it."""
        grammar = session.opening.grammar
        if isinstance(grammar, AnswerGrammar) and session.worker is not None:
            if len(self._known_grammars) >= MAX_KNOWN:
                self._known_grammars.clear()
            self._known_grammars.add(grammar.digest)

    @asynccontextmanager
    async def _keeping_prompts(self) -> AsyncGenerator[None]:
        """Use the prompt cache, if there is one; what the model has read goes there at the end."""
        config, model = self.config, self._model
        if config.prompt_cache is None or not isinstance(model, DraftModel):
            yield
            return
        max_bytes = config.prompt_cache_mb << 20
        model.keep_prompts(config.prompt_cache, max_bytes, providers=config.providers)
        try:
            yield
        finally:
            await self._thread.run(model.save_prompts)

    @contextmanager
    def _metrics(self) -> Generator[None]:
        """Serve /metrics while the agent is open, if wanted; raises MetricsError when it cannot."""
        with ExitStack() as stack:
            if self.config.metrics_port:
                with raised_as(MetricsError, HttpPagesError):
                    stack.enter_context(self._metrics_pages())
            yield

    def metrics(self) -> "Metrics":
        """What /metrics shows."""
        from edge_agent.monitoring.metrics import Metrics, Snapshot  # costs a device nothing otherwise

        def read() -> Snapshot:
            return Snapshot(
                self._totals,
                self._tunings.own.numbers().threshold,
                self.link_statistics,
                self.connected,
                self.num_waiting,
            )

        config = self.config
        facts = {"device": config.device_name, "pool": config.pool, "scheme": config.chosen_scheme.name}
        return Metrics(read, {**facts, "model": config.model, "version": release()})

    def _metrics_pages(self) -> HttpPages:
        page = partial(made_in, asyncio.get_running_loop(), self.metrics().page)
        return HttpPages(self.config.metrics_host, self.config.metrics_port, {"/metrics": page})


def _load(config: AgentConfig, model: NextTokenModel | None) -> tuple[ModelInfo, Text, NextTokenModel]:
    """What an agent reads from its model's folder; the graph only if there is no `model`."""
    folder = resolve(config.model, model_file=config.model_file)
    info = read_info(folder, config.model_file)
    if info.unhonoured:
        fields = ", ".join(info.unhonoured)
        _log.warning("not applied from the model's generation_config.json: %s", fields)
    text = Text.load(info)  # before the model: what only loading needs is free again
    release_free_memory()
    return (
        info,
        text,
        model
        or DraftModel.load(
            folder,
            model_file=config.model_file,
            num_threads=threads_here(config.num_threads, info.num_bytes, POWERS[config.power].max_threads),
            providers=config.providers,
        ),
    )


def _outcome(session: EdgeSession) -> tuple[str, int, int]:
    """The outcome of a generation, for the log."""
    return session.failure or "answered", session.tally.num_tokens, session.tally.num_uplinks
