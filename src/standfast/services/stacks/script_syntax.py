"""Turns tokens of an ecosystem file into a tree: declarations of values, and what the module exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from standfast.services.stacks.documents import refused
from standfast.services.stacks.nodes import Place
from standfast.services.stacks.script_tokens import Token, number_of, unreadable

#: Each level takes about fifteen calls of the parser, out of a thousand.
_DEEPEST = 30
_LONGEST = 80
#: Operators by how tightly they bind, loosest first.
_LEVELS = (
    ("??",), ("||",), ("&&",), ("===", "!==", "==", "!="), ("<", ">", "<=", ">="), ("+", "-"),
    ("*", "/", "%"),
)  # fmt: skip
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class Expression(NamedTuple):
    """One expression; what ``parts`` hold depends on ``kind``.

    literal: the value; template: texts and expressions in turn; name: the name; array: members, those that
    are spread as kind ``spread``; object: pairs of key (text or expression) and value; member: object and
    key; call: function and arguments; binary: operator, left, right; unary: operator, operand; choice:
    condition, one, other.
    """

    kind: str
    place: Place
    parts: tuple[object, ...]


class Pair(NamedTuple):
    """One ``key: value`` of an object; a spread has no key."""

    key: str | Expression | None
    place: Place
    value: Expression


class Declaration(NamedTuple):
    """``const NAME = VALUE``; with ``keys``, names that are taken out of the value, with their defaults."""

    name: str
    place: Place
    value: Expression
    keys: tuple[tuple[str, str, Expression | None], ...] = ()


class Program(NamedTuple):
    """What a file declares, and what it exports: the whole (``""``) or one name of it."""

    declarations: tuple[Declaration, ...]
    exports: tuple[tuple[str, Expression], ...]


def program_of(tokens: tuple[Token, ...]) -> Program:
    """Return the tree of a file; raises ConfigError with the line of what is not read here."""
    return _Parser(tokens).program()


def value_of(tokens: tuple[Token, ...]) -> Expression:
    """Return the tree of a file that is one value, as JSON is."""
    parser = _Parser(tokens)
    found = parser.expression()
    if parser.peek().kind != "end":
        raise refused(parser.peek().place, f"{parser.peek().text!r} comes after the value", code="NotJson")
    return found


@dataclass(slots=True)
class _Parser:
    tokens: tuple[Token, ...]
    position: int = 0
    depth: int = 0

    def peek(self, ahead: int = 0) -> Token:
        """Return the next token, or one after it; the last one stays."""
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def is_sign(self, *signs: str) -> bool:
        """Whether the next token is one of these signs."""
        return self.peek().kind == "sign" and self.peek().text in signs

    def take(self) -> Token:
        """Return the next token and go past it."""
        token = self.peek()
        self.position += 1
        return token

    def need(self, sign: str) -> Token:
        """Go past ``sign``; ConfigError where something else stands there."""
        if not self.is_sign(sign):
            found = self.peek().text or "the end"
            raise refused(self.peek().place, f"{sign} is missing before {found[:40]!r}", code="NotScript")
        return self.take()

    def program(self) -> Program:
        """Return all declarations and exports."""
        declarations: list[Declaration] = []
        exports: list[tuple[str, Expression]] = []
        while self.peek().kind != "end":
            token = self.peek()
            if self.is_sign(";") or token.kind == "text":
                self.take()  # An empty statement, or a directive such as 'use strict'.
            elif token.kind == "name" and token.text in ("const", "let", "var"):
                self.take()
                declarations += self._declarations()
            else:
                exports.append(self._export(token))
        return Program(tuple(declarations), tuple(exports))

    def _declarations(self) -> list[Declaration]:
        found = [self._declaration()]
        while self.is_sign(","):
            self.take()
            found.append(self._declaration())
        return found

    def _declaration(self) -> Declaration:
        token = self.take()
        if token.kind == "sign" and token.text == "{":
            keys = self._pattern()
            self.need("=")
            return Declaration("", token.place, self.expression(), keys)
        if token.kind != "name" or not self.is_sign("="):
            raise unreadable(token.place, f"a declaration of {token.text!r} without value is not read here")
        self.take()
        return Declaration(token.text, token.place, self.expression())

    def _pattern(self) -> tuple[tuple[str, str, Expression | None], ...]:
        found: list[tuple[str, str, Expression | None]] = []
        while not self.is_sign("}"):
            key = self.take()
            name, default = key, None
            if self.is_sign(":"):
                self.take()
                name = self.take()
            if self.is_sign("="):
                self.take()
                default = self.expression()
            if key.kind not in ("name", "text") or name.kind != "name":
                raise unreadable(key.place, "a nested pattern is not read here")
            found.append((key.text, name.text, default))
            if not self.is_sign("}"):
                self.need(",")
        self.take()
        return tuple(found)

    def _export(self, token: Token) -> tuple[str, Expression]:
        words = [self.take().text]
        if words == ["export"] and self.peek().text == "default":
            self.take()
            return "", self.expression()
        while self.is_sign("."):
            self.take()
            words.append(self.take().text)
        if words[:2] == ["module", "exports"]:
            words = ["exports", *words[2:]]
        if words[0] != "exports" or len(words) > 2 or not self.is_sign("="):
            raise unreadable(token.place, f"{'.'.join(words)[:40]!r} is not read here")
        self.take()
        return ".".join(words[1:]), self.expression()

    def expression(self) -> Expression:
        """Return the next expression."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise refused(self.peek().place, f"expressions are nested deeper than {_DEEPEST}", code="TooDeep")
        found = self._choice()
        self.depth -= 1
        return found

    def _choice(self) -> Expression:
        condition = self._binary(0)
        if not self.is_sign("?"):
            return condition
        place = self.take().place
        one = self.expression()
        self.need(":")
        return Expression("choice", place, (condition, one, self.expression()))

    def _binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        for _ in self._bounded(*_LEVELS[level]):
            sign = self.take()
            left = Expression("binary", sign.place, (sign.text, left, self._binary(level + 1)))
        return left

    def _bounded(self, *signs: str) -> Iterator[int]:
        """Go on while one of ``signs`` is next: each makes the tree one level deeper."""
        for count in range(_LONGEST + 1):
            if not self.is_sign(*signs):
                return
            yield count
        raise unreadable(self.peek().place, f"more than {_LONGEST} {signs[0]} in a row are not read here")

    def _unary(self) -> Expression:
        signs: list[Token] = []
        for _ in self._bounded("!", "-", "+"):
            signs.append(self.take())
        found = self._postfix()
        for sign in reversed(signs):
            found = Expression("unary", sign.place, (sign.text, found))
        return found

    def _postfix(self) -> Expression:
        found = self._primary()
        for _ in self._bounded(".", "?.", "[", "("):
            sign = self.take()
            if sign.text == "(":
                found = Expression("call", sign.place, (found, tuple(self._members(")"))))
            elif sign.text == "[":
                found = Expression("member", sign.place, (found, self.expression()))
                self.need("]")
            else:
                key = self.take()
                literal = Expression("literal", key.place, (key.text,))
                if key.kind != "name":
                    raise unreadable(key.place, f"{sign.text}{key.text[:20]} is not read here")
                found = Expression("member", sign.place, (found, literal))
        if self.is_sign("=>", "++", "--", "**"):
            raise unreadable(self.peek().place, f"{self.peek().text} is not read here")
        return found

    def _primary(self) -> Expression:
        token = self.take()
        if token.kind == "sign":
            reader = self._signs().get(token.text)
            if reader:
                return reader(token)
        elif token.kind == "number":
            return Expression("literal", token.place, (number_of(token),))
        elif token.kind == "text":
            return Expression("literal", token.place, (token.text,))
        elif token.kind == "template":
            return self._template(token)
        elif token.kind == "name":
            return self._name(token)
        what = f"{token.text[:40]!r} is no value" if token.text else "the file ends too early"
        raise refused(token.place, what, code="NotScript")

    def _signs(self) -> dict[str, Callable[[Token], Expression]]:
        return {
            "(": self._grouped,
            "[": lambda token: Expression("array", token.place, tuple(self._members("]"))),
            "{": self._object,
        }

    def _name(self, token: Token) -> Expression:
        if token.text in _WORDS:
            return Expression("literal", token.place, (_WORDS[token.text],))
        if token.text in (
            "function",
            "new",
            "async",
            "await",
            "class",
            "typeof",
            "import",
            "yield",
            "delete",
        ):
            raise unreadable(token.place, f"{token.text} is not read here")
        return Expression("name", token.place, (token.text,))

    def _grouped(self, token: Token) -> Expression:
        found = self.expression()
        self.need(")")
        return found

    def _template(self, token: Token) -> Expression:
        parts = tuple(
            part if isinstance(part, str) else _Parser(part, depth=self.depth).whole() for part in token.parts
        )
        return Expression("template", token.place, parts)

    def whole(self) -> Expression:
        """Return the only expression there is."""
        found = self.expression()
        if self.peek().kind != "end":
            raise refused(self.peek().place, f"{self.peek().text[:40]!r} comes too early", code="NotScript")
        return found

    def _members(self, end: str) -> list[Expression]:
        found: list[Expression] = []
        while not self.is_sign(end):
            if self.is_sign("..."):
                place = self.take().place
                found.append(Expression("spread", place, (self.expression(),)))
            else:
                found.append(self.expression())
            if not self.is_sign(end):
                self.need(",")
        self.take()
        return found

    def _object(self, token: Token) -> Expression:
        pairs: list[Pair] = []
        while not self.is_sign("}"):
            pairs.append(self._pair())
            if not self.is_sign("}"):
                self.need(",")
        self.take()
        return Expression("object", token.place, tuple(pairs))

    def _pair(self) -> Pair:
        token = self.take()
        if token.kind == "sign" and token.text == "...":
            return Pair(None, token.place, self.expression())
        if token.kind == "sign" and token.text == "[":
            key: str | Expression = self.expression()
            self.need("]")
        elif token.kind in ("name", "text", "number"):
            key = token.text
        else:
            raise refused(token.place, f"{token.text[:40] or 'the end'!r} is no key", code="NotScript")
        if token.kind == "name" and self.is_sign(",", "}"):
            return Pair(token.text, token.place, Expression("name", token.place, (token.text,)))
        if self.is_sign("("):
            raise unreadable(token.place, f"the function {token.text!r} is not read here")
        self.need(":")
        return Pair(key, token.place, self.expression())
