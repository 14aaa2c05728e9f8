"""Brings finished reports to the API: onto this disk first, and off it when they were answered.

1. A report is durable here before it is sent, so that neither a crash nor a dead network loses it.
2. It goes when its own answer is final; an answer to another report, or none, keeps it.
3. Where this disk refuses, the report is sent from memory until the one or the other works, and no more
   work is taken until the disk does: what only memory has, a crash would lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from standfast.app import executor_rules as rules
from standfast.app.client import ApiClient, TooLargeError
from standfast.app.executor_record import Record
from standfast.app.spool import Spool, Spooled
from standfast.kernel.backoff import Backoff
from standfast.kernel.clock import Entropy
from standfast.kernel.errors import AuthError, StandfastError, TransientError

T = TypeVar("T")
log = structlog.get_logger(__name__)
_DISK_RETRY = Backoff(base_s=1.0, cap_s=10.0)
#: The wait after an answer that settled nothing: asking again at once would get the same.
_UNSETTLED_S = 5.0


class Outbox:
    """The finished reports of one executor.

    * ``keep`` returns when the report is durable, here or at the API.
    * ``deliver`` returns when nothing waits, or when ``is_over``.
    """

    def __init__(
        self, executor: str, client: ApiClient, spool: Spool, record: Record, entropy: Entropy
    ) -> None:
        self._executor = executor
        self._client = client
        self._spool = spool
        self._record = record
        self._entropy = entropy
        self._disk = asyncio.Lock()
        self._is_blocked = False
        self.batch = 50
        self.filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._spool)

    @property
    def damaged(self) -> int:
        """How many reports of earlier lives could not be read and were set aside."""
        return self._spool.damaged

    def room(self) -> int:
        """Return how many more reports may be made; none while the disk refuses."""
        return 0 if self._is_blocked else self._spool.room()

    def held(self) -> dict[str, int]:
        """Return task and token of what waits: its leases must not run out before it is delivered."""
        return {str(s.item.get("task_id")): int(s.item.get("token", 0)) for s in self._spool.waiting[:1_000]}

    async def keep(self, item: Mapping[str, Any]) -> None:
        """Make ``item`` durable; ends when it is, or when its lease is lost and the caller cancelled."""
        failures = 0
        while True:  # Each turn ends it or waits longer; a lost lease cancels it.
            try:
                await self._on_disk(lambda: self._spool.append(item))
            except TransientError as error:
                failures += 1
                self._blocked(error)
            else:
                self._unblocked()
                self.filled.set()
                return
            if await self._deliver_directly(item):
                return
            await asyncio.sleep(_DISK_RETRY.wait_s(failures, unit=rules.unit_of(self._entropy)))

    async def look_at_disk(self) -> None:
        """Try the disk again where it refused, so that work is taken again as soon as it does not."""
        if not self._is_blocked:
            return
        try:
            await self._on_disk(self._spool.try_disk)
        except TransientError as error:
            self._blocked(error)
        else:
            self._unblocked()

    def _blocked(self, error: StandfastError) -> None:
        self._is_blocked = True
        self._record.failing("spool", error)

    def _unblocked(self) -> None:
        self._is_blocked = False
        self._record.worked("spool")

    async def deliver(self, is_over: Callable[[], bool], wakes: asyncio.Event, *, is_start: bool) -> None:
        """Deliver until nothing waits; each turn settles reports, halves the batch, or waits longer.

        ``wakes`` cuts a wait short. At the start a refused token is raised: only a person can help then.
        """
        failures = 0
        while len(self._spool) and not is_over():
            wait_s = 0.0
            try:
                settled = await self._deliver_batch()
                failures = 0
                self._record.worked("submit")
                wait_s = 0.0 if settled else _UNSETTLED_S
            except TooLargeError as error:
                wait_s = 0.0 if self.batch > 1 else _UNSETTLED_S
                self.batch = max(1, self.batch // 2)
                self._record.failing("submit", error)
            except StandfastError as error:
                if is_start and isinstance(error, AuthError):
                    raise
                failures += 1
                self._record.failing("submit", error)
                wait_s = rules.wait_after(error, failures, unit=rules.unit_of(self._entropy))
            if wait_s:
                await wait_any(wakes, seconds=wait_s)

    async def _deliver_batch(self) -> int:
        batch = self._spool.waiting[: self.batch]
        answers = await self._client.submit(self._executor, [spooled.item for spooled in batch])
        settled = self._tally(batch, answers)
        await self._on_disk(lambda: self._spool.remove(settled.done))
        return len(settled.done)

    async def _deliver_directly(self, item: Mapping[str, Any]) -> bool:
        try:
            answers = await self._client.submit(self._executor, [item])
        except StandfastError:
            return False
        return bool(self._tally([Spooled(0, item, 0)], answers).done)

    def _tally(self, batch: Sequence[Spooled], answers: Sequence[Mapping[str, Any]]) -> rules.Settled:
        settled = rules.settle(batch, answers)
        for refused in settled.refused:
            self._record.counters[refused.status] += 1
            log.warning(
                "report_not_counted", task=refused.task_id, answer=refused.status, why=refused.message
            )
        self._record.counters["delivered"] += len(settled.done) - len(settled.refused)
        return settled

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Run ``work`` on a thread, one at a time; a caller that is cancelled still waits for its end."""
        async with self._disk:
            job = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(job)
            except asyncio.CancelledError:
                await asyncio.wait([job])
                raise


async def wait_any(*events: asyncio.Event, seconds: float) -> None:
    """Return when one of ``events`` is set or the time is over."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
