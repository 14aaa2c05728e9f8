"""``standfast import pm2 | compose``: takes over stacks that others declared, and says what it could not."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast.app.config import FILE_NAME
from standfast.cli import output
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConflictError, StoreError
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.stacks.compose import default_files, read_compose
from standfast.services.stacks.convert import Converted, processes_toml, stack_toml
from standfast.services.stacks.index import Refused, owner
from standfast.services.stacks.indexing import read_index
from standfast.services.stacks.model import Stack
from standfast.services.stacks.pm2 import read_pm2

Ecosystem = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Ecosystem file (.config.js, .json, .yml), or pm2 jlist's JSON."),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE]...", help="Compose files, later ones over earlier ones; or their folder."),
]
Write = Annotated[
    Path | None, typer.Option("--write", metavar="PATH", help="Write it there instead of printing it.")
]
Mode = Annotated[
    str, typer.Option("--env", metavar="NAME", help="Take the variables of env_NAME, as pm2 does.")
]
Profiles = Annotated[
    list[str] | None, typer.Option("--profile", metavar="NAME", help="Profile that is on; * is all.")
]
Needed = Annotated[
    list[str] | None, typer.Option("--has", metavar="NAME", help="Refuse unless it declares this service.")
]
Run = Annotated[
    bool, typer.Option("--run/--no-run", help="Whether a file that computes may be run with node.")
]

_PARTLY = 1


def add(app: typer.Typer) -> None:
    """Add the commands."""
    example = "standfast import pm2 ecosystem.config.js --write standfast.toml"
    command(app, pm2, "pm2", schema="import-pm2", example=example, is_remote=False)
    example = "standfast import compose docker-compose.yml --profile infrastructure"
    command(app, compose, "compose", schema="import-compose", example=example, is_remote=False)


def pm2(
    session: Session,
    file: Ecosystem,
    env: Mode = "",
    write: Write = None,
    has: Needed = None,
    run: Run = True,
) -> int:
    """Print a standfast.toml with the apps of an ecosystem file as services.

    A file of plain values is only read. One that computes is a program: it is run with node, as pm2 does.
    Exit code 1 where an app is in the result only as a comment, with the reason.
    """
    stack = read_pm2(file, environment=os.environ, mode=env, may_run=run)
    _need(stack, has or (), [file])
    if any(not finding.subject for finding in stack.errors):
        stack.usable()
    made_by = _made_by("pm2", [file], [("--env", [env] if env else [])])
    converted = processes_toml(stack, folder=_folder(write), made_by=made_by)
    return _give(session, stack, converted, write)


def compose(
    session: Session, files: Files = None, profile: Profiles = None, write: Write = None, has: Needed = None
) -> int:
    """Print a standfast.toml that has compose files read as they are, with an overview of their services.

    Without FILE, or with a folder, the files are those that compose takes there, override file included.
    """
    named = _compose_files(files or [Path()])
    stack = read_compose(named, environment=os.environ, profiles=profile or ())
    _need(stack, has or (), named)
    stack.usable()
    made_by = _made_by("compose", named, [("--profile", profile or [])])
    return _give(session, stack, stack_toml(stack, folder=_folder(write), made_by=made_by), write)


def _compose_files(files: Sequence[Path]) -> list[Path]:
    if len(files) == 1 and files[0].is_dir():
        return list(default_files(files[0], os.environ))
    return list(files)


def _need(stack: Stack, names: Sequence[str], files: Sequence[Path]) -> None:
    """Refuse where the stack lacks a service, and name the file that has it (R1)."""
    for name in names:
        if stack.get(name) is None:
            asked = files[0].absolute()
            root = Path.cwd() if asked.is_relative_to(Path.cwd()) else asked.parent
            found = owner(read_index(root, os.environ), name, asked)
            assert isinstance(found, Refused), f"{asked} was read without {name}, and indexed with it"
            raise found.as_error()


def _made_by(kind: str, files: Sequence[Path], options: Sequence[tuple[str, Sequence[str]]]) -> str:
    words = ["standfast", "import", kind, *(str(file) for file in files)]
    for option, values in options:
        for value in values:
            words += [option, value]
    return shlex.join(words)


def _folder(write: Path | None) -> Path:
    """Return the folder that relative paths in the result count from."""
    return _target(write).parent if write else Path.cwd()


def _target(write: Path) -> Path:
    path = write / FILE_NAME if write.is_dir() else write
    return path.absolute()


def _give(session: Session, stack: Stack, converted: Converted, write: Path | None) -> int:
    written = _written(converted.text, _target(write)) if write else None
    data: dict[str, Any] = {
        "toml": converted.text,
        "written": str(written) if written else None,
        "refused": list(converted.refused),
        "lost": [finding.as_dict() for finding in converted.lost],
        "stack": stack.as_dict(),
    }
    session.emit(data, lambda out: _print(out, converted, written))
    if not session.is_json:
        _warn(converted.lost)
    return _PARTLY if converted.refused else 0


def _written(text: str, target: Path) -> Path:
    """Write a new file; what is there is never overwritten."""
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConflictError(
            f"{target} exists already", why="nothing is overwritten", fix="name another file with --write"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written", why=error.strerror or str(error), fix=f"ls -ld {target.parent}",
            code="FolderUnusable",
        ) from error  # fmt: skip
    return target


def _print(out: Printer, converted: Converted, written: Path | None) -> None:
    if written:
        out.line(f"wrote {written}")
        out.line(f"next: standfast doctor {written.parent}")
    else:
        sys.stdout.write(converted.text)


def _warn(lost: Sequence[Finding]) -> None:
    """Print what was not carried over; remarks without effect are in the JSON only."""
    out = output.printer(sys.stderr)
    told = [finding for finding in lost if finding.verdict is not Verdict.SKIPPED]
    out.findings(finding.as_dict() for finding in told)
