"""Executors and subjects: who works, who is worked on, and keeping work from one of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from standfast.api.auth import ExecutorDep, OperatorDep, ReaderDep
from standfast.api.context import Context, ContextDep
from standfast.api.models import ErrorReply, Name, Register, Registered
from standfast.api.operator import act
from standfast.app.tokens import Caller
from standfast.facts.database import Tx
from standfast.tasks import driver as tasks
from standfast.tasks import operate

router = APIRouter(tags=["executors"], responses={422: {"model": ErrorReply}, 503: {"model": ErrorReply}})
NamePath = Annotated[Name, Path()]


@router.post("/executors/register", response_model=Registered)
async def register(body: Register, context: ContextDep, _: ExecutorDep) -> JSONResponse:
    """Note an executor's new life; what its earlier life still holds goes back to the queue."""
    plane = context.plane
    said = tasks.Claim(body.executor, body.instance, 0, body.info)

    def work(tx: Tx) -> int:
        requeued = plane.tasks.register(tx, said)
        fact = {"instance": body.instance, "requeued": requeued}
        plane.facts.append(tx, "executor.registered", body.executor, fact)
        return requeued

    requeued = await context.access.write(work)
    policy = plane.config.tasks
    return JSONResponse(
        {"requeued": requeued, "lease_ttl_s": policy.lease_ttl_s, "heartbeat_s": policy.heartbeat_s}
    )


@router.get("/executors")
async def list_executors(context: ContextDep, _: ReaderDep) -> JSONResponse:
    """List every executor that ever asked for work."""
    listed = await context.access.read(context.plane.tasks.store.executors)
    return JSONResponse({"executors": [asdict(executor) for executor in listed]})


@router.post("/executors/{name}/cordon")
async def cordon(
    name: NamePath, context: ContextDep, caller: OperatorDep, request: Request
) -> dict[str, Any]:
    """Give an executor no more work; what it runs may finish."""
    return await _cordon(context, request, caller, name=name, on=True)


@router.post("/executors/{name}/uncordon")
async def uncordon(
    name: NamePath, context: ContextDep, caller: OperatorDep, request: Request
) -> dict[str, Any]:
    """Give an executor work again."""
    return await _cordon(context, request, caller, name=name, on=False)


async def _cordon(
    context: Context, request: Request, caller: Caller, *, name: str, on: bool
) -> dict[str, Any]:
    kind = "executor.cordoned" if on else "executor.uncordoned"
    await act(
        context, request, caller, done=(kind, name, {}),
        work=lambda tx: operate.cordon_executor(tx, context.plane.tasks, name, is_cordoned=on),
    )  # fmt: skip
    return {"executor": name, "cordoned": on}


@router.post("/subjects/{name}/pause")
async def pause(name: NamePath, context: ContextDep, caller: OperatorDep, request: Request) -> dict[str, Any]:
    """Hand out no more work of a subject."""
    return await _pause(context, request, caller, name=name, on=True)


@router.post("/subjects/{name}/resume")
async def resume(
    name: NamePath, context: ContextDep, caller: OperatorDep, request: Request
) -> dict[str, Any]:
    """Hand out the work of a subject again."""
    return await _pause(context, request, caller, name=name, on=False)


async def _pause(
    context: Context, request: Request, caller: Caller, *, name: str, on: bool
) -> dict[str, Any]:
    kind = "subject.paused" if on else "subject.resumed"
    await act(
        context, request, caller, done=(kind, name, {}),
        work=lambda tx: operate.pause_subject(tx, context.plane.tasks, name, is_paused=on),
    )  # fmt: skip
    return {"subject": name, "paused": on}
