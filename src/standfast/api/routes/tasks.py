"""Work: claiming, reporting, heartbeats and giving back for executors; looking and repairing for people.

A batch of results is read item by item (K3): whatever is wrong with one of them, the others are stored,
and each has its own answer. The shape of the whole is the only thing that refuses a batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError

from standfast.api.auth import ExecutorDep, OperatorDep, ReaderDep
from standfast.api.context import Context, ContextDep
from standfast.api.errors import invalid
from standfast.api.lenient import inlined_schema, lenient_json
from standfast.api.models import (
    MAX_RESULTS,
    Beaten,
    Claim,
    Claimed,
    Drain,
    ErrorReply,
    Heartbeat,
    Held,
    Name,
    Release,
    Released,
    Submit,
    Submitted,
    TaskName,
)
from standfast.api.operator import act
from standfast.app import views
from standfast.app.reports import Invalid, to_report
from standfast.evaluation.model import RoundState
from standfast.facts.database import Tx
from standfast.tasks import driver as tasks
from standfast.tasks import operate
from standfast.tasks.attempts import name_of
from standfast.tasks.model import Answer, Lease, Report

router = APIRouter(tags=["tasks"], responses={422: {"model": ErrorReply}, 503: {"model": ErrorReply}})
_CODES = {
    Answer.ACCEPTED: 200,
    Answer.DUPLICATE: 200,
    Answer.STALE: 409,
    Answer.EXPIRED: 409,
    Answer.INVALID: 422,
    Answer.UNKNOWN: 404,
}
_NAME: TypeAdapter[str] = TypeAdapter(Name)
TaskPath = Annotated[TaskName, Path()]
State = Literal["pending", "leased", "done", "paused", "dead", "cancelled"]


@router.post("/tasks/claim", response_model=Claimed)
async def claim(body: Claim, context: ContextDep, _: ExecutorDep) -> JSONResponse:
    """Lease up to ``count`` tasks to an executor."""
    asked = tasks.Claim(body.executor, body.instance, body.count, body.info)
    grant = await context.access.write(lambda tx: context.plane.tasks.claim(tx, asked))
    return JSONResponse({"leases": [_lease(lease) for lease in grant.leases], "reason": grant.reason})


def _lease(lease: Lease) -> dict[str, Any]:
    return {**lease._asdict(), "spec": json.loads(lease.spec)}


@router.post(
    "/tasks/submit",
    response_model=Submitted,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": inlined_schema(Submit)}},
        }
    },
)
async def submit(request: Request, context: ContextDep, _: ExecutorDep) -> JSONResponse:
    """Store a batch of results; 200 with an answer per item, unless every item is invalid (422)."""
    parsed = _batch_of(await request.body())
    if isinstance(parsed, str):
        return invalid([parsed])
    executor, items = parsed
    reports = [to_report(item) for item in items]
    usable = [report for report in reports if isinstance(report, Report)]
    answers = await _stored(context, executor, usable) if usable else iter(())
    listed = []
    for index, report in enumerate(reports):
        if isinstance(report, Invalid):
            listed.append(_answer(index, report.task_id, Answer.INVALID, report.message))
        else:
            answer = next(answers)
            listed.append(_answer(index, answer.task_id, answer.answer, answer.message))
    accepted = sum(item["status"] == Answer.ACCEPTED for item in listed)
    is_all_invalid = all(item["status"] == Answer.INVALID for item in listed)
    return JSONResponse({"accepted": accepted, "items": listed}, 422 if is_all_invalid else 200)


async def _stored(context: Context, executor: str, usable: Sequence[Report]) -> Any:
    return iter(await context.access.write(lambda tx: context.plane.tasks.submit(tx, executor, usable)))


def _batch_of(raw: bytes) -> tuple[str, list[Any]] | str:
    """Return the executor and the items of a batch, or what is wrong with it as a whole."""
    try:
        body = lenient_json(raw)
    except ValueError:
        return "the body is not JSON"
    if not isinstance(body, dict) or set(body) != {"executor", "results"}:
        return "body: it has exactly the keys executor and results"
    try:
        executor = _NAME.validate_python(body["executor"], strict=True)
    except ValidationError:
        return "body.executor: a name of 1 to 64 letters, digits and . _ : @ -"
    results = body["results"]
    if not isinstance(results, list) or not 1 <= len(results) <= MAX_RESULTS:
        return f"body.results: a list of 1 to {MAX_RESULTS} results"
    return executor, results


def _answer(index: int, task_id: str, answer: Answer, message: str) -> dict[str, Any]:
    shown = task_id if name_of(task_id) is not None else ""
    return {
        "index": index, "task_id": shown, "status": answer.value, "code": _CODES[answer], "message": message,
    }  # fmt: skip


@router.post("/tasks/heartbeat", response_model=Beaten)
async def heartbeat(body: Heartbeat, context: ContextDep, _: ExecutorDep) -> JSONResponse:
    """Extend leases, and learn which are lost."""
    said = tasks.Claim(body.executor, body.instance, 0, body.info)
    driver = context.plane.tasks

    def work(tx: Tx) -> dict[str, Any]:
        lost = driver.heartbeat(tx, said, _pairs(body.held))
        cordoned = bool(tx.rows(driver.store.sql["executor"], {"name": body.executor})[0][1])
        return {"lost": lost, "cordoned": cordoned, "draining": driver.store.control(tx).is_draining}

    return JSONResponse(await context.access.write(work))


@router.post("/tasks/release", response_model=Released)
async def release(body: Release, context: ContextDep, _: ExecutorDep) -> JSONResponse:
    """Give leases back without counting an attempt."""
    held = None if body.held is None else _pairs(body.held)
    reason = body.reason or "released"
    count = await context.access.write(
        lambda tx: context.plane.tasks.release(tx, body.executor, held, reason)
    )
    return JSONResponse({"released": count})


def _pairs(held: Sequence[Held]) -> list[tuple[str, int]]:
    return [(one.task_id, one.token) for one in held]


@router.post("/tasks/drain")
async def drain(body: Drain, context: ContextDep, caller: OperatorDep, request: Request) -> dict[str, Any]:
    """Stop or resume handing out work; what runs may finish."""
    kind = "tasks.drained" if body.on else "tasks.resumed"
    await act(
        context, request, caller, done=(kind, "", {}),
        work=lambda tx: operate.set_draining(tx, context.plane.tasks, is_draining=body.on),
    )  # fmt: skip
    return {"draining": body.on}


@router.post("/tasks/{task_id}/requeue")
async def requeue(
    task_id: TaskPath, context: ContextDep, caller: OperatorDep, request: Request
) -> dict[str, Any]:
    """Put a paused, dead or stuck task back with fresh attempts."""
    await act(
        context, request, caller, done=("task.requeued", task_id, {}),
        work=lambda tx: operate.requeue(tx, context.plane.tasks, task_id),
    )  # fmt: skip
    return {"requeued": task_id}


@router.get("/tasks")
async def list_tasks(
    context: ContextDep,
    _: ReaderDep,
    round_ref: Annotated[str, Query(alias="round", pattern="^(latest|[0-9]{1,15})?$")] = "",
    subject: Annotated[str, Query(max_length=64)] = "",
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> JSONResponse:
    """List tasks of a round: the one that is named, else the open one, else the last."""

    def work(tx: Tx) -> dict[str, Any]:
        plane = context.plane
        newest = [] if round_ref else plane.rounds.newest(tx, 1)
        row = newest[0] if newest else views.find_round(tx, plane, round_ref or "latest")
        listed = operate.task_list(
            tx, plane.tasks, row.plan.batch, subject=subject, state=state or "", limit=limit
        )
        hidden = {row.plan.batch} if row.state is RoundState.OPEN else set()
        return {"round": row.number, "tasks": [_without_seed(task, hidden) for task in listed]}

    return JSONResponse(await context.access.read(work))


@router.get("/tasks/{task_id}")
async def show_task(task_id: TaskPath, context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show one task with every attempt and every late report."""

    def work(tx: Tx) -> dict[str, Any]:
        task = operate.task_view(tx, context.plane.tasks, task_id)
        open_rounds = [r for r in context.plane.rounds.newest(tx, 5) if r.state is RoundState.OPEN]
        return _without_seed(task, {row.plan.batch for row in open_rounds})

    return JSONResponse(await context.access.read(work))


def _without_seed(task: dict[str, Any], open_batches: set[str]) -> dict[str, Any]:
    """Hide the seed while its round is open: every subject gets the same one (K1 c, d)."""
    if task["batch"] in open_batches and isinstance(task["spec"], dict):
        task["spec"] = {key: value for key, value in task["spec"].items() if key != "seed"}
    return task
