"""The executor: takes leases over HTTP, runs episodes, and loses no finished report.

1. What earlier lives left in the spool is delivered first, under their own leases; only then does the
   executor announce its new life, upon which the API takes back what the earlier ones still held.
2. Heartbeats have a task of their own, so that a slow claim or delivery never costs a lease.
3. Asked to stop, it takes no more work, gives back what it has not started, lets what runs finish within
   a bound, gives the rest back, and delivers what it has. What cannot be delivered waits for the next life.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from standfast import __version__
from standfast.app import executor_rules as rules
from standfast.app.client import ApiClient, ClientLimits
from standfast.app.executor_record import Record
from standfast.app.executor_rules import Leased
from standfast.app.outbox import Outbox, wait_any
from standfast.app.spool import Spool
from standfast.evaluation.model import EpisodeReport, EpisodeSpec, Fault
from standfast.kernel.clock import Entropy, SystemEntropy
from standfast.kernel.errors import AuthError, StandfastError
from standfast.kernel.ids import random_uuid
from standfast.kernel.notify import notify

log = structlog.get_logger(__name__)
#: A runner ends an episode at its own limit; one that has not by this factor has failed itself.
_OVERRUN_FACTOR, _OVERRUN_S = 1.5, 10.0
_SECOND_LOOK_S = 0.5


class Runner(Protocol):
    """What runs one episode.

    * Returns a report for whatever happens, within the episode's limit and a tenth.
    * Cancelled, it has stopped the episode before the cancellation goes on.
    """

    async def run(self, spec: EpisodeSpec) -> EpisodeReport:
        """Run one episode and report how it went."""
        ...


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Who the executor is, where its API is, and how much it does; seconds.

    ``drain_s`` bounds how long episodes may go on after a stop was asked for, ``flush_s`` how long giving
    back and the last delivery may each take then; ``call_s`` bounds every other call.
    """

    name: str
    url: str
    token: str
    spool: Path
    capacity: int = 8
    poll_s: float = 0.5
    submit_batch: int = 50
    drain_s: float = 5.0
    flush_s: float = 3.0
    call_s: float = 10.0


