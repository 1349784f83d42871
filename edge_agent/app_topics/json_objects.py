"""JSON that apps send, and that answers consist of, read strictly and within bounds. Pure.

Law: whatever the bytes are, the outcome is an object, a plain text, or a one-line refusal; never another
error. NaN, numbers without bounds, deep nesting and what is not Unicode do not get past this module.
"""

import json
import math
from typing import Any, NoReturn, TypeAlias, cast

from common.protocol.limits import MAX_APP_PAYLOAD_BYTES
from edge_agent.app_topics.refusal import RefusalError

MAX_DEPTH = 32
LARGEST_INTEGER = 2**64

Object: TypeAlias = dict[str, Any]


def read_text(payload: bytes) -> str:
    """The payload as text; RefusalError if it is too long or not UTF-8."""
    if len(payload) > MAX_APP_PAYLOAD_BYTES:
        raise RefusalError(f"the message is longer than {MAX_APP_PAYLOAD_BYTES:,} bytes: shorten it")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusalError("the message is not UTF-8 text: encode it as UTF-8") from error


def read_object_or_text(payload: bytes) -> Object | str:
    """A JSON object; or a text: that of a JSON text, or the payload itself where it is no JSON.

    What begins like a JSON object must be one, so that half an object is never taken for a prompt.
    """
    text = read_text(payload)
    try:
        found: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
    except RefusalError:
        if text.lstrip().startswith(("{", "[")):
            raise
        return text  # a text such as NaN
    except RecursionError as error:
        raise RefusalError("the message is nested too deeply") from error
    except ValueError as error:
        if text.lstrip().startswith("{"):
            raise RefusalError(
                f"the message begins like a JSON object, but cannot be read: {error}"
            ) from error
        return text
    if isinstance(found, list):
        raise RefusalError("the message is a JSON array: send an object, or plain text")
    if not isinstance(found, dict):
        return found if isinstance(found, str) and _is_unicode(found) else text
    if not _is_unicode(text) or not _is_plain(found, MAX_DEPTH):
        raise RefusalError(
            f"the message has text that is not Unicode, or is nested more than {MAX_DEPTH} levels deep"
        )
    return cast("Object", found)


def read_object(payload: bytes) -> Object:
    """A JSON object; RefusalError for anything else."""
    found = read_object_or_text(payload)
    if isinstance(found, str):
        raise RefusalError("the message is not a JSON object")
    return found


def read_value(text: str) -> Any:
    """The JSON value that a text is; None if it is none, or one that `write` could not write."""
    try:
        found: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
    except (RefusalError, ValueError, RecursionError):
        return None
    return found if _is_plain(found, MAX_DEPTH) else None


def write(value: Object) -> bytes:
    """The object as compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _refuse_constant(name: str) -> NoReturn:
    raise RefusalError(f"the message has the number {name}, which is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise RefusalError(f"the number {digits[:40]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > 20 or abs(value := int(digits)) > LARGEST_INTEGER:
        raise RefusalError(f"the number {digits[:20]} is too large")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(value: object, depth: int) -> bool:
    """Whether all texts are Unicode and nothing is nested deeper than `depth`, which bounds the calls too."""
    if isinstance(value, str):
        return _is_unicode(value)
    if isinstance(value, dict):
        each = cast("Object", value)
        return depth > 0 and all(_is_unicode(k) and _is_plain(v, depth - 1) for k, v in each.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in cast("list[object]", value))
    return True
