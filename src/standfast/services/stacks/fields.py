"""Reads the keys of one mapping by type; what is wrong is kept with its line, and reading goes on.

A key that nobody asked for is never ignored in silence: ``finish`` says what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

from standfast.services.stacks import forms
from standfast.services.stacks.documents import refused, typed
from standfast.services.stacks.merging import as_mapping
from standfast.services.stacks.model import UnsupportedKey
from standfast.services.stacks.nodes import Atom, MappingNode, Node, Place, ScalarNode, SequenceNode
from standfast.services.stacks.problems import Problems, meant

_T = TypeVar("_T")
#: Go's %v writes an exponent from here on (strconv, shortest form).
_FIRST_EXPONENT = 6


class Fields:
    """One mapping of a declaration, that belongs to ``subject``; ``where`` names it in messages."""

    def __init__(self, node: MappingNode, problems: Problems, *, subject: str, where: str) -> None:
        self.node = node
        self.problems = problems
        self.subject = subject
        self.where = where
        self._asked: set[str] = set()

    def get(self, key: str) -> Node | None:
        """Return what stands at ``key``; None where there is nothing, or an explicit null."""
        self._asked.add(key)
        node = self.node.get(key)
        return None if isinstance(node, ScalarNode) and node.value is None else node

    def place(self, key: str) -> Place:
        """Return where ``key`` is written; where it is not, where the mapping is."""
        written = self.node.keys.get(key)
        return written.place if written else self.node.place

    def line(self, key: str) -> int:
        """Return the line that ``key`` is written at."""
        return self.place(key).line

    def read(self, key: str, convert: Callable[[Node], _T]) -> _T | None:
        """Return what ``convert`` makes of the value at ``key``; None where there is none or it is wrong.

        ``convert`` raises ConfigError or ValueError.
        """
        node = self.get(key)
        return None if node is None else self._attempt(key, node, convert)

    def each(self, key: str, convert: Callable[[Node], _T | None]) -> tuple[_T, ...]:
        """Return what ``convert`` makes of each member of a list, without those that are wrong."""
        made = [self._attempt(key, node, convert) for node in self.read(key, members_of) or ()]
        return tuple(value for value in made if value is not None)

    def _attempt(self, key: str, node: Node, convert: Callable[[Node], _T]) -> _T | None:
        with self.problems.gathered(node.place, subject=self.subject):
            try:
                return convert(node)
            except ValueError as error:
                raise refused(node.place, f"{self.where}{key}: {error}", code="BadValue") from None
        return None

    def text(self, key: str) -> str:
        """Return text, empty where there is none; a number counts as it was written."""
        return self.read(key, text_of) or ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of text; a lone text is a list of one."""
        return self.read(key, texts_of) or ()

    def flag(self, key: str) -> bool | None:
        """Return a truth value."""
        return self.read(key, flag_of)

    def whole(self, key: str) -> int | None:
        """Return a whole number."""
        return self.read(key, whole_of)

    def count(self, key: str, *, most: int = 2**31) -> int | None:
        """Return a whole number from 0 to ``most``."""
        return self.read(key, lambda node: _counted(node, most))

    def number(self, key: str) -> float | None:
        """Return a number."""
        return self.read(key, number_of)

    def size(self, key: str) -> int | None:
        """Return a size in bytes."""
        return self.read(key, size_of)

    def duration(self, key: str) -> float | None:
        """Return a time in seconds; it needs a unit."""
        return self.read(key, lambda node: forms.duration_s(text_of(node)))

    def table(self, key: str) -> Mapping[str, str | None]:
        """Return names with their values, from a mapping or a list of ``NAME=value``."""
        return self.read(key, table_of) or {}

    def mapping(self, key: str) -> MappingNode | None:
        """Return a mapping."""
        return self.read(key, mapping_of)

    def inner(self, key: str) -> Fields | None:
        """Return the fields of the mapping at ``key``."""
        node = self.mapping(key)
        return self.of(node, f"{self.where}{key}.") if node else None

    def of(self, node: MappingNode, where: str) -> Fields:
        """Return the fields of another mapping of the same subject."""
        return Fields(node, self.problems, subject=self.subject, where=where)

    def finish(
        self, *, harmless: Iterable[str] = (), refused_keys: Iterable[str] = ()
    ) -> tuple[UnsupportedKey, ...]:
        """Say which keys nobody acted on, and return them; extensions (``x-``) are meant to be ignored."""
        ignorable, impossible = frozenset(harmless), frozenset(refused_keys)
        found: list[UnsupportedKey] = []
        for name, key in self.node.keys.items():
            if name in self._asked or name.startswith("x-"):
                continue
            label = f"{self.where}{name}"
            found.append(UnsupportedKey(label, key.line, name not in ignorable))
            self._say(name, key.place, label, ignorable, impossible)
        return tuple(found)

    def _say(
        self, name: str, place: Place, label: str, ignorable: frozenset[str], impossible: frozenset[str]
    ) -> None:
        if name in ignorable:
            self.problems.note(place, "KeyWithoutEffect", f"{label} has no effect here", subject=self.subject)
        elif name in impossible:
            self.problems.fail(
                place, "KeyNotSupported", f"{label} is not supported, and changes what runs",
                subject=self.subject, fix=f"remove {label} at {place}, or run it with compose itself",
            )  # fmt: skip
        else:
            known = self._asked | ignorable | impossible
            self.problems.fail(
                place, "KeyUnknown", f"there is no key {label}", subject=self.subject, fix=meant(name, known)
            )