class Executor:
    """One life of an executor; ``run`` ends when ``stop`` is set, or at the start when a person must act."""

    def __init__(
        self, options: ExecutorOptions, client: ApiClient, spool: Spool, runner: Runner, entropy: Entropy
    ) -> None:
        self._options = options
        self._client = client
        self._runner = runner
        self._entropy = entropy
        self._record = Record()
        self._outbox = Outbox(options.name, client, spool, self._record, entropy)
        self._outbox.batch = options.submit_batch
        self.instance = random_uuid(entropy)
        self._running: dict[int, tuple[Leased, asyncio.Task[None]]] = {}
        self._freed = asyncio.Event()
        self._heartbeat_s = rules.HEARTBEAT_S
        self._stop = asyncio.Event()

    def info(self) -> dict[str, Any]:
        """Return what the executor tells the API about itself."""
        return {
            "pid": os.getpid(),
            "host": socket.gethostname()[:64],
            "version": __version__,
            "capacity": self._options.capacity,
            "running": len(self._running),
            "spooled": len(self._outbox),
            "damaged": self._outbox.damaged,
            **self._record.as_dict(),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver, register, work until ``stop``, drain; AuthError where it is refused at its start."""
        self._stop = stop
        if len(self._outbox):
            log.info("spool_found", executor=self._options.name, reports=len(self._outbox))
        await self._outbox.deliver(stop.is_set, stop, is_start=True)
        if not await self._register(stop):
            return
        over = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heartbeats(over))
                group.create_task(self._deliveries(over))
                await self._claims(stop)
                await self._drain()
                over.set()
        finally:
            for _, work in self._running.values():
                work.cancel()
        await self._flush()

    async def _register(self, stop: asyncio.Event) -> bool:
        """Announce this life; bounded by ``stop``, and waits longer after each failure."""
        failures = 0
        while not stop.is_set():
            try:
                reply = await self._client.post("/executors/register", self._said())
            except AuthError:
                raise  # Nothing is held yet, and only a person can help.
            except StandfastError as error:
                failures += 1
                await self._wait_out("register", error, failures, stop)
                continue
            self._record.worked("register")
            self._heartbeat_s = rules.heartbeat_of(reply)
            notify("READY=1")
            log.info("registered", executor=self._options.name, requeued=reply.get("requeued"))
            return True
        return False

    async def _claims(self, stop: asyncio.Event) -> None:
        """Ask for work while there is room; bounded by ``stop``, and each turn claims or waits."""
        failures = 0
        while not stop.is_set():
            self._freed.clear()
            count = rules.claim_count(
                capacity=self._options.capacity, running=len(self._running), room=self._outbox.room()
            )
            if count == 0:
                await wait_any(self._freed, stop, seconds=1.0)
                continue
            try:
                leases = rules.leases_of(await self._client.post("/tasks/claim", self._said(count=count)))
            except StandfastError as error:
                failures += 1
                await self._wait_out("claim", error, failures, stop)
                continue
            failures = 0
            self._record.worked("claim")
            if stop.is_set():
                await self._give_back(leases)
                return
            for lease in leases:
                self._start(lease)
            if len(leases) < count:
                wait_s = rules.poll_wait(self._options.poll_s, unit=rules.unit_of(self._entropy))
                await wait_any(stop, seconds=wait_s)

    def _said(self, **more: Any) -> dict[str, Any]:
        return {"executor": self._options.name, "instance": self.instance, "info": self.info(), **more}

    def _start(self, lease: Leased) -> None:
        if lease.token not in self._running:
            work = asyncio.create_task(self._work(lease), name=f"episode-{lease.task_id}")
            self._running[lease.token] = (lease, work)

    async def _work(self, lease: Leased) -> None:
        try:
            report, kind = rules.checked(await self._episode(lease))
            if report.fault is Fault.SUBJECT and await self._is_ending():
                await self._give_back([lease])
                return
            self._record.counters[kind.value] += 1
            await self._outbox.keep(rules.item_of(lease, report))
        finally:
            self._running.pop(lease.token, None)
            self._freed.set()

    async def _is_ending(self) -> bool:
        """Return whether we are being ended, looking twice.

        A subject on this machine may be ended by whatever ends us, and a moment before us: then its silence
        is our doing and must not be charged to it (I6).
        """
        if not self._stop.is_set():
            await wait_any(self._stop, seconds=_SECOND_LOOK_S)
        return self._stop.is_set()

    async def _episode(self, lease: Leased) -> EpisodeReport:
        """Run the episode of a lease; whatever goes wrong on our side becomes a report that says so."""
        try:
            spec = rules.spec_of(lease.spec)
        except rules.SpecError as error:
            return rules.our_failure("SpecInvalid", str(error))
        limit_s = spec.limits.timeout_s * _OVERRUN_FACTOR + _OVERRUN_S
        try:
            async with asyncio.timeout(limit_s):
                return await self._runner.run(spec)
        except TimeoutError:
            return rules.our_failure("EpisodeCrashed", f"the runner did not end within {limit_s:g} s")
        except Exception as error:
            log.warning("runner_failed", task=lease.task_id, kind=type(error).__name__, exc_info=True)
            return rules.our_failure("EpisodeCrashed", f"the runner raised {type(error).__name__}")

    async def _deliveries(self, over: asyncio.Event) -> None:
        """Deliver whenever something waits, and try a disk that refused; bounded by ``over``."""
        while not over.is_set():
            self._outbox.filled.clear()
            await self._outbox.deliver(over.is_set, over, is_start=False)
            await self._outbox.look_at_disk()
            await wait_any(self._outbox.filled, over, seconds=1.0)

    async def _heartbeats(self, over: asyncio.Event) -> None:
        """Extend what is held; bounded by ``over``. 0 seconds means that leases are never extended."""
        while self._heartbeat_s > 0 and not over.is_set():
            await wait_any(over, seconds=self._heartbeat_s)
            if over.is_set():
                return
            try:
                await self._heartbeat()
            except StandfastError as error:
                self._record.failing("heartbeat", error)
            else:
                self._record.worked("heartbeat")

    async def _heartbeat(self) -> None:
        held = self._outbox.held() | {lease.task_id: token for token, (lease, _) in self._running.items()}
        said = self._said(held=[{"task_id": task_id, "token": token} for task_id, token in held.items()])
        limit_s = max(1.0, self._heartbeat_s)
        reply = await self._client.post("/tasks/heartbeat", said, total_s=limit_s)
        for token in rules.lost_tokens(reply, held):
            lost = self._running.get(token)
            if lost is not None:
                self._record.counters["leases_lost"] += 1
                log.warning("lease_lost", task=lost[0].task_id)
                lost[1].cancel()

    async def _drain(self) -> None:
        """Let what runs finish within the bound, then stop it and give it back."""
        works = [work for _, work in self._running.values()]
        if works:
            log.info("draining", executor=self._options.name, running=len(works))
            await asyncio.wait(works, timeout=self._options.drain_s)
        left = [(lease, work) for lease, work in self._running.values() if not work.done()]
        for _, work in left:
            work.cancel()
        await asyncio.gather(*(work for _, work in left), return_exceptions=True)
        await self._give_back([lease for lease, _ in left])

    async def _give_back(self, leases: Sequence[Leased]) -> None:
        if not leases:
            return
        held = [{"task_id": lease.task_id, "token": lease.token} for lease in leases]
        body = {"executor": self._options.name, "held": held, "reason": "the executor is stopping"}
        try:
            await self._client.post("/tasks/release", body, total_s=self._options.flush_s)
        except StandfastError as error:
            self._record.failing("release", error)  # Then they come back when their leases run out.

    async def _flush(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.flush_s):
                await self._outbox.deliver(lambda: False, asyncio.Event(), is_start=False)
        if len(self._outbox):
            log.warning("reports_wait_for_the_next_life", reports=len(self._outbox))

    async def _wait_out(self, doing: str, error: StandfastError, failures: int, stop: asyncio.Event) -> None:
        self._record.failing(doing, error)
        wait_s = rules.wait_after(error, failures, unit=rules.unit_of(self._entropy))
        await wait_any(stop, seconds=wait_s)


async def run_executor(
    options: ExecutorOptions, runner: Runner, *, stop: asyncio.Event, lifeline_fd: int = -1
) -> None:
    """Run an executor until ``stop`` is set or the other end of ``lifeline_fd`` is closed.

    Raises ConfigError for an unusable address, ConflictError where one of this name runs here already,
    AuthError where the API refuses its token at the start.
    """
    client = ApiClient(options.url, options.token, ClientLimits(total_s=options.call_s))
    spool = Spool(options.spool)
    try:
        with _lifeline(lifeline_fd, stop):
            async with client:
                await Executor(options, client, spool, runner, SystemEntropy()).run(stop)
    finally:
        spool.close()


async def serve_executor(options: ExecutorOptions, runner: Runner, *, lifeline_fd: int = -1) -> None:
    """Run an executor as a whole process: SIGTERM and SIGINT ask it to drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await run_executor(options, runner, stop=stop, lifeline_fd=lifeline_fd)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _lifeline(fd: int, stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` when the process that holds the other end of ``fd`` is gone."""
    if fd < 0:
        yield
        return
    loop = asyncio.get_running_loop()

    def readable() -> None:
        # Nobody writes to a lifeline: whatever makes it readable, its owner is gone or confused.
        loop.remove_reader(fd)
        log.warning("lifeline_ended")
        stop.set()

    loop.add_reader(fd, readable)
    try:
        yield
    finally:
        loop.remove_reader(fd)
