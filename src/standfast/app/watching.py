"""Collects what ``up`` shows while it runs: one plain dict, judged by nobody, rendered by ``progress``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from standfast.app import views
from standfast.app.plane import ControlPlane
from standfast.facts.database import Tx
from standfast.kernel.clock import iso
from standfast.kernel.errors import NotFoundError, StandfastError

#: More rounds than can end between two looks.
_ROUNDS = 5
_CLASSES = ("won", "lost", "subject_error")


async def look(
    plane: ControlPlane, *, url: str, services: Sequence[Mapping[str, Any]], scheduler: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what there is to see now; a store that does not answer is a problem in it, not an error."""
    seen: dict[str, Any] = {
        "at": iso(plane.clock.wall()),
        "url": url,
        "services": [dict(service) for service in services],
        "problems": [f"{e['code']}: {e['what']}. {e['fix']}" for e in scheduler.get("errors", ())],
        "rounds": [],
        "subjects": [],
        "publication": None,
    }
    try:
        seen |= await plane.database.read(lambda tx: _rounds(tx, plane))
    except StandfastError as error:
        seen["problems"].append(str(error))
    return seen


def _rounds(tx: Tx, plane: ControlPlane) -> dict[str, Any]:
    rounds = views.rounds_list(tx, plane, _ROUNDS)
    subjects = []
    if rounds:
        view = views.round_view(tx, plane, str(rounds[0]["round"]))
        subjects = [_subject(subject) for subject in view["subjects"]]
    try:
        publication: dict[str, Any] | None = _publication(views.publication_view(tx, plane))
    except NotFoundError:
        publication = None
    return {"rounds": rounds, "subjects": subjects, "publication": publication}


def _subject(subject: Mapping[str, Any]) -> dict[str, Any]:
    counts = subject["counts"] or {}
    by_class = {name: sum(cell.get(name, 0) for cell in subject["classes"].values()) for name in _CLASSES}
    return {
        "uid": subject["uid"],
        "hotkey": subject["hotkey"],
        "expected": counts.get("total", 0),
        "done": counts.get("succeeded", 0) + counts.get("failed", 0),
        "running": counts.get("running", 0),
        **by_class,
    }


def _publication(view: Mapping[str, Any]) -> dict[str, Any]:
    weights = view["document"]["weights"]
    return {
        "epoch": view["epoch"],
        "round": view["round"],
        "at": view["settled_at"],
        "weights": [{"uid": uid, **entry} for uid, entry in weights.items()],
    }
