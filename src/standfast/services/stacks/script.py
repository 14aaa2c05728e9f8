"""Reads the values of an ecosystem file without running it, each with its line.

Understood: literals, templates, declarations, spread, ``?:``, ``||``, ``&&``, ``??``, comparisons,
arithmetic, ``process.env``, ``__dirname``, ``path.join`` and its like. A construct whose value is not certain
raises ``UnreadableScriptError`` with its line: a wrong value would be worse than none.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from standfast.services.stacks.documents import MOST_VALUES, typed, weight_of
from standfast.services.stacks.nodes import Atom, MappingNode, Node, Place, ScalarNode, SequenceNode
from standfast.services.stacks.script_syntax import Declaration, Expression, Pair, program_of, value_of
from standfast.services.stacks.script_tokens import tokens_of, unreadable

UNDEFINED = "undefined"
#: Tags of values that are a variable of the environment, and of texts made with one; its name follows.
FROM_ENVIRONMENT = "env:"
MADE_WITH = "made-with-env:"
_LONGEST_TEXT = 1_000_000
_DEEPEST = 60
_DECIMAL = re.compile(r"(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?")
_WHOLE = re.compile(r"\s*[-+]?\d{1,15}(?![\dxX])")
_Builtin = Callable[[list[Node], Place], Node]


@dataclass(frozen=True, slots=True)
class ScriptValue:
    """What a file exports; ``undefined_in`` are the places where the word undefined became part of a text."""

    value: Node
    undefined_in: tuple[Place, ...]


def read_script(text: str, file: Path, environment: Mapping[str, str]) -> ScriptValue:
    """Return what ``module.exports`` is in ``text``, which was read from ``file``, without running it.

    Raises ``UnreadableScriptError`` where only an engine could tell, ConfigError where it is no JavaScript.
    """
    start = Place(file, 1)
    program = program_of(tokens_of(text, start))
    run = _Run(file, environment)
    for declaration in program.declarations:
        run.declare(declaration)
    whole: Node | None = None
    parts: list[tuple[str, Expression]] = []
    for name, expression in program.exports:
        if name:
            parts.append((name, expression))
        else:
            whole, parts = run.value(expression), []
    if parts:
        whole = _with(whole, {name: run.value(expression) for name, expression in parts}, start)
    if whole is None:
        raise unreadable(start, "the file exports nothing")
    return ScriptValue(_settled(whole), tuple(run.undefined_in))


def read_value(text: str, file: Path) -> Node:
    """Return the JSON (comments and trailing commas allowed) in ``text``, with lines."""
    return _settled(_Run(file, {}).value(value_of(tokens_of(text, Place(file, 1)))))


def _with(whole: Node | None, added: Mapping[str, Node], start: Place) -> Node:
    base = whole if isinstance(whole, MappingNode) else MappingNode(start, {}, {})
    keys = {name: ScalarNode(node.place, name, name) for name, node in added.items()}
    return MappingNode(base.place, {**base.value, **added}, {**base.keys, **keys})


def _settled(node: Node) -> Node:
    """Return ``node`` as JSON has it: what is undefined is not there."""
    if isinstance(node, MappingNode):
        kept = {key: _settled(inner) for key, inner in node.value.items() if inner.tag != UNDEFINED}
        return MappingNode(node.place, kept, {key: node.keys[key] for key in kept})
    if isinstance(node, SequenceNode):
        return SequenceNode(node.place, tuple(_settled(inner) for inner in node.nodes))
    return node


def _scalar(place: Place, value: Atom, tag: str = "") -> ScalarNode:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = "" if value is None else value if isinstance(value, str) else _text(value)
    return ScalarNode(place, value, text, isinstance(value, str), tag=tag)


def _text(value: Atom) -> str:
    """Return a value as JavaScript writes it into a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value)


