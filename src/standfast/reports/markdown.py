"""Renders a report as Markdown; what others wrote (logs, names) cannot change how the page is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from standfast.reports.claims import Claim, Report, Section, Table

#: Longest text of one cell or claim: a line of a log may be of any length.
_LONGEST = 600


def render(report: Report) -> str:
    """Return ``report`` as Markdown, with a newline at its end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {_plain(report.title)}"
    yield ""
    yield f"Made by `standfast` at {_plain(report.at)} from what was observed; each line names its evidence."
    for section in report.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield ""
    yield f"## {_plain(section.title)}"
    if section.claims:
        yield ""
    for claim in section.claims:
        yield from _claim(claim)
    if section.table is not None and section.table.rows:
        yield ""
        yield from _table(section.table)


def _claim(claim: Claim) -> Iterator[str]:
    yield f"- {_plain(claim.text)}"
    for one in claim.evidence:
        yield f"  - seen: {_plain(one)}"


def _table(table: Table) -> Iterator[str]:
    yield _row(table.headings)
    yield _row("---" for _ in table.headings)
    for row in table.rows:
        yield _row(row)
    yield ""
    for one in table.evidence:
        yield f"- seen: {_plain(one)}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else _plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Return ``text`` on one line, without anything that Markdown, HTML or a terminal would act on."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = f"{shown[:_LONGEST]}..." if len(shown) > _LONGEST else shown
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", shown.strip())
