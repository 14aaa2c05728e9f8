"""Builds the HTTP application of one control plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from standfast import __version__
from standfast.api import errors
from standfast.api.access import StoreAccess
from standfast.api.auth import TokenBook
from standfast.api.context import Context
from standfast.api.health import StoreProbe
from standfast.api.metrics import Metrics
from standfast.api.middleware import Guard, is_loopback
from standfast.api.routes import FIXED, VERSIONED, wire
from standfast.app.plane import ControlPlane
from standfast.app.status import LeaderWatch
from standfast.app.tokens import TokenStore

PREFIX = "/api/v1"


def create_app(
    plane: ControlPlane,
    *,
    scheduler_state: Callable[[], Mapping[str, Any]] = dict,
    services_state: Callable[[], list[Mapping[str, Any]]] = list,
) -> FastAPI:
    """Return the application of ``plane``.

    ``scheduler_state`` and ``services_state`` are asked at each status; an API that runs apart from the
    scheduler and the supervisor leaves them out.
    """
    context = _context(plane, scheduler_state, services_state)
    app = FastAPI(
        title="Standfast",
        version=__version__,
        # The interactive pages load scripts from elsewhere; the document itself needs nothing.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    errors.install(app)
    for router in VERSIONED:
        app.include_router(router, prefix=PREFIX)
    for router in FIXED:
        app.include_router(router)
    if plane.config.api.kinitro:
        app.include_router(wire.router)
    app.add_middleware(Guard, metrics=context.metrics, only_loopback=is_loopback(plane.config.api.host))
    return app


def _context(
    plane: ControlPlane,
    scheduler_state: Callable[[], Mapping[str, Any]],
    services_state: Callable[[], list[Mapping[str, Any]]],
) -> Context:
    access = StoreAccess(plane.database, plane.clock)
    tokens = TokenStore(plane.database.dialect, plane.clock, plane.entropy)
    return Context(
        plane=plane,
        access=access,
        tokens=tokens,
        book=TokenBook(tokens, access, plane.clock, is_required=plane.config.api.require_tokens),
        probe=StoreProbe(plane.database, plane.migrations, access, plane.clock),
        metrics=Metrics(),
        watch=LeaderWatch(),
        scheduler_state=scheduler_state,
        services_state=services_state,
    )