@dataclass(slots=True)
class _Run:
    file: Path
    environment: Mapping[str, str]
    names: dict[str, Node | str] = field(default_factory=dict)
    undefined_in: list[Place] = field(default_factory=list)
    #: Each list and object that was made, with how many values it means and how deep they lie: a few lines of
    #: `b = [...a, ...a]` would mean more than any machine can hold.
    _made: dict[int, tuple[Node, int, int]] = field(default_factory=dict)

    def _kept(self, node: Node) -> Node:
        """Return a list or object that was just made; UnreadableScriptError where it means too much."""
        children = (*node.nodes, *(one for _, one in node.items()))
        inner = [self._made.get(id(one), (one, weight_of(one), 0)) for one in children]
        weight, depth = 1 + sum(one[1] for one in inner), 1 + max((one[2] for one in inner), default=0)
        if weight > MOST_VALUES or depth > _DEEPEST:
            raise unreadable(node.place, f"this means more than {MOST_VALUES} values, or {_DEEPEST} levels")
        self._made[id(node)] = (node, weight, depth)
        return node

    def declare(self, declaration: Declaration) -> None:
        """Keep the names of a declaration, with their values."""
        value = self._any(declaration.value)
        if not declaration.keys:
            self.names[declaration.name] = value
            return
        for key, name, default in declaration.keys:
            found = self._key(value, key, declaration.place)
            if default is not None and isinstance(found, Node) and found.tag == UNDEFINED:
                found = self._any(default)
            self.names[name] = found

    def value(self, expression: Expression) -> Node:
        """Return the value of an expression; UnreadableScriptError where it is none, such as a function."""
        found = self._any(expression)
        if isinstance(found, str):
            raise unreadable(expression.place, f"{found} is no value")
        return found

    def _any(self, expression: Expression) -> Node | str:
        """Return a value, or the dotted name of something that node has built in."""
        kind = expression.kind
        if kind == "name":
            return self._name(str(expression.parts[0]), expression.place)
        if kind == "member":
            return self._member(expression)
        if kind == "call":
            return self._call(expression)
        readers: dict[str, Callable[[Expression], Node]] = {
            "literal": self._literal, "template": self._template, "array": self._array,
            "object": self._object, "binary": self._binary, "unary": self._unary, "choice": self._choice,
        }  # fmt: skip
        if kind not in readers:
            raise unreadable(expression.place, "this is not read here")
        return readers[kind](expression)

    def _name(self, name: str, place: Place) -> Node | str:
        if name in self.names:
            return self.names[name]
        if name == "undefined":
            return _scalar(place, None, UNDEFINED)
        if name == "__dirname":
            return _scalar(place, str(self.file.absolute().parent))
        if name == "__filename":
            return _scalar(place, str(self.file.absolute()))
        if name in ("process", "require", "Object", "String", "Number", "parseInt"):
            return name
        raise unreadable(place, f"{name!r} is not declared above as a plain value")

    def _member(self, expression: Expression) -> Node | str:
        base, key = (part for part in expression.parts if isinstance(part, Expression))
        return self._key(self._any(base), self._as_text(self.value(key)), expression.place)

    def _key(self, base: Node | str, key: str, place: Place) -> Node | str:
        if base == "process.env":
            found = self.environment.get(key)
            if found is None:
                return _scalar(place, None, UNDEFINED)
            return _scalar(place, found, FROM_ENVIRONMENT + key)
        if isinstance(base, str):
            return f"{base}.{key}"
        if isinstance(base, MappingNode):
            return base.value.get(key, _scalar(place, None, UNDEFINED))
        if isinstance(base, SequenceNode) and key.isdecimal() and len(key) < 9:
            return base.value[int(key)] if int(key) < len(base.value) else _scalar(place, None, UNDEFINED)
        raise unreadable(place, f".{key[:40]} of {base.kind} is not read here")

    def _call(self, expression: Expression) -> Node | str:
        function, given = expression.parts
        assert isinstance(function, Expression)
        assert isinstance(given, tuple)
        if function.kind == "member":
            owner, key = (part for part in function.parts if isinstance(part, Expression))
            target = self._any(owner)
            if isinstance(target, SequenceNode):
                return self._of_array(
                    target, self._as_text(self.value(key)), self._values(given), function.place
                )
        name = self._any(function)
        if name == "require":
            module = self._as_text(self.value(given[0])) if given else ""
            return f"require:{module.removeprefix('node:')}"
        builtin = self._builtins().get(name) if isinstance(name, str) else None
        if builtin is None:
            raise unreadable(
                expression.place, f"a call of {name if isinstance(name, str) else 'it'} is not read here"
            )
        return builtin(self._values(given), expression.place)

    def _of_array(self, array: SequenceNode, name: str, given: list[Node], place: Place) -> Node:
        if name == "join":
            sign = "," if not given or given[0].tag == UNDEFINED else self._as_text(given[0])
            whole = sign.join("" if _is_nothing(node) else self._as_text(node) for node in array.nodes)
            return self._bounded(whole, place, _made_with(array.nodes))
        if name == "concat":
            added = [inner for node in given for inner in (node.nodes or (node,))]
            return self._kept(SequenceNode(array.place, (*array.nodes, *added)))
        raise unreadable(place, f".{name[:40]} of a list is not read here")

    def _bounded(self, text: str, place: Place, tag: str = "") -> Node:
        if len(text) > _LONGEST_TEXT:
            raise unreadable(place, "a text of this length is not read here")
        return _scalar(place, text, tag)

    def _builtins(self) -> dict[str, _Builtin]:
        found: dict[str, _Builtin] = {
            f"require:path.{name}": partial(self._on_paths, change)
            for name, change in (("join", _joined), ("dirname", _folder), ("basename", _last))
        }
        found["require:path.resolve"] = partial(self._on_paths, self._resolved)
        found["require:os.homedir"] = lambda given, place: self._bounded(
            self.environment.get("HOME", "/"), place, MADE_WITH + "HOME"
        )
        found["process.cwd"] = lambda given, place: _scalar(place, str(self.file.absolute().parent))
        found["String"] = lambda given, place: _scalar(place, self._as_text(given[0]) if given else "")
        found["Number"] = self._number
        found["parseInt"] = self._whole
        found["Object.assign"] = self._assigned
        return found

    def _on_paths(self, change: Callable[[list[str]], str], given: list[Node], place: Place) -> Node:
        are_text = all(isinstance(node.plain(), str) for node in given)
        if not given or not are_text or (change in (_folder, _last) and len(given) > 1):
            raise unreadable(place, "a path function with these arguments is not read here")
        tag = _made_with(given)
        return self._bounded(change([self._as_text(node) for node in given]), place, tag)

    def _resolved(self, parts: list[str]) -> str:
        return posixpath.normpath(self.file.absolute().parent.joinpath(*parts))

    def _number(self, given: list[Node], place: Place) -> Node:
        value = given[0].plain() if given else None
        if isinstance(value, str):
            value = typed(value.strip() or "0") if _DECIMAL.fullmatch(value.strip() or "0") else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unreadable(place, "a number of this is not read here")
        return _scalar(place, value)

    def _whole(self, given: list[Node], place: Place) -> Node:
        text = str(given[0].plain()) if given else ""
        match = _WHOLE.match(text)
        if not match or (len(given) > 1 and given[1].plain() != 10):
            raise unreadable(place, "a whole number of this is not read here")
        return _scalar(place, int(match[0]))

    def _assigned(self, given: list[Node], place: Place) -> Node:
        found = MappingNode(place, {}, {})
        for node in given:
            if isinstance(node, MappingNode):
                found = MappingNode(place, {**found.value, **node.value}, {**found.keys, **node.keys})
        return self._kept(found)

    def _values(self, expressions: tuple[Expression, ...]) -> list[Node]:
        found: list[Node] = []
        for expression in expressions:
            if expression.kind != "spread":
                found.append(self.value(expression))
                continue
            inner = self.value(expression.parts[0])  # type: ignore[arg-type]
            if not isinstance(inner, SequenceNode):
                raise unreadable(expression.place, f"{inner.kind} is spread into a list")
            found.extend(inner.nodes)
            if len(found) > MOST_VALUES:
                raise unreadable(expression.place, f"this means more than {MOST_VALUES} values")
        return found

    def _literal(self, expression: Expression) -> Node:
        value = expression.parts[0]
        assert value is None or isinstance(value, bool | int | float | str)
        return _scalar(expression.place, value)

    def _template(self, expression: Expression) -> Node:
        nodes = [
            self.value(part) if isinstance(part, Expression) else _scalar(expression.place, str(part))
            for part in expression.parts
        ]
        tag = _made_with(nodes)
        return self._bounded("".join(self._as_text(node) for node in nodes), expression.place, tag)

    def _array(self, expression: Expression) -> Node:
        members = self._values(expression.parts)  # type: ignore[arg-type]
        return self._kept(SequenceNode(expression.place, tuple(members)))

    def _object(self, expression: Expression) -> Node:
        value: dict[str, Node] = {}
        keys: dict[str, ScalarNode] = {}
        for pair in expression.parts:
            assert isinstance(pair, Pair)
            inner = self._spread(pair) if pair.key is None else self.value(pair.value)
            if pair.key is not None:
                name = pair.key if isinstance(pair.key, str) else self._as_text(self.value(pair.key))
                value[name], keys[name] = inner, ScalarNode(pair.place, name, name)
            elif isinstance(inner, MappingNode):
                value.update(inner.value)
                keys.update(inner.keys)
            elif _is_true(inner):
                raise unreadable(pair.place, f"{inner.kind} spread into an object is not read here")
        return self._kept(MappingNode(expression.place, value, keys))

    def _spread(self, pair: Pair) -> Node:
        found = self._any(pair.value)
        if found != "process.env":
            return self.value(pair.value)
        value: dict[str, Node] = {
            name: _scalar(pair.place, text, FROM_ENVIRONMENT + name)
            for name, text in self.environment.items()
        }
        return MappingNode(pair.place, value, {name: _scalar(pair.place, name) for name in value})

    def _choice(self, expression: Expression) -> Node:
        condition, one, other = (part for part in expression.parts if isinstance(part, Expression))
        return self.value(one if _is_true(self.value(condition)) else other)

    def _unary(self, expression: Expression) -> Node:
        sign, operand = expression.parts
        assert isinstance(operand, Expression)
        inner = self.value(operand)
        if sign == "!":
            return _scalar(expression.place, not _is_true(inner))
        number = self._number([inner], expression.place).plain()
        assert isinstance(number, int | float)
        return _scalar(expression.place, -number if sign == "-" else number)

    def _binary(self, expression: Expression) -> Node:
        sign, left, right = expression.parts
        assert isinstance(left, Expression)
        assert isinstance(right, Expression)
        first = self.value(left)
        if sign in ("||", "&&", "??"):
            wants_other = {"||": not _is_true(first), "&&": _is_true(first), "??": _is_nothing(first)}[
                str(sign)
            ]
            return self.value(right) if wants_other else first
        return self._computed(str(sign), first, self.value(right), expression.place)

    def _computed(self, sign: str, first: Node, second: Node, place: Place) -> Node:
        if sign in ("===", "==", "!==", "!="):
            are_equal = _are_equal(first, second, place, is_strict=len(sign) == 3)
            return _scalar(place, are_equal == (sign[0] == "="))
        one, two = first.plain(), second.plain()
        if sign == "+" and (isinstance(one, str) or isinstance(two, str)):
            tag = _made_with((first, second))
            return self._bounded(self._as_text(first) + self._as_text(second), place, tag)
        if isinstance(one, bool | str | list | dict | None) or isinstance(
            two, bool | str | list | dict | None
        ):
            raise unreadable(place, f"{first.kind} {sign} {second.kind} is not read here")
        if sign in ("/", "%") and not two:
            raise unreadable(place, "a division by zero is not read here")
        return _scalar(place, _ARITHMETIC[sign](one, two))

    def _as_text(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            raise unreadable(node.place, f"{node.kind} as text is not read here")
        if node.tag == UNDEFINED:
            self.undefined_in.append(node.place)
            return "undefined"
        if isinstance(node.value, float) and "e" in repr(node.value):
            raise unreadable(node.place, "a number of this size as text is not read here")
        return _text(node.value)


_ARITHMETIC: dict[str, Callable[[int | float, int | float], Atom]] = {
    "+": lambda one, two: one + two, "-": lambda one, two: one - two, "*": lambda one, two: one * two,
    "/": lambda one, two: one / two, "%": math.fmod, "<": lambda one, two: one < two,
    ">": lambda one, two: one > two, "<=": lambda one, two: one <= two, ">=": lambda one, two: one >= two,
}  # fmt: skip


def _made_with(nodes: Iterable[Node]) -> str:
    """Return the tag of a text that is made of ``nodes``: the first variable that is in it."""
    names = (
        node.tag.rpartition(":")[2] for node in nodes if node.tag.startswith((FROM_ENVIRONMENT, MADE_WITH))
    )
    return next((MADE_WITH + name for name in names), "")


def _are_equal(first: Node, second: Node, place: Place, *, is_strict: bool) -> bool:
    if not isinstance(first, ScalarNode) or not isinstance(second, ScalarNode):
        raise unreadable(place, "a comparison of lists is not read here")
    if first.value is None or second.value is None:
        both = first.value is None and second.value is None
        return both and (not is_strict or (first.tag == UNDEFINED) == (second.tag == UNDEFINED))
    is_same_kind = _sort(first.value) == _sort(second.value)
    if not is_same_kind and not is_strict:
        raise unreadable(place, f"{first.kind} == {second.kind} is not read here")
    return is_same_kind and first.value == second.value


def _sort(value: Atom) -> str:
    return "number" if isinstance(value, float) else type(value).__name__.replace("int", "number")


def _joined(parts: list[str]) -> str:
    whole = "/".join(part for part in parts if part)
    path = posixpath.normpath(whole or ".").replace("//", "/")
    return f"{path}/" if whole.endswith("/") and path != "/" else path


def _folder(parts: list[str]) -> str:
    return str(PurePosixPath(parts[0]).parent)


def _last(parts: list[str]) -> str:
    return parts[0].rstrip("/").rpartition("/")[2]


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None


def _is_true(node: Node) -> bool:
    return bool(node.value) if isinstance(node, ScalarNode) else True
