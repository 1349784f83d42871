"""Grammars that a hostile device may open a session with: absurd, huge, deep, and a few that only look so."""

import json
import random

from common.protocol.grammar import AnswerGrammar, Grammar, GrammarKind, KnownGrammar


def hostile_grammar(template: AnswerGrammar, rng: random.Random) -> AnswerGrammar | KnownGrammar:
    """Return one with the template's engine, or nearly."""
    grammar = Grammar(*rng.choice(_SOURCES)(rng))
    engine = template.engine if rng.random() < 0.9 else "llguidance 0.0.1 00000000"
    num_prompt = rng.choice([1, 1, 2, 5, 20, 2**32 - 1])
    ends = tuple(sorted({rng.choice(template.end_ids), rng.randrange(max(template.end_ids) + 1)}))
    given = AnswerGrammar(grammar, engine, num_prompt, ends)
    if rng.random() < 0.2:
        return given.briefly if rng.random() < 0.5 else KnownGrammar(rng.randbytes(16), num_prompt, ends)
    return given


def _schema(rng: random.Random) -> tuple[GrammarKind, str]:
    """Nested at random, a few levels deep."""

    def one(depth: int) -> object:
        match rng.randrange(8 if depth else 5):
            case 0:
                return {"type": rng.choice(["string", "integer", "number", "boolean", "null", "x"])}
            case 1:
                return {"enum": [f"v{rng.randrange(10**6)}" for _ in range(rng.choice([1, 3, 200]))]}
            case 2:
                return {
                    "type": "string",
                    "pattern": rng.choice(["(a|b)*a(a|b){30}", "[", "^(a{1,99}){1,99}$"]),
                }
            case 3:
                return {"$ref": rng.choice(["#", "#/nowhere", "http://127.0.0.1:1/x"])}
            case 4:
                return {"type": "integer", "minimum": rng.choice([-(10**9), 0, 10**18, 1e300])}
            case 5:
                return {"type": "array", "items": one(depth - 1), "minItems": rng.choice([0, 3, 10**6])}
            case 6:
                return {rng.choice(["anyOf", "allOf", "oneOf"]): [one(depth - 1) for _ in range(4)]}
            case _:
                return {"properties": {f"p{i}": one(depth - 1) for i in range(rng.choice([1, 5, 60]))}}

    return GrammarKind.JSON_SCHEMA, json.dumps(one(rng.choice([1, 2, 3])))[: 60 * 1024]


def _chain(rng: random.Random) -> tuple[GrammarKind, str]:
    """Rules or terminals that each name the next: as deep as the source is long."""
    prefix, count = rng.choice("rT"), rng.choice([10, 500, 4500])
    rules = "\n".join(f"{prefix}{i}: {prefix}{i + 1}" for i in range(count))
    return GrammarKind.LARK, f'start: {prefix}0\n{rules}\n{prefix}{count}: "x"'


def _deep(rng: random.Random) -> tuple[GrammarKind, str]:
    opened, closed = rng.choice(["()", "[]", "{}"])
    depth = rng.choice([20, 1000, 30_000])
    return rng.choice(list(GrammarKind)), f"{opened * depth}a{closed * depth}"


def _regex(rng: random.Random) -> tuple[GrammarKind, str]:
    nested = "a"
    for _ in range(rng.choice([1, 3, 5])):
        nested = f"({nested}|b){{1,{rng.choice([2, 60, 1000])}}}"
    return GrammarKind.REGEX, rng.choice([nested, ".*", "", "a" * 60_000, f".*{nested}.*{nested}"])


def _noise(rng: random.Random) -> tuple[GrammarKind, str]:
    letters = 'abT:|()[]{}"/*+?~&%\\n \n<>é\0'
    return rng.choice(list(GrammarKind)), "".join(rng.choices(letters, k=rng.choice([3, 40, 2000])))


def _wide(rng: random.Random) -> tuple[GrammarKind, str]:
    count = rng.choice([10, 300, 2000])
    return GrammarKind.LARK, "start: " + " | ".join(f'"{i}" start' for i in range(count)) + ' | "z"'


_SOURCES = (_schema, _schema, _schema, _chain, _deep, _regex, _noise, _wide)
