"""Finds the line of a setting in a TOML text, which the standard parser does not tell.

It follows table headers and keys at the start of a line; what stands inside an inline table or an array of
several lines is found by the line that the value begins on. A guess can be a line early, never another key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")


def line_of(text: str, path: KeyPath) -> int | None:
    """Return the number (1 is the first) of the line that sets ``path``, or the nearest table above it."""
    best, best_length = None, 0
    for number, found in _settings(text):
        shared = found[: len(path)]
        is_nearer = len(shared) > best_length and shared == path[: len(shared)]
        if is_nearer:
            best, best_length = number, len(shared)
    return best


def _settings(text: str) -> Iterator[tuple[int, KeyPath]]:
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    quote = ""
    for number, line in enumerate(text.splitlines(), start=1):
        is_inside, quote = bool(quote), _open_quote(line, quote)
        if is_inside:
            continue
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _table(_parts(header[2]), counts, is_array=header[1] == "[[")
            yield number, table
        elif key:
            yield number, table + _parts(key[1])


def _table(parts: KeyPath, counts: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    path: KeyPath = ()
    for part in parts:
        path += (part,)
        is_last = len([p for p in path if isinstance(p, str)]) == len(parts)
        if is_last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _parts(dotted: str) -> KeyPath:
    return tuple(match[1] or match[2] or match[0] for match in _PART.finditer(dotted))


def _open_quote(line: str, quote: str) -> str:
    """Return the triple quote that is still open at the end of ``line``."""
    for mark in re.findall(r'"""|\'\'\'', line):
        if not quote:
            quote = mark
        elif quote == mark:
            quote = ""
    return quote
