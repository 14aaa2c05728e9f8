"""``standfast token``: who may call the API."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast.app.tokens import write_token
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session, path_segment
from standfast.kernel.errors import ConfigError


class Scope(enum.StrEnum):
    """What a token allows; operate includes read, admin includes everything."""

    READ = "read"
    EXECUTE = "execute"
    OPERATE = "operate"
    ADMIN = "admin"


Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for; records name it.")]
Scopes = Annotated[list[Scope], typer.Option("--scope", help="What it allows; may be given several times.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write it to this file (0600), do not print it.")
]


def add(app: typer.Typer) -> None:
    """Add the commands of this group."""
    example = "standfast token create rig-7 --scope execute --out rig-7.token"
    command(app, create, "create", schema="token.create", example=example)
    command(app, ls, "ls", schema="token.ls", example="standfast token ls")
    command(app, revoke, "revoke", schema="token.revoke", example="standfast token revoke rig-7")


def create(session: Session, name: Name, scope: Scopes, out: Out = None) -> None:
    """Make a token and show it, this once: only its hash is kept."""
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already", fix="name another file")
    body = {"name": name, "scopes": [one.value for one in scope]}
    data = session.call("POST", "/tokens", body=body)
    if out is None:
        session.emit(data, lambda printer: printer.line(data["token"]))
        return
    try:
        write_token(out, data["token"])
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written, so the token is lost", why=os.strerror(error.errno or 0),
            fix=f"standfast token revoke {name}; then make another",
        ) from error  # fmt: skip
    shown = {"name": data["name"], "scopes": data["scopes"], "file": str(out)}
    session.emit(shown, lambda printer: printer.line(f"wrote {out}"))


def ls(session: Session) -> None:
    """List every token that was ever made, without what it is."""
    data = session.get("/tokens")
    session.emit(data, lambda out: _print(out, data))


def revoke(session: Session, name: Name) -> None:
    """Make a token worthless, at once."""
    segment = path_segment(name, what="token", fix="standfast token ls")
    data = session.call("DELETE", f"/tokens/{segment}")
    session.emit(data, lambda out: out.line(f"{name} is revoked"))


def _print(out: Printer, data: Mapping[str, Any]) -> None:
    rows = [(t["name"], " ".join(t["scopes"]), t["created_at"], t["revoked_at"]) for t in data["tokens"]]
    out.table(("token", "scopes", "made", "revoked"), rows)
