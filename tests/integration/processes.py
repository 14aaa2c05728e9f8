"""What tests with real processes share: small programs, waiting with a bound, proof that a fault landed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from standfast.app.supervision import Options, supervise
from standfast.services.adapters import procfs
from standfast.services.model import ServiceSpec, ServiceView

PYTHON = sys.executable

#: Answers 200 on the port in argv[1] at once.
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open('status').read()) if __import__('os').path.exists('status') else 200)
        self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()
"""


def program(folder: Path, name: str, text: str) -> str:
    """Write a Python program; return its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def wait_until(holds: Callable[[], object], *, within_s: float = 10.0, what: str = "") -> None:
    """Return once ``holds()``; fail after ``within_s``."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or holds}"
        time.sleep(0.02)


async def eventually(holds: Callable[[], object], *, within_s: float = 10.0, what: str = "") -> float:
    """Return the seconds until ``holds()``; fail after ``within_s``."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < within_s, f"not within {within_s} s: {what or holds}"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


def lives(pid: int) -> bool:
    """Return whether a process with ``pid`` can still do anything."""
    stat = procfs.read_stat(pid)
    return stat is not None and stat.is_alive


def pid_in(path: Path) -> int:
    """Return the number that a program wrote into ``path``, or 0 where it has not yet."""
    text = path.read_text() if path.exists() else ""
    return int(text) if text.strip().isdigit() else 0


def zombies() -> list[int]:
    """Return the dead children of this process that nobody has buried."""
    return [s.pid for s in procfs.processes() if s.parent == os.getpid() and s.letter == "Z"]


class Stand:
    """A supervisor of ``specs`` that runs for the length of a test's body."""

    def __init__(self, folder: Path, *specs: ServiceSpec) -> None:
        self.mark = f"test-{os.getpid()}-{time.monotonic_ns()}/"
        self.changes: list[ServiceView] = []
        self.supervision = supervise(
            specs, folder / "data", mark=self.mark, options=Options(on_change=self.changes.append)
        )
        self.supervisor = self.supervision.supervisor
        self.stop = asyncio.Event()

    def view(self, name: str) -> dict[str, object]:
        """Return what status shows of one service."""
        return next(view for view in self.supervisor.snapshot() if view["name"] == name)

    def state(self, name: str) -> object:
        """Return the state of one service."""
        return self.view(name)["state"]

    def is_in(self, name: str, state: str) -> Callable[[], bool]:
        """Return a condition for ``eventually``."""
        return lambda: self.state(name) == state

    def left(self) -> list[int]:
        """Return every living process of this stand."""
        return [identity.pid for identity in procfs.marked(self.mark)]

    def run(self, body: Callable[[], Awaitable[None]]) -> float:
        """Run ``body`` beside the supervisor; return the seconds that stopping took."""
        return asyncio.run(self._run(body))

    async def _run(self, body: Callable[[], Awaitable[None]]) -> float:
        task = asyncio.create_task(self.supervisor.run(self.stop))
        try:
            test = asyncio.ensure_future(body())
            await asyncio.wait({task, test}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                test.cancel()
                task.result()
            await test
        finally:
            asked = time.monotonic()
            self.stop.set()
            await task
            self.supervision.close()
        assert self.left() == []
        assert zombies() == []
        return time.monotonic() - asked
