"""Reads a body whose parts are judged one by one: what spoils a part must not spoil the whole (K3).

Such a body is not parsed by the framework, so its description for ``/openapi.json`` is made here too.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import BaseModel

_MOST_DIGITS = 20


def lenient_json(raw: bytes) -> Any:
    """Return the JSON in ``raw``; ValueError where it is none.

    NaN and Infinity are read as such, and a whole number that no field can hold becomes infinite: whoever
    reads the parts refuses the one that holds it.
    """
    try:
        return json.loads(raw, parse_int=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def inlined_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of ``model`` with every inner model in place.

    A reference would be to the top of the document, where only what the framework parses is described.
    """
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    whole = _inlined(schema, inner)
    assert isinstance(whole, dict)
    return whole


def _inlined(value: Any, inner: dict[str, Any]) -> Any:
    """Replace references in ``value``; ends because no body of ours holds itself."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(inner[value["$ref"].rpartition("/")[2]], inner)
        return {key: _inlined(one, inner) for key, one in value.items()}
    if isinstance(value, list):
        return [_inlined(one, inner) for one in value]
    return value
