"""What a document holds, as nodes that know the file, line and column they were written at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

#: A value without places: text, number, truth, nothing, or lists and dicts of those.
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
Atom = None | bool | int | float | str


class Place(NamedTuple):
    """Where something stands: lines and columns count from 1."""

    file: Path
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One value of a document; ``tag`` is a local YAML tag such as ``!reset``, else empty."""

    place: Place
    tag: str = field(default="", kw_only=True)

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return self.place.file

    @property
    def line(self) -> int:
        """The line it starts at, from 1."""
        return self.place.line

    @property
    def column(self) -> int:
        """The column it starts at, from 1."""
        return self.place.column

    @property
    def kind(self) -> str:
        """What it is, in a word for messages."""
        raise NotImplementedError

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The members of a sequence; nothing for other kinds."""
        return ()

    def get(self, key: str) -> Node | None:
        """Return the value at ``key`` of a mapping; None where there is none or it is no mapping."""
        return None

    def items(self) -> Iterator[tuple[ScalarNode, Node]]:
        """Yield key and value of a mapping in the order written; nothing for other kinds."""
        return iter(())

    def at(self, *path: str | int) -> Node | None:
        """Return what stands below the keys and positions of ``path``, or None."""
        found: Node | None = self
        for step in path:
            if found is None:
                return None
            if isinstance(step, str):
                found = found.get(step)
            else:
                found = found.nodes[step] if step < len(found.nodes) else None
        return found

    def plain(self) -> Plain:
        """Return the value without places."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class ScalarNode(Node):
    """Text, a number, a truth value or nothing.

    ``text`` is what was written, ``value`` what it means: an unquoted ``022`` is the number 18, as it is
    for compose. ``is_quoted`` tells ``"5"`` from ``5``.
    """

    value: Atom
    text: str
    is_quoted: bool = False

    @property
    def kind(self) -> str:
        """What it is, in a word for messages."""
        names = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
        return names.get(type(self.value), "nothing")

    def plain(self) -> Plain:
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class SequenceNode(Node):
    """Values one after another."""

    value: tuple[Node, ...]

    @property
    def kind(self) -> str:
        """What it is, in a word for messages."""
        return "a list"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The members."""
        return self.value

    def plain(self) -> Plain:
        """Return a list of plain values."""
        return [node.plain() for node in self.value]


@dataclass(frozen=True, slots=True, eq=False)
class MappingNode(Node):
    """Values under keys; ``keys`` has the node of each key, in the order written."""

    value: dict[str, Node]
    keys: dict[str, ScalarNode]

    @property
    def kind(self) -> str:
        """What it is, in a word for messages."""
        return "a mapping"

    def get(self, key: str) -> Node | None:
        """Return the value at ``key``, or None."""
        return self.value.get(key)

    def items(self) -> Iterator[tuple[ScalarNode, Node]]:
        """Yield key and value in the order written."""
        for key, node in self.value.items():
            yield self.keys[key], node

    def plain(self) -> Plain:
        """Return a dict of plain values."""
        return {key: node.plain() for key, node in self.value.items()}


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read. A YAML file may hold several documents; ``root`` is the first."""

    file: Path
    roots: tuple[Node, ...]

    @property
    def root(self) -> Node:
        """The first document; a scalar without a value where the file is empty."""
        return self.roots[0] if self.roots else ScalarNode(Place(self.file, 1), None, "")
