"""``standfast executors``: who runs episodes, and keeping work from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session, path_segment

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an executor.")]


def add(app: typer.Typer) -> None:
    """Add the commands of this group."""
    command(app, ls, "ls", schema="executors.ls", example="standfast executors ls")
    command(app, cordon, "cordon", schema="executors.cordon", example="standfast executors cordon executor-1")
    command(
        app, uncordon, "uncordon", schema="executors.uncordon",
        example="standfast executors uncordon executor-1",
    )  # fmt: skip


def ls(session: Session) -> None:
    """List every executor that ever asked for work."""
    data = session.get("/executors")
    session.emit(data, lambda out: _print(out, data))


def cordon(session: Session, name: Name) -> None:
    """Give an executor no more work; what it runs may finish."""
    data = session.call("POST", f"/executors/{_segment(name)}/cordon", body={})
    session.emit(data, lambda out: out.line(f"{name} gets no more work; standfast executors uncordon {name}"))


def uncordon(session: Session, name: Name) -> None:
    """Give an executor work again."""
    data = session.call("POST", f"/executors/{_segment(name)}/uncordon", body={})
    session.emit(data, lambda out: out.line(f"{name} gets work again"))


def _segment(name: str) -> str:
    return path_segment(name, what="executor", fix="standfast executors ls")


def _print(out: Printer, data: Mapping[str, Any]) -> None:
    rows = [
        (e["name"], "cordoned" if e["cordoned"] else "takes work", e["running"], f"{e['silent_s']:.1f} s ago")
        for e in data["executors"]
    ]
    out.table(("executor", "state", ">running", ">last heard of"), rows)
