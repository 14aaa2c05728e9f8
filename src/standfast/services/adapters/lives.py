"""Reads what the shims wrote down, and hears their hints.

1. ``lives/NAME/life.json`` is the truth about the latest life of a service, whoever supervises it now.
2. A hint on ``lives/supervisor.sock`` has the same content and comes at once. It may get lost, and then the
   shim's own end, seen through a pidfd, or the next look at the file tells the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from standfast.services.model import ExitStatus, Identity, Outcome

LIVES_NAME = "lives"
FILE_NAME = "life.json"
_SOCKET_NAME = "supervisor.sock"
_LARGEST_BYTES = 65_536
#: No kernel gives out more (PID_MAX_LIMIT, threads.h).
_LARGEST_PID = 4 * 1024 * 1024
_BUFFER_BYTES = 1_000_000


class Life(NamedTuple):
    """One life as its shim wrote it down; ``log_at`` is where in the log it begins."""

    name: str
    life: str
    spec: str
    boot_id: str
    shim: Identity
    child: Identity
    started_s: float
    started_at: float
    log_at: int
    cgroups: tuple[str, ...]
    ready_s: float | None
    status: str
    is_stopped: bool
    asked_by: int
    exit: Mapping[str, Any] | None
    is_gone: bool

    def outcome(self, lost: str = "") -> Outcome:
        """Return how it ended, as far as that was written down."""
        if self.exit is None:
            return Outcome(None, lost=lost)
        told = self.exit
        asked = f"pid {self.asked_by}" if self.asked_by else ""
        return Outcome(
            ExitStatus(int(told["code"]), int(told["signal"])),
            left_behind=int(told["left"]),
            oom_kills=_first(told["oom_kills"], told["shared_oom_kills"]),
            is_shared=told["oom_kills"] is None,
            peak_bytes=int(told["peak_bytes"]),
            asked_by=asked,
            ended_s=float(told["s"]),
        )


class Refusal(NamedTuple):
    """There is no ``life``, because of ``why``."""

    life: str
    why: str


def _first(own: int | None, shared: int | None) -> int | None:
    """Return the group's own counter, else the growth of the one that it shares with others."""
    return shared if own is None else own


def life_of(raw: bytes) -> Life | None:
    """Return what a shim told, or None where it is not that."""
    try:
        told = json.loads(raw)
        boot = str(told["boot"])
        life = Life(
            name=str(told["name"]),
            life=str(told["life"]),
            spec=str(told["spec"]),
            boot_id=boot,
            shim=Identity(boot, int(told["shim"][0]), int(told["shim"][1])),
            child=Identity(boot, int(told["child"][0]), int(told["child"][1])),
            started_s=float(told["started_s"]),
            started_at=float(told["started_at"]),
            log_at=int(told["log_at"]),
            cgroups=tuple(str(folder) for folder in told["cgroups"]),
            ready_s=None if told["ready_s"] is None else float(told["ready_s"]),
            status=str(told["status"]),
            is_stopped=bool(told["stopped"]),
            asked_by=int(told["asked_by"]),
            exit=told["exit"],
            is_gone=bool(told["gone"]),
        )
        life.outcome()
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return None
    return life if all(0 <= one.pid <= _LARGEST_PID for one in (life.shim, life.child)) else None


def refusal_of(raw: bytes) -> Refusal | None:
    """Return what a shim told that could begin no life, or None where it is not that."""
    try:
        told = json.loads(raw)
        return Refusal(str(told["life"]), str(told["refused"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_life(folder: Path) -> Life | None:
    """Return the life written down in ``folder``, or None."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            return life_of(file.read(_LARGEST_BYTES))
    except OSError:
        return None


def all_lives(root: Path) -> Iterator[Life]:
    """Yield every life that is written down below ``root``."""
    with contextlib.suppress(OSError):
        for folder in sorted(root.iterdir()):
            life = read_life(folder) if folder.is_dir() else None
            if life is not None and life.name == folder.name:
                yield life


def forget(root: Path, life: Life) -> None:
    """Remove the record of a life that ended and was taken note of."""
    folder = root / life.name
    if (current := read_life(folder)) is not None and current.life == life.life:
        with contextlib.suppress(OSError):
            (folder / FILE_NAME).unlink()


class Hints:
    """Hears the shims; ``hear`` is called in the event loop with everything that was told."""

    def __init__(self, root: Path, hear: Callable[[Life | Refusal], None]) -> None:
        self._root = root
        self._hear = hear
        self._socket: socket.socket | None = None
        self._inode = 0

    def open(self) -> None:
        """Begin to listen; of several listeners the last one hears."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            (self._root / _SOCKET_NAME).unlink()
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        heard.setblocking(False)
        # The path of a data directory may be longer than the 107 bytes that fit into an address.
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            heard.bind(f"/proc/self/fd/{folder}/{_SOCKET_NAME}")
        finally:
            os.close(folder)
        self._inode = self._inode_now()
        asyncio.get_running_loop().add_reader(heard.fileno(), self._listen)
        self._socket = heard

    def mend(self) -> None:
        """Listen anew where somebody has removed the socket."""
        if self._socket is not None and self._inode_now() != self._inode:
            self.close()
            with contextlib.suppress(OSError):
                self.open()

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def wait(self, wait_s: float) -> list[Life]:
        """Return the lives that are told within ``wait_s``, without the event loop."""
        assert self._socket is not None
        select.select([self._socket], [], [], wait_s)
        return [told for told in self._told() if isinstance(told, Life)]

    def _listen(self) -> None:
        for told in self._told():
            self._hear(told)

    def _told(self) -> Iterator[Life | Refusal]:
        assert self._socket is not None
        # Ends when the buffer is empty.
        while True:
            try:
                raw = self._socket.recv(_LARGEST_BYTES)
            except BlockingIOError:
                return
            told = life_of(raw) or refusal_of(raw)
            if told is not None:
                yield told

    def _inode_now(self) -> int:
        try:
            return (self._root / _SOCKET_NAME).stat().st_ino
        except OSError:
            return 0
