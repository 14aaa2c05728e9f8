"""How the instance is: the verdict, every finding, and the numbers behind them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from standfast.api.auth import ReaderDep
from standfast.api.context import ContextDep
from standfast.api.models import ErrorReply
from standfast.app.status import Sources, status_view

router = APIRouter(tags=["status"], responses={401: {"model": ErrorReply}})
#: A status is asked when something is wrong, so it must be there before the asker gives up.
_LOOK_S = 3.0


@router.get("/status")
async def show_status(context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show what is wrong, why, and what to do; 200 also where the store is away, which is a finding then."""
    sources = Sources(
        read=lambda work: context.access.read(work, limit_s=_LOOK_S),
        scheduler_state=context.scheduler_state,
        services_state=context.services_state,
        watch=context.watch,
    )
    return JSONResponse(await status_view(context.plane, sources))
