"""Reads a JSON document that a person names, with an error that says what is wrong with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from standfast.kernel.errors import ConfigError

_LARGEST_BYTES = 256_000_000


def read_json(path: Path) -> Any:
    """Return the JSON in ``path``, or on standard input for ``-``; ConfigError for anything else.

    A key that stands twice in one object is refused: which of the two was meant is unknown.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        raw = sys.stdin.buffer.read(_LARGEST_BYTES + 1) if str(path) == "-" else _read(path)
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be read",
            why=error.strerror or "",
            fix=f"ls -l {name}",
            code="InputUnreadable",
        ) from error
    if len(raw) > _LARGEST_BYTES:
        raise ConfigError(f"{name} is larger than {_LARGEST_BYTES} bytes", fix="give a smaller document")
    try:
        return json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise ConfigError(
            f"{name} is no JSON document", why=why, fix="give one JSON object", code="NotJson"
        ) from error


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LARGEST_BYTES + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return found
