"""Runs services as processes of this machine: no zombie, no orphan, and never a signal to a stranger.

1. Each life is a session of its own under the shim, with its output in a file and a mark in its
   environment, by which everything that it starts is found again, in whatever session or group it hides.
2. The end is seen through a pidfd, by the event loop and without polling. The process is not reaped
   before everything that it left behind was looked for: until then its pid, which is also the number of
   its session, cannot become a stranger's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from standfast.services.adapters import procfs
from standfast.services.adapters.journal import FileJournal
from standfast.services.model import ExitStatus, Identity, Obstacle, ServiceSpec

_SHIM = str(Path(__file__).resolve().parent.parent / "shim.py")
#: Longest wait for processes that got SIGKILL; one that is stuck in the kernel does not end then either.
_KILL_WAIT_S = 5.0
_LOOK_S = 0.02
#: How soon a taken port or a missing program is looked at again; a look costs less than a millisecond.
_RECHECK_S = 2.0


class LocalRunning:
    """One life of a service on this machine."""

    def __init__(self, popen: subprocess.Popen[bytes], identity: Identity, mark: str) -> None:
        self._popen = popen
        self._identity = identity
        self._mark = mark
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ExitStatus] = loop.create_future()
        self._handle = os.pidfd_open(popen.pid)
        loop.add_reader(self._handle, self._note_end)

    @property
    def identity(self) -> Identity:
        """Which process it is."""
        return self._identity

    def letter(self) -> str:
        """Return the state letter of the process, empty where it is gone."""
        stat = procfs.read_stat(self._identity.pid)
        is_same = stat is not None and stat.start_ticks == self._identity.start_ticks
        return stat.letter if stat is not None and is_same else ""

    def stopped_below(self) -> int:
        """Return a descendant of the process that is stopped, or 0."""
        return procfs.stopped_below(self._identity.pid)

    async def ended(self) -> ExitStatus:
        """Return how it ended, when it has."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Send SIGTERM to the group, or to what is left of this life when its own process has ended.

        A stopped process would keep the signal pending, so it is continued too. While its own process
        lives, how to end what it has put into other sessions is its own business.
        """
        if self._ended.done():
            for identity in self.members():
                procfs.send(identity, signal.SIGTERM)
                procfs.send(identity, signal.SIGCONT)
            return
        for number in (signal.SIGTERM, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._identity.pid, number)

    def members(self) -> Sequence[Identity]:
        """Return every living process that came from this life."""
        return procfs.marked(self._mark, sessions=frozenset({self._identity.pid}))

    async def kill_all(self) -> int:
        """End every process of this life and bury its own; return how many could not be ended."""
        deadline = asyncio.get_running_loop().time() + _KILL_WAIT_S
        left = self.members()
        # Each turn kills what is there, forks of the killed included; bounded by the deadline.
        while left and asyncio.get_running_loop().time() < deadline:
            for identity in left:
                procfs.send(identity, signal.SIGKILL)
            await asyncio.sleep(_LOOK_S)
            left = self.members()
        if self._popen.returncode is None and self._popen.poll() is not None:
            self._close()
        return len(left)

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        seen = os.waitid(os.P_PIDFD, self._handle, os.WEXITED | os.WNOWAIT)
        assert seen is not None, "a readable pidfd has an end to tell"
        by_signal = seen.si_code != os.CLD_EXITED
        status = ExitStatus(0, seen.si_status) if by_signal else ExitStatus(seen.si_status)
        if not self._ended.done():
            self._ended.set_result(status)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)


class LocalProcesses:
    """Makes processes on this machine; ``mark`` is the prefix of the mark of everything it makes."""

    def __init__(
        self,
        mark: str,
        journal_of: Callable[[str], FileJournal],
        *,
        on_start: Callable[[Identity], None] = lambda _: None,
    ) -> None:
        self._mark = mark
        self._journal_of = journal_of
        self._on_start = on_start
        self._lives = 0

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

    def start(self, spec: ServiceSpec) -> LocalRunning:
        """Start one life of ``spec``; raises OSError where no process could be made."""
        self._lives += 1
        mark = f"{self._mark}{spec.name}/{self._lives}/"
        env = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(spec.env) | {procfs.MARK_VARIABLE: mark}
        output = self._journal_of(spec.name).open()
        try:
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", _SHIM, str(os.getpid()), *spec.command],
                cwd=spec.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        # Not reaped yet, so it is there, be it as a zombie.
        identity = procfs.identify(popen.pid)
        assert identity is not None, f"pid {popen.pid} was just made and is not reaped"
        try:
            running = LocalRunning(popen, identity, mark)
        except OSError:
            # No descriptor was left to watch it by, and what nobody watches must not run.
            popen.kill()
            popen.wait()
            raise
        self._on_start(identity)
        return running

    def inputs(self, spec: ServiceSpec) -> str:
        """Return a digest of the files that the command names: their number, size and time of change."""
        folder = spec.cwd or Path.cwd()
        program = _program(spec)
        paths = [Path(program)] if program else []
        paths += [folder / part for part in spec.command[1:] if not part.startswith("-")]
        seen = hashlib.sha256(repr((spec.cwd is None or spec.cwd.is_dir(), program)).encode())
        for path in paths:
            with contextlib.suppress(OSError, ValueError):
                stat = path.stat()
                seen.update(repr((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)).encode())
        return seen.hexdigest()


def _program(spec: ServiceSpec) -> str | None:
    """Return the path of the program as execvp(3) would find it from the service's folder, or None."""
    name = spec.command[0]
    if "/" in name:
        return shutil.which((spec.cwd or Path.cwd()) / name)
    return shutil.which(name, path=spec.env.get("PATH"))
