"""Everything that lint has read, as values: the rules see this and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from standfast.services.lint.contents import BuiltImage
from standfast.services.lint.dockerfile import Dockerfile
from standfast.services.lint.images import ImageRef, KnownImage, known_image, parse_image
from standfast.services.lint.installs import Word
from standfast.services.lint.model import FileKind, Passed, Spot
from standfast.services.lint.monitoring import Alertmanager, Prometheus, RuleFile
from standfast.services.lint.sources import Source
from standfast.services.stacks.model import DeclaredService, Stack
from standfast.services.stacks.nodes import Document, MappingNode, Node, ScalarNode, SequenceNode


class Wanted(NamedTuple):
    """One line of a requirements file."""

    word: Word
    line: int


class Index(NamedTuple):
    """An index that a requirements file names, in an option or in a comment."""

    url: str
    line: int
    is_comment: bool
    text: str


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file: what it asks for, from which indexes, and which files it includes."""

    path: Path
    wanted: tuple[Wanted, ...]
    indexes: tuple[Index, ...] = ()
    includes: tuple[str, ...] = ()
    is_pre: bool = False


@dataclass(frozen=True, slots=True)
class Disk:
    """What is on the disk where lint looked; ``seen`` are the folders that were walked wholly."""

    files: frozenset[Path] = frozenset()
    folders: frozenset[Path] = frozenset()
    seen: frozenset[Path] = frozenset()

    def has(self, path: Path) -> bool:
        """Return whether there is a file or a folder at ``path``."""
        return path in self.files or path in self.folders

    def knows(self, path: Path) -> bool:
        """Return whether it was looked at, so that absence means something."""
        return path in self.seen or any(parent in self.seen for parent in path.parents)

    def below(self, folder: Path) -> Iterator[Path]:
        """Yield the files below ``folder``."""
        return (path for path in self.files if folder in path.parents)


@dataclass(frozen=True, slots=True)
class BuildUse:
    """A service that builds from a Dockerfile. ``stands_in`` says for which missing file it was taken."""

    context: Path
    dockerfile: Path
    image: BuiltImage | None
    stands_in: str = ""


class StackFinding(NamedTuple):
    """What the reader of stacks found wrong; ``profile`` is the one that must be active for it."""

    reason: str
    message: str
    spot: Spot
    fix: str
    is_error: bool
    profile: str = ""


