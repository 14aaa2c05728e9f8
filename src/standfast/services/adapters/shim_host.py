"""Keeps one shim host at hand: a warm, small process that forks the shims (see ``services/shim.py``)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standfast.services.adapters import procfs
from standfast.services.adapters.recall import SHIMS

_PROGRAM = str(Path(__file__).resolve().parent.parent / "shim.py")
#: Room for the largest environment that execve(2) takes; where the kernel gives less, the host reads fast.
_PIPE_BYTES = 1_048_576
#: A host that reads nothing for so long is stopped or hangs.
_READS_S = 2.0


class ShimHost:
    """The supervisor's end of the host's input; one that was killed or hangs is replaced.

    A host holds nothing that would be lost with it: the lives that it made are minded by their shims.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Which process it is; 0 where there is none."""
        return 0 if self._popen is None else self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs; one that was killed is buried."""
        return self._popen is not None and self._popen.poll() is None

    def request(self, wanted: Mapping[str, Any]) -> None:
        """Have a life begun; raises OSError where no process can be made."""
        body = json.dumps(wanted).encode()
        message = struct.pack("!I", len(body)) + body
        try:
            self._send(message)
        except OSError:
            self.close()
            self._send(message)

    def open(self) -> None:
        """Start it now, so that the first life need not wait for it."""
        if self._popen is None:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM],
                env=os.environ | {procfs.MARK_VARIABLE: f"{self._mark}{SHIMS}"},
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            pipe = self._pipe()
            os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def wake(self) -> None:
        """Continue it where somebody has stopped it."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Let it go; the shims stay."""
        if self._popen is not None:
            assert self._popen.stdin is not None
            self._popen.kill()
            self._popen.stdin.close()
            self._popen.wait()
            self._popen = None

    def _pipe(self) -> int:
        assert self._popen is not None
        assert self._popen.stdin is not None
        return self._popen.stdin.fileno()

    def _send(self, message: bytes) -> None:
        self.open()
        pipe, left = self._pipe(), memoryview(message)
        # Each turn writes what the pipe has room for; ends when a host that hangs has made no room in time.
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                if not select.select([], [pipe], [], _READS_S)[1]:
                    raise
