"""One life of a container: what is heard of it, its health, its end.

1. The engine's events tell of its end at once. While the engine is away nobody can say how it ended; its
   process, where it is one of this machine's, still shows whether it lives.
2. A container is well when its own health check says so. The engine asks it every 30 s unless told otherwise,
   which would make a start-up as slow as that: until the engine has an opinion, the same check is run here,
   and only once something listens on a port that it has declared.
3. Memory is read from its control group; only where that is not ours to see, the engine is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from standfast.services.adapters import procfs
from standfast.services.adapters.container_ends import Watched, life_of, nanoseconds, outcome_of
from standfast.services.adapters.container_logs import Cursor, LogCopy
from standfast.services.adapters.container_looks import (
    check_of,
    group_memory,
    last_failure,
    ports_inside,
    process_of,
    run_inside,
    signal_of,
    state_of,
)
from standfast.services.adapters.container_records import Record
from standfast.services.adapters.engine import EngineDownError, EngineLink, EngineRefusedError, Event
from standfast.services.adapters.journal import FileJournal
from standfast.services.model import Identity, Outcome

#: Longest wait for the last of its output, once it has ended.
_LAST_WORDS_S = 3.0
#: Between two looks at its health check by us, at first and later.
_SOON_S, _LATER_S = 0.1, 1.0
_MEMORY_AGE_S = 5.0
_LOOK_S = 0.05
#: What the engine's own event of an end may take; whoever asks before it comes hears less.
_EVENT_S = 0.5
#: What engines give a container that says nothing about it.
_GRACE_S = 10.0
_KILL_WAIT_S = 10.0


_ENDING = frozenset(
    text
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    for text in (str(int(number)), number.name, number.name.removeprefix("SIG"))
)
"""Signals that ask for an end, as engines write them."""


class ContainerRunning:
    """A container that was started; ``save`` keeps its record."""

    def __init__(self, link: EngineLink, record: Record, save: Callable[[Record], None]) -> None:
        loop = asyncio.get_running_loop()
        self.record = record
        self._link = link
        self._save = save
        self._began_ns = int(record.life.rpartition("-")[2] or "0", 16)
        self._ended: asyncio.Future[Outcome] = loop.create_future()
        self._copied = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._copy: LogCopy | None = None
        self._news: Callable[[], None] = lambda: None
        self._identity: Identity | None = None
        self._handle: int | None = None
        self._is_paused = self._is_stop_asked = self._is_ending = False
        self._is_proving = self._is_closed = False
        self._writing = threading.Lock()
        self._health, self._ill_because = "", ""
        self._asked_by, self._asked_s, self._ooms = "", float("-inf"), 0
        self._memory, self._memory_s = 0, float("-inf")
        self._check: tuple[str, ...] = ()
        self._ports: frozenset[int] = frozenset()
        self._grace_s, self._stop_signal = _GRACE_S, int(signal.SIGTERM)
        if record.pid and record.boot == procfs.boot_id():
            # What was known of it before is all that is known while the engine is away.
            self._watch_process(Identity(record.boot, record.pid, record.start_ticks))

    @property
    def name(self) -> str:
        """Which service it is a life of."""
        return self.record.name

    @property
    def life(self) -> str:
        """What names this life and no other."""
        return self.record.life

    @property
    def container(self) -> str:
        """The engine's name of the container."""
        return self.record.container

    @property
    def spec(self) -> str:
        """The digest of the declaration that it was started with."""
        return self.record.spec

    @property
    def identity(self) -> Identity | None:
        """Which process of this machine it is, where it is one."""
        return self._identity

    @property
    def started_s(self) -> float:
        """When it began, monotonic."""
        return self.record.started_s

    @property
    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        return self.record.started_at

    @property
    def is_limited(self) -> bool:
        """Whether the kernel keeps the limits: an engine starts none without."""
        return True

    def letter(self) -> str:
        """Return the state letter of its process; "T" where it is paused, "R" where it cannot be seen."""
        if self._ended.done() or self._is_ending:
            return ""
        if self._is_paused:
            return "T"
        if self._identity is None:
            return "R" if self._link.is_up else ""
        stat = procfs.read_stat(self._identity.pid)
        is_same = stat is not None and stat.start_ticks == self._identity.start_ticks
        return stat.letter if stat is not None and is_same else ""

    def stopped_below(self) -> int:
        """Return a process below its own that is stopped, or 0."""
        return procfs.stopped_below(self._identity.pid) if self._identity is not None else 0

    def memory_bytes(self) -> int:
        """Return how much memory all of it uses, as far as that is known; never blocks."""
        if self._identity is not None:
            return group_memory(self._identity.pid)
        if time.monotonic() - self._memory_s > _MEMORY_AGE_S:
            self._memory_s = time.monotonic()
            with contextlib.suppress(RuntimeError):  # Asked from a thread, after the loop has gone.
                self._ended.get_loop().call_soon_threadsafe(lambda: self._begin(self._weigh()))
        return self._memory

    def said_ready_s(self) -> float | None:
        """Return None: a container has no way to say READY=1."""
        return None

    def ailment(self) -> str:
        """Return what its health check says against it."""
        if not self._link.is_up:
            return f"the container engine does not answer ({self._link.why_down}): its health is unknown"
        if self._health == "healthy" or (self._health == "starting" and self.record.is_proven):
            return ""
        if self._health == "starting":
            return self._ill_because or "its health check has not passed yet"
        if self._health == "unhealthy":
            return self._ill_because or "its health check fails"
        return "it has no health check, neither declared nor in its image"

    async def ended(self) -> Outcome:
        """Return how it ended, when it has."""
        return await asyncio.shield(self._ended)

    async def gone(self) -> None:
        """Return when nothing of it is left: the engine ends all of a container with its first process."""
        await asyncio.shield(self._ended)

    def on_news(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called when something was heard of it."""
        self._news = hear

    def stop(self) -> None:
        """Ask the engine to stop it, which kills it when its time is over."""
        self._is_stop_asked = True
        self._begin(self._stop())

    def kill(self) -> None:
        """Have the engine kill it."""
        self._is_stop_asked = True
        self._begin(self._kill())

    def copy_log(self, journal: FileJournal, *, is_tty: bool) -> None:
        """Copy its output into ``journal``, from where the record says."""
        loop = asyncio.get_running_loop()
        self._copy = LogCopy(self._link, self.container, is_tty=is_tty)

        def finished() -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(self._copied.set)

        def save(cursor: Cursor) -> None:
            self._note(cursor=cursor)

        self._copy.begin(self.record.cursor, journal, save, finished)

    def close(self) -> None:
        """Stop watching it; it goes on. Nothing is written down after this."""
        with self._writing:
            self._is_closed = True
        self._let_go()
        if self._copy is not None:
            self._copy.close()
        for task in self._tasks:
            task.cancel()

    def hear(self, event: Event) -> None:
        """Take note of what happened to it."""
        action = event.action
        if action == "kill":
            self._note_kill(event.attributes)
        elif action == "oom":
            self._ooms += 1
        elif action in ("die", "died"):
            self.look(event.state or {"State": state_of(event.attributes)}, was_heard=True)
        elif action in ("destroy", "remove"):
            self._finish(Outcome(None, lost="its container was removed"))
        elif event.state is not None:
            self.look(event.state, was_heard=True)

    def lose_engine(self) -> None:
        """Take note that the engine is away."""
        self._news()

    def come_back(self, inspected: Mapping[str, Any] | None, engine_started_at: float | None) -> None:
        """Take note of what the engine shows after it was away, and ask again for what it did not hear."""
        self.look(inspected, engine_started_at=engine_started_at)
        if self._is_stop_asked and not self._is_ending:
            self._begin(self._stop())

    def look(
        self,
        inspected: Mapping[str, Any] | None,
        *,
        was_heard: bool = False,
        engine_started_at: float | None = None,
    ) -> None:
        """Take note of what the engine shows of it now; None = it has it no more."""
        if inspected is None:
            self._finish(Outcome(None, lost="its container was removed while nobody watched"))
            return
        state = inspected["State"]
        if 0 < nanoseconds(str(state.get("StartedAt") or "")) < self._began_ns:
            return  # What was looked at before this life began.
        if not state.get("Running"):
            outcome = outcome_of(state, self._watched(was_heard, engine_started_at))
            self._finish(outcome._replace(ended_s=self._ended_s(state)))
        elif state.get("StartedAt") and life_of(self.container, state) != self.life:
            self._finish(Outcome(None, lost="its container was started anew by somebody else"))
        else:
            self._note_running(inspected)

    def _note_running(self, inspected: Mapping[str, Any]) -> None:
        state, config = inspected["State"], inspected.get("Config") or {}
        self._is_paused = bool(state.get("Paused"))
        self._watch_process(process_of(self.container, state) if self._link.is_local else None)
        health = state.get("Health") or state.get("Healthcheck") or {}
        status = str(health.get("Status") or "")
        self._health = "" if status == "none" else status
        self._ill_because = last_failure(health)
        stop_timeout = config.get("StopTimeout")
        self._grace_s = _GRACE_S if stop_timeout is None else float(stop_timeout)
        self._stop_signal = signal_of(str(config.get("StopSignal") or ""))
        check = config.get("Healthcheck") or {}
        self._check = check_of(check.get("Test") or ())
        self._ports = frozenset(int(key.partition("/")[0]) for key in config.get("ExposedPorts") or {})
        if self._health == "starting" and self._check and not (self.record.is_proven or self._is_proving):
            self._is_proving = True
            self._begin(self._prove())
        self._news()

    def _ended_s(self, state: Mapping[str, Any]) -> float:
        """Return when it ended, monotonic, by the engine's word: it may be long ago."""
        now_s = time.monotonic()
        finished_at = nanoseconds(str(state.get("FinishedAt") or "")) / 1e9
        ago_s = time.time() - finished_at if finished_at else 0.0
        return min(now_s, max(self.started_s, now_s - ago_s))

    def _watched(self, was_heard: bool, engine_started_at: float | None) -> Watched:
        is_recent = time.monotonic() - self._asked_s < self._grace_s + _KILL_WAIT_S
        return Watched(
            started_at=self.started_at,
            was_heard=was_heard,
            is_same_boot=self.record.boot == procfs.boot_id(),
            asked_by=self._asked_by if is_recent else "",
            ooms=self._ooms,
            engine_started_at=engine_started_at,
        )

    def _note_kill(self, attributes: Mapping[str, str]) -> None:
        """Remember who asked for an end; a signal that merely makes it reload asks for none."""
        number = attributes.get("signal", "")
        if not self._is_stop_asked and number in _ENDING:
            self._asked_by = f"somebody through the engine (signal {number})"
            self._asked_s = time.monotonic()

    def _finish(self, outcome: Outcome) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._begin(self._settle(outcome))

    async def _settle(self, outcome: Outcome) -> None:
        """Let its last words arrive, then say that it has ended."""
        ended_s = time.monotonic()
        if self._copy is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._copied.wait(), _LAST_WORDS_S)
            self._copy.close()
        if not self._ended.done():
            self._ended.set_result(outcome._replace(ended_s=outcome.ended_s or ended_s))
        self._news()

    async def _stop(self) -> None:
        try:
            if self._is_paused:
                await self._link.call("unpause", self.container)
            await self._link.call_slow("stop", self.container, timeout=math.ceil(self._grace_s))
        except EngineRefusedError as error:
            if error.is_missing:
                self.look(None)
        except EngineDownError:
            await self._end_process(self._stop_signal, self._grace_s)

    async def _kill(self) -> None:
        try:
            await self._link.call("kill", self.container)
        except EngineRefusedError as error:
            if error.is_missing:
                self.look(None)
        except EngineDownError:
            await self._end_process(int(signal.SIGKILL), 0.0)

    async def _end_process(self, number: int, grace_s: float) -> None:
        """End its process without the engine, as the engine would, where it is one of this machine's."""
        identity = self._identity
        if identity is None:
            return  # The wish stands, and the engine hears of it when it is back.
        procfs.send(identity, number)
        await _until_gone(identity, grace_s)
        procfs.send(identity, int(signal.SIGKILL))
        await _until_gone(identity, _KILL_WAIT_S)
        if not procfs.is_alive(identity):
            self._finish(Outcome(None, lost="it was ended without the container engine, which was away"))

    async def _prove(self) -> None:
        """Run its health check until it passes, or the engine has an opinion of its own."""
        wait_s = _SOON_S
        # Each turn is one check; ends with the engine's first opinion, by success, or with the life.
        while self._health == "starting" and not self.record.is_proven and not self._is_ending:
            if self._is_worth_asking():
                try:
                    self._ill_because = await self._link.stream(self._ask)
                except OSError:
                    break  # The engine's own check goes on.
                if not self._ill_because:
                    self._note(is_proven=True)
                self._news()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, _LATER_S)
        self._is_proving = False

    def _ask(self, client: Any) -> str:
        code, said = run_inside(client, self.container, self._check)
        return f"its health check ended with exit code {code}{said}" if code else ""

    def _is_worth_asking(self) -> bool:
        """Whether something listens on a port of its own, or there is none to look at."""
        if self._identity is None or not self._ports:
            return True
        return not self._ports.isdisjoint(ports_inside(self._identity.pid))

    async def _weigh(self) -> None:
        with contextlib.suppress(OSError):
            stats = await self._link.call("stats", self.container, stream=False, one_shot=True)
            self._memory = int((stats.get("memory_stats") or {}).get("usage") or 0)

    def _watch_process(self, identity: Identity | None) -> None:
        """Hear from the kernel when its process ends: an engine may tell only when it is asked (podman)."""
        if identity == self._identity and self._handle is not None:
            return
        self._let_go()
        self._identity = identity
        if identity is not None and identity.pid != self.record.pid:
            self._note(pid=identity.pid, start_ticks=identity.start_ticks)
        self._handle = procfs.open_handle(identity) if identity is not None else None
        if self._handle is not None:
            asyncio.get_running_loop().add_reader(self._handle, self._note_process_gone)

    def _let_go(self) -> None:
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None

    def _note_process_gone(self) -> None:
        self._let_go()
        self._news()
        self._begin(self._ask_how_it_ended())

    async def _ask_how_it_ended(self) -> None:
        """Ask the engine where its event does not come by itself."""
        wait_s = _EVENT_S
        # Each turn asks once, less and less often; ends with the life, or with the engine.
        while not self._is_ending and self._link.is_up:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2.0, _KILL_WAIT_S)
            if self._is_ending:
                return
            try:
                self.look(await self._link.call("inspect_container", self.container), was_heard=True)
            except EngineRefusedError as error:
                if error.is_missing:
                    self.look(None)
            except EngineDownError:
                return

    def _note(self, **changed: Any) -> None:
        """Keep a change of the record; called in the loop, and by the thread that copies the output."""
        with self._writing:
            if not self._is_closed:
                self.record = self.record._replace(**changed)
                self._save(self.record)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _until_gone(identity: Identity, limit_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    # Each turn looks once; bounded by the limit.
    while procfs.is_alive(identity) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
