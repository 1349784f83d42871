"""Reads the body of a request. Pure."""

import json
from typing import cast

from edge_agent.http.api_errors import ApiError, invalid
from edge_agent.json_fields import Json, JsonFields


class Fields(JsonFields):
    """The fields of an object in a request."""

    QUOTES = "``"

    def refusal(self, message: str, name: str) -> ApiError:
        """An error of the client, with the name of the field."""
        return invalid(message, name)


def parse_object(body: bytes) -> Json:
    """The JSON object in a body; ApiError when it is none."""
    try:
        found: object = json.loads(body or b"null")
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not valid JSON ({_reason(error)}): send a JSON object") from error
    if not isinstance(found, dict):
        raise invalid("the body must be a JSON object")
    return cast("Json", found)


def _reason(error: Exception) -> str:
    """Without what the client sent."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number or a byte"
