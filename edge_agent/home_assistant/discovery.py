"""The description of one device for Home Assistant: one retained message, which makes all its entities. Pure.

Law: names of entities come from the device's id, never from what a person calls it, so that they survive a
change of name. Every entity reads and writes the topics of docs/apps.md and no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from common.protocol.topics import ANSWER, ASK, CANCEL, EVENT, LAST, SET, STATE, STATS, STATUS, Topics

ORIGIN = "Hybrid LM"
MAX_STATE = 255  # characters: Home Assistant drops a longer state
MAX_PER_MILLE = 100

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Described:
    """What the description depends on; `page` is the address of the agent's page, if others can open it."""

    device: str
    model: str
    version: str
    schemes: Sequence[str]
    page: str | None = None
    website: str | None = None


def description(described: Described, topics: Topics) -> Json:
    """The content of the message, as Home Assistant 2024.12 and later takes it."""
    device, origin = described.device, {"name": ORIGIN, "sw": described.version}
    if described.website is not None:
        origin["url"] = described.website
    about: Json = {
        "ids": [f"hlm_{device}"],
        "name": device,
        "mf": ORIGIN,
        "mdl": described.model,
        "sw": described.version,
    }
    if described.page is not None:
        about["cu"] = described.page
    entities = _entities(described, {name: topics.app(device, name) for name in _TOPICS})
    for key, entity in entities.items():
        entity["uniq_id"] = f"hlm_{device}_{key}"
    return {"dev": about, "o": origin, "avty_t": topics.app(device, STATE), "qos": 1, "cmps": entities}


_TOPICS = (ASK, ANSWER, LAST, CANCEL, SET, STATUS, STATS, EVENT)
_EVENTS = ["answered", "refused", "cloud_lost", "cloud_back"]


def _entities(described: Described, topic: dict[str, str]) -> dict[str, Json]:
    status, stats = topic[STATUS], topic[STATS]
    return {
        "prompt": {
            "p": "text",
            "name": "Prompt",
            "ic": "mdi:message-text",
            "cmd_t": topic[ASK],
            "max": MAX_STATE,
        },
        "answer": {
            "p": "sensor",
            "name": "Answer",
            "ic": "mdi:message-reply-text",
            "stat_t": topic[LAST],
            "val_tpl": f"{{{{ (value_json.text or value_json.error or '')[:{MAX_STATE}] }}}}",
            "json_attr_t": topic[LAST],
        },
        "answered": {
            "p": "event",
            "name": "Answer",
            "ic": "mdi:message-badge",
            "stat_t": topic[EVENT],
            "evt_typ": _EVENTS,
        },
        "ask": {"p": "notify", "name": "Ask", "cmd_t": topic[ASK]},
        "scheme": {
            "p": "select",
            "name": "Scheme",
            "ent_cat": "config",
            "ic": "mdi:source-branch",
            "stat_t": status,
            "val_tpl": "{{ value_json.scheme }}",
            "cmd_t": topic[SET],
            "cmd_tpl": '{"scheme": "{{ value }}"}',
            "ops": list(described.schemes),
        },
        "risk": {
            "p": "number",
            "name": "Risk budget",
            "ent_cat": "config",
            "ic": "mdi:scale-balance",
            "stat_t": status,
            # steps below 0.001 are refused, so the budget is shown in per mille; 0 is no budget
            "val_tpl": "{{ ((value_json.risk or 0) * 1000) | round(1) }}",
            "cmd_t": topic[SET],
            "cmd_tpl": "{\"risk\": {{ value / 1000 if value > 0 else 'null' }}}",
            "min": 0,
            "max": MAX_PER_MILLE,
            "step": 0.1,
            "mode": "box",
            "unit_of_meas": "‰",
        },
        "stop": {"p": "button", "name": "Stop", "ic": "mdi:stop", "cmd_t": topic[CANCEL], "pl_prs": "{}"},
        "busy": _binary("Busy", status, "busy", "running"),
        "cloud": {**_binary("Cloud", status, "cloud", "connectivity"), "ent_cat": "diagnostic"},
        "uplinks": {**_sensor("Uplinks", stats, "uplinks", "total_increasing"), "ic": "mdi:upload"},
        "bytes_up": {
            **_sensor("Bytes up", stats, "bytes_up", "total_increasing"),
            "dev_cla": "data_size",
            "unit_of_meas": "B",
        },
        "round_trip": {
            **_sensor("Round trip", stats, "rtt_ms", "measurement"),
            "dev_cla": "duration",
            "unit_of_meas": "ms",
            "sug_dsp_prc": 1,
        },
        "measured_risk": {
            **_sensor("Measured risk", stats, "measured_risk", "measurement", scale=1000),
            "ic": "mdi:scale-balance",
            "unit_of_meas": "‰",
        },
        "tokens_per_second": {
            **_sensor("Tokens per second", stats, "tokens_per_second", "measurement"),
            "ic": "mdi:speedometer",
            "unit_of_meas": "tokens/s",
            "ent_cat": "diagnostic",
            "en": False,
        },
        "worker": {
            **_sensor("Worker", status, "worker"),
            "ic": "mdi:server",
            "ent_cat": "diagnostic",
            "en": False,
        },
    }


def _sensor(name: str, topic: str, field: str, state_class: str | None = None, *, scale: int = 1) -> Json:
    """Unknown while the field is null, which Home Assistant reads from the text None."""
    value = f"value_json.{field}"
    shown = value if scale == 1 else f"({value} * {scale}) | round(2) if {value} is number else none"
    sensor: Json = {"p": "sensor", "name": name, "stat_t": topic, "val_tpl": f"{{{{ {shown} }}}}"}
    return sensor if state_class is None else {**sensor, "stat_cla": state_class}


def _binary(name: str, topic: str, field: str, device_class: str) -> Json:
    return {
        "p": "binary_sensor",
        "name": name,
        "dev_cla": device_class,
        "stat_t": topic,
        "val_tpl": f"{{{{ 'ON' if value_json.{field} else 'OFF' }}}}",
    }
