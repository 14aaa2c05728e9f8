"""Lint on files that a test writes: what was found, as rule, file and line."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from standfast.services.lint.judging import judge
from standfast.services.lint.listing import read_listing
from standfast.services.lint.model import LintFinding, LintReport
from standfast.services.lint.reading import read_tree


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files below ``folder``; their texts are dedented."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


def report(folder: Path, files: Mapping[str, str], *, running: str = "", arch: str = "") -> LintReport:
    """Return what lint says of the files; ``running`` is a listing of what runs beside them."""
    written(folder, files)
    listing = read_listing(folder / "running.json", running) if running else None
    return judge(read_tree([folder], [arch] if arch else [], listing), folder)


def places(found: LintReport, rule: str) -> list[str]:
    """Return ``file:line`` of every finding of ``rule``."""
    return [f"{f.file}:{f.line}" for f in found.findings if f.rule == rule]


def rules(found: LintReport) -> set[str]:
    """Return the rules that found something."""
    return {finding.rule for finding in found.findings}


def only(found: LintReport, rule: str) -> LintFinding:
    """Return the one finding of ``rule``."""
    matching = [finding for finding in found.findings if finding.rule == rule]
    assert len(matching) == 1, [f"{f.file}:{f.line} {f.rule} {f.message}" for f in found.findings]
    return matching[0]
