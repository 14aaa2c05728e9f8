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
from itertools import islice
from typing import NamedTuple

from standfast.services.failures.text import Tail, clean

_GAP = ".{0,160}?"
_REST = r"\S{0,80}"
_MOST_GAPS = 3
_MOST_RESTS = 4
_MOST_NAMES = 4
_MOST_CHARS = 700
_LEAST_NEEDLE = 3
#: What is in more lines of one tail than this says nothing new.
_MOST_HITS = 64
_MARK = re.compile(r"\\.|\*|#|\{[a-z][a-z_]{0,23}\}|\([^)|]*\|[^)]*\)")
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

    def hits(self, read: Tail) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Yield the number of each line that matches, and what the phrase's names stand for there."""
        for number in islice(self._candidates(read), _MOST_HITS):
            found = self.pattern.search(read.lines[number])
            if found is not None:
                yield number, _named(found)

    def _candidates(self, read: Tail) -> Iterator[int]:
        """Yield the numbers of the lines that have a needle; every turn goes on behind the last one."""
        for needle in self.needles:
            at = read.lower.find(needle)
            while at >= 0:
                number = read.line_at(at)
                yield number
                after = read.starts[number + 1] if number + 1 < len(read.starts) else len(read.lower)
                at = read.lower.find(needle, after)

    def is_in(self, line: str) -> bool:
        """Whether the phrase matches a cleaned line."""
        lower = line.lower()
        return any(needle in lower for needle in self.needles) and self.pattern.search(line) is not None


def phrase(text: str) -> Phrase:
    """Return ``text`` as a phrase; PhraseError where it is none."""
    if len(text) > _MOST_CHARS:
        raise PhraseError(f"it is longer than {_MOST_CHARS} characters")
    pieces = tuple(_pieces(text.strip()))
    kinds = [piece.kind for piece in pieces]
    rests = kinds.count("rest") + sum(_most_rests(piece) for piece in pieces)
    if kinds.count("gap") > _MOST_GAPS or rests > _MOST_RESTS:
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
    """Yield the parts of a phrase."""
    literal, at = "", 0
    for found in _MARK.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        mark = found[0]
        if mark[0] == "\\":
            literal += mark[1]
            continue
        if literal:
            yield _Piece("text", literal)
        literal = ""
        yield _special(mark, text[found.start() - 1 : found.start()], text[at : at + 1])
    if literal or at < len(text):
        yield _Piece("text", literal + text[at:])


def _special(mark: str, before: str, after: str) -> _Piece:
    """Return the part that ``mark`` stands for; what is beside it tells a gap from the rest of a word."""
    if mark == "*":
        return _Piece("gap" if before in ("", " ") and after in ("", " ") else "rest")
    if mark == "#":
        return _Piece("number")
    if mark[0] == "{":
        return _Piece("name", mark[1:-1])
    return _Piece("either", choices=tuple(tuple(_pieces(choice)) for choice in mark[1:-1].split("|")))


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


def _most_rests(piece: _Piece) -> int:
    return max((sum(inner.kind == "rest" for inner in choice) for choice in piece.choices), default=0)


def _longest(pieces: tuple[_Piece, ...]) -> str:
    return max((clean(p.text).lower() for p in pieces if p.kind == "text"), key=len, default="")


class _Beside(NamedTuple):
    """What a part has beside it: the kind of another part, or nothing at an open end of the phrase."""

    before: str = ""
    after: str = ""
    #: The part after it begins with a space, or there is none: what takes a word's rest may take all of it.
    is_spaced: bool = True


def _expression(pieces: tuple[_Piece, ...], around: _Beside | None = None) -> str:
    """Return the regular expression of ``pieces``, alone or as a choice with ``around`` beside it."""
    around = around or _Beside()
    parts = []
    for index, piece in enumerate(pieces):
        before = pieces[index - 1].kind if index else around.before
        after = pieces[index + 1] if index + 1 < len(pieces) else None
        is_spaced = around.is_spaced if after is None else after.kind == "gap" or after.text.startswith(" ")
        parts.append(_part(piece, _Beside(before, after.kind if after else around.after, is_spaced)))
    # At an end of the phrase they say only that the line, or the word, may go on.
    if not around.before and pieces and pieces[0].kind in ("gap", "rest"):
        parts[0] = ""
    if not around.after and pieces and pieces[-1].kind in ("gap", "rest"):
        parts[-1] = ""
    return "".join(parts)


def _part(piece: _Piece, beside: _Beside) -> str:
    begins, ends = beside.before in _OPEN, beside.after in _OPEN
    if piece.kind == "gap":
        return _GAP
    if piece.kind == "rest":
        # Possessive: a word's rest that was taken is not tried again in parts.
        return _REST + ("+" if beside.is_spaced else "?")
    if piece.kind == "number":
        return (r"(?<!\w)" if begins else "") + r"\d{1,12}+" + (r"(?!\w)" if ends else "")
    if piece.kind == "name":
        bare = r"[^\s']{1,200}" + ("+" if beside.after and beside.is_spaced else "?")
        stop = r"(?=[\s'.,;:)\]]|$)" if ends else ""
        return rf"(?:'(?P<{piece.text}_quoted>[^'\n]{{1,200}}+)'|(?P<{piece.text}>{bare}){stop})"
    if piece.kind == "either":
        return f"(?:{'|'.join(_expression(choice, beside) for choice in piece.choices)})"
    return _literal(piece.text, beside)


#: Beside these a word is whole: an end of the phrase, and a gap.
_OPEN = ("", "gap")


def _literal(text: str, beside: _Beside) -> str:
    """Return literal text; beside nothing or a gap its outer space is dropped, and its words are whole."""
    begins, ends = beside.before in _OPEN, beside.after in _OPEN
    body = clean(text)
    if not body:
        return _space(beside)
    if not begins and text.startswith(" "):
        body = f" {body}"
    if not ends and text.endswith(" "):
        body = f"{body} "
    start = r"(?<!\w)" if begins and _WORD.match(body) else ""
    end = r"(?!\w)" if ends and _WORD.match(body[-1]) else ""
    return start + re.escape(body) + end


def _space(beside: _Beside) -> str:
    """Return what a space stands for: itself, or the end of a word beside a gap."""
    if beside.before in _OPEN:
        return r"(?<!\w)" if beside.before else ""
    if beside.after in _OPEN:
        return "" if beside.before in ("rest", "name") else r"(?!\w)"
    return " "


def _named(found: re.Match[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, value in found.groupdict().items():
        if value is not None:
            named[name.removesuffix("_quoted")] = value.strip(".,;:")
    return named
