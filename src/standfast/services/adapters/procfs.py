"""Reads /proc: who lives, in which state and session, with which mark, and who listens on a port (proc(5)).

A process that vanishes while it is read, or that may not be read, is not there for the reader. Nothing
here signals anything without having checked, through a pidfd, that the pid is still the same process.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from standfast.services.adapters.sockets import listeners
from standfast.services.model import STOPPED, Identity

#: Every process of a run carries this in its environment, inherited by whatever it starts. Not named like
#: our settings: what holds those back from a child must let the mark through.
MARK_VARIABLE = "SF_SERVICE"

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MOST_DESCENDANTS = 1_000
#: Who was found to hold a port, looked at first the next time: finding one means reading every process.
_holders: dict[int, int] = {}


class ProcessStat(NamedTuple):
    """The fields of /proc/PID/stat that matter here."""

    pid: int
    letter: str
    parent: int
    session: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether it can still do anything; a zombie cannot."""
        return self.letter not in ("Z", "X")


class Listener(NamedTuple):
    """Who listens on a port; ``pid`` is 0 where that may not be seen."""

    pid: int
    command: str

    @property
    def text(self) -> str:
        """The holder in words."""
        return f"pid {self.pid} ({self.command})" if self.pid else "a process of another user"


def boot_id() -> str:
    """Return what names this boot of the machine; empty where the kernel does not say."""
    with contextlib.suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def read_stat(pid: int) -> ProcessStat | None:
    """Return what /proc says about ``pid``, or None."""
    try:
        raw = (_PROC / str(pid) / "stat").read_bytes()
        # The name in parentheses may itself hold spaces and parentheses: count from the last one.
        fields = raw[raw.rindex(b")") + 2 :].split()
        return ProcessStat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has ``pid`` now, or None."""
    stat = read_stat(pid)
    return None if stat is None else Identity(boot_id(), pid, stat.start_ticks)


def is_alive(identity: Identity) -> bool:
    """Return whether exactly this process still lives; a zombie does not."""
    stat = read_stat(identity.pid)
    return (
        stat is not None
        and stat.is_alive
        and stat.start_ticks == identity.start_ticks
        and boot_id() == identity.boot_id
    )


def processes() -> Iterator[ProcessStat]:
    """Yield every process that can be read."""
    for name in os.listdir(_PROC):  # noqa: PTH208 - names are all that is needed, and there are many
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                yield stat


def stopped_below(pid: int) -> int:
    """Return a descendant of ``pid`` that is stopped, or 0; as far as the kernel lists children."""
    unseen, seen = _children(pid), 0
    # Each turn takes one off; bounded, because a service that makes processes without end is another matter.
    while unseen and seen < _MOST_DESCENDANTS:
        child, seen = unseen.pop(), seen + 1
        stat = read_stat(child)
        if stat is not None and stat.letter in STOPPED:
            return child
        unseen += _children(child)
    return 0


def memory_below(pid: int) -> int:
    """Return the resident memory of ``pid`` and its descendants in bytes, as far as it can be read."""
    unseen, seen, pages = [pid], 0, 0
    # Each turn takes one off; bounded as above.
    while unseen and seen < _MOST_DESCENDANTS:
        one, seen = unseen.pop(), seen + 1
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int((_PROC / str(one) / "statm").read_text().split()[1])
        unseen += _children(one)
    return pages * _PAGE_BYTES


def running_as(*arguments: str) -> list[Identity]:
    """Return every other living process whose command line ends with ``arguments``."""
    wanted, boot, own = "\0".join((*arguments, "")).encode(), boot_id(), os.getpid()
    found = []
    for stat in processes():
        with contextlib.suppress(OSError):
            line = (_PROC / str(stat.pid) / "cmdline").read_bytes()
            if stat.is_alive and stat.pid != own and line.endswith(b"\0" + wanted):
                found.append(Identity(boot, stat.pid, stat.start_ticks))
    return found


def listening_ports() -> frozenset[int]:
    """Return every TCP port that is listened on, on any local address."""
    return frozenset(port for port, _ in listeners())


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(_PROC / str(pid) / "task"):  # noqa: PTH208 - names are all that is needed
            text = (_PROC / str(pid) / "task" / thread / "children").read_text()
            found += [int(word) for word in text.split()]
    return found


def mark_of(pid: int) -> str:
    """Return the mark of a process, or an empty string."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    prefix = f"{MARK_VARIABLE}=".encode()
    for entry in raw.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode("utf-8", "replace")
    return ""


def marked(prefix: str, *, sessions: frozenset[int] = frozenset()) -> list[Identity]:
    """Return every living process whose mark begins with ``prefix`` or whose session is among ``sessions``.

    The mark finds what has made a session of its own; the session finds what has overwritten its environment.
    This process is never among them.
    """
    boot, own = boot_id(), os.getpid()
    return [
        Identity(boot, stat.pid, stat.start_ticks)
        for stat in processes()
        if stat.is_alive
        and stat.pid != own
        and (stat.session in sessions or mark_of(stat.pid).startswith(prefix))
    ]


def send(identity: Identity, number: int) -> bool:
    """Send a signal to exactly this process; return whether it was there to get it."""
    try:
        handle = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        # The pidfd now pins the process: if the identity matches, the signal cannot reach another one.
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def name_of(pid: int) -> str:
    """Return what a process calls itself (at most 15 characters), or an empty string."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text("utf-8", "replace").rstrip("\n")
    return ""


def open_handle(identity: Identity) -> int | None:
    """Return a pidfd of exactly this process, to be closed by the caller; None where it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if is_alive(identity):
        return handle
    os.close(handle)
    return None


def command_of(pid: int) -> str:
    """Return the program's name and, for an interpreter, the script; never its other arguments.

    Arguments may hold secrets (I12), and this text is shown.
    """
    try:
        parts = (_PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "?"
    names = [Path(part).name for part in parts if part and not part.startswith("-")]
    if not names:
        return "?"
    is_interpreter = names[0].startswith(("python", "node", "sh", "bash", "java", "perl", "ruby"))
    return " ".join(names[:2] if is_interpreter else names[:1])


def listener(port: int) -> Listener | None:
    """Return who listens on TCP ``port`` on any local address, or None."""
    inodes = {inode for listened, inode in listeners() if listened == port}
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    known = _holders.get(port, 0)
    if known and _has_open(known, wanted):
        return Listener(known, command_of(known))
    return _find_holder(port, wanted)


def _find_holder(port: int, wanted: set[str]) -> Listener:
    for stat in processes():
        if _has_open(stat.pid, wanted):
            _holders[port] = stat.pid
            return Listener(stat.pid, command_of(stat.pid))
    return Listener(0, "")


def _has_open(pid: int, links: set[str]) -> bool:
    with contextlib.suppress(OSError), os.scandir(_PROC / str(pid) / "fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in links:  # noqa: PTH115 - a link to no path at all
                    return True
    return False
