"""The scheduler: one leader keeps the lease clock, reaps, opens and ends rounds, and publishes.

Two loops, because a publisher that blocks for ten seconds must not stop leases from ticking (K14). Any
number of schedulers may run on PostgreSQL; all but one stand by.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

import structlog

from standfast.app.plane import ControlPlane, publisher_of
from standfast.app.publishing import Publishing
from standfast.facts.database import Tx
from standfast.kernel.backoff import Backoff
from standfast.kernel.clock import iso
from standfast.kernel.errors import StaleTokenError, StandfastError
from standfast.publication.ports import Publisher
from standfast.tasks import upkeep
from standfast.tasks.upkeep import Leadership

log = structlog.get_logger(__name__)
_PRUNE_EVERY = 120
_STOOD_STILL_S = 15.0
_JUMP_S = 5.0
_RETRY = Backoff(base_s=0.5, cap_s=15.0)


class Scheduler:
    """Leads, or stands by; ``run`` ends only when asked to."""

    def __init__(self, plane: ControlPlane, name: str = "", *, publisher: Publisher | None = None) -> None:
        self._plane = plane
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._leadership = Leadership(plane.tasks, self.name, takeover_s=plane.config.scheduler.takeover_s)
        self._publisher = publisher or publisher_of(plane.config, plane.clock, plane.entropy)
        self._publishing = Publishing(plane, self._publisher, self._leadership)
        self._last_tick: float | None = None
        self._last_seen: tuple[float, float] | None = None
        self._ticks = 0
        self._errors: dict[str, dict[str, Any]] = {}
        self._jump_s = 0.0
        self._jump_at = ""
        self.lost_epoch = 0

    @property
    def state(self) -> Mapping[str, Any]:
        """What status shows: who we are, whether we lead, how long ago we ticked, and what is wrong."""
        now = self._plane.clock.monotonic()
        return {
            "name": self.name,
            "is_leader": self._leadership.is_mine,
            "term": self._leadership.term,
            "ticks": self._ticks,
            "last_tick_s": None if self._last_tick is None else round(now - self._last_tick, 3),
            "errors": list(self._errors.values()),
            "clock_jump_s": self._jump_s,
            "clock_jump_at": self._jump_at,
            "lost_epoch": self.lost_epoch,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Tick and publish until ``stop`` is set, then let the lead go."""
        await self._learn_floor()
        loops = [
            asyncio.create_task(self._loop("tick", self.tick, stop)),
            asyncio.create_task(self._loop("publish", self._publish, stop)),
        ]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
            await self._resign()

    async def _loop(self, name: str, step: Any, stop: asyncio.Event) -> None:
        # Bounded by stop; each turn either works, or waits longer after each failure in a row.
        failures = 0
        while not stop.is_set():
            try:
                again = await step()
                failures = 0
                self._errors.pop(name, None)
            except StaleTokenError:
                again, failures = False, 0
                log.info("lead_lost", scheduler=self.name)
            except StandfastError as error:
                again, failures = False, failures + 1
                self._note(name, error)
            wait_s = self._plane.config.scheduler.tick_s
            if failures:
                wait_s = max(wait_s, _RETRY.ceiling_s(failures))
            if not again:
                await _wait(stop, wait_s)

    def _note(self, name: str, error: StandfastError) -> None:
        since = self._errors.get(name, {}).get("since") or iso(self._plane.clock.wall())
        if name not in self._errors:
            log.warning("scheduler_failing", loop=name, code=error.code, error=str(error))
        self._errors[name] = {
            "loop": name, "code": error.code, "what": error.what, "why": error.why, "fix": error.fix,
            "since": since,
        }  # fmt: skip

    async def tick(self) -> bool:
        """Do one turn of upkeep and rounds, if we lead; return False: the next one is due after a tick."""
        monotonic = self._plane.clock.monotonic()
        elapsed_s = 0.0 if self._last_tick is None else monotonic - self._last_tick
        self._watch_wall(monotonic)
        await self._plane.database.write(lambda tx: self._tick(tx, monotonic, elapsed_s))
        # Only a turn that was committed moves the clock's origin, so no time is lost to a failed one.
        self._last_tick = monotonic
        self._ticks += 1
        return False

    def _tick(self, tx: Tx, monotonic: float, elapsed_s: float) -> None:
        if not self._leadership.campaign(tx, monotonic):
            return
        term = self._leadership.hold(tx)
        if elapsed_s > _STOOD_STILL_S:
            # Harmless to leases, but whoever asks why a round took so long must find it.
            self._plane.facts.append(tx, "control.stood_still", self.name, {"seconds": round(elapsed_s, 1)})
        done = upkeep.keep(tx, self._plane.tasks, elapsed_s)
        if done.reaped:
            self._plane.facts.append(tx, "lease.expired", "", {"count": done.reaped})
        if done.died:
            self._plane.facts.append(tx, "task.died", "", {"count": done.died})
        self._plane.rounds.advance(tx, term)
        self._plane.rounds.open_due(tx)
        if self._ticks % _PRUNE_EVERY == 0:
            self._plane.rounds.prune(tx)

    def _watch_wall(self, monotonic: float) -> None:
        # Both clocks are read at every look, also of a tick that then fails: else a store that is away
        # would be told as a clock that jumped.
        wall, before = self._plane.clock.wall().timestamp(), self._last_seen
        self._last_seen = (monotonic, wall)
        if before is None:
            return
        jump = (wall - before[1]) - (monotonic - before[0])
        if abs(jump) > _JUMP_S:
            # Nothing is decided by the wall clock; a person reading times must know that it moved.
            self._jump_s, self._jump_at = round(jump, 1), iso(self._plane.clock.wall())
            log.warning("clock_jumped", seconds=self._jump_s)

    async def _publish(self) -> bool:
        if not self._leadership.is_mine:
            return False
        settled = await self._publishing.look()
        if settled is not None:
            log.info(
                "round_settled", round=settled.round_number, state=settled.state.value, reason=settled.reason
            )
        return settled is not None

    async def _learn_floor(self) -> None:
        """Start a new store's terms above what an earlier store published under, if that can be read."""
        if self._publisher is None:
            return
        try:
            held = await self._publisher.read_back()
        except StandfastError as error:
            self._note("publish", error)
            return
        self._leadership.floor = held.leader_term if held is not None else 0
        if held is not None and self._plane.is_new_store:
            await self._note_lost_store(held.epoch)

    async def _note_lost_store(self, epoch: int) -> None:
        """Put on record that this store begins in the middle: its history is not the whole history."""
        self.lost_epoch = epoch
        log.warning("store_begins_anew", published_before=epoch)
        body = {"published_before": epoch, "why": "the store is empty, and publications are not"}
        try:
            await self._plane.database.write(
                lambda tx: self._plane.facts.append(tx, "store.begins_anew", self._plane.database.name, body)
            )
        except StandfastError as error:
            self._note("tick", error)

    async def _resign(self) -> None:
        try:
            await self._plane.database.write(self._leadership.resign)
        except StandfastError as error:
            log.warning("resign_failed", code=error.code, error=str(error))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
