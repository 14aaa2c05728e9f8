"""What tests with real processes share: small programs, waiting with a bound, proof that a fault landed."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from standfast.app.supervision import Options, supervise
from standfast.services.adapters import procfs
from standfast.services.model import Readiness, RestartPolicy, ServiceSpec, ServiceView

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


#: Restarts without long waits, held after three equal failures as ever.
QUICK = RestartPolicy(backoff_s=0.05, cap_s=0.2, max_fast_failures=3)


def shell(name: str, text: str, folder: Path, **more: Any) -> ServiceSpec:
    """Return a service that runs ``text`` in a shell: it starts a hundred times as fast as Python."""
    known: dict[str, Any] = {"cwd": folder, "restart": QUICK, "stop_timeout_s": 2.0}
    return ServiceSpec(name, ("/bin/sh", "-c", text), **(known | more))


def script(folder: Path, text: str, *, name: str = "svc", **more: Any) -> ServiceSpec:
    """Return a service that runs ``text`` in Python."""
    known: dict[str, Any] = {"cwd": folder, "restart": QUICK, "stop_timeout_s": 2.0}
    return ServiceSpec(name, (PYTHON, "-S", program(folder, f"{name}.py", text)), **(known | more))


def server(folder: Path, port: int, *, name: str = "web", text: str = SERVER, **more: Any) -> ServiceSpec:
    """Return a service that answers 200 on ``port``, or what the file ``status`` in its folder says."""
    known: dict[str, Any] = {
        "cwd": folder, "port": port, "restart": QUICK, "stop_timeout_s": 2.0,
        "ready": Readiness(http=f"http://127.0.0.1:{port}/health", timeout_s=0.5),
    }  # fmt: skip
    command = (PYTHON, "-S", program(folder, f"{name}.py", text), str(port))
    return ServiceSpec(name, command, **(known | more))


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


def mark_of(folder: Path) -> str:
    """Return the mark of the test's instance in ``folder``."""
    return f"test-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}/"


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
    """A supervisor of ``specs`` that runs for the length of a test's body.

    Several of one ``folder`` are the same instance, one after the other.
    """

    def __init__(self, folder: Path, *specs: ServiceSpec, options: Options | None = None) -> None:
        self.mark = mark_of(folder)
        self.data_dir = folder / "data"
        self.changes: list[ServiceView] = []
        chosen = dataclasses.replace(options or Options(), on_change=self.changes.append)
        self.supervision = supervise(specs, self.data_dir, mark=self.mark, options=chosen)
        self.supervisor = self.supervision.supervisor
        self.stop = asyncio.Event()

    def view(self, name: str) -> dict[str, Any]:
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

    def states_of(self, name: str) -> list[str]:
        """Return each state that one service has had, in order, without repetitions."""
        states = [str(view.state) for view in self.changes if view.name == name]
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]

    def run(self, body: Callable[[], Awaitable[None]]) -> float:
        """Run ``body`` beside the supervisor; return the seconds that stopping took."""
        return asyncio.run(self._run(body))

    def leave_after(self, body: Callable[[], Awaitable[None]]) -> None:
        """Run ``body``, then let the supervisor go and all else go on: as after its death, but tidier."""
        asyncio.run(self._leave(body))

    async def _leave(self, body: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self.supervisor.run(self.stop))
        test = asyncio.ensure_future(body())
        await asyncio.wait({task, test}, return_when=asyncio.FIRST_COMPLETED)
        self.supervisor.leave()
        await task
        self.supervision.close()
        await test

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
