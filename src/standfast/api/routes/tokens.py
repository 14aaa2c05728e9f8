"""Who may call: tokens are made and shown once, listed without their hashes, and revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from standfast.api.auth import AdminDep
from standfast.api.context import ContextDep
from standfast.api.models import ErrorReply, Name, NewToken
from standfast.api.operator import act

router = APIRouter(tags=["tokens"], responses={403: {"model": ErrorReply}, 409: {"model": ErrorReply}})


@router.post("/tokens", status_code=201)
async def create_token(
    body: NewToken, context: ContextDep, caller: AdminDep, request: Request
) -> JSONResponse:
    """Make a token; the reply is the only place that ever shows it."""
    scopes = sorted(set(body.scopes))
    token = await act(
        context, request, caller, done=("token.created", body.name, {"scopes": scopes}),
        work=lambda tx: context.tokens.create(tx, body.name, scopes),
    )  # fmt: skip
    context.book.forget()
    return JSONResponse({"name": body.name, "scopes": scopes, "token": token}, 201)


@router.get("/tokens")
async def list_tokens(context: ContextDep, _: AdminDep) -> JSONResponse:
    """List every token that was ever made, without what it is."""
    known = await context.access.read(context.tokens.known)
    return JSONResponse({"tokens": [token.as_dict() for token in known]})


@router.delete("/tokens/{name}")
async def revoke_token(
    name: Annotated[Name, Path()], context: ContextDep, caller: AdminDep, request: Request
) -> dict[str, Any]:
    """Make a token worthless."""
    await act(
        context, request, caller, done=("token.revoked", name, {}),
        work=lambda tx: context.tokens.revoke(tx, name),
    )  # fmt: skip
    context.book.forget()
    return {"revoked": name}
