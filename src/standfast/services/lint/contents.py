"""What an image contains that a Dockerfile builds: the chain of its stages, put together.

Only what can be read is said. Where the base image or a copied folder may bring more, the answer about a
program is "unknown" (None), never "missing".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from standfast.services.lint.dockerfile import (
    Dockerfile,
    Instruction,
    Stage,
    assignments,
    expand,
    json_words,
)
from standfast.services.lint.images import KnownImage, known_image, parse_image
from standfast.services.lint.installs import Install, installs, programs_of

_SYSTEM = frozenset({"apt", "apk", "dnf", "zypper", "conda"})
_MOST_STAGES = 64


class Step(NamedTuple):
    """One installation, and the line that it stands at."""

    install: Install
    line: int


class Copy(NamedTuple):
    """One COPY or ADD: sources as written with variables put in; ``stage`` is where ``--from`` points."""

    sources: tuple[str, ...]
    target: str
    stage: str
    line: int


class HealthCheck(NamedTuple):
    """A health check: the words of its exec form or the text of its shell form."""

    words: tuple[str, ...]
    text: str
    line: int


class Setting(NamedTuple):
    """A value of ENV or ARG, and its line."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What the chain of stages gives. ``base`` is the image that it starts from, resolved."""

    dockerfile: Dockerfile
    base: str
    base_line: int
    steps: tuple[Step, ...] = ()
    copies: tuple[Copy, ...] = ()
    env: Mapping[str, Setting] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)
    health: HealthCheck | None = None
    starts: tuple[str, ...] = ()
    runs: tuple[tuple[str, int], ...] = ()

    @property
    def known_base(self) -> KnownImage | None:
        """What is known of the image that it starts from."""
        return known_image(parse_image(self.base)) if "$" not in self.base else None

    def program(self, name: str) -> bool | None:
        """Return whether the program is in the image; None where that cannot be known."""
        called = name.rsplit("/", 1)[-1]
        for step in self.steps:
            if step.install.manager in _SYSTEM:
                if any(called in programs_of(word.text) for word in step.install.packages):
                    return True
            elif any(word.name == called for word in step.install.packages):
                return True
        if any(self._may_bring(copy, name, called) for copy in self.copies):
            return True if "/" not in name else None
        if any(re.search(rf"(?<![\w-]){re.escape(called)}(?![\w.-])", text) for text, _ in self.runs):
            # A step that downloads, links or builds it names it; what exactly it does is not known here.
            return None
        base = self.known_base
        return base.program(called) if base is not None else None

    def _may_bring(self, copy: Copy, name: str, called: str) -> bool:
        names = {posixpath.basename(source.rstrip("/")) for source in copy.sources}
        if called in names or posixpath.basename(copy.target) == called:
            return True
        is_relative = "/" in name and not copy.target.startswith("/")
        return is_relative or name.startswith(copy.target.rstrip("/") + "/")


def build(
    dockerfile: Dockerfile, target: str = "", arguments: Mapping[str, str] | None = None
) -> BuiltImage | None:
    """Return what ``dockerfile`` builds at ``target`` with build arguments; None without such a stage."""
    given: dict[str, str | None] = {**dockerfile.arguments, **(arguments or {})}
    declared = {name: given[name] for name in dockerfile.arguments}
    chain: list[Stage] = []
    stage = dockerfile.stage(target)
    base = ""
    # A stage can only start from an earlier one, so that the chain ends; the bound is for hostile files.
    while stage is not None and len(chain) < _MOST_STAGES:
        chain.insert(0, stage)
        base = expand(stage.base, declared)
        earlier = dockerfile.stage(base) if base else None
        stage = earlier if earlier is not None and earlier.index < chain[0].index else None
    if not chain:
        return None
    reader = _Reader(dict(given), declared)
    for stage in chain:
        reader.stage(stage)
    return reader.image(dockerfile, base, chain[0].line)


def stage_images(dockerfile: Dockerfile) -> Iterator[BuiltImage]:
    """Yield what each stage gives, with the defaults of its arguments."""
    for stage in dockerfile.stages:
        image = build(dockerfile, str(stage.index))
        if image is not None:
            yield image


