"""``standfast lint``: what is wrong with declared stacks, with file and line, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError, UnhealthyError
from standfast.kernel.gpu_arch import capability_of
from standfast.services.lint import live
from standfast.services.lint.judging import judge
from standfast.services.lint.listing import joined, read_listing
from standfast.services.lint.model import LintReport, Passed, Severity
from standfast.services.lint.reading import read_tree
from standfast.services.lint.table import RULES
from standfast.services.lint.tree import Listing
from standfast.services.stacks.documents import read_text

Paths = Annotated[
    list[Path] | None, typer.Argument(metavar="PATH...", help="Files, or folders that are searched.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Warnings fail too.")]
Arch = Annotated[
    list[str] | None,
    typer.Option("--arch", metavar="SM", help="GPU that is meant, such as sm_120; may repeat."),
]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--running", metavar="FILE",
        help="What runs: JSON of pm2 jlist, docker inspect or docker ps; 'live' asks both; may repeat.",
    ),
]  # fmt: skip
ListRules = Annotated[bool, typer.Option("--rules", help="List the rules, and judge nothing.")]

_LIVE = "live"
_LARGEST_LISTING = 64_000_000
_MOST_SHOWN = 10
_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


def add(app: typer.Typer) -> None:
    """Add ``lint``."""
    command(
        app, lint, "lint", schema="lint", example="standfast lint infrastructure/ --strict", is_remote=False
    )


def lint(
    session: Session, paths: Paths = None, strict: Strict = False, arch: Arch = None, running: Beside = None,
    rules: ListRules = False,
) -> int:  # fmt: skip
    """Say what is wrong in compose files, Dockerfiles, prometheus, alertmanager and pm2 files.

    Exit 1 where there is an error (with --strict: a warning), 3 where nothing was read that could be judged.
    A finding is silenced by "# standfast: ignore[RULE] REASON" on its line or above it.
    """
    if rules:
        return _list_rules(session)
    if not paths:
        raise ConfigError("no PATH is named", fix="name a file or a folder: standfast lint .", code="NoPath")
    wrong = [name for name in arch or () if capability_of(name) is None]
    if wrong:
        raise ConfigError(
            f"{wrong[0]!r} is no GPU architecture", fix="such as sm_89 or sm_120", code="BadArch"
        )
    listing, silent = _listing(running or [])
    report = judge(read_tree(paths, arch or (), listing, silent), Path.cwd())
    session.emit(report.as_dict(), lambda out: _print(out, report))
    if not report.has_evidence or (running and listing is None):
        return UnhealthyError.exit_code
    failing = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    return int(any(report.count(severity) for severity in failing))


def _listing(named: list[str]) -> tuple[Listing | None, list[Passed]]:
    listings: list[Listing] = []
    silent: list[Passed] = []
    for name in named:
        if name == _LIVE:
            found, silent = live.ask()
            listings += [found] if found is not None else []
        else:
            path = Path(name)
            listings.append(read_listing(path.absolute(), read_text(path, largest=_LARGEST_LISTING)))
    return (joined(listings) if listings else None), silent


def _list_rules(session: Session) -> int:
    data = [
        {"rule": r.id, "kind": r.kind.value, "severity": r.severity.value, "what": r.what, "why": r.why}
        for r in RULES
    ]
    rows = [(r.id, r.kind.value, r.severity.value, r.what) for r in RULES]
    session.emit(data, lambda out: out.table(("rule", "kind", "severity", "what it finds"), rows))
    return 0


def _print(out: Printer, report: LintReport) -> None:
    for finding in report.findings:
        where = f"{finding.file}:{finding.line}"
        out.line(
            f"{where}: {finding.severity.value} {finding.rule} {finding.message}",
            style=_COLOURS[finding.severity],
        )
        out.line(f"    -> {finding.fix}")
    out.line(_summary(report))
    for file, why in report.not_understood[:_MOST_SHOWN]:
        out.line(f"not judged: {file}: {why}")
    if len(report.not_understood) > _MOST_SHOWN:
        out.line(f"not judged: {len(report.not_understood) - _MOST_SHOWN} more; --json has all")


def _summary(report: LintReport) -> str:
    seen = [f"{count} {kind.value}" for kind, count in report.looked_at.items() if count]
    if report.processes is not None:
        seen.append(f"{report.processes} running")
    if not report.has_evidence:
        return "UNKNOWN: nothing was read that lint could judge"
    counts = ", ".join(f"{report.count(s)} {s.value}{'' if s is Severity.INFO else 's'}" for s in Severity)
    ignored = f", {len(report.ignored)} ignored" if report.ignored else ""
    return f"looked at {', '.join(seen) or 'nothing'}: {counts}{ignored}"
