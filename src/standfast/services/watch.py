"""Watches one life: is it ready, does it still live, does it keep its memory limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from standfast.kernel.clock import Clock
from standfast.kernel.verdict import Verdict
from standfast.services.decide.readiness import SETTLE_S, is_late, judge
from standfast.services.model import STOPPED, Judgement, Liveness, ProbeSample, Seen, ServiceSpec
from standfast.services.ports import Prober, Running

#: Between two probes of a life that is not ready yet: of a young one, and of one that takes its time.
_YOUNG_PROBE_S, _SLOW_PROBE_S, _YOUNG_S = 0.05, 0.25, 5.0
MEMORY_LIMIT = "memory limit"
#: How often memory is looked at where the kernel keeps no limit.
_MEMORY_S = 1.0


class Watch:
    """What is seen of one life; ``judged`` hears of every look, with whether it has no excuse left."""

    def __init__(
        self,
        spec: ServiceSpec,
        running: Running,
        prober: Prober,
        clock: Clock,
        *,
        grace_s: float,
        judged: Callable[[Judgement, bool], None],
    ) -> None:
        self.spec = spec
        self.running = running
        self.grace_s = grace_s
        self.ready_at_s: float | None = None
        self.ended_by_us = ""
        self.inputs: Mapping[str, str] = {}  # What its start depended on, as it was then.
        self._prober = prober
        self._clock = clock
        self._judged = judged
        self._look, self._declared = asyncio.Event(), asyncio.Event()
        self._latest: ProbeSample | None = None
        self._last_good_s: float | None = None
        self._is_ready = False

    @property
    def swept_target(self) -> str:
        """The ``HOST:PORT`` to look for in the kernel's table of sockets; empty where there is none."""
        return self.spec.ready.tcp if self._is_ready else ""

    def declare(self, spec: ServiceSpec) -> None:
        """Watch the life as ``spec`` says from now on."""
        if spec.ready != self.spec.ready:
            self._latest = self._last_good_s = None
        self.spec = spec
        self._declared.set()
        self._look.set()

    def resume(self, ready_after_s: float) -> None:
        """Go on from what an earlier watch saw: it became ready ``ready_after_s`` after its start."""
        self.ready_at_s = self.running.started_s + ready_after_s
        if self.spec.ready.is_once:
            self._last_good_s = self.ready_at_s

    def look(self) -> None:
        """Look now: something was heard of the life."""
        self._look.set()

    def found_listening(self, is_listening: bool) -> None:
        """Take note of a look at the kernel's table of sockets, which costs less than a connection."""
        if is_listening:
            self._last_good_s = self._clock.monotonic()
            self._latest = ProbeSample(self._last_good_s)
        else:
            self._look.set()

    def judgement(self, *, stopped_below: int = 0) -> Judgement:
        """Judge it as it is known now."""
        return judge(self.spec.ready, self._seen(stopped_below))

    def is_late(self, judgement: Judgement) -> bool:
        """Whether it has no excuse left for not being ready."""
        was_ready = self.ready_at_s is not None
        return is_late(self._seen(0), judgement, grace_s=self.grace_s, was_ready=was_ready)

    async def run(self) -> None:
        """Probe and judge until cancelled; sleeps where nothing but an event can change the judgement."""
        self.running.on_news(self.look)
        while True:
            self._look.clear()
            await self._probe()
            self._judge()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_look_s()):
                    await self._look.wait()

    async def mind(self) -> None:
        """Ask a ready service whether it still lives, and keep its memory limit; returns when it ended it."""
        # Each turn minds one declaration; ends when it ended the life.
        while True:
            self._declared.clear()
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._declared.wait())]
            if self.spec.live is not None:
                tasks.append(asyncio.create_task(self._ask_alive(self.spec.live)))
            if self.spec.limits.memory_bytes and not self.running.is_limited:
                tasks.append(asyncio.create_task(self._weigh(self.spec.limits.memory_bytes)))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if self.ended_by_us:
                return

    async def _ask_alive(self, live: Liveness) -> None:
        bad = 0
        # Each turn is one question; ends when too many in a row had no good answer.
        while bad < live.failures:
            await asyncio.sleep(live.interval_s)
            if self.ready_at_s is None:
                continue  # What was never ready is still loading, and loading is no fault.
            sample = await self._prober.ask(live.ask, self.spec, self.running)
            bad = 0 if sample.is_good else bad + 1
            if bad >= live.failures:
                self.ended_by_us = f"liveness probe: {bad} bad answers in a row, last: {sample.detail}"
        self.running.stop()

    async def _weigh(self, limit_bytes: int) -> None:
        used = 0
        # Each turn weighs once; ends above the limit.
        while used <= limit_bytes:
            await asyncio.sleep(_MEMORY_S)
            used = self.running.memory_bytes()
        self.ended_by_us = f"{MEMORY_LIMIT}: {used} bytes in use, {limit_bytes} allowed"
        self.running.kill()

    async def _probe(self) -> None:
        ready = self.spec.ready
        is_told = ready.is_once and self._last_good_s is not None
        if ready.is_probed and not is_told and self.running.letter() not in STOPPED:
            self._latest = await self._prober.ask(ready, self.spec, self.running)
            if self._latest.is_good:
                self._last_good_s = self._latest.at_s

    def _judge(self) -> None:
        judgement = self.judgement()
        self._is_ready = judgement.verdict is Verdict.PASS
        if self._is_ready and self.ready_at_s is None:
            said_s = self.running.said_ready_s() if self.spec.ready.notify else None
            self.ready_at_s = said_s or self._clock.monotonic()
        self._judged(judgement, not self._is_ready and self.is_late(judgement))

    def _next_look_s(self) -> float | None:
        age_s = self._clock.monotonic() - self.running.started_s
        ready = self.spec.ready
        if not ready.is_probed and self.ready_at_s is None:
            return max(SETTLE_S - age_s, 0.01)
        if self._is_ready:
            is_event = ready.is_once or not ready.is_probed or ready.tcp
            return None if is_event else ready.interval_s
        if ready.command:
            return max(_SLOW_PROBE_S, min(ready.interval_s, 1.0))
        return _YOUNG_PROBE_S if age_s < _YOUNG_S else _SLOW_PROBE_S

    def _seen(self, stopped_below: int) -> Seen:
        identity = self.running.identity
        return Seen(
            now_s=self._clock.monotonic(),
            started_s=self.running.started_s,
            pid=identity.pid if identity else 0,
            letter=self.running.letter(),
            latest=self._latest,
            last_good_s=self._last_good_s,
            stopped_below=stopped_below,
        )
