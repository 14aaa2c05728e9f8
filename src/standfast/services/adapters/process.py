"""Runs services as processes of this machine: no zombie, no orphan, and never a signal to a stranger.

1. Each life is minded by a shim (``services/shim.py``), which is no child of this process. Its end is seen
   through a pidfd, by the event loop and without polling; what it knew stands in its file.
2. A life is (boot, pid, start time) of its shim and of its process. A number that was given out again is
   somebody else's, and gets no signal.
3. A shim that was killed leaves processes behind: they are found by the mark in their environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from standfast.services.adapters import cgroups, inputs, procfs
from standfast.services.adapters.journal import FileJournal
from standfast.services.adapters.lives import Hints, Life, Refusal, all_lives, forget, read_life
from standfast.services.adapters.recall import recall
from standfast.services.adapters.shim_host import ShimHost
from standfast.services.decide.digest import digest_of
from standfast.services.model import Identity, Obstacle, Outcome, ServiceSpec

#: Longest wait for the first word of a shim; making two processes takes milliseconds.
_START_S = 10.0
#: Longest wait for processes that got SIGKILL; one that is stuck in the kernel does not end then either.
_KILL_WAIT_S = 5.0
_LOOK_S = 0.02
#: How long a hint is waited for before the file is looked at.
_WORD_S = 0.5
#: How long a shim may take from its last word to its end.
_LEAVES_S = 1.0
_LOOK_AFTER_S = 5.0
#: How soon a taken port or a missing program is looked at again; a look costs less than a millisecond.
_RECHECK_S = 2.0


class LocalRunning:
    """One life of a service on this machine."""

    def __init__(self, folder: Path, life: Life, mark: str) -> None:
        loop = asyncio.get_running_loop()
        self._folder = folder
        self._life = life
        self._mark = mark
        self._ended: asyncio.Future[Outcome] = loop.create_future()
        self._gone = asyncio.Event()
        self._burying: asyncio.Task[None] | None = None
        self._news: Callable[[], None] = lambda: None
        self._handle = procfs.open_handle(life.shim)
        if self._handle is None:
            self._note_shim_gone()
        else:
            loop.add_reader(self._handle, self._note_shim_gone)
            self.hear(life)

    @property
    def name(self) -> str:
        """Which service it is a life of."""
        return self._life.name

    @property
    def life(self) -> str:
        """What names this life and no other."""
        return self._life.life

    @property
    def spec(self) -> str:
        """The digest of the declaration that it was started with."""
        return self._life.spec

    @property
    def identity(self) -> Identity:
        """Which process it is."""
        return self._life.child

    @property
    def record(self) -> Life:
        """What its shim wrote down, as far as it was heard."""
        return self._life

    @property
    def started_s(self) -> float:
        """When it began, monotonic."""
        return self._life.started_s

    @property
    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        return self._life.started_at

    @property
    def is_limited(self) -> bool:
        """Whether the kernel keeps the limits that were declared."""
        return bool(self._life.cgroups)

    def hear(self, life: Life) -> None:
        """Take note of what the shim told; a file that could not be written since is older than that."""
        if self._life.exit is not None and life.exit is None:
            return
        self._life = life
        if life.exit is not None and not self._ended.done():
            self._ended.set_result(life.outcome())
        if life.is_gone and self._handle is not None:
            # It has told everything. One that stays has no room to write it down, and need not: we know.
            asyncio.get_running_loop().call_later(_LEAVES_S, procfs.send, life.shim, signal.SIGKILL)
        self._news()

    def letter(self) -> str:
        """Return the state letter of the process, empty where it is gone."""
        stat = procfs.read_stat(self._life.child.pid)
        is_same = stat is not None and stat.start_ticks == self._life.child.start_ticks
        return stat.letter if stat is not None and is_same else ""

    def stopped_below(self) -> int:
        """Return a descendant of the process that is stopped, or 0."""
        return procfs.stopped_below(self._life.child.pid)

    def memory_bytes(self) -> int:
        """Return the resident memory of the process and everything below it."""
        return procfs.memory_below(self._life.child.pid)

    def said_ready_s(self) -> float | None:
        """Return when it said READY=1; a hint that was lost is made good by the file."""
        current = read_life(self._folder) if self._life.ready_s is None else None
        if current is not None and current.life == self._life.life and current.ready_s is not None:
            self.hear(current)
        return self._life.ready_s

    def ailment(self) -> str:
        """Return that nothing is known: a process has no health check beside those that are declared."""
        return "it has no health check of its own"

    async def ended(self) -> Outcome:
        """Return how it ended, when it has."""
        return await asyncio.shield(self._ended)

    async def gone(self) -> None:
        """Return when nothing of it is left."""
        await self._gone.wait()

    def on_news(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called whenever the shim told something."""
        self._news = hear

    def stop(self) -> None:
        """Ask the shim for an orderly end; a stopped shim is continued."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            procfs.send(self._life.shim, number)

    def kill(self) -> None:
        """Have the shim end all of it at once."""
        for number in (signal.SIGUSR1, signal.SIGCONT):
            procfs.send(self._life.shim, number)

    def close(self) -> None:
        """Stop watching; the life goes on."""
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        if self._burying is not None:
            self._burying.cancel()

    def _note_shim_gone(self) -> None:
        """Read the shim's last word; where it had none, end what it can mind no more."""
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        current = read_life(self._folder)
        if current is not None and current.life == self._life.life:
            self.hear(current)
        if self._life.is_gone:
            self._gone.set()
        else:
            self._burying = asyncio.create_task(self._bury())

    async def _bury(self) -> None:
        """End what is left of a life whose shim is gone without having finished."""
        deadline = asyncio.get_running_loop().time() + _KILL_WAIT_S
        left = self._left()
        # Each turn kills what is there, forks of the killed included; bounded by the deadline.
        while left and asyncio.get_running_loop().time() < deadline:
            for identity in left:
                procfs.send(identity, signal.SIGKILL)
            await asyncio.sleep(_LOOK_S)
            left = self._left()
        _remove(self._life.cgroups)
        if not self._ended.done():
            is_old = self._life.boot_id != procfs.boot_id()
            lost = "the machine was restarted" if is_old else "its shim was killed, and nobody saw its end"
            self._ended.set_result(self._life.outcome(lost))
        self._gone.set()

    def _left(self) -> list[Identity]:
        found = procfs.marked(f"{self._mark}{self._life.name}/{self._life.life}/")
        child = self._life.child
        return [*found, child] if procfs.is_alive(child) and child not in found else found


