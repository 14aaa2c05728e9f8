"""Reads files into a ``Tree``: the only part of lint that looks at the disk. Nothing is run or fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.kernel.gpu_arch import FIRST_CUDA
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.lint import walking
from standfast.services.lint.contents import build
from standfast.services.lint.dockerfile import Dockerfile, parse_dockerfile
from standfast.services.lint.model import FileKind, Passed, Spot
from standfast.services.lint.monitoring import (
    Alertmanager,
    Prometheus,
    RuleFile,
    read_alertmanager,
    read_prometheus,
    read_rules,
)
from standfast.services.lint.requirements import is_requirements, read_requirements
from standfast.services.lint.sources import Source, read_source
from standfast.services.lint.tree import (
    BuildUse,
    DeclaredStack,
    Disk,
    LintService,
    Listing,
    Requirements,
    StackFinding,
    Tree,
)
from standfast.services.stacks.compose import FILE_NAMES, OVERRIDE_NAMES, read_compose
from standfast.services.stacks.documents import DeclarationError, parse_yaml, read_text
from standfast.services.stacks.model import DeclaredService, Stack
from standfast.services.stacks.nodes import Document, MappingNode
from standfast.services.stacks.pm2 import read_pm2

_LARGEST = 4_000_000
#: What an ecosystem file may ask of its environment; the same on every machine, so that findings are too.
_EVERYWHERE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "USER": "nobody"}
_NOT_RUN = "it is not run here"
_MOST_VARIABLES = 200
_MISSING = re.compile(r"the required variable (\w+) is")
#: Cards that people write instead of their architecture.
_CARDS = (
    (r"\bRTX\s*-?\s*50[5-9]0", "sm_120"), (r"\bRTX\s*-?\s*40[5-9]0", "sm_89"),
    (r"\bRTX\s*-?\s*30[5-9]0", "sm_86"), (r"\bH[12]00\b", "sm_90"), (r"\bA100\b", "sm_80"),
    (r"\bB[12]00\b", "sm_100"), (r"\bT4\b", "sm_75"), (r"\bL40S?\b", "sm_89"),
)  # fmt: skip


def read_tree(
    paths: Sequence[Path],
    architectures: Sequence[str] = (),
    running: Listing | None = None,
    silent: Sequence[Passed] = (),
) -> Tree:
    """Return everything that the files at ``paths`` declare, with what they refer to as evidence.

    ``running`` is what managers list beside it, ``silent`` who could not be asked. Raises ConfigError for a
    path that is not there.
    """
    reader = _Reader()
    for path in paths:
        reader.add(Path(os.path.abspath(path)))  # noqa: PTH100 - links are not followed, ".." is
    tree = reader.finish(architectures)
    return replace(tree, running=running, not_understood=(*tree.not_understood, *silent))


@dataclass(slots=True)
class _Reader:
    """Collects what was read; each step adds to it."""

    files: list[Path] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    seen: set[Path] = field(default_factory=set)
    linted: set[Path] = field(default_factory=set)
    texts: dict[Path, str] = field(default_factory=dict)
    documents: dict[Path, Document] = field(default_factory=dict)
    dockerfiles: dict[Path, Dockerfile] = field(default_factory=dict)
    requirements: dict[Path, Requirements] = field(default_factory=dict)
    prometheus: list[Prometheus] = field(default_factory=list)
    rule_files: list[RuleFile] = field(default_factory=list)
    alertmanagers: list[Alertmanager] = field(default_factory=list)
    compose: list[Path] = field(default_factory=list)
    pm2: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Spot, str, str]] = field(default_factory=list)
    not_understood: list[Passed] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Take in a file, or everything below a folder."""
        if path.is_dir():
            found, is_whole = self._walk(path)
            if is_whole:
                self.seen.add(path)
            else:
                self.not_understood.append(Passed(str(path), f"only the first {walking.MOST_FILES} files"))
            self.linted.update(found)
            for file in found:
                self._read(file, is_named=False)
            return
        if not path.exists():
            raise ConfigError(
                f"there is no {path}", fix="name a file or a folder that is there", code="PathMissing"
            )
        self.files.append(path)
        self.linted.add(path)
        self._read(path, is_named=True)

    def _walk(self, folder: Path) -> tuple[list[Path], bool]:
        files, folders, is_whole = walking.walk(folder)
        self.files += files
        self.folders.update(folders)
        return files, is_whole

    def _read(self, path: Path, *, is_named: bool) -> None:
        if walking.is_dockerfile(path):
            self._dockerfile(path)
        elif is_requirements(path):
            self._requirements(path)
        elif walking.may_be_pm2(path) and not walking.is_yaml(path):
            text = self._text(path)
            if text is not None and (walking.has_apps(text) or is_named):
                self.pm2.append(path)
        elif walking.is_yaml(path):
            self._yaml(path, is_named=is_named)
        elif is_named:
            self._unknown(path)

    def _text(self, path: Path) -> str | None:
        if path not in self.texts:
            try:
                self.texts[path] = read_text(path, largest=_LARGEST)
            except ConfigError as error:
                self.unreadable.append((Spot(path, 1), error.what, error.fix))
                return None
        return self.texts[path]

    def _dockerfile(self, path: Path) -> Dockerfile | None:
        text = self._text(path)
        if text is None:
            return None
        self.dockerfiles[path] = parse_dockerfile(text, path)
        return self.dockerfiles[path]

    def _requirements(self, path: Path) -> None:
        text = self._text(path)
        if text is not None:
            self.requirements[path] = read_requirements(path, text)

    def _unknown(self, path: Path) -> None:
        """Read a file that was named and whose name says nothing."""
        text = self._text(path)
        if text is None:
            return
        if re.search(r"(?im)^\s*FROM\s+\S+", text):
            self._dockerfile(path)
        elif walking.has_apps(text):
            self.pm2.append(path)
        else:
            self._yaml(path, is_named=True)

    def _yaml(self, path: Path, *, is_named: bool) -> None:
        is_expected = is_named or walking.is_expected(path)
        text = self._text(path) if is_expected else walking.text_or_none(path, _LARGEST)
        if text is None:
            return
        try:
            document = parse_yaml(text, path)
        except ConfigError as error:
            if is_expected:
                self.unreadable.append((*_told(error, path), error.fix))
            else:
                self.not_understood.append(Passed(str(path), "it is not YAML"))
            return
        kind = next((k for root in document.roots if (k := walking.kind_of(root)) is not None), None)
        if kind is None:
            self.not_understood.append(Passed(str(path), "it declares nothing that lint knows"))
            return
        self.texts[path] = text
        self.documents[path] = document
        self._keep(kind, path, document, text)

    def _keep(self, kind: FileKind, path: Path, document: Document, text: str) -> None:
        if kind is FileKind.COMPOSE:
            self.compose.append(path)
        elif kind is FileKind.PROMETHEUS:
            self.prometheus.append(read_prometheus(document))
        elif kind is FileKind.RULES:
            self.rule_files.append(read_rules(document, text))
        elif kind is FileKind.ALERTMANAGER:
            self.alertmanagers.append(read_alertmanager(document))
        else:
            self.pm2.append(path)

    def finish(self, architectures: Sequence[str]) -> Tree:
        """Read what the stacks refer to, and return everything."""
        stacks = list(self._stacks())
        services = tuple(service for stack in stacks for service in self._services(stack))
        apps = list(self._apps())
        for service in services:
            self._look(service)
        sources = tuple(self._sources())
        counts = {
            FileKind.COMPOSE: len(self.compose),
            FileKind.DOCKERFILE: len(self.linted & self.dockerfiles.keys()),
            FileKind.PROMETHEUS: len(self.prometheus), FileKind.RULES: len(self.rule_files),
            FileKind.ALERTMANAGER: len(self.alertmanagers), FileKind.PM2: len(self.pm2),
            FileKind.REQUIREMENTS: len(self.linted & self.requirements.keys()),
        }  # fmt: skip
        return Tree(
            tuple(stacks), services, tuple(self.dockerfiles.values()), self.requirements,
            tuple(self.prometheus), tuple(self.rule_files), tuple(self.alertmanagers), sources,
            Disk(frozenset(self.files), frozenset(self.folders), frozenset(self.seen)),
            dict(self._targets(architectures)), self.texts, tuple(self.unreadable),
            tuple(self.not_understood), frozenset(self.linted), counts,
            tuple(app for stack in apps for app in stack.services),
            tuple(_stack_finding(finding) for stack in apps for finding in stack.findings),
        )  # fmt: skip

    def _stacks(self) -> Iterator[DeclaredStack]:
        """Yield each stack once: a base with its override, overlays over their base, others alone."""
        done: set[Path] = set()
        for files in _groups(self.compose, self.documents):
            own = files[-1]
            if own in done and len(files) == 1:
                continue
            try:
                stack, findings = _read_stack(files)
            except ConfigError as error:
                self.unreadable.append((*_told(error, own), error.fix))
                continue
            done.update(stack.read)
            documents = {path: self._document(path) for path in stack.read}
            self.linted.update(stack.read)
            lines = {path: tuple(self.texts.get(path, "").split("\n")) for path in stack.read}
            known = {path: document for path, document in documents.items() if document is not None}
            yield DeclaredStack(stack, known, findings, lines)

    def _apps(self) -> Iterator[Stack]:
        """Yield what each ecosystem file declares; one that has to be run to be known is not judged."""
        for path in list(self.pm2):
            try:
                yield read_pm2(path, environment=_EVERYWHERE)
            except ConfigError as error:
                spot, why = _told(error, path)
                if _NOT_RUN in why:
                    self.pm2.remove(path)
                    self.not_understood.append(Passed(str(path), f"line {spot.line}: {why}"))
                else:
                    self.unreadable.append((spot, why, error.fix))

    def _document(self, path: Path) -> Document | None:
        if path not in self.documents:
            text = self._text(path)
            if text is None:
                return None
            self.documents[path] = parse_yaml(text, path)
        return self.documents[path]

    def _services(self, stack: DeclaredStack) -> Iterator[LintService]:
        uses = {s.name: self._use(s) for s in stack.declared}
        by_image = {s.image: uses[s.name] for s in stack.declared if s.image and uses[s.name] is not None}
        for declared in stack.declared:
            use = uses[declared.name]
            if use is None and declared.build is None:
                use = by_image.get(declared.image)
            yield LintService(declared, stack, use)

    def _use(self, service: DeclaredService) -> BuildUse | None:
        """Return what a service builds; None for one that does not, or from somewhere else."""
        wanted = service.build
        if (
            wanted is None
            or "://" in wanted.context
            or wanted.context.startswith("git@")
            or not wanted.dockerfile
        ):
            return None
        context = _normal(wanted.context)
        path = _normal(str(context / wanted.dockerfile))
        self._probe(context)
        self._probe(path)
        known = self.dockerfiles.get(path)
        stands_in = ""
        if known is None and path.is_file():
            known = self._dockerfile(path)
        if known is None:
            known = self._stand_in(context.name, service.name)
            stands_in = str(path) if known is not None else ""
        if known is None:
            return BuildUse(context, path, None)
        image = build(known, wanted.target, wanted.args)
        return BuildUse(context, known.path, image, stands_in)

    def _stand_in(self, folder: str, service: str) -> Dockerfile | None:
        """Return the one Dockerfile named after a folder that is not there, such as Dockerfile.api."""
        wanted = {_plain(folder), _plain(service)} - {""}
        found = [d for path, d in self.dockerfiles.items() if _plain(_suffix(path)) in wanted]
        return found[0] if len(found) == 1 else None

    def _probe(self, path: Path) -> None:
        """Look at one path that may lie outside of what was walked; a folder is walked as evidence."""
        if any(path == known or known in path.parents for known in self.seen):
            return
        self.seen.add(path)
        if path.is_dir():
            self._walk(path)
        elif path.exists():
            self.files.append(path)

    def _look(self, service: LintService) -> None:
        for mount in service.declared.volumes:
            if mount.kind == "bind":
                self._glance(_normal(mount.source))
        if service.use is not None:
            for path in [p for p in self.files if p.parent == service.use.context]:
                if is_requirements(path) and path not in self.requirements:
                    self._requirements(path)

    def _glance(self, path: Path) -> None:
        """Look whether there is something at ``path``, without looking into it."""
        if not any(known == path or known in path.parents for known in self.seen):
            self.seen.add(path)
            if path.is_dir():
                self.folders.add(path)
            elif path.exists():
                self.files.append(path)

    def _sources(self) -> Iterator[Source]:
        for path in walking.source_files(sorted(set(self.files))):
            text = self.texts.get(path) or walking.text_or_none(path, walking.LARGEST_SOURCE)
            if text is not None:
                yield read_source(path, text, is_code=path.suffix.lower() in walking.CODE)

    def _targets(self, architectures: Sequence[str]) -> Iterator[tuple[str, Spot | None]]:
        for name in architectures:
            yield name, None
        if architectures:
            return
        for path in [*self.dockerfiles, *self.requirements, *self.compose]:
            for name, line in _named_targets(self.texts.get(path, "")):
                yield name, Spot(path, line)


