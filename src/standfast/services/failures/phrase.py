"""Phrases: how a rule says what a line looks like, with a cost that is bounded by construction.

A phrase is the line's own words; case, kinds of quotes and the number of spaces do not count.

``a * b``    anything between them on the same line, at most 160 characters
``fail*``    the rest of a word
``(a|b)``    one of these; an empty one makes the part optional
``#``        a number
``{name}``   a word or something in quotes, which the fix may use
``\\``       the next character as it is

Words are whole where a phrase begins and ends. Brackets without ``|``, and braces around anything but a
name, are themselves. There is no way to write a repetition of a repetition, so that no line, however it was
made, costs more than its length times the few gaps of the phrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from standfast.services.failures.text import Tail, clean

_GAP = ".{0,160}?"
_REST = r"\S{0,80}?"
_MOST_GAPS = 3
_MOST_RESTS = 4
_MOST_NAMES = 4
_MOST_CHARS = 700
_LEAST_NEEDLE = 3
#: A phrase that is found more often in one tail says nothing new.
_MOST_HITS = 64
_NAME = re.compile(r"\{([a-z][a-z_]{0,23})\}")
_WORD = re.compile(r"\w")


class PhraseError(ValueError):
    """The phrase cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a phrase: ``kind`` is text, gap, rest, number, name or either."""

    kind: str
    text: str = ""
    choices: tuple[tuple[_Piece, ...], ...] = ()


@dataclass(frozen=True)
class Phrase:
    """One phrase; it is compiled when the first text has its needle."""

    text: str
    needles: tuple[str, ...]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The phrase as a regular expression in which every repetition is of single characters."""
        return re.compile(_expression(tuple(_pieces(self.text))), re.IGNORECASE)

    def may_match(self, lower: str) -> bool:
        """Whether the text, in small letters, has what the phrase needs; far cheaper than to match."""
        return any(needle in lower for needle in self.needles)

    def hits(self, read: Tail) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Yield the number of each line that matches, and what the phrase's names stand for there."""
        if not self.may_match(read.lower):
            return
        for count, found in enumerate(self.pattern.finditer(read.text)):
            if count >= _MOST_HITS:
                return
            yield read.line_at(found.start()), _named(found)

    def is_in(self, line: str) -> bool:
        """Whether the phrase matches a cleaned line or text."""
        return self.may_match(line.lower()) and self.pattern.search(line) is not None


def phrase(text: str) -> Phrase:
    """Return ``text`` as a phrase; PhraseError where it is none."""
    if len(text) > _MOST_CHARS:
        raise PhraseError(f"it is longer than {_MOST_CHARS} characters")
    pieces = tuple(_pieces(text.strip()))
    kinds = [piece.kind for piece in pieces]
    if kinds.count("gap") > _MOST_GAPS or kinds.count("rest") > _MOST_RESTS:
        raise PhraseError(f"it has more than {_MOST_GAPS} gaps or {_MOST_RESTS} rests of words (*)")
    if any(inner.kind in ("gap", "name") for piece in pieces for choice in piece.choices for inner in choice):
        raise PhraseError("a choice may have neither a gap nor a name")
    names = [piece.text for piece in pieces if piece.kind == "name"]
    if len(names) > _MOST_NAMES or len(set(names)) != len(names):
        raise PhraseError(f"it has more than {_MOST_NAMES} names, or one of them twice")
    needles = _needles(pieces)
    if not needles:
        raise PhraseError(f"it has no {_LEAST_NEEDLE} characters in a row that every match must have")
    return Phrase(text.strip(), needles)


def _pieces(text: str) -> Iterator[_Piece]:
    """Yield the parts of a phrase; every turn takes at least one character."""
    literal, at = "", 0
    while at < len(text):
        piece, length = _special(text, at)
        if piece is None:
            literal, at = literal + text[at + length - 1], at + length
            continue
        if literal:
            yield _Piece("text", literal)
        literal = ""
        yield piece
        at += length
    if literal:
        yield _Piece("text", literal)


