"""What /proc says about processes (proc(5)): who belongs to a run, CPU time, memory; nothing is changed.

A process belongs to a run when the run's mark is in its environment, which children inherit. One that
vanishes while it is read is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MARK = "SF_BENCH_MARK"


class Memory(NamedTuple):
    """MB of several processes together; PSS counts what is shared once."""

    rss_mb: float
    pss_mb: float


def processes() -> list[int]:
    """Return all pids."""
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - names only


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _fields(pid: int) -> list[bytes]:
    """Return /proc/PID/stat from the state on; the name before it may hold anything."""
    return _read(pid, "stat").rpartition(b") ")[2].split()


def is_alive(pid: int) -> bool:
    """Return whether there is such a process and it is no zombie."""
    return _fields(pid)[:1] not in ([], [b"Z"], [b"X"])


def command(pid: int) -> list[str]:
    """Return the arguments of ``pid``."""
    return _read(pid, "cmdline").decode(errors="replace").rstrip("\0").split("\0")


def marked(mark: str) -> set[int]:
    """Return the living processes with ``mark`` in their environment."""
    wanted = f"{MARK}={mark}".encode()
    return {pid for pid in processes() if wanted in _read(pid, "environ") and is_alive(pid)}


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds that ``pids``, and the children they have waited for, have used so far."""
    return sum(_own_cpu_s(pid) + _waited_cpu_s(pid) for pid in pids)


def _own_cpu_s(pid: int) -> float:
    # schedstat counts nanoseconds where stat counts ticks of 10 ms: 0.05 % of a core for 20 s is one tick.
    total, found = 0, False
    for entry in (_PROC / str(pid)).glob("task/*/schedstat"):
        try:
            total, found = total + int(entry.read_bytes().split()[0]), True
        except (OSError, ValueError, IndexError):
            continue
    fields = _fields(pid)
    if found or len(fields) < 15:
        return total / 1e9
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _waited_cpu_s(pid: int) -> float:
    fields = _fields(pid)
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_S if len(fields) > 14 else 0.0


def memory(pids: Iterable[int]) -> Memory:
    """Return what ``pids`` hold."""
    rss = pss = 0
    for pid in pids:
        for line in _read(pid, "smaps_rollup").splitlines():
            if line.startswith(b"Rss:"):
                rss += int(line.split()[1])
            elif line.startswith(b"Pss:"):
                pss += int(line.split()[1])
    return Memory(rss / 1024, pss / 1024)
