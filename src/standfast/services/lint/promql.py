"""Finds the metrics that a PromQL expression selects, with their label matchers; it computes nothing.

Written from the lexical rules of the Prometheus documentation ("Querying basics", "Operators").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
  | (?P<number>(?:\d+(?:ms|[smhdwy]))+|0[xX][0-9a-fA-F]+|\d*\.?\d+(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_:$][A-Za-z0-9_:$]*)
  | (?P<mark>=~|!~|!=|[{}()\[\],=])
  | (?P<other>\S)
    """,
    re.VERBOSE,
)
#: Words that are followed by a list of labels in parentheses.
_LABEL_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "start", "end", "inf", "nan"})


class Matcher(NamedTuple):
    """One label matcher: ``job=~"api|web"``."""

    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """One metric that an expression asks for, and where its name stands in the text."""

    name: str
    matchers: tuple[Matcher, ...]
    offset: int

    def allows(self, label: str, value: str) -> bool:
        """Return whether a series whose ``label`` is ``value`` can be selected."""
        return all(_holds(m, value) for m in self.matchers if m.label == label)


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


def selectors(expression: str) -> list[Selector]:
    """Return every metric that ``expression`` selects, in the order written."""
    tokens = [
        _Token(match.lastgroup or "", match[0], match.start())
        for match in _TOKEN.finditer(expression)
        if match.lastgroup != "comment"
    ]
    return list(_selectors(tokens))


def _selectors(tokens: list[_Token]) -> Iterator[Selector]:
    position = 0
    # Every turn moves on by at least one token.
    while position < len(tokens):
        token = tokens[position]
        following = tokens[position + 1].text if position + 1 < len(tokens) else ""
        position += 1
        if token.text == "[":
            position = _after(tokens, position, "]")
        elif token.text == "{":
            matchers, position = _matchers(tokens, position)
            name = next((m.value for m in matchers if m.label == "__name__" and m.operator == "="), "")
            if name:
                yield Selector(name, matchers, token.offset)
        elif token.kind == "name" and token.text.lower() in _LABEL_LISTS:
            position = _after(tokens, position + 1, ")") if following == "(" else position
        elif token.kind == "name" and _is_metric(token.text, following):
            matchers = ()
            if following == "{":
                matchers, position = _matchers(tokens, position + 1)
            yield Selector(token.text, matchers, token.offset)


def _is_metric(name: str, following: str) -> bool:
    is_called = following == "(" or following.lower() in ("by", "without")
    return not is_called and name.lower() not in _WORDS and "$" not in name


def _after(tokens: list[_Token], position: int, closing: str) -> int:
    while position < len(tokens) and tokens[position].text != closing:
        position += 1
    return position + 1


def _matchers(tokens: list[_Token], position: int) -> tuple[tuple[Matcher, ...], int]:
    end = _after(tokens, position, "}")
    inner = tokens[position : end - 1]
    found: list[Matcher] = []
    for at, token in enumerate(inner):
        if token.text in ("=", "!=", "=~", "!~") and 0 < at < len(inner) - 1:
            found.append(Matcher(inner[at - 1].text.strip("\"'"), token.text, _text(inner[at + 1].text)))
        elif token.kind == "string" and (at == 0 or inner[at - 1].text == ","):
            # {"metric.name", label="x"}: the name in quotes (Prometheus 3).
            is_name = at + 1 >= len(inner) or inner[at + 1].text == ","
            found += [Matcher("__name__", "=", _text(token.text))] if is_name else []
    return tuple(found), end


def _text(quoted: str) -> str:
    if quoted[:1] == "`":
        return quoted[1:-1]
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _holds(matcher: Matcher, value: str) -> bool:
    if matcher.operator == "=":
        return matcher.value == value
    if matcher.operator == "!=":
        return matcher.value != value
    try:
        matches = re.fullmatch(matcher.value, value) is not None
    except re.error:
        # RE2 and Python differ in corners; what cannot be decided here must not become a finding.
        return True
    return matches if matcher.operator == "=~" else not matches
