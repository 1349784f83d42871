"""docs/asyncapi.yaml agrees with the code: its topics are those of the protocol, its messages are those that
the code makes and takes, and the file is valid AsyncAPI 3.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.topics import FROM_APPS, HOME_ASSISTANT_STATUS, TO_APPS, Topics, discovery
from common.protocol.worker_status import State, Status
from edge_agent.app_topics import messages
from edge_agent.app_topics.asks import parse_ask
from edge_agent.app_topics.refusal import RefusalError
from edge_agent.app_topics.settings import SETTABLE, parse_set
from edge_agent.app_topics.token_batches import TokenBatches
from edge_agent.home_assistant.discovery import Described, description
from edge_agent.options import Options
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.settings import OnCloudLoss
from edge_agent.session.transcript import Fate
from tests.support.asyncapi import DOCUMENT, SCHEMAS, check, takes

# -- the file ------------------------------------------------------------------------------------------


def test_its_topics_are_those_of_the_protocol() -> None:
    topics, device = Topics(), "DEVICE"
    real = {
        topics.open("POOL", device, "SESSION"),
        topics.draft("POOL", "WORKER", device, "SESSION"),
        topics.correction(device, "SESSION"),
        topics.worker("WORKER"),
        topics.device(device),
        *topics.from_apps(device),
        *(topics.app(device, name) for name in TO_APPS if name != "token"),
        topics.app_token(device, "ID"),
        topics.app(device, "reply", "NAME"),
        discovery(device),
        HOME_ASSISTANT_STATUS,
    }
    documented = {
        re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), channel["address"])
        for channel in DOCUMENT["channels"].values()
    }
    assert documented == real
    for name, channel in DOCUMENT["channels"].items():
        placeholders = set(re.findall(r"\{(\w+)\}", channel["address"]))
        assert placeholders == set(channel.get("parameters", {})), name


def test_every_channel_is_used_and_every_message_is_sent() -> None:
    used = {one["channel"]["$ref"].rpartition("/")[2] for one in DOCUMENT["operations"].values()}
    assert used == DOCUMENT["channels"].keys()
    sent = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert sent == DOCUMENT["components"]["messages"].keys()


def test_its_references_lead_somewhere_and_its_schemas_are_valid() -> None:
    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found: Any = DOCUMENT
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for one in value.values():
                follow(one)
        elif isinstance(value, list):
            for one in value:
                follow(one)

    follow(DOCUMENT)
    for schema in SCHEMAS.values():
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed here")
def test_it_is_valid_asyncapi(tmp_path: Path) -> None:
    """With the schema of the standard's own package, 398 kB, which npm downloads."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", "@asyncapi/specs@6.11.1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if packed.returncode != 0:
        pytest.skip("npm cannot download @asyncapi/specs here")
    subprocess.run(["tar", "xzf", packed.stdout.strip()], cwd=tmp_path, check=True)
    schema = json.loads((tmp_path / "package" / "schemas" / "3.0.0.json").read_text())
    jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(DOCUMENT)))


# -- the messages --------------------------------------------------------------------------------------


def test_its_names_are_those_of_the_code() -> None:
    assert SCHEMAS["scheme"]["enum"] == list(SCHEMES)
    assert set(SCHEMAS["fate"]["enum"]) == {str(fate) for fate in Fate}
    assert set(SCHEMAS["onCloudLoss"]["enum"]) == {policy.value for policy in OnCloudLoss}
    assert set(SCHEMAS["ask"]["properties"]) == {
        "id",
        "prompt",
        "messages",
        "stream",
        "format",
        "regex",
        *Options.__annotations__,
    } - {"tools", "tool_choice", "parallel_tool_calls"}  # over HTTP and in Python only
    assert set(SCHEMAS["set"]["properties"]) == {"id", *SETTABLE}
    assert set(SCHEMAS["event"]["properties"]["topic"]["enum"]) == set(FROM_APPS)


FACTS: dict[str, Any] = {
    "finish_reason": "stop",
    "num_by_fate": dict.fromkeys(Fate, 1),
    "num_tokens": 5,
    "num_uplinks": 2,
    "bytes_up": 100,
    "bytes_down": 60,
    "seconds": 0.25,
    "measured_risk": None,
    "worker": None,
    "scheme": "lossless",
    "seed": 7,
}


def test_every_answer_and_event_is_as_documented() -> None:
    answer = messages.answer("a", "x" * 300, None, FACTS)
    check("answer", answer)
    assert set(answer) == set(SCHEMAS["answer"]["properties"])
    check("answer", messages.answer("a", '{"a": [1]}', None, FACTS, is_json=True))
    check("answer", messages.answer(7, "x\ud800", "broken", {**FACTS, "measured_risk": 0.01, "worker": "w1"}))
    check("answer", messages.refused_answer("a", "no"))
    check("answer", messages.refused_answer(None, "no"))
    check("event", messages.answered_event(answer))
    check("event", messages.refused_event("no", "a", "ask"))
    check("event", messages.refused_event("no"))
    check("event", messages.event("cloud_lost"))
    assert not takes("event", messages.event("other"))


@given(st.lists(st.tuples(st.text(), st.sampled_from(Fate)), min_size=1))
def test_every_batch_of_tokens_is_as_documented(tokens: list[tuple[str, Fate]]) -> None:
    batches = TokenBatches()
    for text, fate in tokens:
        batches.add(text, fate, 0.0)
    check("tokens", batches.take(0.0))


def test_the_status_of_a_worker_is_as_documented() -> None:
    status = json.loads(Status(State.ONLINE, "demo", "m", "1").payload())
    check("workerStatus", status)
    assert set(status) == set(SCHEMAS["workerStatus"]["properties"])


@pytest.mark.parametrize("page", [None, "http://pi:8080/"])
def test_the_description_for_home_assistant_is_as_documented(page: str | None) -> None:
    check("discovery", description(Described("kitchen", "m", "1", list(SCHEMES), page), Topics()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(SCHEMAS["ask"]["properties"])), JSON, max_size=4)


@given(FIELDS, st.booleans())
@settings(deadline=None)
def test_what_is_refused_is_not_documented(fields: dict[str, Any], asks: bool) -> None:
    """The schema takes no ask that cannot be read as one, and no `set`; ranges are the config's."""
    if asks:
        fields = {"prompt": "x", **fields}
    given_fields = {name: value for name, value in fields.items() if value is not None}
    payload = json.dumps(given_fields).encode()
    for message, parse in (("ask", parse_ask), ("set", parse_set)):
        reason = refusal(parse, payload)
        assert reason is None or BEYOND_TYPES.search(reason) or not takes(message, given_fields), reason


BEYOND_TYPES = re.compile(
    r"either 'prompt'|give only one|'stream'|is empty|nothing to set|too large|not Unicode"
)


def refusal(parse: Callable[[bytes], object], payload: bytes) -> str | None:
    try:
        parse(payload)
    except RefusalError as error:
        return str(error)
    return None
