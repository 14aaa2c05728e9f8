"""What a compose service sees of files: its volumes, and its secrets and configs where those are files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from functools import partial

from standfast.services.stacks import forms
from standfast.services.stacks.anchoring import is_path
from standfast.services.stacks.fields import Fields, flag_of, size_of, table_of, text_of, whole_of
from standfast.services.stacks.model import Mount
from standfast.services.stacks.nodes import MappingNode, Node, Place, Plain
from standfast.services.stacks.problems import meant

_KINDS = ("bind", "volume", "tmpfs", "npipe", "cluster", "image")
_FOLDERS = {"secrets": "/run/secrets", "configs": "/"}
_OPTIONS: dict[str, dict[str, Callable[[Node], Plain]]] = {
    "bind": {
        "propagation": text_of, "create_host_path": flag_of, "selinux": text_of, "recursive": text_of,
    },
    "volume": {"nocopy": flag_of, "subpath": text_of, "labels": lambda node: dict(table_of(node))},
    "tmpfs": {"size": size_of, "mode": whole_of},
    "image": {"subpath": text_of},
}  # fmt: skip
_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")


def mounts_of(get: Fields, secrets: Mapping[str, Node], configs: Mapping[str, Node]) -> tuple[Mount, ...]:
    """Return what is mounted, one per target; of two for the same target the later one counts."""
    found: dict[str, Mount] = {}
    for mount in get.each("volumes", lambda node: _mount(get, node)):
        if mount.target in found and found[mount.target] != mount:
            _say_twice(get, mount, found[mount.target])
        found[mount.target] = mount
    for key, known in (("secrets", secrets), ("configs", configs)):
        for file in get.each(key, partial(_file, get, key, known)):
            found[file.target] = file
    return tuple(found.values())


def _say_twice(get: Fields, mount: Mount, first: Mount) -> None:
    get.problems.note(
        Place(get.node.file, mount.line), "MountReplaced",
        f"{get.where}volumes: this replaces what line {first.line} mounts at {mount.target}",
        subject=get.subject,
    )  # fmt: skip


def _mount(get: Fields, node: Node) -> Mount:
    if isinstance(node, MappingNode):
        return _long(get, node)
    short = forms.mount(text_of(node))
    is_bind = is_path(short.source)
    options: dict[str, Plain] = {}
    if is_bind:
        options["create_host_path"] = True
    for option in short.options:
        if option in _PROPAGATION:
            options["propagation"] = option
        elif option in ("z", "Z"):
            options["selinux"] = option
        elif option == "nocopy":
            options["nocopy"] = True
        else:
            get.problems.note(
                node.place, "OptionWithoutEffect", f"{get.where}volumes: no option {option!r}",
                subject=get.subject,
            )  # fmt: skip
    target = posixpath.normpath(short.target)
    return Mount(
        "bind" if is_bind else "volume", short.source, target, node.line, short.is_read_only, options
    )


def _long(get: Fields, node: MappingNode) -> Mount:
    inner = get.of(node, f"{get.where}volumes.")
    kind, target = inner.text("type"), inner.text("target")
    if kind not in _KINDS:
        raise ValueError(f"type {kind[:40]!r} is none of {', '.join(_KINDS)}")
    if not target and kind != "tmpfs":
        raise ValueError("it has no target")
    source, is_read_only = inner.text("source"), bool(inner.flag("read_only"))
    if kind == "bind" and not source:
        raise ValueError("a bind has no source")
    options: dict[str, Plain] = {"create_host_path": True} if kind == "bind" else {}
    for key in _OPTIONS:
        options |= _said(inner, key, kind)
    inner.finish(harmless=("consistency",))
    return Mount(kind, source, posixpath.normpath(target), node.line, is_read_only, options)


def _said(inner: Fields, key: str, kind: str) -> dict[str, Plain]:
    """Return what a long mount says below ``key``, which must be its own kind."""
    said = inner.inner(key)
    if not said:
        return {}
    if key != kind:
        raise ValueError(f"{key} is for mounts of that type, and this one is {kind}")
    read = {name: said.read(name, form) for name, form in _OPTIONS[key].items()}
    said.finish()
    return {name: value for name, value in read.items() if value is not None}


def _file(get: Fields, key: str, known: Mapping[str, Node], node: Node) -> Mount | None:
    """Return a secret or config as the read-only mount that compose makes of it."""
    if isinstance(node, MappingNode):
        inner = get.of(node, f"{get.where}{key}.")
        source, target = inner.text("source"), inner.text("target")
        inner.finish(harmless=("uid", "gid", "mode"))
    else:
        source, target = text_of(node), ""
    declared = known.get(source)
    if declared is None:
        get.problems.fail(
            node.place, "ResourceUnknown", f"{get.subject} uses {source!r}, which is not in {key}",
            subject=get.subject, fix=meant(source, known),
        )  # fmt: skip
        return None
    file = declared.get("file")
    if file is None:
        get.problems.fail(
            node.place, "KeyNotSupported", f"{key} {source!r} is no file ({declared.place}): only files work",
            subject=get.subject, fix="give it as a file",
        )  # fmt: skip
        return None
    target = posixpath.join(_FOLDERS[key], target or source)
    return Mount("bind", text_of(file), target, node.line, is_read_only=True)
