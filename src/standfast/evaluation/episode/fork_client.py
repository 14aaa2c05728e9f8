"""The executor's end of the fork server: starts it, sends it episodes, and hears how each one ended.

Nothing here blocks the event loop: the socket is not waited for, and the process is started by asyncio.
When the fork server is lost, every episode of it ends with ``ForkServerLostError``, because the kernel has
killed them; the next episode starts a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from standfast.evaluation.episode.fork_server import MESSAGE_BYTES
from standfast.kernel.errors import TransientError

#: Importing the engines takes about a second; a machine that needs longer than this is not usable.
START_S = 60.0
#: How much later than its limit an episode may be reported gone before its fork server is given up.
STUCK_S = 5.0
_TRY_S = 0.01

_PROGRAM = "from standfast.evaluation.episode.fork_server import main; main()"
#: Numeric libraries start a thread per CPU; an episode is one of many, and threads do not survive a fork.
_SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class ForkServerLostError(TransientError):
    """The fork server is gone, does not start, or could not fork; its episodes have ended unscored."""

    code = "ForkServerLost"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an episode's process ended; ``killed_for`` is ``timeout``, ``request`` or empty."""

    status: int
    killed_for: str = ""


class ForkClient:
    """One fork server at a time; not shared between event loops."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = tuple(preload)
        self._ids = itertools.count(1)
        self._starting = asyncio.Lock()
        self._is_stopped = False
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._endings: dict[int, asyncio.Future[Ending]] = {}
        self._pids: dict[int, int] = {}

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the episodes that run now."""
        return tuple(self._pids.values())

    async def start(self) -> None:
        """Start the fork server unless it runs; ForkServerLostError where that fails."""
        async with self._starting:
            if self._is_stopped:
                raise ForkServerLostError("the fork server was stopped")
            if self._control is None:
                await self._see_off()
                await self._spawn()

    async def run(self, job: Mapping[str, Any], *, slate_fd: int, timeout_s: float) -> Ending:
        """Run one episode in a process of its own until it is really gone, at most ``timeout_s``.

        A cancelled call has killed the episode before it raises. Raises ForkServerLostError, when the
        kernel has been told to kill the episode.
        """
        await self.start()
        number = next(self._ids)
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        ending.add_done_callback(partial(self._forget, number))
        self._endings[number] = ending
        try:
            message = {"op": "start", "id": number, "timeout_s": timeout_s, "job": dict(job)}
            await self._send(message, [slate_fd])
            return await self._ended(ending, timeout_s + STUCK_S)
        except asyncio.CancelledError:
            await asyncio.shield(self._end_early(number, ending))
            raise
        except ForkServerLostError:
            if self._control is None:
                await self._see_off()
            raise

    async def stop(self) -> None:
        """Kill every episode, end the fork server, and wait until it is gone; it does not start again."""
        self._is_stopped = True
        self._let_go("the executor stops")
        await self._see_off()

    async def _ended(self, ending: asyncio.Future[Ending], limit_s: float) -> Ending:
        # Shielded: a call that is cancelled still has to hear how its episode ended.
        done, _ = await asyncio.wait({ending}, timeout=limit_s)
        if not done:
            # It keeps the deadlines, so it is stuck or stopped itself. Its death is its episodes' death.
            self._give_up("it did not keep a deadline")
        return await ending

    async def _end_early(self, number: int, ending: asyncio.Future[Ending]) -> None:
        if ending.done():
            return
        with contextlib.suppress(ForkServerLostError):
            await self._send({"op": "kill", "id": number}, [])
            await self._ended(ending, STUCK_S)

    def _forget(self, number: int, ending: asyncio.Future[Ending]) -> None:
        self._endings.pop(number, None)
        self._pids.pop(number, None)
        if not ending.cancelled():
            # Seen here, because a caller that was cancelled twice no longer looks.
            ending.exception()

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        self._control, self._ready = ours, loop.create_future()
        loop.add_reader(ours, self._hear)
        try:
            async with asyncio.timeout(START_S):
                with theirs:
                    self._process = await self._execute(theirs.fileno())
                await self._ready
        except (TimeoutError, OSError) as error:
            self._give_up(f"it did not start ({type(error).__name__})")
            raise ForkServerLostError("the fork server did not start", why=str(error)) from error
        except asyncio.CancelledError:
            self._give_up("its start was cancelled")
            raise

    async def _execute(self, fd: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _PROGRAM, str(fd), *self._preload,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=[fd],
            env=_environment_variables(),
            # Engines write logs where they stand (MUJOCO_LOG.TXT); here nobody can create a file.
            cwd="/proc",
            # Ctrl-C at a terminal is for the executor, which decides what becomes of its episodes.
            start_new_session=True,
        )  # fmt: skip

    async def _send(self, message: Mapping[str, Any], fds: list[int]) -> None:
        raw = json.dumps(message).encode()
        # The fork server reads at once; each round is one try, bounded by STUCK_S.
        for _ in range(int(STUCK_S / _TRY_S)):
            if self._control is None:
                raise ForkServerLostError("the fork server is gone")
            try:
                socket.send_fds(self._control, [raw], fds)
            except BlockingIOError:
                await asyncio.sleep(_TRY_S)
            except ConnectionError:
                break
            else:
                return
        self._give_up("it takes no messages")
        raise ForkServerLostError("the fork server takes no messages")

    def _hear(self) -> None:
        # Ends when the socket is empty or closed.
        while self._control is not None:
            try:
                raw = self._control.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                raw = b""
            if raw:
                self._handle(json.loads(raw))
            else:
                self._give_up("it is gone")

    def _handle(self, message: Mapping[str, Any]) -> None:
        if message["op"] == "ready":
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
            return
        number = message["id"]
        ending = self._endings.get(number)
        if ending is None or ending.done():
            return
        if message["op"] == "born":
            self._pids[number] = message["pid"]
        elif message["op"] == "gone":
            ending.set_result(Ending(message["status"], message["killed_for"]))
        else:
            ending.set_exception(ForkServerLostError("no process could be started", why=message["why"]))

    def _let_go(self, why: str) -> None:
        """Close the connection: the fork server kills its episodes and leaves."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ForkServerLostError("the fork server did not start", why=why))
            self._ready.exception()
        for ending in [*self._endings.values()]:
            if not ending.done():
                ending.set_exception(ForkServerLostError("the fork server is lost", why=why))

    def _give_up(self, why: str) -> None:
        """Close the connection and kill the fork server, for the kernel to kill its episodes."""
        self._let_go(why)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _see_off(self) -> None:
        """Wait for the process of a closed connection to end; kill it where it does not leave."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(STUCK_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _environment_variables() -> dict[str, str]:
    """Return what an episode's process may see: no proxies, and none of the executor's own secrets."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STANDFAST_") and not name.lower().endswith("_proxy")
    }
    # The child finds the same modules as its executor, wherever they were found.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**inherited, **_SINGLE_THREAD, "PYTHONPATH": path}
