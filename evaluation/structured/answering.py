"""Answers of an agent to the held-out commands, over a real broker and worker, with and without a grammar."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from common.protocol.grammar import Grammar
from edge_agent.agent import EdgeAgent
from edge_agent.draft_model.draft_model import DraftModel, Logits
from edge_agent.report import Report
from edge_agent.session.transcript import Fate
from edge_agent.tools.action_schema import home_schema
from edge_agent.tools.lark import lark, schema
from evaluation.smart_home.held_out import HeldOut
from evaluation.smart_home.scoring import read_actions

SEEDS_APART = 1_000_000  # more than the number of commands, so that no two answers share random numbers


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to ask: `what` is written, with the schema or without."""

    what: str
    with_schema: bool
    grammar: Grammar | None
    stop: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name on the page."""
        return f"{self.what}, {'with' if self.with_schema else 'without'} the schema"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer; bytes are of whole MQTT packets."""

    is_right: bool
    is_valid: bool  # its first line is a list of objects
    tokens: int
    forced: int
    draft_passes: int
    uplinks: int
    bytes_up: int
    bytes_down: int
    seconds: float


def variants() -> list[Variant]:
    """The actions alone, and the actions with the line for the user; each without and with the schema."""
    home = home_schema()
    actions = Grammar.json_schema(home)
    whole = lark('start: actions "\\n" LINE', f"actions: {schema(home)}", r"LINE: /[^\n]*/")
    return [
        Variant("actions", False, None, ("\n",)),
        Variant("actions", True, actions),
        Variant("actions and line", False, None),
        Variant("actions and line", True, whole),
    ]


class CountedModel(DraftModel):
    """Counts how often it drafts."""

    num_passes = 0

    def reading(self, tokens: Sequence[int]) -> Generator[tuple[int, int], None, Logits]:
        """As the model itself."""
        self.num_passes += 1
        return (yield from super().reading(tokens))


async def answered(
    agent: EdgeAgent, model: CountedModel, variant: Variant, command: HeldOut, seed: int
) -> Answered:
    """The answer to one command."""
    before = model.num_passes
    generation = agent.generate(
        command.command, seed=seed, grammar=variant.grammar, stop=variant.stop or None
    )
    async for _ in generation:
        pass
    report = Report.of(generation)
    return Answered(
        is_right=command.is_right(report.text),
        is_valid=read_actions(report.text) is not None,
        tokens=report.num_tokens,
        forced=report.num_by_fate[Fate.FORCED],
        draft_passes=model.num_passes - before,
        uplinks=report.num_uplinks,
        bytes_up=report.num_bytes_up,
        bytes_down=report.num_bytes_down,
        seconds=report.seconds,
    )
