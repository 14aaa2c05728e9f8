"""What an operator may do to tasks, and what one may look at; every change is for a fact of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from standfast.facts.database import Tx
from standfast.kernel.errors import ConflictError, NotFoundError
from standfast.tasks import decide
from standfast.tasks.attempts import name_of
from standfast.tasks.driver import TaskDriver
from standfast.tasks.model import AttemptState, Event, TaskState
from standfast.tasks.store import Move


def close_batch(tx: Tx, driver: TaskDriver, batch: str, reason: str) -> int:
    """End a batch: cancel every task that is not final; none is ever served or requeued again (K5)."""
    tx.rows(driver.store.sql["close_batch"], {"batch": batch, "at": driver.wall_iso()})
    driver.store.serialise_claims(tx)
    open_rows = tx.rows(driver.store.sql["batch_open"], {"batch": batch})
    moves = [
        Move(row, token, decide.TRANSITIONS[TaskState(state), Event.CANCEL].value, 0, 0, 0, attempts)
        for row, state, token, attempts in open_rows
    ]
    driver.store.move(tx, moves)
    at, state = driver.wall_iso(), AttemptState.CANCELLED.value
    tokens = [token for _, state, token, _ in open_rows if state == TaskState.LEASED]
    driver.store.close_attempts(tx, [(token, state, at, "Cancelled", reason) for token in tokens])
    return len(open_rows)


def requeue(tx: Tx, driver: TaskDriver, task_id: str) -> None:
    """Put a paused, dead or stuck task back with fresh attempts; what was tried stays on record."""
    driver.store.serialise_claims(tx)
    current = driver.store.named(tx, task_id)
    if current is None:
        raise NotFoundError(f"there is no task {task_id[:64]}", fix="standfast task ls")
    if tx.rows(driver.store.sql["is_closed"], {"name": name_of(task_id)}):
        raise ConflictError(
            f"task {task_id} belongs to a batch that is over", fix="nothing: the next round runs anew"
        )
    state = TaskState(current.state)
    if (state, Event.REQUEUE) not in decide.TRANSITIONS:
        raise ConflictError(
            f"task {task_id} is {state.name.lower()}", fix="only open or dead tasks can run again"
        )
    if state is TaskState.LEASED:
        closed = (current.token, AttemptState.RELEASED.value, driver.wall_iso(), "Requeued", "by an operator")
        driver.store.close_attempts(tx, [closed])
    order = driver.draw_order()
    driver.store.move(tx, [Move(current.row, current.token, TaskState.PENDING.value, order, 0, 0, 0)])


def forget(tx: Tx, driver: TaskDriver, batch: str) -> None:
    """Delete the tasks, attempts and late reports of a batch that is over; no token is granted twice."""
    for query in ("raise_floor", "forget_late", "forget_attempts", "forget_tracking", "forget_tasks"):
        tx.rows(driver.store.sql[query], {"batch": batch})


def set_draining(tx: Tx, driver: TaskDriver, *, is_draining: bool) -> None:
    """Stop or resume handing out work; what runs may finish and report."""
    tx.rows(driver.store.sql["set_draining"], {"is_draining": int(is_draining)})


def pause_subject(tx: Tx, driver: TaskDriver, subject: str, *, is_paused: bool) -> None:
    """Stop or resume handing out the work of one subject."""
    if not tx.rows(driver.store.sql["pause_subject"], {"name": subject, "is_paused": int(is_paused)}):
        raise NotFoundError(f"there is no subject {subject[:64]}", fix="standfast status")


def cordon_executor(tx: Tx, driver: TaskDriver, name: str, *, is_cordoned: bool) -> None:
    """Stop or resume handing out work to one executor."""
    if not tx.rows(driver.store.sql["cordon_executor"], {"name": name, "is_cordoned": int(is_cordoned)}):
        raise NotFoundError(f"there is no executor {name[:64]}", fix="standfast status")


def task_view(tx: Tx, driver: TaskDriver, task_id: str) -> dict[str, Any]:
    """Return one task with every attempt and every late report."""
    name = name_of(task_id)
    rows = tx.rows(driver.store.sql["task"], {"name": name}) if name is not None else []
    if not rows:
        raise NotFoundError(f"there is no task {task_id[:64]}", fix="standfast task ls")
    view = _task(rows[0])
    attempts = tx.rows(driver.store.sql["attempts"], {"token": view["token"]})
    view["history"] = [_attempt(row) for row in attempts]
    view["late_reports"] = [
        {"token": token, "holder": holder, "answer": answer, "outcome": _parsed(outcome), "at": at}
        for token, holder, answer, outcome, at in tx.rows(driver.store.sql["late_reports"], {"name": name})
    ]
    return view


def task_list(
    tx: Tx, driver: TaskDriver, batch: str, *, subject: str = "", state: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Return up to ``limit`` tasks of a batch, by key."""
    wanted = TaskState[state.upper()].value if state else -1
    rows = tx.rows(
        driver.store.sql["list_tasks"], {"batch": batch, "subject": subject, "state": wanted, "limit": limit}
    )
    return [_task(row) for row in rows]


def _task(row: Sequence[Any]) -> dict[str, Any]:
    names = ("task_id", "batch", "subject", "lane", "key", "spec", "created_at", "state", "token", "holder",
             "attempts")  # fmt: skip
    view = dict(zip(names, row, strict=True))
    view["task_id"] = f"{row[0]:016x}"
    view["spec"] = _parsed(row[5])
    view["state"] = TaskState(row[7]).name.lower()
    return view


def _attempt(row: Sequence[Any]) -> dict[str, Any]:
    names = ("token", "attempt_id", "holder", "state", "started_at", "ended_at", "outcome_class", "outcome",
             "error_code", "error")  # fmt: skip
    view = dict(zip(names, row, strict=True))
    view["state"] = AttemptState(row[3]).name.lower()
    view["outcome"] = _parsed(row[7])
    return view


def _parsed(text: str | None) -> Any:
    return json.loads(text) if text else None
