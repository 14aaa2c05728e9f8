"""Keeps one model loaded and lets requests at it: bounded, one at a time, each with its own end.

1. A request is accepted only while the model is loaded and fewer than ``capacity`` are open.
2. Whoever stops waiting, by deadline or by going away, stops the work too; the slot is free only when the
   thread has really let go of it.
3. Every accepted request ends as exactly one of completed, failed, timed out or abandoned.
4. After each the model gives back all memory but its own, and what it held is measured.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from generation_stack.model.port import Backend, CancelledWorkError, CancelToken, LoadError, Memory, Wish
from generation_stack.model.standing import Facts, Standing, State, standing
from generation_stack.model.thread import ModelThread
from generation_stack.program.http import RefusedError
from generation_stack.program.log import Log
from generation_stack.splats.judge import Bounds, judge

#: Measurements that are kept for whoever looks for a leak.
_KEPT = 200


class Outcome(enum.StrEnum):
    """How an accepted request ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"


class GenerationTimeoutError(Exception):
    """The request was not answered within its time; the work was stopped."""


class BadOutputError(Exception):
    """The model made something that is no usable result."""


@dataclass(slots=True)
class Ticket:
    """One accepted request."""

    id: str
    wish: Wish
    token: CancelToken = field(default_factory=CancelToken)
    accepted_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    #: Whether the model thread is done with it, and whether its client is.
    is_worked: bool = False
    is_answered: bool = False
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A result and what is known about it."""

    ply: bytes
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the service takes on."""

    capacity: int = 5
    deaf_s: float = 10.0
    bounds: Bounds = field(default_factory=Bounds)


