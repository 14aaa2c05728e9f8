"""Documents agree with the code: references are generated, commands exist, links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from repository import ROOT, text_of, tracked
from standfast.cli.application import build
from standfast.cli.reference import pages

MARKDOWN = [path for path in tracked() if path.suffix == ".md"]
LANGUAGES = {
    "bash",
    "console",
    "http",
    "ini",
    "json",
    "make",
    "mermaid",
    "python",
    "sql",
    "text",
    "toml",
    "yaml",
}


@pytest.mark.parametrize("name", sorted(pages()))
def test_reference_is_current(name: str) -> None:
    assert text_of(Path("docs/reference") / name) == pages()[name], "make docs writes it again"


def test_k10_every_code_fence_names_its_language() -> None:
    wrong = []
    for path in MARKDOWN:
        is_open = False
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if line.lstrip().startswith("```"):
                if not is_open and line.strip().removeprefix("```") not in LANGUAGES:
                    wrong.append(f"{path}:{number} {line.strip()}")
                is_open = not is_open
        assert not is_open, f"{path}: a fence is not closed"
    assert wrong == []


def test_links_lead_somewhere() -> None:
    broken = []
    for path in MARKDOWN:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text_of(path)):
            if "://" not in target and not (ROOT / path.parent / target).exists():
                broken.append(f"{path}: {target}")
    assert broken == []


def leaves() -> Iterator[str]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(path)
        else:
            yield " ".join(path)
            for name, child in children.items():
                yield from walk(child, (*path, name))

    yield from walk(typer.main.get_command(build()), ())


def test_every_command_that_is_mentioned_exists() -> None:
    known = set(leaves())
    first = {command.split()[0] for command in known if command}
    groups = {command.split()[0] for command in known if " " in command}
    wrong = []
    for path in tracked():
        if path.suffix not in (".py", ".md", ".toml") or path.parts[0] == "tests":
            continue
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            wrong += [f"{path}:{number} standfast {said}" for said in _unknown(line, first, groups, known)]
    assert wrong == []


def _unknown(line: str, first: set[str], groups: set[str], known: set[str]) -> Iterator[str]:
    """Yield what looks like a command and is none: quoted, or after 'fix', a colon or a semicolon."""
    for match in re.finditer(r"(?:[`\"'$:;(] ?|\$ |and |or )standfast ([a-z]+)(?: ([a-z][a-z0-9]*))?", line):
        word, second = match[1], match[2]
        if word not in first or (word in groups and second and f"{word} {second}" not in known):
            yield match[0]
