"""Reads YAML (and JSON, which is YAML) into nodes; no tag makes an object, no alias makes a bomb.

1. Unquoted text is typed as compose types it (go-yaml 3): ``yes``, ``on``, dates and ``8001:8001`` are text.
2. A key that stands twice is refused: which of the two was meant is unknown.
3. Anchors, aliases and the merge key ``<<`` are honoured; an alias inside its own anchor is refused.
4. The size of the file, the depth and the number of values (aliases followed) are bounded.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from standfast.kernel.errors import ConfigError
from standfast.services.stacks.nodes import (
    Atom,
    Document,
    MappingNode,
    Node,
    Place,
    ScalarNode,
    SequenceNode,
)

LARGEST_FILE_BYTES = 4_000_000
DEEPEST = 64
MOST_VALUES = 200_000

_TAG = "tag:yaml.org,2002:"
_CORE_TAGS = frozenset({"str", "int", "float", "bool", "null", "seq", "map", "merge"})
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Atom] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_LONGEST_NUMBER = 40
_LONG_TEXT = 256


class DeclarationError(ConfigError):
    """What stands at ``place`` cannot be used as it is."""

    def __init__(self, place: Place, what: str, *, why: str, fix: str, code: str) -> None:
        super().__init__(f"{place}: {what}", why=why, fix=fix, code=code)
        self.place = place


def read_yaml(path: Path) -> Document:
    """Return the documents of the file at ``path``.

    Raises ConfigError, with file and line where there is one, for a file that is missing, unreadable, no
    regular file, larger than ``LARGEST_FILE_BYTES``, no UTF-8 text, or not YAML within the bounds.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> Document:
    """Return the documents of ``text``, which was read from ``path``; raises as ``read_yaml`` does."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(path)
    try:
        return Document(path, tuple(builder.documents(yaml.parse(text, Loader=loader))))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = " ".join(str(part) for part in (error.context, error.problem) if part)
        if _is_tabbed(text, line):
            why = "YAML is indented with spaces, and this line has a tab"
        raise refused(Place(path, line), "this is not YAML", why=why, code="NotYaml") from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise refused(Place(path, line), "this is not YAML", why=_first_line(error), code="NotYaml") from None
    except RecursionError:
        raise refused(Place(path, 1), "it is nested too deeply", code="TooDeep") from None


def read_text(path: Path, *, largest: int = LARGEST_FILE_BYTES) -> str:
    """Return the UTF-8 text of a regular file; ConfigError says why it cannot be had."""
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            kind = "a folder" if stat.S_ISDIR(seen.st_mode) else "no regular file"
            raise ConfigError(f"{path} is {kind}", fix="name the file itself", code="StackUnreadable")
        if seen.st_size > largest:
            raise ConfigError(
                f"{path} has {seen.st_size} bytes, more than the {largest} that a declaration may have",
                fix="check the path: this is no declaration of services",
                code="StackTooLarge",
            )
        with path.open("rb") as stream:
            raw = stream.read(largest + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path}", fix="name a file that is there", code="StackMissing"
        ) from None
    except (OSError, ValueError) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{path} cannot be read", why=why, fix=f"look at it: file {path}", code="StackUnreadable"
        ) from None
    if "\0" in text or len(raw) > largest:
        raise ConfigError(
            f"{path} is no text", why="it has NUL bytes", fix="name a text file", code="StackUnreadable"
        )
    return text


def refused(place: Place, what: str, *, why: str = "", fix: str = "", code: str) -> DeclarationError:
    """Return the error that says ``what`` is wrong at ``place``."""
    return DeclarationError(place, what, why=why, fix=fix or f"mend {place}", code=code)


def typed(text: str) -> Atom:
    """Return what unquoted ``text`` means, as go-yaml 3 and therefore compose understand it."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER or text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        number = _integer(text.replace("_", ""))
        if number is not None:
            return number
    bare = text.replace("_", "")
    number_or_infinity = float(bare) if _FLOAT.fullmatch(bare) else math.inf
    return number_or_infinity if math.isfinite(number_or_infinity) else text


def weight_of(node: Node) -> int:
    """Return what a scalar counts among the values of a document: long text counts as several."""
    return 1 + len(node.text) // _LONG_TEXT if isinstance(node, ScalarNode) else 1


def _integer(text: str) -> int | None:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-")
    is_octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    try:
        number = sign * (int(digits, 8) if is_octal else int(digits, 0))
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**64 else None


def _is_tabbed(text: str, line: int) -> bool:
    written = (text.splitlines()[line - 1 : line] or [""])[0]
    return "\t" in written[: len(written) - len(written.lstrip())]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


@dataclass(slots=True)
class _Frame:
    """A sequence or mapping whose end has not come yet."""

    place: Place
    anchor: str
    tag: str
    is_mapping: bool
    nodes: list[Node] = field(default_factory=list)
    weight: int = 1