class LocalProcesses:
    """Makes processes on this machine; ``mark`` is the prefix of the mark of everything it makes."""

    def __init__(self, mark: str, root: Path, journal_of: Callable[[str], FileJournal]) -> None:
        self._mark = mark
        self._root = root
        self._journal_of = journal_of
        self._host = ShimHost(mark)
        self._hints = Hints(root, self._hear)
        self._running: dict[str, LocalRunning] = {}
        self._expected: dict[str, asyncio.Future[Life]] = {}
        self._recalled: Sequence[Life] = ()
        self._looking: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to hear the shims, learn of their lives, and warm the host."""
        self._hints.open()
        self._recalled = recall(self._mark, lambda: all_lives(self._root), self._hints.wait)
        self._host.open()
        self._look_after()

    def close(self) -> None:
        """Stop hearing them; what runs goes on."""
        if self._looking is not None:
            self._looking.cancel()
        self._hints.close()
        self._host.close()
        for running in self._running.values():
            running.close()

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return why ``spec`` cannot be started now: no folder, no program, or its port is taken."""
        if spec.cwd is not None and not spec.cwd.is_dir():
            what = f"its folder {spec.cwd} does not exist"
            return Obstacle("FolderMissing", what, f"create {spec.cwd}, or correct `cwd`", _RECHECK_S)
        if _program(spec) is None:
            what = f"its program {spec.command[0]} was not found, or may not be executed"
            return Obstacle(
                "ProgramMissing", what, f"install {spec.command[0]}, or correct `command`", _RECHECK_S
            )
        holder = procfs.listener(spec.port) if spec.port else None
        if holder is not None:
            what = f"its port {spec.port} is in use by {holder.text}"
            fix = f"kill {holder.pid}, or choose another port" if holder.pid else "choose another port"
            return Obstacle("PortInUse", what, fix, _RECHECK_S)
        return None

    async def start(self, spec: ServiceSpec) -> LocalRunning:
        """Begin one life of ``spec``; raises OSError where no process could be made."""
        life = os.urandom(8).hex()
        folder = self._folder_of(spec.name)
        log_at = self._journal_of(spec.name).begin()  # A look and at most a rename: not worth a thread.
        groups = cgroups.make(spec.limits, f"standfast-{spec.name}-{life}")
        self._expected[life] = asyncio.get_running_loop().create_future()
        try:
            self._host.request(self._request(spec, life, log_at, groups.folders))
            told = await self._first_word(folder, life)
        except OSError:
            for left in procfs.marked(f"{self._mark}{spec.name}/{life}/"):
                procfs.send(left, signal.SIGKILL)
            _remove(groups.folders)
            raise
        finally:
            del self._expected[life]
        running = LocalRunning(folder, told, self._mark)
        self._running[spec.name] = running
        return running

    async def _first_word(self, folder: Path, life: str) -> Life:
        """Return what the shim of ``life`` tells first; raises OSError where there will be none."""
        expected, loop = self._expected[life], asyncio.get_running_loop()
        until_s, was_alive = loop.time() + _START_S, True
        # Each turn waits for the hint, then looks at the file, since a hint may get lost.
        while loop.time() < until_s and was_alive:
            was_alive = self._host.is_alive
            await asyncio.wait((expected,), timeout=_WORD_S)
            if expected.done():
                return expected.result()
            current = read_life(folder)
            if current is not None and current.life == life:
                self._hints.mend()
                return current
            self._host.wake()
        self._host.close()
        raise OSError("the process that makes shims hangs or was killed; it is replaced")

    def _look_after(self) -> None:
        """Mend, now and then, what somebody may have removed or killed."""
        self._hints.mend()
        with contextlib.suppress(OSError):
            if not self._host.is_alive:
                self._host.close()
                self._host.open()
        self._looking = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, self._look_after)

    def _folder_of(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def found(self) -> Sequence[LocalRunning]:
        """Return the lives that earlier supervisors began and whose end nobody took note of."""
        for life in self._recalled:
            if life.name not in self._running:
                self._journal_of(life.name).resume(life.log_at)
                self._running[life.name] = LocalRunning(self._root / life.name, life, self._mark)
        return list(self._running.values())

    def forget(self, running: object) -> None:
        """Let the record of a life go whose end was taken note of."""
        assert isinstance(running, LocalRunning)
        running.close()
        forget(self._root, running.record)
        if self._running.get(running.name) is running:
            del self._running[running.name]

    def inputs(self, spec: ServiceSpec) -> dict[str, str]:
        """Return the state of the declaration, of the program, and of files that are named or watched."""
        folder = spec.cwd or Path.cwd()
        program = _program(spec)
        paths = [Path(program)] if program else []
        paths += [folder / part for part in spec.command[1:] if not part.startswith("-")]
        paths += [folder / path for path in spec.watch]
        has_folder = spec.cwd is None or spec.cwd.is_dir()
        return {"": f"{digest_of(spec)} {program} {has_folder}"} | inputs.of_files(paths)

    def _request(
        self, spec: ServiceSpec, life: str, log_at: int, folders: tuple[str, ...]
    ) -> dict[str, object]:
        mark = {procfs.MARK_VARIABLE: f"{self._mark}{spec.name}/{life}/"}
        env = dict(os.environ) | {"PYTHONUNBUFFERED": "1"} | dict(spec.env) | mark
        return {
            "life": life,
            "folder": str(self._root / spec.name),
            "command": list(spec.command),
            "cwd": str(spec.cwd or Path.cwd()),
            "env": env,
            "log": self._journal_of(spec.name).path,
            "cgroups": list(folders),
            "notify": spec.ready.notify,
            "stop_signal": spec.stop_signal,
            "stop_timeout_s": spec.stop_timeout_s,
            "record": {
                "name": spec.name, "spec": digest_of(spec), "boot": procfs.boot_id(),
                "log_at": log_at, "cgroups": list(folders),
            },
        }  # fmt: skip

    def _hear(self, told: Life | Refusal) -> None:
        expected = self._expected.get(told.life)
        if isinstance(told, Refusal):
            if expected is not None and not expected.done():
                expected.set_exception(OSError(told.why))
        elif expected is not None and not expected.done():
            expected.set_result(told)
        elif (running := self._running.get(told.name)) is not None and running.life == told.life:
            running.hear(told)


def _remove(groups: Iterable[str]) -> None:
    for folder in groups:
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _program(spec: ServiceSpec) -> str | None:
    """Return the path of the program as execvp(3) would find it from the service's folder, or None."""
    name = spec.command[0]
    if "/" in name:
        return shutil.which((spec.cwd or Path.cwd()) / name)
    return shutil.which(name, path=spec.env.get("PATH"))
