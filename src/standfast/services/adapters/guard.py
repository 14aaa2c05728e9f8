"""Keeps one guardian running beside the supervisor, and tells it what there is to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

from standfast.services.adapters import procfs
from standfast.services.model import Identity

#: What a service gets between SIGTERM and SIGKILL after its supervisor was killed.
GRACE_S = 3.0
_RESTART_S = 1.0


class Guard:
    """The supervisor's end of the guardian's pipe; a guardian that is killed is replaced."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._popen: subprocess.Popen[bytes] | None = None
        self._leaders: list[Identity] = []

    @property
    def identity(self) -> Identity | None:
        """Which process guards now, or None."""
        return None if self._popen is None else procfs.identify(self._popen.pid)

    def letter(self) -> str:
        """Return the state letter of that process, empty where there is none."""
        stat = None if self._popen is None else procfs.read_stat(self._popen.pid)
        return "" if stat is None else stat.letter

    def watch(self, leader: Identity) -> None:
        """Name one more process that must not outlive the supervisor."""
        self._leaders = [known for known in self._leaders if procfs.is_alive(known)]
        self._leaders.append(leader)
        self._tell(leader)

    async def run(self) -> None:
        """Keep a guardian until cancelled; then let it go in peace."""
        try:
            # Ends by cancellation; each turn lasts as long as a guardian does.
            while True:
                # Where no process can be made now, the kernel's tie and the mark have to do.
                with contextlib.suppress(OSError):
                    self._start()
                    await self._gone()
                await asyncio.sleep(_RESTART_S)
        finally:
            self._release()

    def _start(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "standfast.services.guardian", self._mark, str(GRACE_S)],
            env=os.environ | {procfs.MARK_VARIABLE: f"{self._mark}guardian/"},
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._popen.stdin is not None
        os.set_blocking(self._popen.stdin.fileno(), False)
        for leader in self._leaders:
            self._tell(leader)

    async def _gone(self) -> None:
        assert self._popen is not None
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        handle = os.pidfd_open(self._popen.pid)
        loop.add_reader(handle, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        self._bury()

    def _tell(self, leader: Identity) -> None:
        self._write(f"{leader.pid} {leader.start_ticks}\n")

    def _write(self, line: str) -> None:
        if self._popen is None or self._popen.stdin is None:
            return
        # A guardian that was just killed is replaced, and the next one is told everything. The pipe of one
        # that was stopped may be full: it finds by its mark what it was not told of.
        with contextlib.suppress(OSError, ValueError):
            self._popen.stdin.write(line.encode())

    def _release(self) -> None:
        self._write("done\n")
        if self._popen is not None:
            identity = self.identity
            try:
                self._close_pipe()
                self._popen.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                # Stopped, or starved; nothing is left for it to do.
                if identity is not None:
                    self._popen.kill()
            self._bury()

    def _close_pipe(self) -> None:
        assert self._popen is not None
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def _bury(self) -> None:
        assert self._popen is not None
        self._close_pipe()
        self._popen.wait()
        self._popen = None