class _Builder:
    """Turns events of the parser into nodes, without recursion."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._weights: dict[int, int] = {}
        self._done: Node | None = None

    def documents(self, events: Iterable[Any]) -> Iterator[Node]:
        """Yield the root of each document."""
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._done = {}, None
            elif isinstance(event, yaml.DocumentEndEvent):
                assert self._done is not None
                yield self._done
            else:
                self._take(event)

    def _take(self, event: Any) -> None:
        place = Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            scalar = self._scalar(event, place)
            self._add(scalar, event.anchor, weight_of(scalar), place)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "", place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, place)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(self._stack.pop())

    def _open(self, event: Any, place: Place) -> None:
        if len(self._stack) >= DEEPEST:
            raise refused(place, f"values are nested deeper than {DEEPEST}", code="TooDeep")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(place, event.anchor or "", self._tag(event, place), is_mapping))

    def _close(self, frame: _Frame) -> None:
        node: Node
        if frame.is_mapping:
            node = _mapping(frame)
        else:
            node = SequenceNode(frame.place, tuple(frame.nodes), tag=frame.tag)
        self._add(node, frame.anchor, frame.weight, frame.place)

    def _alias(self, name: str, place: Place) -> None:
        if name not in self._anchors:
            raise refused(place, f"the alias *{name} has no anchor &{name} above it", code="NotYaml")
        node = self._anchors[name]
        if node is None:
            raise refused(place, f"the alias *{name} stands inside its own anchor", code="AliasLoop")
        self._add(node, "", self._weights[id(node)], place)

    def _add(self, node: Node, anchor: str | None, weight: int, place: Place) -> None:
        if anchor:
            self._anchors[anchor] = node
            self._weights[id(node)] = weight
        if not self._stack:
            self._done = node
            return
        top = self._stack[-1]
        top.nodes.append(node)
        # An alias weighs what it means: a bomb is seen where it is lit, before anything follows it.
        top.weight += weight
        if top.weight > MOST_VALUES:
            raise refused(place, f"it means more than {MOST_VALUES} values", code="TooManyValues")

    def _tag(self, event: Any, place: Place) -> str:
        tag = event.tag or ""
        if tag in ("", "!"):
            return ""
        if tag.startswith(_TAG):
            name = tag.removeprefix(_TAG)
            if name not in _CORE_TAGS:
                raise refused(place, f"the tag !!{name} is not read here", code="UnknownTag")
            return ""
        return str(tag)

    def _scalar(self, event: Any, place: Place) -> ScalarNode:
        text, tag, core = event.value, self._tag(event, place), event.tag or ""
        is_quoted = bool(event.style) or core in ("!", f"{_TAG}str")
        value = text if is_quoted else typed(text)
        if core.startswith(_TAG) and core != f"{_TAG}str":
            value = _forced(typed(text), core.removeprefix(_TAG), place)
        return ScalarNode(place, value, text, is_quoted, tag=tag)


def _forced(value: Atom, tag: str, place: Place) -> Atom:
    wanted: dict[str, type | tuple[type, ...]] = {
        "int": int, "float": (int, float), "bool": bool, "null": type(None),
    }  # fmt: skip
    if tag == "merge" or (tag in wanted and isinstance(value, wanted[tag])):
        return float(value) if tag == "float" and isinstance(value, int) else value
    raise refused(place, f"{value!r} is no {tag}", code="NotYaml")


def _mapping(frame: _Frame) -> MappingNode:
    value: dict[str, Node] = {}
    keys: dict[str, ScalarNode] = {}
    merged: Node | None = None
    pairs = iter(frame.nodes)
    for key, node in zip(pairs, pairs, strict=True):
        if not isinstance(key, ScalarNode):
            raise refused(key.place, f"a key must be text, this is {key.kind}", code="NotYaml")
        if key.text in keys:
            raise refused(
                key.place,
                f"the key {key.text[:60]!r} stands twice",
                why=f"it stands at line {keys[key.text].line} too",
                fix=f"keep line {keys[key.text].line} or line {key.line}",
                code="KeyTwice",
            )
        keys[key.text] = key
        if key.text == "<<" and not key.is_quoted:
            merged = node
        else:
            value[key.text] = node
    if merged is not None:
        del keys["<<"]
        _merge(merged, value, keys)
    return MappingNode(frame.place, value, keys, tag=frame.tag)


def _merge(source: Node, value: dict[str, Node], keys: dict[str, ScalarNode]) -> None:
    """Add what ``<<`` brings: a key written here wins, then the first mapping that has it."""
    for node in source.nodes or (source,):
        if not isinstance(node, MappingNode):
            raise refused(node.place, f"<< needs a mapping, this is {node.kind}", code="NotYaml")
        for key, inner in node.items():
            if key.text not in value:
                value[key.text], keys[key.text] = inner, key
