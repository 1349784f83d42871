"""docs/asyncapi.yaml, and whether a message is as it says."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def check(message: str, payload: object) -> None:
    """Raise jsonschema.ValidationError unless the message's schema takes the payload."""
    whole = {"$schema": "http://json-schema.org/draft-07/schema#", "components": DOCUMENT["components"]}
    jsonschema.Draft7Validator({**whole, "allOf": [MESSAGES[message]["payload"]]}).validate(payload)


def takes(message: str, payload: object) -> bool:
    """Whether the message's schema takes the payload."""
    try:
        check(message, payload)
    except jsonschema.ValidationError:
        return False
    return True


def check_sent(topic: str, payload: bytes) -> str:
    """Check what an agent or a worker sent in JSON or plain text; returns the channel's name.

    AssertionError for a topic that is not in the file. An empty message removes a retained one.
    """
    channels = {
        name: channel
        for name, channel in DOCUMENT["channels"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", channel["address"]), topic)
    }
    assert len(channels) == 1, topic
    ((name, channel),) = channels.items()
    (message,) = channel["messages"]
    kind = MESSAGES[message].get("contentType", "application/json")
    if payload and kind != "application/cbor":
        check(message, json.loads(payload) if kind == "application/json" else payload.decode())
    return name
