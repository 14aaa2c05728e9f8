"""Which file owns a service's name (R1): pure decisions over what the files of a tree declare.

1. A name that the asked file does not have is refused, with the file that has it and the command for that.
2. One name in two files with different content is a conflict: nobody can tell which of the two is meant,
   unless a file was named. Files of one stack (a main file, its override, what they take in) are one.
3. A name that no file has is refused with the nearest one that there is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from standfast.kernel.errors import ConflictError, NotFoundError, StandfastError
from standfast.kernel.verdict import Finding
from standfast.services.stacks.compose import FILE_NAMES
from standfast.services.stacks.nodes import Place, Plain
from standfast.services.stacks.problems import meant

#: What a tool takes in a folder when no file is named, in that order.
_FIRST = (*FILE_NAMES, "ecosystem.config.js", "standfast.toml")
Kind = Literal["compose", "pm2", "standfast"]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One declaration of a name; ``content`` is None where only a run could tell what it says."""

    name: str
    kind: Kind
    file: Path
    line: int
    content: Mapping[str, Plain] | None = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where the name stands."""
        return Place(self.file, self.line)


class Conflict(NamedTuple):
    """Two declarations of one name that differ in ``keys``; no keys where that cannot be told."""

    first: Entry
    second: Entry
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StackIndex:
    """All names below ``root``. ``uses`` are the files that a file takes in, ``main`` the one it overrides.

    ``findings`` has what could not be read; ``is_whole`` is false where the search ended at a bound.
    """

    root: Path
    entries: tuple[Entry, ...]
    uses: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    main: Mapping[Path, Path] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    is_whole: bool = True

    def named(self, name: str) -> tuple[Entry, ...]:
        """Return the declarations of ``name``, in the order of files."""
        return tuple(entry for entry in self.entries if entry.name == name)

    def files_of(self, file: Path) -> frozenset[Path]:
        """Return the files that are one stack with ``file``: its override, and what those take in."""
        lead = self.main.get(file, file)
        found: set[Path] = set()
        waiting = [lead, *(over for over, main in self.main.items() if main == lead)]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.uses.get(one, ()))
        return frozenset(found)

    def shown(self, path: Path) -> str:
        """Return ``path`` as it is called from the root."""
        return os.path.relpath(path, self.root)


@dataclass(frozen=True, slots=True)
class Owner:
    """The one declaration that is meant; ``conflicts`` are others of the same name that differ from it."""

    entry: Entry
    command: str
    conflicts: tuple[Conflict, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "name": self.entry.name, "kind": self.entry.kind, "file": str(self.entry.file),
            "line": self.entry.line, "command": self.command,
            "conflicts": [str(conflict.second.place) for conflict in self.conflicts],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done, and why; ``fix`` is the command or the name that would have been right."""

    code: str
    message: str
    fix: str
    candidates: tuple[Entry, ...] = ()

    def as_error(self) -> StandfastError:
        """Return it as the error that a command raises."""
        kind = ConflictError if self.code == "NameConflict" else NotFoundError
        return kind(self.message, fix=self.fix, code=self.code)


def owner(index: StackIndex, name: str, asked: Path | None = None, *, verb: str = "up") -> Owner | Refused:
    """Return who declares ``name``, or why that cannot be told.

    ``asked`` is the file, or the folder, that somebody took to be the right one; ``verb`` is what they want
    to do with it, for the command in the answer.
    """
    found = index.named(name)
    if not found:
        return _unknown(index, name)
    if asked is None:
        rivals = _conflicts(index, found)
        return _conflicting(index, name, rivals, verb) if rivals else _owned(index, found, found[0], verb)
    files = _asked_files(index, asked)
    here = [entry for entry in found if entry.file in files]
    if here:
        return _owned(index, found, here[0], verb)
    return _elsewhere(index, found, asked, verb)


def conflicts(index: StackIndex) -> tuple[Conflict, ...]:
    """Return every pair of declarations of one name that differ, and do not belong to one stack."""
    names = dict.fromkeys(entry.name for entry in index.entries)
    return tuple(conflict for name in names for conflict in _conflicts(index, index.named(name)))