class Engine:
    """The model of this process and everything that waits for it."""

    def __init__(self, backend: Backend, limits: Limits, log: Log) -> None:
        self.backend = backend
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self.measured: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.loads = 0
        self.loaded_s: float | None = None
        self.is_stopping = False
        self._log = log
        self._open: dict[str, Ticket] = {}
        self._load_error = ""
        self._load_token = CancelToken()
        self._thread = ModelThread()
        self._times: deque[float] = deque(maxlen=20)
        self._seen = Standing(State.STARTING, "")
        self._since = time.monotonic()

    async def load(self) -> bool:
        """Load the model; return whether that worked. /health answers meanwhile."""
        began = time.monotonic()
        self._log.info("loading", backend=self.backend.name)
        try:
            await self._thread.submit(lambda: self.backend.load(self._load_token))
        except CancelledWorkError:
            return False
        except LoadError as error:
            self._load_error = str(error)
        # The edge to foreign code: whatever a model raises while loading is why it is not there.
        except Exception as error:  # noqa: BLE001
            self._load_error = f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        if self._load_error:
            self._log.error("load_failed", reason=self._load_error, after_s=round(took, 3))
        else:
            self.loads += 1
            self.loaded_s = took
            self._log.info("ready", backend=self.backend.name, after_s=round(took, 3))
        return not self._load_error

    @property
    def standing(self) -> Standing:
        """Where the service stands now."""
        found = standing(
            Facts(
                is_loaded=self.loads > 0,
                load_error=self._load_error,
                is_stopping=self.is_stopping,
                open_requests=len(self._open),
                capacity=self.limits.capacity,
                deaf_s=max(
                    (t.token.cancelled_for_s for t in self._open.values() if t.started_at), default=0.0
                ),
                deaf_limit_s=self.limits.deaf_s,
            )
        )
        if found.state is not self._seen.state:
            self._since = time.monotonic()
        self._seen = found
        return found

    @property
    def since_s(self) -> float:
        """Seconds that the service has stood where it stands."""
        return time.monotonic() - self._since

    @property
    def running(self) -> int:
        """Requests that the model works on: 0 or 1."""
        return sum(1 for t in self._open.values() if t.started_at and not t.is_worked)

    @property
    def open(self) -> int:
        """Requests that are accepted and not answered."""
        return sum(1 for t in self._open.values() if not t.is_answered)

    @property
    def stopping(self) -> int:
        """Requests that are over, while the model has not let go of their work yet; they hold their slots."""
        return len(self._open) - self.open

    @asynccontextmanager
    async def generation(self, id_: str, wish: Wish, timeout_s: float) -> AsyncIterator[Made]:
        """Make a result and hold its slot until it was sent.

        Raises RefusedError, GenerationTimeoutError, BadOutputError, or what the model raised. The time
        counts from acceptance: waiting, making and sending are all of it.
        """
        ticket = self._accept(id_, wish)
        outcome = Outcome.FAILED
        try:
            async with asyncio.timeout(timeout_s):
                yield await self._thread.submit(lambda: self._make(ticket))
            outcome = Outcome.COMPLETED
        except TimeoutError as error:
            outcome = Outcome.TIMED_OUT
            raise GenerationTimeoutError(f"not done within {timeout_s:g} s; the work was stopped") from error
        except asyncio.CancelledError:
            outcome = Outcome.ABANDONED
            raise
        finally:
            self._answered(ticket, outcome)

    def _accept(self, id_: str, wish: Wish) -> Ticket:
        now = self.standing
        if now.state is not State.READY:
            status, error = (429, "busy") if now.state is State.BUSY else (503, str(now.state))
            self.counts["refused"] += 1
            raise RefusedError(status, error, now.reason, retry_after_s=self._wait_s(now.state))
        ticket = Ticket(id_, wish)
        self._open[id_] = ticket
        self.counts["accepted"] += 1
        self._log.info("accepted", id=id_, open=len(self._open))
        return ticket

    def _wait_s(self, state: State) -> float:
        """Guess when asking again is worth it: when one request is done, or the model may be loaded."""
        mean = sum(self._times) / len(self._times) if self._times else 1.0
        return max(1.0, mean) if state is State.BUSY else 2.0

    def _make(self, ticket: Ticket) -> Made:
        """Run in the model thread."""
        try:
            ticket.token.check()
            ticket.started_at = time.monotonic()
            before = self.backend.memory()
            try:
                data = self.backend.make(ticket.wish, ticket.token)
                judgement = judge(data, self.limits.bounds)
                peak = self.backend.memory()
            finally:
                self.backend.release()
            ticket.memory = _memory(before, peak, self.backend.memory(), len(data))
            if not judgement.is_usable:
                raise BadOutputError("; ".join(judgement.reasons))
            return Made(data, judgement.count, time.monotonic() - ticket.started_at)
        finally:
            self._thread.tell(self._worked, ticket)

    def _worked(self, ticket: Ticket) -> None:
        ticket.is_worked = True
        if ticket.started_at:
            self._times.append(time.monotonic() - ticket.started_at)
        self._close(ticket)

    def _answered(self, ticket: Ticket, outcome: Outcome) -> None:
        ticket.is_answered = True
        if outcome is not Outcome.COMPLETED:
            ticket.token.cancel()
        self.counts[outcome] += 1
        seconds = round(time.monotonic() - ticket.accepted_at, 3)
        say = self._log.info if outcome is Outcome.COMPLETED else self._log.warning
        say(str(outcome), id=ticket.id, seconds=seconds, **ticket.memory)
        if ticket.memory:
            self.measured.append({"id": ticket.id, "outcome": str(outcome), **ticket.memory})
        self._close(ticket)

    def _close(self, ticket: Ticket) -> None:
        # Whichever of the two comes last: the thread that lets go, or the client that has its answer.
        if ticket.is_worked and ticket.is_answered:
            del self._open[ticket.id]

    async def stop(self) -> None:
        """Take no more requests, and stop loading where that goes on."""
        self.is_stopping = True
        self._load_token.cancel()


def _memory(before: Memory, peak: Memory, after: Memory, result_bytes: int) -> dict[str, Any]:
    return {
        "memory": before.kind,
        "before_bytes": before.now_bytes,
        "peak_bytes": peak.peak_bytes,
        "after_bytes": after.now_bytes,
        # Still held for the client when "after" was measured, unless it lies on another device.
        "result_bytes": result_bytes,
    }