class _Reader:
    """Goes through instructions in order and keeps what the image has in the end."""

    def __init__(self, given: dict[str, str | None], declared: Mapping[str, str | None]) -> None:
        self._given = given
        self._declared = declared
        self._env: dict[str, Setting] = {}
        self._arguments: dict[str, str | None] = {}
        self._steps: list[Step] = []
        self._copies: list[Copy] = []
        self._ports: dict[int, int] = {}
        self._health: HealthCheck | None = None
        self._start: dict[str, str] = {}
        self._runs: list[tuple[str, int]] = []

    def stage(self, stage: Stage) -> None:
        """Read one stage; its arguments end with it, its environment stays."""
        self._arguments = {}
        for instruction in stage.instructions:
            self._take(instruction)

    def image(self, dockerfile: Dockerfile, base: str, line: int) -> BuiltImage:
        """Return what was read."""
        return BuiltImage(
            dockerfile, base, line, tuple(self._steps), tuple(self._copies), self._env, self._ports,
            self._health, tuple(self._start.values()), tuple(self._runs),
        )  # fmt: skip

    def _take(self, instruction: Instruction) -> None:
        takers = {
            "RUN": self._run, "ARG": self._argument, "ENV": self._environment, "EXPOSE": self._expose,
            "COPY": self._copied, "ADD": self._copied, "HEALTHCHECK": self._checked, "CMD": self._started,
            "ENTRYPOINT": self._started,
        }  # fmt: skip
        if instruction.name in takers:
            takers[instruction.name](instruction)

    def _run(self, instruction: Instruction) -> None:
        for raw, line in run_scripts(instruction):
            text = self._expand(raw)
            self._runs.append((text, line))
            self._steps += [Step(i, line + text.count("\n", 0, i.offset)) for i in installs(text)]

    def _argument(self, instruction: Instruction) -> None:
        for name, default in assignments(instruction):
            self._arguments[name] = self._given.get(name, default)

    def _environment(self, instruction: Instruction) -> None:
        for name, value in assignments(instruction):
            self._env[name] = Setting(self._expand(value or ""), _line_of(instruction, name))

    def _copied(self, instruction: Instruction) -> None:
        copy = self._copy(instruction)
        if copy is not None:
            self._copies.append(copy)

    def _checked(self, instruction: Instruction) -> None:
        self._health = health_check(instruction)

    def _started(self, instruction: Instruction) -> None:
        words = instruction.json_words
        self._start[instruction.name] = self._expand(" ".join(words) if words else instruction.joined)

    def _expand(self, text: str) -> str:
        return expand(text, {**self._arguments, **{k: s.value for k, s in self._env.items()}})

    def _expose(self, instruction: Instruction) -> None:
        for word in self._expand(instruction.joined).split():
            first, _, last = word.partition("/")[0].partition("-")
            if first.isdigit() and (not last or last.isdigit()):
                for port in range(int(first), min(int(last or first), int(first) + 1_000) + 1):
                    self._ports[port] = instruction.line

    def _copy(self, instruction: Instruction) -> Copy | None:
        flags, rest = instruction.flags()
        listed = json_words(rest)
        words = [self._expand(word) for word in (listed if listed is not None else rest.split())]
        if instruction.heredocs:
            words = [word for word in words if not word.startswith("<<")]
            return Copy((), words[-1], "heredoc", instruction.line) if words else None
        if len(words) < 2:
            return None
        return Copy(tuple(words[:-1]), words[-1], self._expand(flags.get("from", "")), instruction.line)


def run_scripts(instruction: Instruction) -> Iterator[tuple[str, int]]:
    """Yield the shell texts of a RUN with the line that each starts at."""
    words = instruction.json_words
    if words is not None:
        is_shell = len(words) > 2 and words[0].rsplit("/", 1)[-1] in ("sh", "bash")
        text = words[2] if is_shell else " ".join(_quoted(word) for word in words)
        yield text, instruction.line
        return
    text = instruction.text
    # The flags come first and are no part of the command; what replaces them keeps the lines.
    while match := re.match(r"(?:\s|\\\n)*--[a-z]+(?:=\S+)?(?=\s|$)", text):
        text = "\\\n" * match[0].count("\n") + text[match.end() :]
    if not instruction.heredocs:
        yield text, instruction.line
        return
    for heredoc in instruction.heredocs:
        head = text.split("<<", 1)[0].replace("\\\n", "").strip()
        if head in ("", "sh", "bash", "/bin/sh", "/bin/bash", "sh -e", "bash -e", "bash -ex"):
            yield heredoc.body, heredoc.line
    yield re.sub(r"<<-?[\"']?\w+[\"']?", "", text), instruction.line


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'"


def health_check(instruction: Instruction) -> HealthCheck | None:
    """Return what a HEALTHCHECK calls; None for NONE and for one that cannot be read."""
    _, rest = instruction.flags()
    kind, _, command = rest.partition(" ")
    if kind.upper() != "CMD":
        return None
    line = instruction.line_at(max(0, instruction.text.upper().find("CMD")))
    words = json_words(command)
    if words is not None:
        return HealthCheck(words, "", line)
    return HealthCheck((), command.strip(), line)


def _line_of(instruction: Instruction, name: str) -> int:
    match = re.search(rf"(?<![\w]){re.escape(name)}(?=[=\s]|$)", instruction.text)
    return instruction.line_at(match.start()) if match else instruction.line
