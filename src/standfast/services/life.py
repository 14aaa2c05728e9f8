"""Drives one service: start it, watch it, decide after each end; the rules are in ``decide``."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from standfast.kernel.clock import Clock, Entropy, iso
from standfast.kernel.verdict import Verdict
from standfast.services.decide import after_exit, is_late, judge, move
from standfast.services.model import (
    STOPPED,
    End,
    ExitStatus,
    Held,
    Identity,
    Judgement,
    Obstacle,
    ProbeSample,
    Restart,
    Seen,
    ServiceEvent,
    ServiceSpec,
    ServiceState,
    ServiceView,
)
from standfast.services.ports import Journal, Prober, Processes, Running

#: Between two probes: while a service starts, so that it is used as soon as it answers; and afterwards.
_YOUNG_PROBE_S = 0.1
_PROBE_S = 2.0
#: How often a held service's inputs are looked at.
_INPUTS_S = 2.0
_LOOK_S = 0.05
#: Ends that are remembered; the rules look at the trailing ones only.
_HISTORY = 64


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the services of one supervisor share; ``changed`` is called after every change of state."""

    clock: Clock
    entropy: Entropy
    processes: Processes
    prober: Prober
    hurry: asyncio.Event
    changed: Callable[[ServiceView], None]


class Service:
    """One declared service, and what has become of it."""

    def __init__(self, spec: ServiceSpec, journal: Journal, around: Surroundings) -> None:
        self.spec = spec
        self._journal = journal
        self._around = around
        self._asked = asyncio.Event()
        self._history: deque[End] = deque(maxlen=_HISTORY)
        self._state = ServiceState.STOPPED
        self._since = iso(around.clock.wall())
        self._starts = 0
        self._running: Running | None = None
        self._started_s = 0.0
        self._ready_at_s: float | None = None
        self._latest: ProbeSample | None = None
        self._last_good_s: float | None = None
        self._waiting_for: Held | Obstacle | None = None
        self._dropped_bytes = 0

    @property
    def state(self) -> ServiceState:
        """Where it stands."""
        return self._state

    @property
    def identity(self) -> Identity | None:
        """Which process it is now, or None."""
        return None if self._running is None else self._running.identity

    def ask_stop(self) -> None:
        """Ask for its end; ``run`` returns when nothing of it runs any more."""
        self._asked.set()

    async def run(self) -> None:
        """Keep the service running until its end is asked for."""
        # Each turn is one life or one obstacle, followed by the wait that the rules give.
        while not self._asked.is_set():
            obstacle = self._around.processes.obstacle(self.spec)
            if obstacle is None:
                await self._live()
            else:
                await self._wait_out(obstacle)
        if self._state is not ServiceState.STOPPED:
            self._become(ServiceEvent.STOP)

    async def _live(self) -> None:
        """Run one life, and wait after it as long as the rules say."""
        try:
            running = self._around.processes.start(self.spec)
        except OSError as error:
            await self._wait_out(
                Obstacle("StartFailed", f"no process could be made: {error}", "free resources", _INPUTS_S)
            )
            return
        self._begin(running)
        end = await self._see_to_its_end(running)
        self._running = None
        if end is None:
            self._become(ServiceEvent.GONE)
            return
        self._history.append(end)
        unit = int.from_bytes(self._around.entropy.token_bytes(4), "big") / 2**32
        decision = after_exit(self.spec.restart, tuple(self._history), unit=unit)
        if isinstance(decision, Restart):
            self._become(ServiceEvent.END_RETRY)
            await self._sleep(decision.delay_s)
        else:
            await self._wait_out(decision)

    def _begin(self, running: Running) -> None:
        self._running = running
        self._starts += 1
        self._started_s = self._around.clock.monotonic()
        self._ready_at_s = self._latest = self._last_good_s = self._waiting_for = None
        self._become(ServiceEvent.START)

    async def _see_to_its_end(self, running: Running) -> End | None:
        """Return how this life ended, or None where that was asked for.

        Nothing of it runs any more then, also when this is cancelled.
        """
        watch = asyncio.create_task(self._watch(running))
        try:
            await _first(running.ended(), self._asked.wait(), watch)
            if watch.done():
                watch.result()
            if self._asked.is_set():
                self._become(ServiceEvent.STOP)
                await self._stop(running)
                return None
            return self._end(await running.ended(), len(running.members()))
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            await running.kill_all()

    def _end(self, status: ExitStatus, left_behind: int) -> End:
        now_s = self._around.clock.monotonic()
        return End(
            status,
            lived_s=now_s - self._started_s,
            ready_s=0.0 if self._ready_at_s is None else max(now_s - self._ready_at_s, 1e-3),
            last_line=self._journal.last_line(),
            left_behind=left_behind,
            at=iso(self._around.clock.wall()),
        )

    async def _stop(self, running: Running) -> None:
        """Ask it to end, and end it by force when its time is over or somebody is in a hurry."""
        deadline_s = self._around.clock.monotonic() + self.spec.stop_timeout_s
        running.terminate()
        await self._unless_hurried(running.ended(), self.spec.stop_timeout_s)
        # What is left now are processes that it started, and that may not have been asked yet.
        running.terminate()
        # Each turn waits a little for the last of them to leave; bounded by the deadline.
        while running.members() and not self._around.hurry.is_set():
            left_s = deadline_s - self._around.clock.monotonic()
            if left_s <= 0:
                break
            await self._unless_hurried(asyncio.sleep(_LOOK_S), left_s)
        await running.kill_all()

    async def _unless_hurried(self, what: Coroutine[Any, Any, object], limit_s: float) -> None:
        """Wait for ``what``, at most ``limit_s``, and only while nobody is in a hurry."""
        await _first(what, self._around.hurry.wait(), asyncio.sleep(limit_s))

    async def _watch(self, running: Running) -> None:
        """Probe, judge, and bound the log until cancelled."""
        while True:
            if running.letter() not in STOPPED:
                await self._probe()
            self._judge_and_move(running)
            self._dropped_bytes = self._journal.bound()
            is_young = self._state is ServiceState.STARTING
            await asyncio.sleep(_YOUNG_PROBE_S if is_young else _PROBE_S)

    async def _probe(self) -> None:
        if self.spec.ready.is_probed:
            self._latest = await self._around.prober.ask(self.spec.ready)
            if self._latest.is_good:
                self._last_good_s = self._latest.at_s

    def _judge_and_move(self, running: Running) -> None:
        judgement = self._judge(running)
        if judgement.verdict is Verdict.PASS:
            if self._ready_at_s is None:
                self._ready_at_s = self._around.clock.monotonic()
            self._become(ServiceEvent.ANSWERED)
        elif self._is_late(running, judgement):
            self._become(ServiceEvent.LATE)

    def _judge(self, running: Running) -> Judgement:
        return judge(self.spec.ready, self._seen(running))

    def _is_late(self, running: Running, judgement: Judgement) -> bool:
        was_ready = self._ready_at_s is not None
        return is_late(self.spec.ready, self._seen(running), judgement, was_ready=was_ready)

    def _seen(self, running: Running) -> Seen:
        return Seen(
            now_s=self._around.clock.monotonic(),
            started_s=self._started_s,
            pid=running.identity.pid,
            letter=running.letter(),
            latest=self._latest,
            last_good_s=self._last_good_s,
            stopped_below=running.stopped_below(),
        )

    async def _wait_out(self, why: Held | Obstacle) -> None:
        """Be held until the slow schedule is up, an input changes, or the obstacle may be gone."""
        is_news = self._state is not ServiceState.HELD or self._waiting_for != why
        self._waiting_for = why
        if is_news:
            self._become(ServiceEvent.END_HOLD)
        if isinstance(why, Obstacle):
            await self._sleep(why.recheck_s)
            return
        before = self._around.processes.inputs(self.spec)
        until_s = self._around.clock.monotonic() + why.retry_s
        # Each turn looks once at the inputs; bounded by the slow schedule.
        while self._around.clock.monotonic() < until_s and not self._asked.is_set():
            await self._sleep(_INPUTS_S)
            if self._around.processes.inputs(self.spec) != before:
                # Another input makes another experiment: what was learnt from the old one is void.
                self._history.clear()
                return

    async def _sleep(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), wait_s)

    def _become(self, event: ServiceEvent) -> None:
        following = move(self._state, event)
        if following is not self._state or event in (ServiceEvent.START, ServiceEvent.END_HOLD):
            self._state = following
            self._since = iso(self._around.clock.wall())
            self._around.changed(self.view())

    def view(self) -> ServiceView:
        """Return what status shows; judged anew, and free of effects, so that any thread may call it."""
        running, state, judgement = self._running, self._state, None
        if running is not None and state is not ServiceState.STOPPING:
            judgement = self._judge(running)
            if judgement.verdict > Verdict.PASS and self._is_late(running, judgement):
                state = ServiceState.NOT_READY
        reason, message, remedy = self._why(judgement)
        last = self._history[-1] if self._history else None
        return ServiceView(
            name=self.spec.name,
            state=state,
            since=self._since,
            pid=None if running is None else running.identity.pid,
            process_state="" if running is None else running.letter(),
            starts=self._starts,
            restarts=max(self._starts - 1, 0),
            last_exit="" if last is None else f"{last.status.text} after {last.lived_s:.1f} s at {last.at}",
            last_error="" if last is None else last.last_line,
            reason=reason,
            message=message,
            remedy=remedy,
            log=self._journal.path,
            log_tail=() if state is ServiceState.READY else self._journal.tail(),
            log_dropped_bytes=self._dropped_bytes,
            is_required=self.spec.is_required,
            port=self.spec.port,
        )

    def _why(self, judgement: Judgement | None) -> tuple[str, str, str]:
        if judgement is not None:
            return judgement.reason, judgement.message, judgement.remedy
        if self._waiting_for is not None and self._state is ServiceState.HELD:
            return self._waiting_for.reason, self._waiting_for.message, self._waiting_for.remedy
        if self._state is ServiceState.BACKOFF and self._history:
            end = self._history[-1]
            said = f": {end.last_line}" if end.last_line else ""
            return "Ended", f"{end.status.text} after {end.lived_s:.1f} s{said}", f"read {self._journal.path}"
        return "", "", ""


async def _first(*ways: Awaitable[object]) -> None:
    """Return when the first of ``ways`` is done; tasks that were passed in are left alone."""
    made = [asyncio.ensure_future(way) for way in ways]
    own = [task for task, way in zip(made, ways, strict=True) if task is not way]
    try:
        await asyncio.wait(made, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