def _special(text: str, at: int) -> tuple[_Piece | None, int]:
    """Return the part that begins at ``at`` and its length; None where it is a character of its own."""
    mark = text[at]
    if mark == "\\" and at + 1 < len(text):
        return None, 2
    if mark == "*":
        is_alone = text[at - 1 : at] in ("", " ") and text[at + 1 : at + 2] in ("", " ")
        return _Piece("gap" if is_alone else "rest"), 1
    if mark == "#":
        return _Piece("number"), 1
    if mark == "{" and (name := _NAME.match(text, at)):
        return _Piece("name", name[1]), name.end() - at
    if mark == "(":
        end = text.find(")", at)
        inside = text[at + 1 : end] if end > 0 else ""
        if "|" in inside:
            choices = tuple(tuple(_pieces(choice)) for choice in inside.split("|"))
            return _Piece("either", choices=choices), end + 1 - at
    return None, 1


def _needles(pieces: tuple[_Piece, ...]) -> tuple[str, ...]:
    """Return texts of which every match has at least one: the longest literal, or one of each choice."""
    best = _longest(pieces)
    if len(best) > _LEAST_NEEDLE:
        return (best,)
    for piece in pieces:
        choices = tuple(_longest(choice) for choice in piece.choices)
        if choices and min(map(len, choices)) >= _LEAST_NEEDLE:
            return choices
    return (best,) if len(best) >= _LEAST_NEEDLE else ()


def _longest(pieces: tuple[_Piece, ...]) -> str:
    return max((clean(p.text).lower() for p in pieces if p.kind == "text"), key=len, default="")


def _expression(pieces: tuple[_Piece, ...], *, is_left: bool = True, is_right: bool = True) -> str:
    """Return the regular expression of ``pieces``; words are whole at an open left or right side."""
    parts = []
    for index, piece in enumerate(pieces):
        before = pieces[index - 1] if index else None
        after = pieces[index + 1] if index + 1 < len(pieces) else None
        begins = is_left if before is None else before.kind == "gap"
        ends = is_right if after is None else after.kind == "gap"
        parts.append(_part(piece, begins, ends))
    # At an end of the phrase they say only that the line, or the word, may go on.
    if is_left and pieces and pieces[0].kind in ("gap", "rest"):
        parts[0] = ""
    if is_right and pieces and pieces[-1].kind in ("gap", "rest"):
        parts[-1] = ""
    return "".join(parts)


def _part(piece: _Piece, begins: bool, ends: bool) -> str:
    """Return one part; ``begins`` and ``ends`` say that nothing, or a gap, is beside it."""
    if piece.kind == "gap":
        return _GAP
    if piece.kind == "rest":
        return _REST
    if piece.kind == "number":
        return (r"(?<!\w)" if begins else "") + r"\d{1,12}" + (r"(?!\w)" if ends else "")
    if piece.kind == "name":
        stop = r"(?=[\s'.,;:)\]]|$)" if ends else ""
        return rf"(?:'(?P<{piece.text}_quoted>[^'\n]{{1,200}})'|(?P<{piece.text}>[^\s']{{1,200}}?){stop})"
    if piece.kind == "either":
        choices = (_expression(choice, is_left=begins, is_right=ends) for choice in piece.choices)
        return f"(?:{'|'.join(choices)})"
    return _literal(piece.text, begins, ends)


def _literal(text: str, begins: bool, ends: bool) -> str:
    """Return literal text; beside nothing or a gap its outer space is dropped, and its words are whole."""
    body = clean(text)
    if not body:
        return r"\b" if begins or ends else " "
    if not begins and text.startswith(" "):
        body = f" {body}"
    if not ends and text.endswith(" "):
        body = f"{body} "
    start = r"(?<!\w)" if begins and _WORD.match(body) else ""
    end = r"(?!\w)" if ends and _WORD.match(body[-1]) else ""
    return start + re.escape(body) + end


def _named(found: re.Match[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, value in found.groupdict().items():
        if value is not None:
            named[name.removesuffix("_quoted")] = value.strip(".,;:")
    return named
