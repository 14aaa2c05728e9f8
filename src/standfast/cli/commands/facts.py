"""``standfast facts``: what happened, and the proof that nobody changed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from standfast.app.offline import open_offline
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.facts.model import Broken, Fact
from standfast.kernel.errors import TransientError

Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Most facts to show.")]
After = Annotated[int | None, typer.Option("--after", min=0, help="Show those after this number.")]
Kind = Annotated[str, typer.Option("--kind", metavar="KIND", help="Only this kind, such as round.published.")]

#: Every row is hashed: a million facts take a while, and a proof has no short cut.
_VERIFY_S = 300.0
#: Codes with which the API says that it does not run, as against one that runs and does not answer.
_DOES_NOT_RUN = frozenset({"NotRunning"})


def add(app: typer.Typer) -> None:
    """Add the commands of this group."""
    command(app, ls, "ls", schema="facts.ls", example="standfast facts ls --kind round.published")
    command(app, verify, "verify", schema="facts.verify", example="standfast facts verify")


def ls(session: Session, limit: Limit = 30, after: After = None, kind: Kind = "") -> None:
    """List what happened, newest last: of a running instance, or of the store where none runs."""
    try:
        data = session.get(
            "/facts", limit=limit, after=after, kind=kind, newest="" if after is not None else "true"
        )
    except TransientError as error:
        if error.code not in _DOES_NOT_RUN:
            raise
        data = _page_offline(session, limit, after, kind)
    session.emit(data, lambda out: _print_page(out, data))


def verify(session: Session) -> int:
    """Walk the whole chain of facts and name the first broken row; exit code 1 if there is one."""
    try:
        data = session.call("GET", "/facts/verify", total_s=_VERIFY_S)
    except TransientError as error:
        if error.code not in _DOES_NOT_RUN:
            raise
        data = _verify_offline(session)
    session.emit(data, lambda out: _print_verdict(out, data))
    return 0 if data["is_intact"] else 1


def _page_offline(session: Session, limit: int, after: int | None, kind: str) -> dict[str, Any]:
    with open_offline(session.found()) as store:
        found = store.database.read_now(
            lambda tx: store.facts.page(tx, after=after or 0, limit=limit, kind=kind, newest=after is None)
        )
    return {"facts": [_fact(fact) for fact in found], "store": store.database.name}


def _verify_offline(session: Session) -> dict[str, Any]:
    with open_offline(session.found()) as store:
        result = store.database.read_now(store.facts.verify)
    if isinstance(result, Broken):
        return {"is_intact": False, "seq": result.seq, "reason": result.reason, "store": store.database.name}
    return {"is_intact": True, "count": result.count, "head": result.head, "store": store.database.name}


def _fact(fact: Fact) -> dict[str, Any]:
    return {name: getattr(fact, name) for name in Fact.__dataclass_fields__}


def _print_page(out: Printer, data: Mapping[str, Any]) -> None:
    rows = [
        (fact["seq"], fact["at"], fact["kind"], fact["subject"], _brief(fact["body"]))
        for fact in data["facts"]
    ]
    out.table((">fact", "at", "kind", "subject", "what"), rows)


def _brief(body: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key} {value}" for key, value in body.items())
    return text if len(text) <= 160 else text[:159] + "…"


def _print_verdict(out: Printer, data: Mapping[str, Any]) -> None:
    if data["is_intact"]:
        out.line(
            f"intact: {data['count']} facts follow from one another, head {data['head'][:16]}", style="green"
        )
    else:
        out.line(f"BROKEN at fact {data['seq']}: {data['reason']}", style="bold red")
        out.line("  fix   keep a copy of the store, find out who changed it, restore a backup")