def _named_targets(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in re.finditer(r"\b(?:sm|compute)_(\d{2,3})\b", line):
            yield f"sm_{match[1]}", number
        for pattern, arch in _CARDS:
            if re.search(pattern, line, re.IGNORECASE):
                yield arch, number
        for match in re.finditer(r"TORCH_CUDA_ARCH_LIST\W+([0-9.;, af+PTX]+)", line):
            for version in re.findall(r"(\d+)\.(\d)", match[1]):
                name = f"sm_{version[0]}{version[1]}"
                if name in FIRST_CUDA:
                    yield name, number


def _groups(files: Iterable[Path], documents: Mapping[Path, Document]) -> Iterator[tuple[Path, ...]]:
    """Yield the files of each stack: compose's own names first, so that what they include is known."""
    known = set(files)
    bases: dict[Path, Path] = {}
    for name in reversed(FILE_NAMES):
        bases.update({path.parent: path for path in known if path.name == name})
    done: set[Path] = set()
    for folder, base in sorted(bases.items()):
        over = next((folder / name for name in OVERRIDE_NAMES if folder / name in known), None)
        done.update({base, *([over] if over else [])})
        yield (base, over) if over else (base,)
    for path in sorted(known - done):
        below = bases.get(path.parent)
        yield (below, path) if below is not None and _is_overlay(documents[path]) else (path,)


def _is_overlay(document: Document) -> bool:
    """Return whether a file needs another below it: a service without anything to run, or an unknown name."""
    services = document.root.get("services")
    members = [node for _, node in services.items()] if services is not None else []
    names = {key.text for key, _ in services.items()} if services is not None else set()
    bodies = [node for node in members if isinstance(node, MappingNode)]
    has_bare = any(not {"image", "build", "extends", "provider"} & node.value.keys() for node in bodies)
    return has_bare or any(_depends_on(node) - names for node in bodies)


def _depends_on(node: MappingNode) -> set[str]:
    found = node.get("depends_on")
    if found is None:
        return set()
    listed = {str(member.plain()) for member in found.nodes}
    return listed | {key.text for key, _ in found.items()}


def _read_stack(files: tuple[Path, ...]) -> tuple[Stack, tuple[StackFinding, ...]]:
    """Return the stack with no profile active, and what is wrong with each profile active."""
    environment = {key: os.environ[key] for key in ("HOME", "PWD", "USER") if key in os.environ}
    # Each turn gives one more variable that the files require; a value of its own, so that no two clash.
    for number in range(_MOST_VARIABLES):
        try:
            stack = read_compose(files, environment=environment)
            break
        except ConfigError as error:
            name = _MISSING.search(error.what)
            if name is None or name[1] in environment:
                raise
            environment[name[1]] = str(20_001 + number)
    else:
        raise ConfigError(
            f"{files[0]} requires more than {_MOST_VARIABLES} variables", fix="set them in .env"
        )
    profiles = sorted({p for s in (*stack.services, *stack.inactive) for p in s.profiles})
    found: dict[tuple[str, str], StackFinding] = {}
    for profile in ("", *profiles):
        chosen = (profile,) if profile else ()
        read = read_compose(files, environment=environment, profiles=chosen) if profile else stack
        for finding in read.findings:
            if finding.verdict > Verdict.PASS:
                one = _stack_finding(finding, profile)
                found.setdefault((one.reason, one.message), one)
    return stack, tuple(found.values())


def _stack_finding(finding: Finding, profile: str = "") -> StackFinding:
    spot = Spot(Path(str(finding.evidence["file"])), int(str(finding.evidence["line"])))
    message = finding.message.removeprefix(f"{spot.file}:{spot.line}: ")
    is_error = finding.verdict is Verdict.FAIL
    return StackFinding(finding.reason, message, spot, finding.remedy, is_error, profile)


def _told(error: ConfigError, path: Path) -> tuple[Spot, str]:
    """Return where an error is, and what it says without that."""
    place = error.place if isinstance(error, DeclarationError) else None
    spot = Spot(place.file, place.line) if place is not None else Spot(path, 1)
    what = error.what.removeprefix(f"{spot.file}:{spot.line}: ")
    return spot, f"{what}, because {error.why}" if error.why else what


def _normal(path: str) -> Path:
    return Path(os.path.normpath(path))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _suffix(path: Path) -> str:
    """Return what distinguishes a Dockerfile: ``api`` of ``Dockerfile.api`` and of ``api.Dockerfile``."""
    return re.sub(r"(?i)^(?:dockerfile|containerfile)[.-]?|\.(?:dockerfile|containerfile)$", "", path.name)
