"""What a command prints: data on stdout, messages on stderr, one envelope for machines.

1. Text that others wrote (a miner's error, a log) never reaches a terminal with its control characters.
2. Colour and lines between columns are for terminals; a pipe gets plain text that is not cut.
3. ``--json`` prints one line of JSON: ``{"schema": "standfast.COMMAND/1", "at": ..., "data": ...}``, or
   ``"error"`` in place of ``"data"``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import StandfastError

#: Wide enough that no line of a table is cut in a pipe.
_PIPE_WIDTH = 400

_COLOURS = {
    "PASS": "green", "FAIL": "bold red", "UNKNOWN": "yellow", "SKIPPED": "dim",
    "published": "green", "withheld": "yellow", "failed": "bold red", "open": "cyan",
    "ready": "green", "held": "bold red", "not_ready": "yellow", "backoff": "yellow",
}  # fmt: skip

Renderer = Callable[["Printer"], None]


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints for people, on one stream."""

    console: Console

    def line(self, text: object = "", *, style: str = "") -> None:
        """Print one line; long ones are folded by the terminal, not by us."""
        self.console.print(Text(plain(text), style=style), soft_wrap=True)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
        """Print rows under headings; a heading that starts with ``>`` is of a column of numbers."""
        if title:
            self.line(title, style="italic")
        if self.console.is_terminal:
            self.console.print(_drawn(headings, rows))
            return
        for text in _aligned(headings, [[plain(value) for value in row] for row in rows]):
            self.line(text)

    def findings(self, findings: Iterable[Mapping[str, Any]]) -> None:
        """Print findings, each with its remedy below it."""
        for finding in findings:
            verdict = plain(finding.get("verdict", "UNKNOWN"))
            subject = plain(finding.get("subject") or finding.get("check", ""))
            text = Text.assemble((f"{verdict:<8}", _COLOURS.get(verdict, "")), subject)
            text.append(f"  {plain(finding.get('reason', ''))}: {plain(finding.get('message', ''))}")
            if finding.get("since"):
                text.append(f" (since {plain(finding['since'])})")
            self.console.print(text, soft_wrap=True)
            if finding.get("remedy"):
                self.console.print(Text(f"        -> {plain(finding['remedy'])}"), soft_wrap=True)


def _drawn(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading.startswith(">") else "left"
        table.add_column(heading.lstrip(">"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines of columns that are two spaces apart, for grep and awk."""
    names = [heading.lstrip(">") for heading in headings]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows):
        cells = (
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def printer(stream: IO[str] | None = None) -> Printer:
    """Return a printer on ``stream``, by default standard output."""
    stream = stream or sys.stdout
    is_terminal = stream.isatty()
    console = Console(
        file=stream, markup=False, highlight=False, emoji=False,
        width=None if is_terminal else _PIPE_WIDTH, no_color=None if is_terminal else True,
    )  # fmt: skip
    return Printer(console)


def envelope(command: str, **content: object) -> dict[str, object]:
    """Return the versioned envelope of ``command`` around ``data=`` or ``error=``."""
    return {"schema": f"standfast.{command}/1", "at": iso(SystemClock().wall()), **content}


def print_json(value: Mapping[str, object]) -> None:
    """Print one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a message on stderr."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def error_body(error: StandfastError) -> dict[str, object]:
    """Return an error as the envelope carries it."""
    return {
        "code": error.code, "what": error.what, "why": error.why, "fix": error.fix, "since": error.since,
        "exit_code": error.exit_code,
    }  # fmt: skip


def say_error(error: StandfastError) -> None:
    """Print an error for a person: code, what, why, since when, the command that fixes it."""
    out = printer(sys.stderr)
    headline = Text.assemble(("error ", "bold red"), plain(f"{error.code}: {error.what}"))
    out.console.print(headline, soft_wrap=True)
    for label, text in (("why", error.why), ("since", error.since), ("fix", error.fix)):
        for index, part in enumerate(text.splitlines()):
            out.line(f"  {label if not index else '':<6}{part}")


def plain(value: object) -> str:
    """Return ``value`` as one line of text without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _text(value))


def _cell(value: object) -> Text:
    text = plain(value)
    return Text(text, style=_COLOURS.get(text, ""))


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", " ")
