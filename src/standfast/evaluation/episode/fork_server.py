"""The process that starts, watches, kills and buries the processes of episodes; it has no other work.

multiprocessing's fork server is not used: on Python 3.11 each of its children imports the program's
main module again (180 ms and the whole command line, against 3 ms here), it has no deadlines, and its
children's pids are signalled by a process that does not reap them.

1. Started once per executor with the engines imported; an episode is one ``fork`` of it.
2. Only this process reaps, so only it sends signals to episodes: a pid it knows is never a stranger's.
3. Deadlines are kept here: a busy or blocked executor delays no kill. A kill is SIGKILL to the episode's
   process group, and is reported only after ``waitpid`` has seen the end.
4. When the executor is gone (end of file, or another parent) every episode is killed before this process
   leaves. If this process itself is killed, the kernel kills each episode (PR_SET_PDEATHSIG).
5. It adopts what an episode leaves behind (PR_SET_CHILD_SUBREAPER), and kills it when no episode runs.
6. Nothing is waited for without limit: messages that the executor does not read are kept, not blocked on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from standfast.evaluation.episode.child import job_from_dict, run_job
from standfast.evaluation.episode.slate import SlateWriter

MESSAGE_BYTES = 262_144
#: How often a fork server that hears nothing looks whether its executor still lives.
LOOK_S = 1.0
#: What an episode's process exits with when its own start failed.
BUG_STATUS = 70

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class _Running:
    """One episode's process; ``killed_for`` is empty until it is killed."""

    id: int
    deadline: float
    killed_for: str = ""


class ForkServer:
    """The loop over one connection to the executor."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._control.setblocking(False)
        self._executor = os.getppid()
        self._pid = os.getpid()
        self._running: dict[int, _Running] = {}
        self._outbox: deque[bytes] = deque()
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def serve(self, preload: Sequence[str]) -> None:
        """Import ``preload``, say so, and serve until the executor is gone."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        missing = _import_all(preload)
        # What is loaded now stays shared with every child, because the collector never touches it.
        gc.collect()
        gc.freeze()
        self._say({"op": "ready", "pid": os.getpid(), "missing": missing})
        try:
            # Each round waits for a message, a death, or the next deadline; ends with the executor.
            while self._is_wanted():
                self._flush()
                self._wait()
                self._bury()
                self._enforce()
        finally:
            self._kill_all()

    def _is_wanted(self) -> bool:
        if os.getppid() != self._executor:
            return False
        # Ends when the socket is empty.
        while True:
            try:
                raw, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not raw:
                return False
            self._handle(json.loads(raw), fds)

    def _handle(self, message: dict[str, Any], fds: list[int]) -> None:
        if message["op"] == "start":
            self._start(message, fds[0])
        elif message["op"] == "kill":
            for pid, running in self._running.items():
                if running.id == message["id"]:
                    self._kill(pid, "request")

    def _start(self, message: dict[str, Any], slate_fd: int) -> None:
        deadline = time.monotonic() + message["timeout_s"]
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"op": "unborn", "id": message["id"], "why": str(error)})
        else:
            if pid == 0:
                self._become_episode(message["job"], slate_fd)
            self._running[pid] = _Running(message["id"], deadline)
            self._say({"op": "born", "id": message["id"], "pid": pid})
        finally:
            os.close(slate_fd)

    def _become_episode(self, job: dict[str, Any], slate_fd: int) -> NoReturn:
        """Turn this fresh copy into the episode's process."""
        try:
            _tie_to(self._pid)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._control.fileno(), self._woken, self._waker):
                os.close(fd)
            run_job(job_from_dict(job), SlateWriter(slate_fd))
        except BaseException:  # noqa: BLE001 - the top of a process
            traceback.print_exc()
        finally:
            # Whatever happens, this copy never returns into the loop of the fork server.
            os._exit(BUG_STATUS)

    def _wait(self) -> None:
        now = time.monotonic()
        wait_s = min([LOOK_S, *(r.deadline - now for r in self._running.values() if not r.killed_for)])
        poll = select.poll()
        poll.register(self._control, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        poll.register(self._woken, select.POLLIN)
        poll.poll(max(0.0, wait_s) * 1000)
        with contextlib.suppress(BlockingIOError):
            # Only the waking counts, and it may have been for several deaths.
            os.read(self._woken, 4096)

    def _bury(self) -> None:
        """Report every death; ends when no child is dead, and each reaping removes one."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            running = self._running.pop(dead.si_pid, None)
            if running is not None:
                # Not reaped yet, so the group's number cannot have become a stranger's.
                _kill_group(dead.si_pid)
            _, status = os.waitpid(dead.si_pid, 0)
            if running is not None:
                self._say(
                    {
                        "op": "gone",
                        "id": running.id,
                        "status": os.waitstatus_to_exitcode(status),
                        "killed_for": running.killed_for,
                    }
                )
            if not self._running:
                self._kill_adopted()

    def _enforce(self) -> None:
        now = time.monotonic()
        for pid, running in self._running.items():
            if now >= running.deadline and not running.killed_for:
                self._kill(pid, "timeout")

    def _kill(self, pid: int, reason: str) -> None:
        running = self._running[pid]
        running.killed_for = running.killed_for or reason
        _kill_group(pid)
        # The group exists only once the child has made it.
        os.kill(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for pid in self._running:
            self._kill(pid, "request")
        # A killed child ends unless it is stuck inside the kernel; that is waited for by nobody.
        deadline = time.monotonic() + 2.0
        while self._running and time.monotonic() < deadline:
            self._bury()
            time.sleep(0.005)
        self._kill_adopted()

    def _kill_adopted(self) -> None:
        """Kill what episodes left behind: with no episode running, every child is such a one."""
        with contextlib.suppress(OSError):
            for pid in Path("/proc/thread-self/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        self._outbox.append(json.dumps(message).encode())
        self._flush()

    def _flush(self) -> None:
        # Each round sends one message; ends when all are sent or the socket is full.
        while self._outbox:
            try:
                self._control.send(self._outbox[0])
            except BlockingIOError:
                return
            except ConnectionError:
                self._outbox.clear()
                return
            self._outbox.popleft()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _tie_to(server: int) -> None:
    """Die with the fork server, lead a group of one's own, be the first to go when memory ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        # It died before the tie was made, and the signal will not come.
        os._exit(BUG_STATUS)
    os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _import_all(modules: Sequence[str]) -> list[str]:
    missing = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - the plugin boundary; the episode that needs it tells the reason
            missing.append(module)
    return missing


def main() -> None:
    """Serve the connection whose descriptor is the first argument; the others are modules to import."""
    control = socket.socket(fileno=int(sys.argv[1]))
    ForkServer(control).serve(sys.argv[2:])
