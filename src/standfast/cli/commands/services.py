"""``standfast restart | hold | release``: what a person does to services, recorded with who did it.

They go to the supervisor's own socket, so that they work where the API hangs.
"""

from __future__ import annotations

import getpass
import os
import socket
from typing import Annotated, Any

import typer

from standfast.app.instance import Address, Found
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError, TransientError
from standfast.services.adapters.control import ask

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Services.")]
SomeNames = Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Services; none = all.")]
Only = Annotated[bool, typer.Option("--only", help="Leave alone what depends on them.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is shown to who asks.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, restart, "restart", schema="restart", example="standfast restart api --only")
    command(app, hold, "hold", schema="hold", example='standfast hold api --reason "disk is replaced"')
    command(app, release, "release", schema="release", example="standfast release api")


def restart(session: Session, names: Names, only: Only = False) -> None:
    """Restart services and what runs and depends on them; one that is down or held by the machine is started.

    What a person holds is refused (exit 6): it is for a person to release.
    """
    concerned = ask_supervisor(session, "restart", names=names, who=who(), only=only)
    data = {"asked": list(names), "restarted": concerned}
    session.emit(data, lambda out: _told(out, "restarting", concerned))


def hold(session: Session, names: Names, reason: Reason) -> None:
    """Stop services and start them no more until they are released, whatever is restarted meanwhile."""
    if not reason.strip():
        raise ConfigError("--reason is empty", fix="say why: whoever finds it held has to know")
    held = ask_supervisor(session, "hold", names=names, who=who(), why=reason)
    data = {"held": held, "who": who(), "reason": reason}
    session.emit(data, lambda out: _told(out, "held", held))


def release(session: Session, names: SomeNames = None) -> None:
    """Take back every hold of services, a person's and the machine's, and try them again at once."""
    released = ask_supervisor(session, "release", names=names or [], who=who())
    session.emit({"released": released, "who": who()}, lambda out: _told(out, "released", released))


def local(session: Session) -> Found:
    """Return the instance on this machine that is meant; ConfigError where it was named by its address."""
    found = session.found()
    if isinstance(found, Address):
        raise ConfigError(
            "services are asked for on their own machine, not by an address",
            fix="run it where the instance runs, with --data-dir if need be",
        )
    return found


def ask_supervisor(session: Session, op: str, **asked: Any) -> Any:
    """Return what the supervisor of the meant instance answers; its errors say how to look at it."""
    found = local(session)
    try:
        return ask(found.data_dir, op, **asked)
    except TransientError as error:
        error.why = f"{error.why}; {found.how}" if error.why else found.how
        error.fix = "see what is wrong: standfast status"
        raise


def who() -> str:
    """Return who runs this command: user and machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"  # A container may know no name for it.
    return f"{user}@{socket.gethostname()}"


def _told(out: Printer, what: str, names: list[str]) -> None:
    out.line(f"{what}: {', '.join(names) or 'nothing'}")
    out.line("  look: standfast status")
