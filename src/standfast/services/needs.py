"""Looks at the conditions outside of a stack that must be so before a service is started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from standfast.services.model import Obstacle, ServiceSpec
from standfast.services.ports import Check


async def unmet_need(spec: ServiceSpec, check: Check) -> Obstacle | None:
    """Return the first need of ``spec`` that is not so, or of which nobody can tell."""
    for need in spec.needs:
        try:
            async with asyncio.timeout(need.timeout_s):
                code, said = await check(need.command, spec)
        except TimeoutError:
            code, said = -1, f"its check gave no answer within {need.timeout_s:g} s"
        except OSError as error:
            code, said = -1, f"its check cannot run: {error}"
        if code:
            what = f"it needs {need.name}, which is not so{f': {said}' if said else ''}"
            return Obstacle("NeedUnmet", what, need.fix or f"make true: {need.name}", need.interval_s)
    return None


async def first_of(*ways: Awaitable[object]) -> None:
    """Return when the first of ``ways`` is done; tasks that were passed in are left alone."""
    made = [asyncio.ensure_future(way) for way in ways]
    own = [task for task, way in zip(made, ways, strict=True) if task is not way]
    try:
        await asyncio.wait(made, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
