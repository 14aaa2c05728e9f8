"""Finds the files of a tree that declare services, and reads their names: bounded, and nothing is run."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.services.stacks.anchoring import absolute_path
from standfast.services.stacks.compose import FILE_NAMES, OVERRIDE_NAMES
from standfast.services.stacks.documents import DeclarationError, parse_yaml, read_text
from standfast.services.stacks.index import Entry, Kind, StackIndex
from standfast.services.stacks.nodes import MappingNode, Node, Place, Plain, ScalarNode
from standfast.services.stacks.pm2 import app_lines, apps_of
from standfast.services.stacks.problems import Problems
from standfast.services.stacks.script import read_script, read_value

#: Folders that hold nothing that somebody of this project declared; hidden ones are left out too.
SKIPPED = frozenset({"node_modules", "venv", "__pycache__", "site-packages", "dist", "build", "target"})
MOST_ENTRIES = 100_000
MOST_FILES = 2_000
DEEPEST = 12

_COMPOSE = re.compile(r"(?:docker-|podman-)?compose(?:[._-].*)?\.ya?ml|.*[._-]compose\.ya?ml", re.IGNORECASE)
_PM2 = re.compile(r"(?:ecosystem|pm2|process(?:es)?)[\w.-]*\.(?:c?js|mjs|json|ya?ml)|.+\.config\.[cm]?js")
_APPS = re.compile(r"""["']?\bapps["']?\s*[:=]""")
_SERVICE_KEYS = frozenset({"image", "build", "extends"})
_TOML_NAME = "standfast.toml"
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*services[ \t]*\]\]", re.MULTILINE)
_LARGEST = 1_000_000


def read_index(root: Path, environment: Mapping[str, str]) -> StackIndex:
    """Return every name that a file below ``root`` declares.

    Links to folders are not followed. A file that cannot be read is in the findings, and the index is not
    ``is_whole`` where the search ended at a bound. Raises ConfigError where ``root`` is no folder.
    """
    base = Path(os.path.abspath(root))  # noqa: PTH100
    if not base.is_dir():
        raise ConfigError(f"{root} is no folder", fix="name a folder", code="StackUnreadable")
    reader = _Reader(base, environment)
    walk = _Walk()
    for path in walk.files(base):
        reader.take(path)
    return reader.index(is_whole=walk.is_whole)


@dataclass(slots=True)
class _Walk:
    """Walks a tree of folders by name; ends at a bound of entries, candidates or depth."""

    is_whole: bool = True
    seen: int = 0
    taken: int = 0

    def files(self, top: Path) -> Iterator[Path]:
        """Yield the files whose names may declare services."""
        waiting = [(top, 0)]
        while waiting:
            folder, depth = waiting.pop()
            inner: list[tuple[Path, int]] = []
            for entry in self._entries(folder):
                if self.seen > MOST_ENTRIES or self.taken > MOST_FILES:
                    self.is_whole = False
                    return
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and entry.name not in SKIPPED:
                        inner.append((path, depth + 1))
                elif _kind(entry.name) and entry.is_file():
                    self.taken += 1
                    yield path
            if depth >= DEEPEST and inner:
                self.is_whole = False
            else:
                waiting.extend(reversed(inner))

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            self.is_whole = False
            return []
        self.seen += len(entries)
        return entries


def _kind(name: str) -> Kind | None:
    if name == _TOML_NAME:
        return "standfast"
    if _PM2.fullmatch(name):
        return "pm2"
    return "compose" if name.endswith((".yml", ".yaml")) else None


