"""What every route is given: the control plane, bounded access to its store, and who may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from standfast.api.access import StoreAccess
from standfast.api.auth import TokenBook
from standfast.api.health import StoreProbe
from standfast.api.metrics import Metrics
from standfast.app.plane import ControlPlane
from standfast.app.status import LeaderWatch
from standfast.app.tokens import TokenStore


@dataclass(frozen=True, slots=True)
class Context:
    """One API's parts; ``scheduler_state`` and ``services_state`` are asked at each status."""

    plane: ControlPlane
    access: StoreAccess
    tokens: TokenStore
    book: TokenBook
    probe: StoreProbe
    metrics: Metrics
    watch: LeaderWatch
    scheduler_state: Callable[[], Mapping[str, Any]]
    services_state: Callable[[], list[Mapping[str, Any]]]


def context_of(request: Request) -> Context:
    """Return the context that ``create_app`` gave to the application."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


ContextDep = Annotated[Context, Depends(context_of)]