def text_of(node: Node) -> str:
    """Return the text of a scalar; a number as it was written. ConfigError for anything else."""
    if isinstance(node, ScalarNode) and node.value is not None and not isinstance(node.value, bool):
        return node.value if isinstance(node.value, str) else node.text
    raise refused(node.place, f"text is needed, this is {node.kind}", code="BadType")


def texts_of(node: Node) -> tuple[str, ...]:
    """Return the texts of a list, or of a lone text."""
    return (
        tuple(text_of(inner) for inner in node.nodes) if isinstance(node, SequenceNode) else (text_of(node),)
    )


def members_of(node: Node) -> tuple[Node, ...]:
    """Return the members of a list; ConfigError for anything else."""
    if not isinstance(node, SequenceNode):
        raise refused(node.place, f"a list is needed, this is {node.kind}", code="BadType")
    return node.nodes


def mapping_of(node: Node) -> MappingNode:
    """Return a mapping; ConfigError for anything else."""
    if not isinstance(node, MappingNode):
        raise refused(node.place, f"a mapping is needed, this is {node.kind}", code="BadType")
    return node


def flag_of(node: Node) -> bool:
    """Return a truth value, or the text of one."""
    if isinstance(node, ScalarNode) and isinstance(node.value, bool):
        return node.value
    return forms.truth(text_of(node))


def number_of(node: Node) -> float:
    """Return a number, or the text of one."""
    value = _unquoted(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(node.place, f"a number is needed, this is {text_of(node)[:40]!r}", code="BadType")
    return value


def whole_of(node: Node) -> int:
    """Return a whole number, or the text of one."""
    value = number_of(node)
    if value != int(value):
        raise refused(node.place, f"a whole number is needed, this is {value}", code="BadType")
    return int(value)


def _counted(node: Node, most: int) -> int:
    value = whole_of(node)
    if not 0 <= value <= most:
        raise ValueError(f"{value} is not from 0 to {most}")
    return value


def size_of(node: Node) -> int:
    """Return bytes from a number or a text with a unit."""
    return forms.size_bytes(text_of(node))


def table_of(node: Node) -> dict[str, str | None]:
    """Return names and values as compose passes them on; None where a name has no value."""
    return {key.text: passed_on(inner) for key, inner in as_mapping(node).items()}


def passed_on(node: Node) -> str | None:
    """Return a scalar as compose writes it into an environment: ``1.0`` is ``1``, ``1e-5`` is ``1e-05``."""
    if not isinstance(node, ScalarNode):
        raise refused(node.place, f"text or a number is needed, this is {node.kind}", code="BadType")
    return go_text(node.value)


def go_text(value: Atom) -> str | None:
    """Return ``value`` as Go prints it, which compose is written in."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    exact = Decimal(repr(value)).normalize()
    if not exact or -4 <= exact.adjusted() < _FIRST_EXPONENT:
        return format(exact, "f")
    mantissa = format(exact.scaleb(-exact.adjusted()), "f")
    return f"{mantissa}e{exact.adjusted():+03d}"


def _unquoted(node: Node) -> Atom:
    if not isinstance(node, ScalarNode):
        raise refused(node.place, f"a number is needed, this is {node.kind}", code="BadType")
    return typed(node.value.strip()) if isinstance(node.value, str) else node.value
