"""Works through the journal: one task at a time per hand, and only while the model says that it is ready.

Waiting for the model spends no attempt. Every pass of a loop either closes a task, puts one back with a
later due time, or waits; a task ends at its deadline at the latest.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

from generation_stack.program.clock import Clock
from generation_stack.program.log import Log
from generation_stack.worker import rules
from generation_stack.worker.delivery import Delivered, ModelClient, Seen
from generation_stack.worker.journal import Journal
from generation_stack.worker.rules import Attempt, Done, Failed, Outcome, Policy, Retry
from generation_stack.worker.task import State, Task

#: Wait between two looks at a model that is not ready, and at one that is.
_LOOK_SOON_S, _LOOK_LATE_S = 0.25, 1.0
_JITTER = random.Random()  # noqa: S311 - jitter, not secrets


class Runner:
    """The hands of one worker."""

    def __init__(self, journal: Journal, model: ModelClient, policy: Policy, clock: Clock, log: Log) -> None:
        self._journal = journal
        self._model = model
        self._policy = policy
        self._clock = clock
        self._log = log
        self._wake = asyncio.Event()
        self._is_ready = asyncio.Event()
        self.seen = Seen("unknown", "the model was not asked yet")
        self.seen_at = time.monotonic()
        self.in_hand: set[str] = set()

    def wake(self) -> None:
        """Say that there is a new task."""
        self._wake.set()

    async def run(self, *, hands: int) -> None:
        """Work until cancelled; what is in hand then is queued again by the next life."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._expire())
            for _ in range(hands):
                group.create_task(self._work())

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK_LATE_S if self.seen.is_ready else _LOOK_SOON_S)

    async def _look(self) -> bool:
        before, self.seen = self.seen, await self._model.look()
        self.seen_at = time.monotonic()
        if self.seen.state != before.state:
            say = self._log.info if self.seen.is_ready else self._log.warning
            say("model_seen", state=self.seen.state, was=before.state, reason=self.seen.reason)
        if self.seen.is_ready:
            self._is_ready.set()
        else:
            self._is_ready.clear()
        return self.seen.is_ready

    async def _expire(self) -> None:
        while True:
            for task in self._journal.late():
                # A task is late for its last failure, or for a model that never was ready.
                reason = rules.late(list(task.attempts))
                if not task.attempts:
                    reason += f"; it is {self.seen.state}: {self.seen.reason}"
                if self._journal.fail(task.id, State.QUEUED, list(task.attempts), reason):
                    self._log.error("failed", id=task.id, reason=reason)
            await asyncio.sleep(0.2)

    async def _work(self) -> None:
        while True:
            task = self._journal.next_due()
            if task is None:
                await self._rest()
                continue
            await self._is_ready.wait()
            # What was seen a second ago is old: a look costs a millisecond, a lost request much more.
            if await self._look() and self._journal.begin(task.id):
                self.in_hand.add(task.id)
                try:
                    await self._attempt(task)
                finally:
                    self.in_hand.discard(task.id)

    async def _rest(self) -> None:
        due_at = self._journal.next_due_at()
        wait_s = 5.0 if due_at is None else max(0.01, due_at - self._clock.now())
        self._wake.clear()
        try:
            async with asyncio.timeout(min(wait_s, 5.0)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _attempt(self, task: Task) -> None:
        started = self._clock.now()
        self._log.info("sent", id=task.id, attempt=len(task.attempts) + 1)
        got = await self._model.ask(task.request, left_s=max(0.05, task.deadline - started))
        attempts = [*task.attempts, Attempt(got.outcome, got.reason, started, self._clock.now())]
        follows = rules.after(
            attempts,
            now=self._clock.now(), deadline=task.deadline, policy=self._policy,
            unit=_JITTER.random(), asked_s=got.asked_s,
        )  # fmt: skip
        match follows:
            case Done():
                await self._complete(task, attempts, got)
            case Retry(at, reason):
                self._journal.retry(task.id, attempts, at, reason)
                wait_s = round(at - self._clock.now(), 3)
                self._log.warning("retry", id=task.id, outcome=got.outcome, reason=reason, wait_s=wait_s)
            case Failed(reason):
                self._journal.fail(task.id, State.RUNNING, attempts, reason)
                self._log.error("failed", id=task.id, outcome=got.outcome, reason=reason)
        if got.outcome in (Outcome.REFUSED, Outcome.UNREADY):
            self._is_ready.clear()

    async def _complete(self, task: Task, attempts: list[Attempt], got: Delivered) -> None:
        assert got.judgement is not None
        sha256 = hashlib.sha256(got.data).hexdigest()
        # First the result, then the row: a row that says done has its result.
        await asyncio.to_thread(self._journal.keep, sha256, got.data)
        facts = {
            "sha256": sha256,
            "result_bytes": len(got.data),
            "gaussians": got.judgement.count,
            "filled": got.judgement.filled,
        }
        self._journal.complete(task.id, attempts, facts)
        self._log.info(
            "done", id=task.id, sha256=sha256[:12], gaussians=got.judgement.count, attempts=len(attempts)
        )
