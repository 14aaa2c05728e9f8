"""Gives a request its transaction, within a limit: a store that hangs must not hold the API (K7).

1. A transaction whose caller has given up is rolled back at its end. A claim that nobody waits for must
   not hold leases, and what was answered as failed should not have happened where that can be avoided.
2. So many transactions may be under way; beyond that a request is refused at once, which is the only
   thing that stays quick when the store is slower than what asks it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from standfast.facts.database import Database, Tx
from standfast.kernel.clock import Clock
from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError

T = TypeVar("T")
#: A write that failed this recently, with none that worked since, makes the store not ready.
_RECENT_S = 10.0


class StoreAccess:
    """Reading and writing transactions that end for their caller within ``limit_s``.

    * ``read`` and ``write`` return what ``work`` returned, or raise what it raised, or a StandfastError.
    * What a timed out caller leaves behind is still counted until it has ended.
    """

    def __init__(self, database: Database, clock: Clock, *, limit_s: float = 8.0, most: int = 128) -> None:
        self._database = database
        self._clock = clock
        self._limit_s = limit_s
        self._most = most
        self._under_way: set[asyncio.Task[Any]] = set()
        self._write_failed: tuple[float, StandfastError] | None = None
        self.errors: Counter[str] = Counter()

    async def read(self, work: Callable[[Tx], T], *, limit_s: float | None = None) -> T:
        """Run ``work`` on a snapshot."""
        return await self._bounded(self._database.read, work, limit_s)

    async def write(self, work: Callable[[Tx], T], *, limit_s: float | None = None) -> T:
        """Run ``work`` in a writing transaction."""
        try:
            result = await self._bounded(self._database.write, work, limit_s)
        except (StoreError, StoreUnavailableError) as error:
            self._write_failed = (self._clock.monotonic(), error)
            raise
        self._write_failed = None
        return result

    @property
    def failing(self) -> StandfastError | None:
        """Why writing failed a moment ago, when no write has worked since."""
        if self._write_failed is None:
            return None
        at, error = self._write_failed
        return error if self._clock.monotonic() - at < _RECENT_S else None

    async def _bounded(
        self,
        run: Callable[[Callable[[Tx], T]], Coroutine[Any, Any, T]],
        work: Callable[[Tx], T],
        limit_s: float | None,
    ) -> T:
        if len(self._under_way) >= self._most:
            self.errors["StoreBusy"] += 1
            raise _busy(self._database.name, self._most)
        is_wanted = [True]

        def guarded(tx: Tx) -> T:
            _need(is_wanted, self._database.name)
            result = work(tx)
            _need(is_wanted, self._database.name)
            return result

        task = asyncio.ensure_future(run(guarded))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait({task}, timeout=limit_s or self._limit_s)
        except asyncio.CancelledError:
            is_wanted[0] = False
            raise
        if not done:
            is_wanted[0] = False
            self.errors["StoreSlow"] += 1
            raise _slow(self._database.name, limit_s or self._limit_s)
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        # Looked at here too, because a caller that gave up does not; an unseen error would be logged.
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if isinstance(error, StoreError | StoreUnavailableError):
                self.errors[error.code] += 1


def _need(is_wanted: list[bool], name: str) -> None:
    if not is_wanted[0]:
        raise StoreUnavailableError(f"the store {name} was too slow", why="the request had given up")


def _busy(name: str, most: int) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the store {name} is busy",
        why=f"{most} transactions are under way already",
        fix="try again; if it lasts, look at the store: standfast doctor",
        code="StoreBusy",
    )


def _slow(name: str, limit_s: float) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the store {name} does not answer",
        why=f"no answer within {limit_s:g} s",
        fix="look at the database server, or at the disk of the store file: standfast doctor",
        code="StoreSlow",
    )
