"""``standfast logs``: what a service, an executor or the instance itself printed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from standfast.app.instance import LOGS_NAME, Address, Found
from standfast.app.log_reading import LogReader, last_lines, life_begins_at
from standfast.cli.output import Printer, plain, say
from standfast.cli.registry import command
from standfast.cli.session import Session, path_segment
from standfast.kernel.errors import ConfigError, NotFoundError

LogName = Annotated[
    str, typer.Argument(metavar="[NAME]", help="Service or executor; without it, the instance itself.")
]
Lines = Annotated[int, typer.Option("--lines", min=1, max=10_000, help="Last lines to show.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed, until Ctrl-C.")]
SinceLife = Annotated[
    bool, typer.Option("--since-life", help="Only what the present life printed, or the last one.")
]

_INSTANCE = "standfast"
_LOOK_S = 0.2


class _Wanted(NamedTuple):
    path: Path
    at: int


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(app, logs, "logs", schema="logs", example="standfast logs executor-1 --lines 50")


def logs(
    session: Session,
    name: LogName = "",
    lines: Lines = 30,
    follow: Follow = False,
    since_life: SinceLife = False,
) -> None:
    """Show the last lines of a log of the instance that belongs to this folder.

    With --follow it goes on with what is printed from then on, also after the log was moved aside or emptied;
    with --json each batch of lines is an envelope of its own.
    """
    wanted = _wanted(session, name, since_life=since_life)
    reader = LogReader.at_end(wanted.path) if follow else None
    shown = [plain(line) for line in last_lines(wanted.path, lines, begin=wanted.at)]
    _emit(session, wanted.path, shown)
    # Ends by Ctrl-C; each turn reads what is new.
    while reader is not None:
        more = [plain(line) for line in reader.more()]
        if more:
            _emit(session, wanted.path, more)
        else:
            time.sleep(_LOOK_S)


def _wanted(session: Session, name: str, *, since_life: bool) -> _Wanted:
    found = session.found()
    if isinstance(found, Address):
        raise ConfigError("logs are files on the instance's machine", fix="run it there, with --data-dir")
    folder = found.data_dir / LOGS_NAME
    known = sorted(path.stem for path in folder.glob("*.log")) if folder.is_dir() else []
    wanted = path_segment(name, what="log", fix=f"known: {', '.join(known)}") if name else _INSTANCE
    if wanted not in known:
        raise NotFoundError(
            f"there is no log of {wanted} in {folder}", fix=f"known: {', '.join(known) or 'none'}"
        )
    path = folder / f"{wanted}.log"
    return _Wanted(path, _life_at(found, wanted, path) if since_life else 0)


def _life_at(found: Found, name: str, path: Path) -> int:
    if name == _INSTANCE:
        raise ConfigError("--since-life is of a service", fix="standfast logs NAME --since-life")
    begins_at = life_begins_at(found.data_dir, name, path)
    if begins_at is None:
        say(f"{name} does not run, and where its last life began is not on record: these are its last lines")
    return begins_at or 0


def _emit(session: Session, path: Path, lines: list[str]) -> None:
    session.emit({"path": str(path), "lines": lines}, lambda out: _print(out, lines))


def _print(out: Printer, lines: list[str]) -> None:
    for line in lines:
        out.line(line)
    out.console.file.flush()
