"""What happened, page by page, and whether the record of it is whole."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from standfast.api.auth import ReaderDep
from standfast.api.context import ContextDep
from standfast.api.models import ErrorReply
from standfast.facts.model import Broken
from standfast.kernel.errors import ConflictError

router = APIRouter(tags=["facts"], responses={503: {"model": ErrorReply}})
_VERIFY_S = 300.0
# A walk over the whole chain takes a connection for its time: one at a time is enough.
_verifying = asyncio.Semaphore(1)


@router.get("/facts")
async def list_facts(
    context: ContextDep,
    _: ReaderDep,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    kind: Annotated[str, Query(max_length=64)] = "",
    newest: bool = False,
) -> JSONResponse:
    """List facts after a number, oldest first; with ``newest`` the last ones."""
    facts = context.plane.facts
    found = await context.access.read(
        lambda tx: facts.page(tx, after=after, limit=limit, kind=kind, newest=newest)
    )
    return JSONResponse({"facts": [asdict(fact) for fact in found]})


@router.get("/facts/verify")
async def verify_facts(context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Walk the whole chain and name the first broken row."""
    if _verifying.locked():
        raise ConflictError("the chain is being verified already", fix="ask again in a while")
    async with _verifying:
        result = await context.access.read(context.plane.facts.verify, limit_s=_VERIFY_S)
    if isinstance(result, Broken):
        return JSONResponse({"is_intact": False, "seq": result.seq, "reason": result.reason})
    return JSONResponse({"is_intact": True, "count": result.count, "head": result.head})
