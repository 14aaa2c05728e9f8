"""Reads the fields of a request strictly and says everything that is wrong with them at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any


class BadFieldsError(Exception):
    """A request is not what it should be; ``problems`` has one entry per field."""

    def __init__(self, problems: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{problem['field']} {problem['reason']}" for problem in problems))
        self.problems = problems


class Fields:
    """The fields of one JSON object; ``finish`` raises what was found wrong on the way."""

    def __init__(self, body: Any, known: Collection[str]) -> None:
        self.problems: list[dict[str, str]] = []
        if not isinstance(body, dict):
            raise BadFieldsError([{"field": "", "reason": "the body must be a JSON object"}])
        self._body = body
        for name in body:
            if name not in known:
                self.wrong(str(name)[:64], f"is not known here; known are {', '.join(sorted(known))}")

    def wrong(self, field: str, reason: str) -> None:
        """Note that a field is wrong."""
        self.problems.append({"field": field, "reason": reason})

    def has(self, name: str) -> bool:
        """Return whether a field is there at all; null counts as absent."""
        return self._body.get(name) is not None

    def text(self, name: str, *, longest: int, default: str | None = None) -> str:
        """Return a text that is not empty."""
        if not self.has(name) and default is not None:
            return default
        value = self._body.get(name)
        if not isinstance(value, str) or not value.strip():
            self.wrong(name, "must be a text that is not empty")
        elif len(value) > longest:
            self.wrong(name, f"has {len(value)} characters; at most {longest} are read")
        else:
            return value
        return ""

    def whole(self, name: str, low: int, high: int, *, default: int | None = None) -> int:
        """Return a whole number within bounds."""
        if not self.has(name) and default is not None:
            return default
        value = self._body.get(name)
        # True is an int in Python, and a mistake in a request.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(name, f"must be a whole number from {low} to {high}")
            return low
        return value

    def seconds(self, name: str, low: float, high: float, *, default: float | None = None) -> float:
        """Return a number within bounds."""
        if not self.has(name) and default is not None:
            return default
        value = self._body.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
            self.wrong(name, f"must be a number of seconds from {low:g} to {high:g}")
            return low
        return float(value)  # type: ignore[arg-type]

    def finish(self) -> None:
        """Raise BadFieldsError where anything was wrong."""
        if self.problems:
            raise BadFieldsError(self.problems)
