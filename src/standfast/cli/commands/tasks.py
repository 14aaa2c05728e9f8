"""``standfast task``: what is to be done, how often it was tried, and what an operator may do about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session, path_segment


class State(enum.StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    PAUSED = "paused"
    DEAD = "dead"
    CANCELLED = "cancelled"


Round = Annotated[str, typer.Option("--round", metavar="REF", help="Number of a round, or `latest`.")]
SubjectFilter = Annotated[str, typer.Option("--subject", metavar="UID", help="Only this subject's tasks.")]
StateFilter = Annotated[State | None, typer.Option("--state", help="Only tasks that stand so.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Most tasks to show.")]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Id of a task, as `task ls` shows it.")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="Uid of a subject.")]
Off = Annotated[bool, typer.Option("--off", help="Hand out work again.")]


def add(app: typer.Typer) -> None:
    """Add the commands of this group."""
    command(app, ls, "ls", schema="task.ls", example="standfast task ls --state paused")
    command(app, show, "show", schema="task.show", example="standfast task show 0123456789abcdef")
    command(app, requeue, "requeue", schema="task.requeue", example="standfast task requeue 0123456789abcdef")
    command(
        app, drain, "drain", schema="task.drain", example="standfast task drain; standfast task drain --off"
    )
    command(app, pause, "pause", schema="task.pause", example="standfast task pause 5")
    command(app, resume, "resume", schema="task.resume", example="standfast task resume 5")


def ls(
    session: Session,
    round_ref: Round = "",
    subject: SubjectFilter = "",
    state: StateFilter = None,
    limit: Limit = 50,
) -> None:
    """List tasks of the newest round, or of the one that is named."""
    wanted = {"round": round_ref, "subject": subject, "state": state.value if state else "", "limit": limit}
    data = session.get("/tasks", **wanted)
    session.emit(data, lambda out: _print_tasks(out, data))


def show(session: Session, task: TaskId) -> None:
    """Show one task with every attempt, and every report that came too late."""
    data = session.get(f"/tasks/{_segment(task)}")
    session.emit(data, lambda out: _print_task(out, data))


def requeue(session: Session, task: TaskId) -> None:
    """Run a paused, dead or stuck task again, with fresh attempts; what was tried stays on record."""
    data = session.call("POST", f"/tasks/{_segment(task)}/requeue", body={})
    session.emit(data, lambda out: out.line(f"task {task} waits again"))


def drain(session: Session, off: Off = False) -> None:
    """Hand out no more work, and open no round; what runs may finish."""
    data = session.call("POST", "/tasks/drain", body={"on": not off})
    text = (
        "draining: no work is handed out; standfast task drain --off resumes"
        if not off
        else "work is handed out"
    )
    session.emit(data, lambda out: out.line(text))


def pause(session: Session, subject: Subject) -> None:
    """Hand out no more work of one subject; what runs may finish."""
    data = session.call("POST", f"/subjects/{_segment(subject)}/pause", body={})
    session.emit(data, lambda out: out.line(f"subject {subject} is paused; standfast task resume {subject}"))


def resume(session: Session, subject: Subject) -> None:
    """Hand out the work of a subject again."""
    data = session.call("POST", f"/subjects/{_segment(subject)}/resume", body={})
    session.emit(data, lambda out: out.line(f"work of subject {subject} is handed out"))


def _segment(name: str) -> str:
    return path_segment(name, what="task or subject", fix="standfast task ls")


def _print_tasks(out: Printer, data: Mapping[str, Any]) -> None:
    rows = [
        (
            t["task_id"],
            t["subject"],
            t["lane"],
            t["key"].rsplit("/", 1)[-1],
            t["state"],
            t["attempts"],
            t["holder"],
        )
        for t in data["tasks"]
    ]
    out.line(f"round {data['round']}")
    out.table(("task", ">subject", "environment", "episode", "state", ">attempts", "holder"), rows)


def _print_task(out: Printer, data: Mapping[str, Any]) -> None:
    out.line(f"task {data['task_id']}: {data['state']}", style="bold")
    out.line(f"  subject {data['subject']}, {data['lane']}, {data['key']}, made {data['created_at']}")
    rows = [
        (a["token"], a["holder"], a["state"], a["started_at"], a["ended_at"], a["outcome_class"], _error(a))
        for a in data["history"]
    ]
    out.table((">token", "holder", "attempt", "started", "ended", "outcome", "error"), rows, title="attempts")
    for late in data["late_reports"]:
        out.line(
            f"late report of {late['holder']} under token {late['token']} at {late['at']}: {late['answer']}"
        )


def _error(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['error_code']}: {attempt['error']}" if attempt["error_code"] else ""
