"""Splits JavaScript into tokens: as much of the language as ecosystem files are written in.

A regular expression, a private name or a decorator is no token here; who meets one says so with its line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from standfast.services.stacks.documents import DeclarationError, refused
from standfast.services.stacks.nodes import Place

_SPACE = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?", re.ASCII
)
_SIGNS = (
    "===", "!==", "...", "??=", "||=", "&&=", "=>", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "++",
    "--", "+=", "-=", "**", "{", "}", "(", ")", "[", "]", ".", ",", ";", ":", "?", "=", "+", "-", "*", "/",
    "%", "<", ">", "!",
)  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_DEEPEST = 40
#: More than any ecosystem file has, and than is read within a second or two.
MOST_TOKENS = 100_000
_LONGEST_NUMBER = 40


class Token(NamedTuple):
    """One word of the language; ``kind`` is name, number, text, template, sign or end.

    ``parts`` of a template are its pieces of text and the tokens of its expressions, in turn.
    """

    kind: str
    text: str
    place: Place
    parts: tuple[str | tuple[Token, ...], ...] = ()


class UnreadableScriptError(DeclarationError):
    """What stands there may be right, but only a real JavaScript engine can tell."""


def unreadable(place: Place, what: str) -> UnreadableScriptError:
    """Return the error that says what cannot be read without running it."""
    return UnreadableScriptError(
        place, what, why="only values can be read without running the file", code="ScriptUnreadable",
        fix="put node on the PATH, or write plain values there",
    )  # fmt: skip


def tokens_of(text: str, place: Place) -> tuple[Token, ...]:
    """Return the tokens of ``text`` with one of kind ``end`` after them.

    Raises ConfigError with the line where it is no JavaScript, or none that is read here.
    """
    lexer = _Lexer(text, place)
    if text.startswith("#!"):
        lexer.position = text.find("\n") % (len(text) + 1)
    return lexer.run(0)


@dataclass(slots=True)
class _Lexer:
    text: str
    start: Place
    position: int = 0
    line: int = 1
    taken: int = 0
    _counted: int = 0

    def place(self) -> Place:
        """Return where the reader stands."""
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return Place(self.start.file, self.start.line + self.line - 1)

    def run(self, depth: int) -> tuple[Token, ...]:
        """Return the tokens up to the end, or to the brace that closes an expression in a template."""
        found: list[Token] = []
        braces = 0
        while True:
            token = self._next(depth)
            braces += (token.text == "{") - (token.text == "}") if token.kind == "sign" else 0
            if depth and (braces < 0 or token.kind == "end"):
                if token.kind == "end":
                    raise refused(token.place, "a template has no end", code="NotScript")
                return (*found, Token("end", "", token.place))
            found.append(token)
            self.taken += 1
            if self.taken > MOST_TOKENS:
                raise refused(token.place, f"it has more than {MOST_TOKENS} words", code="TooManyValues")
            if token.kind == "end":
                return tuple(found)

    def _next(self, depth: int) -> Token:
        space = _SPACE.match(self.text, self.position)
        if space:
            self.position = space.end()
        place = self.place()
        if self.position >= len(self.text):
            return Token("end", "", place)
        character = self.text[self.position]
        if character in "'\"":
            return Token("text", self._quoted(character, place), place)
        return self._template(depth, place) if character == "`" else self._word(place)

    def _word(self, place: Place) -> Token:
        for kind, pattern in (("name", _NAME), ("number", _NUMBER)):
            match = pattern.match(self.text, self.position)
            if match:
                self.position = match.end()
                return Token(kind, match[0], place)
        sign = next((sign for sign in _SIGNS if self.text.startswith(sign, self.position)), "")
        if not sign:
            raise unreadable(place, f"{self.text[self.position]!r} is not read here")
        self.position += len(sign)
        return Token("sign", sign, place)

    def _quoted(self, quote: str, place: Place) -> str:
        parts: list[str] = []
        self.position += 1
        while self.position < len(self.text):
            character = self.text[self.position]
            self.position += 1
            if character == quote:
                return "".join(parts)
            if character == "\n":
                break
            parts.append(self._escape(place) if character == "\\" else character)
        raise refused(place, f"the text that starts with {quote} has no end", code="NotScript")

    def _escape(self, place: Place) -> str:
        sign = self.text[self.position : self.position + 1]
        self.position += 1
        if sign == "\n":
            return ""
        if sign not in ("x", "u"):
            return _ESCAPES.get(sign, sign)
        match = re.compile(r"\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{2})([0-9a-fA-F]{2})?").match(
            self.text, self.position
        )
        digits = match and (match[1] or match[2] + ((match[3] or "") if sign == "u" else ""))
        if not match or not digits or int(digits, 16) > 0x10FFFF:
            raise refused(place, f"\\{sign} has no code after it", code="NotScript")
        self.position += len(match[0]) if match[1] else len(digits)
        return chr(int(digits, 16))

    def _template(self, depth: int, place: Place) -> Token:
        if depth >= _DEEPEST:
            raise refused(place, "templates are nested too deeply", code="TooDeep")
        parts: list[str | tuple[Token, ...]] = []
        piece: list[str] = []
        self.position += 1
        while self.position < len(self.text):
            character = self.text[self.position]
            self.position += 1
            if character == "`":
                return Token("template", "", place, (*parts, "".join(piece)))
            if character == "$" and self.text[self.position : self.position + 1] == "{":
                self.position += 1
                parts += ["".join(piece), self.run(depth + 1)]
                piece = []
            else:
                piece.append(self._escape(place) if character == "\\" else character)
        raise refused(place, "a template has no end", code="NotScript")


def number_of(token: Token) -> int | float:
    """Return the value of a number as written."""
    text = token.text.replace("_", "").lower()
    if len(text) > _LONGEST_NUMBER:
        raise unreadable(token.place, "a number of this length is not read here")
    if text[:2] in ("0x", "0o", "0b"):
        return int(text, 0)
    value = float(text)
    if not math.isfinite(value):
        raise unreadable(token.place, "a number of this size is not read here")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
