"""The commands `generate` and `chat`: prompts in; text, colours and summaries out."""

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import Mapping

from common.process.log import printable
from common.process.settings import with_flags
from common.protocol.grammar import Grammar
from edge_agent.agent import EdgeAgent
from edge_agent.cli.asks import Ask, Form, Unreadable, asks
from edge_agent.cli.conversation import Conversation
from edge_agent.cli.input import open_input, read_lines
from edge_agent.cli.prompt_progress import PromptProgress
from edge_agent.cli.terminal import legend, painter
from edge_agent.config import AgentConfig
from edge_agent.errors import SHORTEN, AgentError, ModelError
from edge_agent.generation.events import Emitted
from edge_agent.generation.generation import Generation
from edge_agent.report import Report


def generate(config: AgentConfig, flags: argparse.Namespace, grammar: Grammar | None = None) -> int:
    """Answer the prompt, or all prompts of an input; returns 1 when a generation failed.

    Answers match `grammar`, unless a line of the input has its own.
    """
    return asyncio.run(_generate(config, flags, grammar))


def chat(config: AgentConfig, flags: argparse.Namespace) -> int:
    """Talk until the end of input (Ctrl-D), keeping the conversation."""
    return asyncio.run(_chat(config, flags))


async def _generate(config: AgentConfig, flags: argparse.Namespace, grammar: Grammar | None) -> int:
    code = 0
    form = Form.LINES if flags.lines else Form.JSONL if flags.jsonl else Form.WHOLE
    as_json = flags.json or flags.json_events
    async with EdgeAgent.open(config) as agent:
        if flags.show_tokens:
            print(legend(), file=sys.stderr)
        async for ask in asks(flags.prompt, flags.file, form):
            try:
                if isinstance(ask, Unreadable):
                    raise ask.error
                asked = ask if ask.grammar else dataclasses.replace(ask, grammar=grammar)
                _, failure = await _answer(agent, asked, flags, as_json=as_json)
                succeeded = failure is None
            except AgentError as error:
                if form is Form.WHOLE:
                    raise
                succeeded = _pass_over(ask, error, as_json=as_json)
            code = code if succeeded else 1
    return code


async def _answer(
    agent: EdgeAgent, ask: Ask, flags: argparse.Namespace, *, as_json: bool = False
) -> tuple[Report, str | None]:
    """Stream one answer; returns its report, and why it failed if it did."""
    if ask.grammar is not None:
        await agent.prepare(ask.grammar)  # the connection is kept meanwhile
    generation = agent.generate(
        ask.prompt,
        seed=ask.seed,
        system=ask.system,
        template_vars=ask.template_vars,
        grammar=ask.grammar,
    )
    paint = painter(sys.stdout, shows_tokens=flags.show_tokens, shows_tentative=flags.tentative)
    progress = PromptProgress(sys.stderr, quiet=flags.quiet)
    generation.watch_prompt(progress.show)
    is_noted = as_json or flags.quiet or flags.command == "chat"  # which says so at the end
    try:
        async for event in generation.events():
            progress.clear()
            if not is_noted:
                is_noted = True
                _note_room(generation, agent.config)
            if not as_json:
                print(paint(event), end="", flush=True)
            elif flags.json_events:
                print(_event_json(event), flush=True)
    finally:
        progress.clear()
    await agent.audited()
    report = Report.of(generation, agent.risk)
    failure = generation.session.failure
    explained = with_flags(agent.explain(failure), AgentConfig) if failure else None
    if as_json:
        print(json.dumps({**_asked(ask), **dataclasses.asdict(report), "error": explained}), flush=True)
    else:
        print(flush=True)
    if not (as_json or flags.quiet):
        print("\n".join(f"[{line}]" for line in report.lines()), file=sys.stderr)
    if explained:
        _note(explained)
    return report, failure


def _note_room(generation: Generation, config: AgentConfig) -> None:
    """Say at the beginning if the answer must end before `max_tokens`."""
    most = generation.session.most_tokens
    if most < config.max_tokens:
        _note(f"this answer can have at most {most} tokens: more would exceed what the models take")


def _pass_over(ask: Ask | Unreadable, error: AgentError, *, as_json: bool) -> bool:
    """Report why this prompt has no answer, and go on to the next. False: it has not succeeded."""
    message = with_flags(str(error), AgentConfig)
    if as_json:
        print(json.dumps({**_asked(ask), "text": "", "error": message}), flush=True)
    _note(message)
    return False


def _asked(ask: Ask | Unreadable) -> Mapping[str, object]:
    """The fields of a JSON answer that show which prompt it belongs to."""
    if isinstance(ask, Unreadable):
        return {"prompt": ask.line}
    return ({} if ask.id is None else {"id": ask.id}) | {"prompt": ask.prompt}


def _event_json(event: Emitted) -> str:
    """{"event": "token", "tentative" or "retraction", ...} with the fields of the event."""
    return json.dumps({"event": type(event).__name__.lower(), **dataclasses.asdict(event)})


async def _chat(config: AgentConfig, flags: argparse.Namespace) -> int:
    async with EdgeAgent.open(config) as agent:
        if not agent.text.has_chat_template:
            raise ModelError("this model has no chat template: use generate")
        print(
            "Ctrl-D ends the conversation." + (f" {legend()}" if flags.show_tokens else ""), file=sys.stderr
        )
        conversation = Conversation()
        async for line in read_lines(open_input(), "> "):
            if line.strip():
                try:
                    await _reply(agent, conversation, line, flags)
                except AgentError as error:
                    _note(with_flags(str(error), AgentConfig))
    print()
    return 0


async def _reply(
    agent: EdgeAgent, conversation: Conversation, question: str, flags: argparse.Namespace
) -> None:
    """Answer one line of a chat, without the oldest turns if they do not fit into the models."""
    if conversation.fit(question, agent.generate):
        _note(_OUTGROWN)
    while True:
        report, failure = await _answer(agent, Ask(conversation.messages(question)), flags)
        is_too_long = failure is not None and SHORTEN in failure and not report.text
        if not (is_too_long and conversation.forget()):  # a worker may take less than the draft model
            break
        _note(_OUTGROWN)
    if report.text or failure is None:
        conversation.add(question, report.text)
    if report.finish_reason == "length" and report.num_tokens < agent.config.max_tokens:
        _note("this answer is cut off: the conversation has become as long as the models take")


_OUTGROWN = "the conversation is longer than the models take: its oldest part is left out from now on"


def _note(message: str) -> None:
    print(f"edge-agent: {printable(message)}", file=sys.stderr)
