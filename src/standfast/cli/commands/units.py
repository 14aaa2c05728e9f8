"""``standfast units``: the systemd unit that brings a stack back after the machine was restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standfast.app.config import Config
from standfast.app.declared import programs_of, services_of
from standfast.app.offline import config_of
from standfast.app.stack import STACK_NAME
from standfast.app.stack_up import specs_of, write_stack
from standfast.app.units import unit_of, write_unit
from standfast.cli.commands.services import local
from standfast.cli.output import Printer, say
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError

User = Annotated[
    bool, typer.Option("--user", help="A unit of this user's own systemd, not of the machine's.")
]
Write = Annotated[
    Path | None, typer.Option("--write", metavar="DIR", help="Write it there instead of printing it.")
]


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app, units, "units", schema="units", example="standfast units --user --write ~/.config/systemd/user"
    )


def units(session: Session, user: User = False, write: Write = None) -> None:
    """Print the systemd unit that starts what belongs to this folder, at boot and after a crash.

    systemd minds the supervisor alone: services outlive its crash, and the next one takes them back. Ended in
    order (systemctl stop, standfast down), it stays ended.
    """
    found = local(session)
    config = config_of(found)
    if not config.source.is_file():
        raise ConfigError(
            f"there is no {config.source}",
            fix="run it in the folder of a standfast.toml",
            code="ConfigMissing",
        )
    specs = specs_of(config) if config.is_stack else services_of(config, url="")
    unit = unit_of(config, specs, is_user=user)
    path = None
    if write is not None:
        _declare(config)
        path = write_unit(write.expanduser(), unit)
        say(f"written: {path}")
    data = {
        "name": unit.name, "text": unit.text, "path": str(path) if path else None, "steps": list(unit.steps),
    }  # fmt: skip
    session.emit(data, lambda out: _print(out, unit.text if path is None else "", unit.steps))


def _declare(config: Config) -> None:
    """Write down what the unit is to run, where no `standfast up` has done that yet."""
    if config.is_stack and not (config.data_dir / STACK_NAME).is_file():
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_stack(config, programs_of(config), Path.cwd())


def _print(out: Printer, text: str, steps: tuple[str, ...]) -> None:
    for line in text.splitlines():
        out.line(line)
    for step in steps:
        say(f"then: {step}")
