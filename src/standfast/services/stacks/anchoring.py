"""Makes the relative paths of a compose model absolute, each against the folder that counts for its file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from standfast.services.stacks.nodes import MappingNode, Node, ScalarNode, SequenceNode

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|git@|github\.com/|service:|docker-image:", re.IGNORECASE)
_LOCAL = (".", "/", "~")
_Change = Callable[[Node], Node]


def anchored(model: Node, folder: Path, variables: Mapping[str, str]) -> Node:
    """Return ``model`` with each path in it that is relative made absolute against ``folder``.

    Short mounts are written in their long form, so that the path in them is a value of its own.
    """

    def absolute(node: Node) -> Node:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
            return node
        text = absolute_path(node.value, folder, variables)
        return ScalarNode(node.place, text, text, is_quoted=True, tag=node.tag)

    def service(node: Node) -> Node:
        return _changed(node, {
            "build": lambda n: _build(n, absolute),
            "env_file": lambda n: _each(n, lambda one: _changed_or(one, "path", absolute)),
            "label_file": lambda n: _each(n, absolute),
            "volumes": lambda n: _each(n, lambda one: _mount(one, absolute)),
            "extends": lambda n: _changed(n, {"file": absolute}),
        })  # fmt: skip

    def files(node: Node) -> Node:
        return _values(node, lambda one: _changed(one, {"file": absolute}))

    return _changed(model, {
        "services": lambda n: _values(n, service),
        "secrets": files,
        "configs": files,
        "volumes": lambda n: _values(n, lambda one: _changed(one, {"driver_opts": _device(absolute)})),
    })  # fmt: skip


def absolute_path(text: str, folder: Path, variables: Mapping[str, str]) -> str:
    """Return ``text`` as an absolute path; a URL stays as it is, ``~`` is the home of ``variables``."""
    if _URL.match(text):
        return text
    if text == "~" or text.startswith("~/"):
        text = variables.get("HOME", "~") + text[1:]
    # normpath and not resolve: a link in the path is the user's own, and need not be there yet.
    return os.path.normpath(folder / text)


def is_path(source: str) -> bool:
    """Whether the source of a short mount is a path, and not the name of a volume."""
    return source.startswith(_LOCAL)


def _build(node: Node, absolute: _Change) -> Node:
    if isinstance(node, MappingNode):
        return _changed(node, {"context": absolute, "additional_contexts": lambda n: _values(n, absolute)})
    return absolute(node)


def _mount(node: Node, absolute: _Change) -> Node:
    if isinstance(node, MappingNode):
        kind = node.get("type")
        is_bind = kind is not None and kind.plain() == "bind"
        return _changed(node, {"source": absolute}) if is_bind else node
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return node
    source, colon, rest = node.value.partition(":")
    if not colon or not is_path(source):
        return node
    path = absolute(ScalarNode(node.place, source, source)).plain()
    text = f"{path}:{rest}"
    return ScalarNode(node.place, text, text, is_quoted=True, tag=node.tag)


def _device(absolute: _Change) -> _Change:
    def change(node: Node) -> Node:
        options = node.get("o")
        is_bind = options is not None and "bind" in str(options.plain()).split(",")
        return _changed(node, {"device": absolute}) if is_bind else node

    return change


def _changed(node: Node, changes: Mapping[str, _Change]) -> Node:
    """Return a mapping with some of its values changed; anything else as it is."""
    if not isinstance(node, MappingNode):
        return node
    value = {key: changes[key](inner) if key in changes else inner for key, inner in node.value.items()}
    return MappingNode(node.place, value, node.keys, tag=node.tag)


def _changed_or(node: Node, key: str, change: _Change) -> Node:
    return _changed(node, {key: change}) if isinstance(node, MappingNode) else change(node)


def _values(node: Node, change: _Change) -> Node:
    return _changed(node, dict.fromkeys(node.value, change)) if isinstance(node, MappingNode) else node


def _each(node: Node, change: _Change) -> Node:
    if isinstance(node, SequenceNode):
        return SequenceNode(node.place, tuple(change(inner) for inner in node.nodes), tag=node.tag)
    return change(node)
