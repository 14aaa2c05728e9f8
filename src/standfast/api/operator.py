"""Records what an operator did, in the transaction that does it: if it cannot be recorded, it is not done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request

from standfast.api.context import Context
from standfast.app.tokens import Caller
from standfast.facts.database import Tx


async def act(
    context: Context,
    request: Request,
    caller: Caller,
    *,
    done: tuple[str, str, Mapping[str, Any]],
    work: Callable[[Tx], Any],
) -> Any:
    """Run ``work`` and append the fact ``done`` (kind, subject, body) with who and from where."""
    kind, subject, body = done
    came_from = request.client.host if request.client else "local"

    def recorded(tx: Tx) -> Any:
        result = work(tx)
        context.plane.facts.append(tx, kind, subject, {**body, "who": caller.name, "from": came_from})
        return result

    return await context.access.write(recorded)