def command_for(index: StackIndex, entry: Entry, verb: str) -> str:
    """Return the command that does ``verb`` to exactly this declaration, from the root."""
    file = shlex.quote(index.shown(entry.file))
    if entry.kind == "pm2":
        return f"pm2 start {file} --only {shlex.quote(entry.name)}"
    if entry.kind == "standfast":
        return f"standfast up {shlex.quote(index.shown(entry.file.parent))}"
    lead = index.main.get(entry.file, entry.file)
    over = [one for one, main in index.main.items() if main == lead]
    named = " ".join(f"-f {shlex.quote(index.shown(one))}" for one in (lead, *over))
    return f"docker compose {named} {verb} {shlex.quote(entry.name)}"


def _unknown(index: StackIndex, name: str) -> Refused:
    known = {entry.name for entry in index.entries}
    unread = [str(finding.evidence.get("file", "")) for finding in index.findings]
    doubt = f"; {len(unread)} could not be read ({', '.join(unread[:3])})" if unread else ""
    if not index.is_whole:
        doubt += "; the search ended at its bound"
    return Refused(
        "ServiceUnknown", f"no file below {index.root} declares {name[:60]!r}{doubt}", meant(name, known)
    )


def _owned(index: StackIndex, found: tuple[Entry, ...], entry: Entry, verb: str) -> Owner:
    others = tuple(c if c.first is entry else Conflict(entry, c.first, c.keys)
                   for c in _conflicts(index, found) if entry in (c.first, c.second))  # fmt: skip
    return Owner(entry, command_for(index, entry, verb), others)


def _conflicting(index: StackIndex, name: str, rivals: list[Conflict], verb: str) -> Refused:
    entries = dict.fromkeys(entry for rival in rivals for entry in (rival.first, rival.second))
    places = [f"{index.shown(entry.file)}:{entry.line}" for entry in entries]
    keys = sorted({key for rival in rivals for key in rival.keys})
    what = f" with other values of {', '.join(keys[:8])}" if keys else ""
    commands = " or ".join(command_for(index, entry, verb) for entry in entries)
    return Refused(
        "NameConflict", f"{name} is declared in {' and '.join(places)}{what}", f"name the file: {commands}",
        tuple(entries),
    )  # fmt: skip


def _elsewhere(index: StackIndex, found: tuple[Entry, ...], asked: Path, verb: str) -> Refused:
    where = [f"{index.shown(entry.file)}" for entry in found]
    asked_for = index.shown(_lead(index, asked) or Path(os.path.abspath(asked)))  # noqa: PTH100
    commands = " or ".join(command_for(index, entry, verb) for entry in found)
    return Refused(
        "WrongFile",
        f"{found[0].name} is not in {asked_for}; it is defined in {' and in '.join(where)}",
        commands,
        found,
    )


def _asked_files(index: StackIndex, asked: Path) -> frozenset[Path]:
    lead = _lead(index, asked)
    return index.files_of(lead) if lead else frozenset()


def _lead(index: StackIndex, asked: Path) -> Path | None:
    """Return the file that is meant: the one named, or the first that a tool would take in that folder."""
    path = Path(os.path.abspath(asked))  # noqa: PTH100 - a link is a name of its own, ".." is not
    files = dict.fromkeys((*index.uses, *(entry.file for entry in index.entries)))
    if path in files:
        return path
    inside = [file for file in files if file.parent == path and file not in index.main]
    return min(
        inside, key=lambda file: _FIRST.index(file.name) if file.name in _FIRST else len(_FIRST), default=None
    )


def _conflicts(index: StackIndex, found: tuple[Entry, ...]) -> list[Conflict]:
    return [Conflict(*pair, _differences(*pair)) for pair in _pairs(found) if _is_conflict(index, *pair)]


def _pairs(found: tuple[Entry, ...]) -> Iterator[tuple[Entry, Entry]]:
    for position, first in enumerate(found):
        for second in found[position + 1 :]:
            yield first, second


def _is_conflict(index: StackIndex, first: Entry, second: Entry) -> bool:
    if first.file == second.file:
        return True
    if second.file in index.files_of(first.file) or first.file in index.files_of(second.file):
        return False
    is_certain = first.content is not None and second.content is not None
    return not is_certain or first.kind != second.kind or bool(_differences(first, second))


def _differences(first: Entry, second: Entry) -> tuple[str, ...]:
    one, two = first.content or {}, second.content or {}
    if first.kind != second.kind or first.content is None or second.content is None:
        return ()
    return tuple(sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)))
