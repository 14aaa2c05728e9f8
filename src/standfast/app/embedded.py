"""The parts of an embedded instance: each a task, started in order, watched, and ended in order.

Nothing is half alive: a part that ends without having been asked to ends the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from standfast.app import hold, watching
from standfast.app.declared import executor_token_file, services_of
from standfast.app.drivers import drivers_of
from standfast.app.instance import LOGS_NAME, TOKEN_NAME, Child, Run, write_run
from standfast.app.listening import address_of
from standfast.app.plane import ControlPlane
from standfast.app.progress import COMMANDS
from standfast.app.reporters import Reporter
from standfast.app.scheduler import Scheduler
from standfast.app.service_control import Control
from standfast.app.stopping import LOG_NAME, Stop
from standfast.app.supervision import Options, Supervision, supervise
from standfast.app.tokens import TokenStore, local_token
from standfast.facts.database import Tx
from standfast.kernel.errors import StandfastError
from standfast.services.adapters.control import Door
from standfast.services.driver import Supervisor

log = structlog.get_logger(__name__)

OK, BUG, CUT_SHORT = 0, 70, 130
#: Between two looks at what there is to tell.
_LOOK_S = 2.0


class ServeApi(Protocol):
    """Serves the API of ``plane`` on a listening socket until ``stop`` is set, then lets requests end.

    It lies in a layer above, so the caller brings it. It closes the socket.
    """

    def __call__(
        self,
        plane: ControlPlane,
        sock: socket.socket,
        stop: asyncio.Event,
        *,
        scheduler_state: Callable[[], Mapping[str, Any]],
        services_state: Callable[[], list[Mapping[str, Any]]],
    ) -> Coroutine[Any, Any, None]:
        """Serve until ``stop`` is set."""
        ...


_BEGINS_ANEW = (
    "WARNING: the store is empty, but earlier publications are there: an earlier one was lost or moved away. "
    "Rounds and facts begin anew, publication numbers go on (standfast facts ls --kind store.begins_anew). "
    "If it was not you: Ctrl-C, restore a backup of the store, start again."
)


class Embedded:
    """The parts of one embedded instance while it runs."""

    def __init__(self, serve_api: ServeApi, reporter: Reporter, stop: Stop) -> None:
        self._serve_api = serve_api
        self._reporter = reporter
        self._stop = stop
        self._failure = ""

    async def run(self, plane: ControlPlane, sock: socket.socket, run: Run) -> int:
        """Start every part, wait for the end, stop every part in order; return the exit code."""
        url, data_dir = address_of(sock), plane.config.data_dir
        await plane.database.write(lambda tx: _write_tokens(tx, plane))
        scheduler, changed = Scheduler(plane), asyncio.Event()
        supervision = _supervision(plane, url, changed)
        supervisor = supervision.supervisor
        leave, parts = Leave(), Parts(self._note_end)
        serving = self._serve_api(
            plane,
            sock,
            leave.api,
            scheduler_state=lambda: scheduler.state,
            services_state=lambda: list(supervisor.snapshot()),
        )
        running = replace(run, url=url)
        write_run(data_dir, running)
        # The socket listens already: whoever comes before the API serves waits a moment.
        parts.start("api", serving)
        parts.start("scheduler", scheduler.run(leave.scheduler))
        parts.start("services", self._supervise(supervision, data_dir, leave.services))
        parts.start("told", self._tell(Watched(plane, url, supervisor, scheduler), leave.told))
        parts.start("recorded", _record(data_dir, supervisor, running, changed, leave.told))
        if plane.is_new_store and any((data_dir / plane.config.publication.path).glob("[0-9]*.json")):
            self._reporter.say(_BEGINS_ANEW)
        self._reporter.say(f"the API listens at {url}, the data is in {data_dir}")
        self._reporter.say(f"in another terminal, in the same folder: {COMMANDS}")
        await self._stop.asked.wait()
        hurrying = asyncio.create_task(self._hurry(supervisor))
        await self._wind_up(parts, leave)
        hurrying.cancel()
        return self._verdict(data_dir)

    async def _supervise(self, supervision: Supervision, data_dir: Path, leave: asyncio.Event) -> None:
        control = Control(supervision, stop=lambda: self._stop.ask("standfast down"))
        try:
            async with Door(data_dir, control):
                await supervision.supervisor.run(leave)
        finally:
            await asyncio.to_thread(supervision.close)

    async def _wind_up(self, parts: Parts, leave: Leave) -> None:
        """End the parts in order: what needs the API before the API."""
        if not self._failure:
            self._reporter.say(f"stopping: {self._stop.reason}; once more makes it faster")
        leave.services.set()
        await parts.ended("services")
        leave.scheduler.set()
        await parts.ended("scheduler")
        leave.told.set()
        await parts.ended("told", "recorded")
        leave.api.set()
        await parts.ended("api")

    def _verdict(self, data_dir: Path) -> int:
        self._reporter.close()  # A page that says "stopping" must not outlive the end.
        if self._failure:
            where = data_dir / LOGS_NAME / LOG_NAME
            self._reporter.say(f"ended because {self._failure}; the details are in {where}")
            return BUG
        self._reporter.say(
            "stopped; nothing that was acknowledged is lost, and what is open goes on at the next start"
        )
        return CUT_SHORT if self._stop.hurry.is_set() else OK

    def _note_end(self, name: str, task: asyncio.Task[Any]) -> None:
        """Note that a part ended; unless it was asked to, end the whole."""
        error = None if task.cancelled() else task.exception()
        if error is None and self._stop.asked.is_set():
            return
        log.error("part_ended", part=name, exc_info=error)
        why = f": {error}" if isinstance(error, StandfastError) else f" by {type(error).__name__}"
        self._failure = self._failure or f"{name} ended without having been asked to{why if error else ''}"
        self._stop.asked.set()

    async def _hurry(self, supervisor: Supervisor) -> None:
        await self._stop.hurry.wait()
        self._reporter.say("cutting the waits short")
        supervisor.hurry()

    async def _tell(self, watched: Watched, leave: asyncio.Event) -> None:
        """Tell what there is to see every two seconds until ``leave`` is set."""
        while not leave.is_set():
            self._reporter.show(await watched.look(), watched.plane.clock.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), _LOOK_S)


class Leave:
    """What each part waits for before it ends."""

    def __init__(self) -> None:
        self.services = asyncio.Event()
        self.scheduler = asyncio.Event()
        self.told = asyncio.Event()
        self.api = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Watched:
    """Everything that is looked at to tell how the instance is."""

    plane: ControlPlane
    url: str
    supervisor: Supervisor
    scheduler: Scheduler

    async def look(self) -> dict[str, Any]:
        """Return what there is to see now."""
        return await watching.look(
            self.plane, url=self.url, services=self.supervisor.snapshot(), scheduler=self.scheduler.state
        )


class Parts:
    """The long-running parts, each a task of its own whose end is heard of at once."""

    def __init__(self, on_end: Callable[[str, asyncio.Task[Any]], None]) -> None:
        self._on_end = on_end
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work`` as the part ``name``."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda ended: self._on_end(name, ended))
        self._tasks[name] = task

    async def ended(self, *names: str) -> None:
        """Return when the parts of these names have ended; how, was told to ``on_end``."""
        await asyncio.wait([self._tasks[name] for name in names])


def _supervision(plane: ControlPlane, url: str, changed: asyncio.Event) -> Supervision:
    data_dir, specs = plane.config.data_dir, services_of(plane.config, url=url)
    kinds = {spec.driver for spec in specs}
    return supervise(
        specs,
        data_dir,
        mark=hold.mark_of(data_dir),
        options=Options(
            clock=plane.clock,
            entropy=plane.entropy,
            drivers=drivers_of(kinds - {"process"}, data_dir, {"instance": hold.instance_id(data_dir)}),
            rules=tuple(plane.config.folder / one for one in plane.config.stack.rules),
            on_change=lambda _: changed.set(),
        ),
    )


def _write_tokens(tx: Tx, plane: ControlPlane) -> None:
    """Make the instance's own tokens: for commands on this machine, and for its executors."""
    store = TokenStore(tx.dialect, plane.clock, plane.entropy)
    own, executors = plane.config.data_dir / TOKEN_NAME, executor_token_file(plane.config)
    local_token(tx, store, own, name="local", scopes=["admin"])
    local_token(tx, store, executors, name="executors", scopes=["execute"])


async def _record(
    data_dir: Path, supervisor: Supervisor, run: Run, changed: asyncio.Event, leave: asyncio.Event
) -> None:
    """Keep run.json true about the children; a full disk costs the record, not the children."""
    logs = data_dir / LOGS_NAME
    while not leave.is_set():
        changed.clear()
        children = tuple(Child(name, it, str(logs / f"{name}.log")) for name, it in supervisor.children())
        try:
            await asyncio.to_thread(write_run, data_dir, replace(run, children=children))
        except StandfastError as error:
            log.warning("run_not_recorded", code=error.code, error=str(error))
        await _first(changed, leave)


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