@dataclass(frozen=True)
class DeclaredStack:
    """Compose files that are one stack, with the raw documents that the lines are taken from."""

    stack: Stack
    documents: Mapping[Path, Document]
    findings: tuple[StackFinding, ...] = ()
    lines: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files asked for."""
        return self.stack.files

    @cached_property
    def values(self) -> Mapping[tuple[Path, str, int], Node]:
        """What was written at each key, before anything was merged or put in."""
        return dict(pair for document in self.documents.values() for pair in _values(document))

    @cached_property
    def declared(self) -> tuple[DeclaredService, ...]:
        """All services, whatever their profiles."""
        return (*self.stack.services, *self.stack.inactive)


@dataclass(frozen=True)
class LintService:
    """One service with all that is known of its image."""

    declared: DeclaredService
    owner: DeclaredStack
    use: BuildUse | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.declared.name

    @cached_property
    def ref(self) -> ImageRef | None:
        """The image that it runs, where it is not built here."""
        is_pulled = self.use is None and self.declared.build is None and self.declared.image
        return parse_image(self.declared.image) if is_pulled else None

    @cached_property
    def known(self) -> KnownImage | None:
        """What is known of the image that it runs."""
        return known_image(self.ref) if self.ref is not None else None

    @property
    def built(self) -> BuiltImage | None:
        """What its Dockerfile builds, where that was read."""
        return self.use.image if self.use is not None else None

    @cached_property
    def names(self) -> frozenset[str]:
        """The names by which others of its stack reach it."""
        aliases = {alias for use in self.declared.networks for alias in use.aliases}
        hostname = self.declared.options.get("hostname")
        own = {
            self.name,
            self.declared.container_name,
            *aliases,
            hostname if isinstance(hostname, str) else "",
        }
        return frozenset(own - {""})

    @property
    def spot(self) -> Spot:
        """Where its name stands."""
        return Spot(self.declared.file, self.declared.line)

    def at(self, *path: str) -> Spot:
        """Return where the value at ``path`` of it stands; the nearest thing known otherwise."""
        place = self.declared.places.get(path[0])
        if place is None:
            return self.spot
        node = self.owner.values.get((place.file, path[0], place.line))
        spot = Spot(place.file, place.line)
        for step in path[1:]:
            found = _step(node, step) if node is not None else None
            if found is None:
                return spot
            spot, node = Spot(place.file, found[0]), found[1]
        return spot

    def node(self, key: str) -> Node | None:
        """Return what was written at ``key`` of it, before anything was merged or put in."""
        place = self.declared.places.get(key)
        return self.owner.values.get((place.file, key, place.line)) if place is not None else None


def _values(document: Document) -> Iterator[tuple[tuple[Path, str, int], Node]]:
    """Yield the value of every key with the file, name and line of the key."""
    waiting: list[Node] = list(document.roots)
    while waiting:
        node = waiting.pop()
        for name, inner in node.items():
            yield (name.file, name.text, name.line), inner
            waiting.append(inner)
        waiting += node.nodes


def _step(node: Node, key: str) -> tuple[int, Node] | None:
    """Return the line and the value of ``key`` in a mapping, or of ``key=value`` in a list."""
    if isinstance(node, MappingNode) and key in node.value:
        return node.keys[key].line, node.value[key]
    if isinstance(node, SequenceNode):
        for member in node.nodes:
            if isinstance(member, ScalarNode) and re.match(rf"{re.escape(key)}(?:[=:\s]|$)", member.text):
                return member.line, member
    return None


@dataclass(frozen=True, slots=True)
class Running:
    """One process or container as its manager lists it; None is "the listing does not say"."""

    name: str
    manager: str
    spot: Spot
    is_up: bool
    status: str = ""
    arguments: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    limit_bytes: int | None = None
    restarts: int | None = None
    unstable: int | None = None
    restart_policy: str | None = None
    service: str = ""
    project: str = ""
    files: tuple[str, ...] = ()

    def with_memory(self, memory_bytes: int | None) -> Running:
        """Return it with the memory that another listing saw."""
        return self if memory_bytes is None else replace(self, memory_bytes=memory_bytes)


@dataclass(frozen=True, slots=True)
class Listing:
    """What runs: the managers that were asked, and what they listed."""

    managers: frozenset[str]
    running: tuple[Running, ...]


@dataclass(frozen=True)
class Tree:
    """All that was read. ``targets`` are GPU architectures that somebody names; empty: nobody does."""

    stacks: tuple[DeclaredStack, ...] = ()
    services: tuple[LintService, ...] = ()
    dockerfiles: tuple[Dockerfile, ...] = ()
    requirements: Mapping[Path, Requirements] = field(default_factory=dict)
    prometheus: tuple[Prometheus, ...] = ()
    rule_files: tuple[RuleFile, ...] = ()
    alertmanagers: tuple[Alertmanager, ...] = ()
    sources: tuple[Source, ...] = ()
    disk: Disk = field(default_factory=Disk)
    targets: Mapping[str, Spot | None] = field(default_factory=dict)
    texts: Mapping[Path, str] = field(default_factory=dict)
    unreadable: tuple[tuple[Spot, str, str], ...] = ()
    not_understood: tuple[Passed, ...] = ()
    linted: frozenset[Path] = frozenset()
    counts: Mapping[FileKind, int] = field(default_factory=dict)
    processes: tuple[DeclaredService, ...] = ()
    process_findings: tuple[StackFinding, ...] = ()
    running: Listing | None = None

    def services_of(self, stack: DeclaredStack) -> tuple[LintService, ...]:
        """Return the services of one stack."""
        return tuple(service for service in self.services if service.owner is stack)

    def reach(self, host: str, stack: DeclaredStack | None = None) -> LintService | None:
        """Return the service that ``host`` means, in ``stack`` or, without one, anywhere."""
        for service in self.services:
            if host in service.names and (stack is None or service.owner is stack):
                return service
        return None

    def uses_of(self, path: Path) -> tuple[LintService, ...]:
        """Return the services that build from the Dockerfile at ``path``."""
        return tuple(s for s in self.services if s.use is not None and s.use.dockerfile == path)

    @cached_property
    def sources_of(self) -> Mapping[Path, tuple[Source, ...]]:
        """What the sources below each build context say."""
        contexts = {s.use.context for s in self.services if s.use is not None}
        return {
            folder: tuple(source for source in self.sources if folder in source.path.parents)
            for folder in contexts
        }
