"""Reads a Dockerfile into stages and instructions that know their lines; it never builds anything.

Written from the Dockerfile reference of the Docker documentation: parser directives, continuation lines
with comments and empty lines between them, here-documents, JSON form, stages, ARG and ENV substitution.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

INSTRUCTIONS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
#: Instructions whose here-documents the reference knows.
_WITH_HEREDOC = frozenset({"RUN", "COPY", "ADD"})
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"(?<![<\\])<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_VARIABLE = re.compile(
    r"\\\$|\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])((?:[^{}]|\{[^{}]*\})*))?\}|([A-Za-z_][A-Za-z0-9_]*))"
)
_FLAG = re.compile(r"\s*--([a-z][a-z-]*)(?:=(\"[^\"]*\"|\S*))?(?=\s|$)")


class Problem(NamedTuple):
    """A line that is no part of a Dockerfile, and why."""

    line: int
    why: str


class Heredoc(NamedTuple):
    """The body of a here-document, and the line that it starts at."""

    name: str
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. ``text`` keeps continuation as backslash and newline, so that lines can be counted."""

    name: str
    text: str
    line: int
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def joined(self) -> str:
        """The text as Docker joins it: without continuation."""
        return self.text.replace("\\\n", "").strip()

    @property
    def json_words(self) -> tuple[str, ...] | None:
        """The words of the JSON form, or None where it is the shell form."""
        return json_words(self.joined)

    def line_at(self, offset: int) -> int:
        """Return the line of the file that ``offset`` of the text stands at."""
        return self.line + self.text.count("\n", 0, offset)

    def flags(self) -> tuple[dict[str, str], str]:
        """Return the leading ``--name=value`` flags, and the text after them."""
        found: dict[str, str] = {}
        rest = self.joined
        while match := _FLAG.match(rest):
            found[match[1]] = (match[2] or "").strip('"')
            rest = rest[match.end() :]
        return found, rest.strip()


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it; ``base`` is as written, with its variables."""

    index: int
    name: str
    base: str
    line: int
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile."""

    path: Path
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    problems: tuple[Problem, ...] = ()

    def stage(self, wanted: str) -> Stage | None:
        """Return the stage of that name or number, the last one for an empty name."""
        if not wanted:
            return self.stages[-1] if self.stages else None
        for stage in self.stages:
            if wanted.lower() in (stage.name.lower(), str(stage.index)):
                return stage
        return None


def parse_dockerfile(text: str, path: Path) -> Dockerfile:
    """Return what ``text`` says; lines that are no instruction are listed as problems."""
    problems: list[Problem] = []
    instructions: list[Instruction] = []
    for item in _instructions(text.lstrip("\ufeff")):
        if isinstance(item, Problem):
            problems.append(item)
        else:
            instructions.append(item)
    starts = [n for n, instruction in enumerate(instructions) if instruction.name == "FROM"]
    head = instructions[: starts[0]] if starts else instructions
    arguments = dict(
        pair for instruction in head if instruction.name == "ARG" for pair in assignments(instruction)
    )
    problems += [Problem(i.line, f"{i.name} stands before the first FROM") for i in head if i.name != "ARG"]
    stages: list[Stage] = []
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=False):
        stage = _stage(instructions[start], len(stages), tuple(instructions[start + 1 : end]))
        if stage is None:
            problems.append(Problem(instructions[start].line, "FROM names no image"))
        else:
            stages.append(stage)
    if not starts:
        problems.append(Problem(1, "there is no FROM"))
    return Dockerfile(path, arguments, tuple(stages), tuple(problems))


def _stage(instruction: Instruction, index: int, body: tuple[Instruction, ...]) -> Stage | None:
    _, rest = instruction.flags()
    words = rest.split()
    if not words:
        return None
    is_named = len(words) >= 3 and words[1].lower() == "as"
    return Stage(index, words[2] if is_named else "", words[0], instruction.line, body)


