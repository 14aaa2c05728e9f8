"""Keeps one shim host at hand: a warm, small process that forks the shims (see ``services/shim.py``)."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standfast.services.adapters import procfs

_PROGRAM = str(Path(__file__).resolve().parent.parent / "shim.py")


class ShimHost:
    """The supervisor's end of the host's input; a host that was killed is replaced at the next request."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Which process it is; 0 where there is none."""
        return 0 if self._popen is None else self._popen.pid

    def request(self, wanted: Mapping[str, Any]) -> None:
        """Have a life begun; raises OSError where no process can be made."""
        body = json.dumps(wanted).encode()
        message = struct.pack("!I", len(body)) + body
        try:
            self._send(message)
        except OSError:
            # Killed since the last time: a host holds nothing that would be lost with it.
            self.close()
            self._send(message)

    def open(self) -> None:
        """Start it now, so that the first life need not wait for it."""
        if self._popen is None:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM],
                env=os.environ | {procfs.MARK_VARIABLE: f"{self._mark}shims/"},
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """Let it go; the shims stay."""
        if self._popen is not None:
            assert self._popen.stdin is not None
            with contextlib.suppress(OSError):
                self._popen.stdin.close()
            self._popen.wait()
            self._popen = None

    def _send(self, message: bytes) -> None:
        self.open()
        assert self._popen is not None
        assert self._popen.stdin is not None
        left = memoryview(message)
        # Ends when all of it is written; the pipe's other end reads all the time.
        while left:
            left = left[self._popen.stdin.write(left) or 0 :]
