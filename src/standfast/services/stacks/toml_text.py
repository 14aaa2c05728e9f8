"""Writes values as TOML: what a generated ``standfast.toml`` needs, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def key(text: str) -> str:
    """Return ``text`` as a key, in quotes where it needs them."""
    return text if _BARE.fullmatch(text) else string(text)


def string(text: str) -> str:
    """Return ``text`` in quotes, on one line."""
    # JSON escapes what TOML must have escaped, in the same way; DEL is TOML's own, and a lone half of a pair
    # cannot be written at all.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")


def value(given: object) -> str:
    """Return text, numbers, truth values, lists or tables as TOML; tables stand on one line."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return repr(given)
    if isinstance(given, str):
        return string(given)
    if isinstance(given, Mapping):
        return "{ " + ", ".join(f"{key(str(k))} = {value(v)}" for k, v in given.items()) + " }"
    assert isinstance(given, Sequence)
    return "[" + ", ".join(value(member) for member in given) + "]"


def comment(text: str) -> str:
    """Return ``text`` as a line of comment, whatever is in it."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return f"# {shown}".rstrip()
