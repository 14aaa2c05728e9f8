"""``standfast doctor | init | version``: what is needed before anything runs."""

from __future__ import annotations

import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast import __version__
from standfast.app.config import FILE_NAME, load_config
from standfast.app.preflight import check_before_start, check_refused
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError, ConflictError, StoreError
from standfast.kernel.verdict import Gate

Blueprint = Annotated[
    Path, typer.Argument(metavar="[BLUEPRINT]", help="Folder with a standfast.toml, or the file itself.")
]
NewFolder = Annotated[
    Path, typer.Argument(metavar="[DIR]", help="Folder to write into; made if it is not there.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory to look at.")]

_UNHEALTHY = 3
_TEMPLATES = "standfast.app.templates"
_TEMPLATE_NAMES = (FILE_NAME, "miner.py")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    example = "standfast doctor blueprints/evaluation"
    command(app, doctor, "doctor", schema="doctor", example=example, is_remote=False)
    command(app, init, "init", schema="init", example="standfast init my-network", is_remote=False)
    example = "standfast version --json"
    command(app, version, "version", schema="version", example=example, is_remote=False)


def doctor(session: Session, blueprint: Blueprint = Path(), data_dir: DataDir = None) -> int:
    """Look at everything that must hold before a start, and change nothing.

    Exit code 3 where something is wrong or could not be found out. A running instance is left alone.
    """
    gate = gate_of(blueprint, data_dir)
    session.emit(gate_data(gate), lambda out: print_gate(out, gate))
    return 0 if gate.is_open else _UNHEALTHY


def gate_of(blueprint: Path, data_dir: Path | None) -> Gate:
    """Return the preflight gate for a blueprint, even for one whose configuration is refused."""
    try:
        config = load_config(blueprint, data_dir=data_dir)
    except ConfigError as error:
        return check_refused(str(blueprint.absolute()), error)
    return check_before_start(config)


def gate_data(gate: Gate) -> dict[str, Any]:
    """Return a gate as JSON values."""
    findings = [finding.as_dict() for finding in gate.findings]
    return {"gate": gate.name, "verdict": gate.verdict.name, "findings": findings}


def print_gate(out: Printer, gate: Gate) -> None:
    """Print every finding, and the sum."""
    out.findings(finding.as_dict() for finding in gate.findings)
    counts: dict[str, int] = {}
    for finding in gate.findings:
        counts[finding.verdict.name] = counts.get(finding.verdict.name, 0) + 1
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    out.line(f"{gate.name}: {'open' if gate.is_open else 'closed'} ({text})")


def init(session: Session, folder: NewFolder = Path()) -> None:
    """Write a commented standfast.toml and a miner to start from; nothing is overwritten."""
    existing = [name for name in _TEMPLATE_NAMES if (folder / name).exists()]
    if existing:
        raise ConflictError(
            f"{folder / existing[0]} exists already", why="nothing is overwritten", fix="name another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TEMPLATE_NAMES:
            with (folder / name).open("x", encoding="utf-8") as stream:
                stream.write(resources.files(_TEMPLATES).joinpath(name).read_text("utf-8"))
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written", why=error.strerror or str(error), fix=f"ls -ld {folder}",
            code="FolderUnusable",
        ) from error  # fmt: skip
    written = [str(folder / name) for name in _TEMPLATE_NAMES]
    session.emit({"written": written}, lambda out: _print_written(out, written, folder))


def _print_written(out: Printer, written: list[str], folder: Path) -> None:
    for path in written:
        out.line(f"wrote {path}")
    out.line(f"next: standfast doctor {folder}; standfast up {folder}")


def version(session: Session) -> None:
    """Print the version, the Python that runs it, and the versions of its main parts."""
    parts = {name: _version_of(name) for name in ("apsw", "psycopg", "fastapi", "gymnasium", "mujoco")}
    data = {"version": __version__, "python": platform.python_version(), "parts": parts}
    session.emit(data, lambda out: out.line(f"standfast {__version__} (Python {data['python']})"))


def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
