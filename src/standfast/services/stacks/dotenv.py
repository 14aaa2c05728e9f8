"""Files of variables, ``.env`` and ``env_file``, as compose reads them.

1. ``NAME=value`` or ``NAME: value``, after an optional ``export``; ``NAME`` alone is taken from outside.
2. Unquoted: to the end of the line or `` #``. Single quotes: as it stands. Double quotes: escapes. Quoted
   values may span lines. Variables are replaced except in single quotes.
3. ``raw`` files have ``NAME=value`` lines and nothing else.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from standfast.services.stacks.documents import read_text, refused
from standfast.services.stacks.interpolation import substitute
from standfast.services.stacks.nodes import Place

_NAME = re.compile(r"(?:export[ \t]+)?([^\s=:#'\"]+(?:\.[^\s=:]+)*)[ \t]*([=:]|\n|$)[ \t]*")
_GOOD_NAME = re.compile(r"[\w.\-\[\]]+")
_ESCAPE = re.compile(r"\\([abcfnrtv$\"\\]|0\d{0,3})")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
            "$": "$$", '"': '"', "\\": "\\"}  # fmt: skip


def read_env(path: Path, environment: Mapping[str, str], *, is_raw: bool = False) -> dict[str, str]:
    """Return the variables of the file at ``path``; values may use those of ``environment``.

    Raises ConfigError where it cannot be read, and with its line where a line is no variable.
    """
    return parse_env(read_text(path), path, environment, is_raw=is_raw)


def parse_env(
    text: str, path: Path, environment: Mapping[str, str], *, is_raw: bool = False
) -> dict[str, str]:
    """Return the variables of ``text``, which was read from ``path``; raises as ``read_env`` does."""
    text = text.replace("\r\n", "\n")
    if is_raw:
        return _raw(text)
    reader = _Reader(text, path, dict(environment))
    while reader.step():
        pass
    return reader.found


def _raw(text: str) -> dict[str, str]:
    lines = (line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#"))
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value for name, equals, value in pairs if equals}


@dataclass(slots=True)
class _Reader:
    text: str
    path: Path
    environment: MutableMapping[str, str]
    position: int = 0
    line: int = 1
    _counted: int = 0
    found: dict[str, str] = field(default_factory=dict)

    def step(self) -> bool:
        """Read one variable and go past it; False at the end of the text."""
        while self.position < len(self.text):
            character = self.text[self.position]
            if character == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            elif not character.isspace():
                self._variable()
                return True
            else:
                self.position += 1
        return False

    def _variable(self) -> None:
        self.line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        place = Place(self.path, self.line)
        match = _NAME.match(self.text, self.position)
        if not match or not _GOOD_NAME.fullmatch(match[1]):
            line = self.text[self.position : self.position + 40].split("\n", 1)[0]
            raise refused(
                place, f"{line!r} is no variable", fix=f"write NAME=value at {place}", code="NotEnv"
            )
        name, sign = match[1], match[2]
        self.position = match.end()
        if sign in ("\n", ""):
            if name in self.environment:
                self.found[name] = self.environment[name]
            return
        self.found[name] = self._value(place)

    def _value(self, place: Place) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote not in ("'", '"') or not quote:
            end = self.text.find("\n", self.position)
            line = self.text[self.position : end if end >= 0 else len(self.text)]
            self.position += len(line)
            return self._expanded(line.partition(" #")[0].rstrip(), place)
        value = self._quoted(quote, place)
        if quote == "'":
            return value
        return self._expanded(_ESCAPE.sub(_unescaped, value), place)

    def _quoted(self, quote: str, place: Place) -> str:
        parts: list[str] = []
        position = self.position + 1
        while position < len(self.text):
            character = self.text[position]
            if character == "\\" and self.text[position + 1 : position + 2] == quote:
                parts.append(quote)
                position += 2
            elif character == quote:
                self.position = position + 1
                return "".join(parts)
            else:
                parts.append(character)
                position += 1
        raise refused(place, f"the value that starts with {quote} has no end", code="NotEnv")

    def _expanded(self, value: str, place: Place) -> str:
        return substitute(value, ChainMap(self.environment, self.found), place).text


def _unescaped(match: re.Match[str]) -> str:
    sign = match[1]
    if sign[0] == "0":
        return chr(int(sign[1:] or "0", 8)) if all(c in "01234567" for c in sign[1:]) else match[0]
    return _ESCAPED.get(sign, match[0])
