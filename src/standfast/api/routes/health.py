"""Liveness, readiness and metrics, at addresses that probes expect."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from standfast import __version__
from standfast.api.auth import authorize
from standfast.api.context import ContextDep
from standfast.api.errors import error_body
from standfast.api.middleware import is_loopback
from standfast.api.snapshot import take
from standfast.kernel.verdict import Verdict

router = APIRouter(tags=["health"])
_bearer = HTTPBearer(auto_error=False)


@router.get("/health/live")
async def live() -> dict[str, Any]:
    """Say that the process answers; looks at nothing else, so it is 200 as long as this runs (K7)."""
    return {"status": "alive", "version": __version__}


@router.get("/health/ready", responses={503: {"description": "It names the dependency that is missing."}})
async def ready(context: ContextDep) -> JSONResponse:
    """Say whether work may be sent here: 200, or within 2 s 503 with the dependency and what to do."""
    finding = await context.probe.look()
    checks = [finding.as_dict()]
    if finding.verdict is Verdict.PASS:
        return JSONResponse({"status": "ready", "checks": checks})
    error = error_body(
        finding.reason, "this API is not ready", f"{finding.subject}: {finding.message}", finding.remedy
    )
    return JSONResponse({"status": "not_ready", "checks": checks, **error}, 503, {"Retry-After": "1"})


@router.get("/metrics", response_class=Response)
async def metrics(
    context: ContextDep,
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Response:
    """Give Prometheus its text; beyond loopback with a token of scope read."""
    if not is_loopback(context.plane.config.api.host):
        await authorize(context.book, shown.credentials if shown else "", "read")
    snapshot = await take(context)
    text = context.metrics.render(snapshot, context.access.errors)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
