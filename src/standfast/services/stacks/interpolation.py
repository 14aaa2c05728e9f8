"""Variables in the values of a compose file, as the Compose Specification's section 12 has them.

``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME-default}``, ``${NAME:?error}``, ``${NAME?error}``,
``${NAME:+other}``, ``${NAME+other}``; defaults may hold variables again; ``$$`` is a dollar sign; any other
``$`` stands for itself. With the colon, an empty variable counts as unset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from standfast.services.stacks.documents import refused
from standfast.services.stacks.nodes import Place

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-+?]")
_DEEPEST = 20


class Substituted(NamedTuple):
    """Text with its variables replaced, and those that were not set and had no default."""

    text: str
    unset: tuple[str, ...]


def substitute(text: str, variables: Mapping[str, str], place: Place) -> Substituted:
    """Return ``text`` with its variables replaced; an unset one without default is blank, and named.

    Raises ConfigError at ``place`` for a variable that is required and missing, and for what is no variable.
    """
    run = _Run(variables, place)
    return Substituted(run.expand(text, 0), tuple(dict.fromkeys(run.unset)))


@dataclass(slots=True)
class _Run:
    variables: Mapping[str, str]
    place: Place
    unset: list[str] = field(default_factory=list)

    def expand(self, text: str, depth: int) -> str:
        """Return ``text`` expanded; each step consumes at least one character."""
        if depth > _DEEPEST:
            raise refused(self.place, f"defaults are nested deeper than {_DEEPEST}", code="TooDeep")
        parts: list[str] = []
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            value, position = self._variable(text, dollar, depth)
            parts.append(value)
        return "".join((*parts, text[position:]))

    def _variable(self, text: str, dollar: int, depth: int) -> tuple[str, int]:
        """Return the value of what starts at ``dollar``, and where the text goes on."""
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            return "$", dollar + 2
        if after == "{":
            end = _closing(text, dollar + 1)
            inner = text[dollar + 2 : end]
            name = _NAME.match(inner)
            if end < 0 or not name:
                raise self._invalid(text[dollar:])
            return self._braced(name[0], inner[name.end() :], depth), end + 1
        bare = _NAME.match(text, dollar + 1)
        if not bare:
            return "$", dollar + 1
        return self._plain(bare[0]), bare.end()

    def _plain(self, name: str) -> str:
        value = self.variables.get(name)
        if value is None:
            self.unset.append(name)
        return value or ""

    def _braced(self, name: str, rest: str, depth: int) -> str:
        if not rest:
            return self._plain(name)
        operator = _OPERATOR.match(rest)
        if not operator:
            raise self._invalid("${" + name + rest + "}")
        word = rest[operator.end() :]
        value = self.variables.get(name)
        is_missing = not value if operator[0].startswith(":") else value is None
        kind = operator[0][-1]
        if kind == "+":
            # Compose gives the value itself where the other text does not apply: it is empty then.
            return value or "" if is_missing else self.expand(word, depth + 1)
        if not is_missing:
            return value or ""
        if kind == "-":
            return self.expand(word, depth + 1)
        raise refused(
            self.place,
            f"the required variable {name} is {'not set' if value is None else 'empty'}",
            why=self.expand(word, depth + 1),
            fix=f"set it: export {name}=..., or write {name}=... into .env",
            code="VariableMissing",
        )

    def _invalid(self, text: str) -> Exception:
        return refused(
            self.place,
            f"{text[:60]!r} is no variable",
            fix="write $$ for a dollar sign, ${NAME} for a variable",
            code="VariableInvalid",
        )


def _closing(text: str, opening: int) -> int:
    """Return where the brace at ``opening`` is closed, or -1."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
    return -1