@dataclass(slots=True)
class _Reader:
    root: Path
    environment: Mapping[str, str]
    entries: list[Entry] = field(default_factory=list)
    uses: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def take(self, path: Path) -> None:
        """Read one file; what cannot be read is said only where its name promises services."""
        kind = _kind(path.name)
        is_promised = kind == "standfast" or bool(_COMPOSE.fullmatch(path.name))
        try:
            text = read_text(path, largest=_LARGEST)
            found = {"standfast": self._toml, "pm2": self._pm2, "compose": self._compose}[kind or "compose"]
            found(path, text)
        except ConfigError as error:
            if is_promised or (kind == "pm2" and error.code != "StackUnreadable"):
                place = error.place if isinstance(error, DeclarationError) else Place(path, 1)
                self.problems.warn(place, error.code, error.what.removeprefix(f"{place}: "), fix=error.fix)

    def index(self, *, is_whole: bool) -> StackIndex:
        """Return what was read."""
        order = {name: position for position, name in enumerate(FILE_NAMES)}
        entries = sorted(
            self.entries,
            key=lambda e: (
                len(e.file.parts),
                str(e.file.parent),
                order.get(e.file.name, 9),
                e.file.name,
                e.line,
            ),
        )
        found = tuple(self.problems.found)
        return StackIndex(self.root, tuple(entries), dict(self.uses), self._overridden(), found, is_whole)

    def _overridden(self) -> dict[Path, Path]:
        """Return the main file of each override file, as compose pairs them."""
        found: dict[Path, Path] = {}
        for folder in dict.fromkeys(path.parent for path in self.uses):
            main = next((folder / name for name in FILE_NAMES if folder / name in self.uses), None)
            over = next((folder / name for name in OVERRIDE_NAMES if folder / name in self.uses), None)
            if main and over:
                found[over] = main
        return found

    def _compose(self, path: Path, text: str) -> None:
        is_named = bool(_COMPOSE.fullmatch(path.name))
        if not is_named and "services" not in text:
            return
        roots = parse_yaml(text, path).roots
        if not is_named and not any(_looks_like_compose(root) for root in roots):
            return
        self.uses[path] = tuple(used for root in roots for used in self._used(root, path))
        for root in roots:
            services = root.get("services")
            for key, node in services.items() if services else ():
                content = node.plain()
                self.entries.append(
                    Entry(key.text, "compose", path, key.line, content if isinstance(content, dict) else {})
                )

    def _used(self, root: Node, path: Path) -> Iterator[Path]:
        """Yield the files that are included, or extended from."""
        include = root.get("include")
        for node in include.nodes if include else ():
            named = node.get("path") or node
            for one in named.nodes or (named,):
                yield from self._local(one, path)
        services = root.get("services")
        for _, node in services.items() if services else ():
            file = node.at("extends", "file")
            if file is not None:
                yield from self._local(file, path)

    def _local(self, node: Node, path: Path) -> Iterator[Path]:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            yield Path(absolute_path(node.value, path.parent, self.environment))

    def _pm2(self, path: Path, text: str) -> None:
        is_script = path.suffix not in (".json", ".yml", ".yaml")
        if not _APPS.search(text) and (is_script or '"pm2"' not in text):
            return
        self.uses.setdefault(path, ())
        try:
            if is_script:
                root = read_script(text, path, self.environment).value
            else:
                root = read_value(text, path) if path.suffix == ".json" else parse_yaml(text, path).root
            apps = list(apps_of(root))
        except DeclarationError:
            if not is_script:
                raise
            self._guess(path, text)
            return
        for app in apps:
            name = app.get("name")
            if isinstance(app, MappingNode) and isinstance(name, ScalarNode):
                content: dict[str, Plain] = {key.text: node.plain() for key, node in app.items()}
                self.entries.append(Entry(name.text, "pm2", path, name.line, content))

    def _guess(self, path: Path, text: str) -> None:
        """Take the names that stand in a file which only node could read; what they say stays unknown."""
        for name, line in app_lines(text).items():
            self.entries.append(Entry(name, "pm2", path, line, None))

    def _toml(self, path: Path, text: str) -> None:
        self.uses.setdefault(path, ())
        try:
            raw = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(f"{path} is not TOML: {error}", fix=f"mend {path}", code="NotToml") from None
        lines = [text.count("\n", 0, match.start()) + 1 for match in _HEADER.finditer(text)]
        services = raw.get("services")
        for number, service in enumerate(services if isinstance(services, list) else ()):
            if isinstance(service, dict) and isinstance(service.get("name"), str):
                line = lines[number] if number < len(lines) else 1
                self.entries.append(Entry(service["name"], "standfast", path, line, service))


def _looks_like_compose(root: Node) -> bool:
    services = root.get("services")
    inner = [node for _, node in services.items()] if services else []
    return bool(inner) and all(
        isinstance(node, MappingNode) and _SERVICE_KEYS & node.value.keys() for node in inner
    )
