"""Rounds, scores, miners and publications, as ``app.views`` shows them: one serializer each (K12)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from standfast.api.auth import ReaderDep
from standfast.api.context import ContextDep
from standfast.api.models import ErrorReply
from standfast.app import views
from standfast.app.miner_view import miner_view

router = APIRouter(tags=["rounds"], responses={404: {"model": ErrorReply}, 503: {"model": ErrorReply}})
RoundRef = Annotated[str, Path(pattern=r"^(latest|[0-9]{1,15})$", description="A number, or `latest`.")]


@router.get("/rounds")
async def list_rounds(
    context: ContextDep, _: ReaderDep, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> JSONResponse:
    """List the last rounds, newest first."""
    return JSONResponse(
        {"rounds": await context.access.read(lambda tx: views.rounds_list(tx, context.plane, limit))}
    )


@router.get("/rounds/{ref}")
async def show_round(ref: RoundRef, context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show one round whole."""
    return await _view(context.access.read(lambda tx: views.round_view(tx, context.plane, ref)))


@router.get("/rounds/{ref}/evidence")
async def show_evidence(ref: RoundRef, context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show everything that is needed to recompute a round."""
    return await _view(context.access.read(lambda tx: views.round_evidence(tx, context.plane, ref)))


@router.get("/scores/{ref}")
async def show_scores(ref: RoundRef, context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show the scores of one round; `latest` is the newest that has any."""
    return await _view(context.access.read(lambda tx: views.scores_view(tx, context.plane, ref)))


@router.get("/miners")
async def list_miners(context: ContextDep, _: ReaderDep) -> JSONResponse:
    """List every subject with its slots and last scores."""
    return JSONResponse(
        {"miners": await context.access.read(lambda tx: views.miners_view(tx, context.plane))}
    )


@router.get("/miners/{uid}")
async def show_miner(
    uid: Annotated[str, Path(pattern=r"^[0-9]{1,5}$")],
    context: ContextDep,
    _: ReaderDep,
    ref: Annotated[str, Query(alias="round", pattern=r"^(latest|[0-9]{1,15})?$")] = "",
) -> JSONResponse:
    """Show one subject: whether it can be reached, and how each of its episodes went (K20)."""
    return await _view(context.access.read(lambda tx: miner_view(tx, context.plane, uid, ref)))


@router.get("/publications/latest")
async def show_publication(context: ContextDep, _: ReaderDep) -> JSONResponse:
    """Show the last publication, by its number (K17)."""
    return await _view(context.access.read(lambda tx: views.publication_view(tx, context.plane)))


async def _view(looked: Any) -> JSONResponse:
    return JSONResponse(await looked)