def _instructions(text: str) -> Iterator[Instruction | Problem]:
    lines = text.replace("\r\n", "\n").split("\n")
    escape, position = _directives(lines)
    # Every turn consumes at least one line.
    while position < len(lines):
        if not lines[position].strip() or lines[position].lstrip().startswith("#"):
            position += 1
            continue
        start = position
        logical, position = _logical(lines, position, escape)
        word = re.match(r"\s*(\S+)\s*", logical)
        if word is None:
            continue
        name = word[1].upper()
        rest = logical[word.end() :]
        line = start + 1 + logical.count("\n", 0, word.end())
        if name not in INSTRUCTIONS:
            yield Problem(start + 1, f"{word[1][:40]!r} is no instruction")
            continue
        heredocs: list[Heredoc] = []
        if name in _WITH_HEREDOC and not rest.lstrip().startswith("["):
            for match in _HEREDOC.finditer(rest):
                body, first, position = _heredoc(lines, position, match[3], strips_tabs=bool(match[1]))
                heredocs.append(Heredoc(match[3], body, first))
        yield Instruction(name, rest, line, tuple(heredocs))


def _directives(lines: list[str]) -> tuple[str, int]:
    """Return the escape character and the position of the first line that is no parser directive."""
    escape = "\\"
    position = 0
    for position, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            return escape, position
        if match[1].lower() == "escape" and match[2] in ("`", "\\"):
            escape = match[2]
    return escape, position


def _logical(lines: list[str], position: int, escape: str) -> tuple[str, int]:
    """Return one instruction with its continuation lines, and the position after it."""
    parts: list[str] = []
    is_continued = True
    while position < len(lines) and is_continued:
        line = lines[position]
        position += 1
        is_gap = bool(parts) and (not line.strip() or line.lstrip().startswith("#"))
        if is_gap:
            parts.append("")
            continue
        stripped = line.rstrip()
        is_continued = stripped.endswith(escape) and not stripped.endswith(escape * 2)
        parts.append(stripped[:-1] if is_continued else stripped)
    return "\\\n".join(parts), position


def _heredoc(lines: list[str], position: int, name: str, *, strips_tabs: bool) -> tuple[str, int, int]:
    first = position + 1
    body: list[str] = []
    while position < len(lines):
        line = lines[position].lstrip("\t") if strips_tabs else lines[position]
        position += 1
        if line.rstrip("\r") == name:
            break
        body.append(line)
    return "\n".join(body), first, position


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of ``["a", "b"]``, or None where ``text`` is no JSON list of texts."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    is_list = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return tuple(value) if is_list else None


def assignments(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
    """Yield the names and values of ARG, ENV or LABEL; an ARG without a default has None."""
    text = instruction.joined
    first, *others = text.split(None, 1) or [""]
    if instruction.name in ("ENV", "LABEL") and "=" not in first:
        if first:
            yield first, others[0] if others else ""
        return
    for match in re.finditer(r"([A-Za-z_][\w.-]*)(?:=((?:\"(?:\\.|[^\"])*\"|'[^']*'|\\.|[^\s])*))?", text):
        yield match[1], None if match[2] is None else _unquoted(match[2])


def _unquoted(text: str) -> str:
    return re.sub(
        r"\"((?:\\.|[^\"])*)\"|'([^']*)'|\\(.)",
        lambda m: m[1] if m[1] is not None else m[2] if m[2] is not None else m[3],
        text,
    )


def expand(text: str, variables: Mapping[str, str | None]) -> str:
    """Return ``text`` with the variables that are known put in; unknown ones stay as they are written."""

    def value(match: re.Match[str]) -> str:
        if match[0] == r"\$":
            return "$"
        name, operator, word = match[1] or match[4], match[2] or "", match[3] or ""
        known = variables.get(name)
        is_set = known is not None and (known != "" or not operator.startswith(":"))
        if operator.endswith("+"):
            return expand(word, variables) if is_set else ""
        if is_set:
            return str(known)
        if operator.endswith("-"):
            return expand(word, variables)
        return "" if known == "" else match[0]

    return _VARIABLE.sub(value, text)
