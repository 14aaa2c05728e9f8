"""Reads what the kernel knows of a death: its log, and the oom_kill counter of a control group.

Nothing here judges. That something could not be read is a result of its own, with the reason: it supports
neither "it was memory" nor "it was not".

Sources: Documentation/ABI/testing/dev-kmsg, Documentation/admin-guide/cgroup-v2.rst (memory.events),
Documentation/admin-guide/cgroup-v1/memory.rst (memory.oom_control), proc(5), cgroups(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from standfast.services.failures.kernel_log import KernelLine, parse_record

_KMSG = Path("/dev/kmsg")
_PROC = Path("/proc")
_RECORD_BYTES = 8_192
#: The ring has some ten thousand records at most; a flood that never ends must end for us.
_MOST_RECORDS = 50_000
_MOST_KEPT = 2_000
_COMMAND_S = 5.0
#: The kernel stamps its log with a clock that nobody corrects. It drifts from the one that started_s is
#: of, by some tens of millionths of the time since the boot.
_DRIFT = 5e-5
_MARGIN_S = 1.0
_STAMPED = re.compile(r"\[ *(?P<at>\d{1,12}\.\d{1,9})\] ?(?P<text>.*)")
_SOURCE = re.compile(r"\S{1,255} kernel: ")
_COMMANDS = (
    ("dmesg", "--color=never"),
    ("journalctl", "--dmesg", "--output=short-monotonic", "--no-pager", f"--lines={_MOST_KEPT}"),
)

Run = Callable[[Sequence[str]], str]


class Unread(NamedTuple):
    """Something could not be read; what it would have said is unknown."""

    why: str


class KernelLog:
    """The kernel's log, read on: a look costs what was logged since the one before.

    Safe to be asked by several threads. ``path`` is a character device or, in a test, a pipe of records.
    """

    def __init__(self, path: Path = _KMSG, run: Run | None = None) -> None:
        self._path = path
        self._run = run or _output_of
        self._lock = threading.Lock()
        self._file: int | None = None
        self._kept: deque[KernelLine] = deque(maxlen=_MOST_KEPT)

    def since(self, started_s: float) -> tuple[str, ...] | Unread:
        """Return the lines since ``started_s`` (monotonic), the oldest first, with a margin for drift."""
        earliest_s = started_s - _MARGIN_S - _DRIFT * time.monotonic()
        with self._lock:
            try:
                self._read_on()
                lines: Iterable[KernelLine] = tuple(self._kept)
            except OSError as error:
                self.close()
                found = _by_command(self._run)
                if isinstance(found, Unread):
                    return Unread(f"{self._path}: {error.strerror}; {found.why}")
                lines = found
        return tuple(line.text for line in lines if line.at_s >= earliest_s)

    def close(self) -> None:
        """Give the device back; the next look opens it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None

    def _read_on(self) -> None:
        if self._file is None:
            self._kept.clear()
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Every turn takes one record out of what was there; bounded besides.
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(self._file, _RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # Records were overwritten before they were read, or one is longer than the buffer: read on.
                if error.errno in (errno.EPIPE, errno.EINVAL):
                    continue
                raise
            if not record:
                return
            self._keep(record)

    def _keep(self, record: bytes) -> None:
        for part in _records(record.decode("utf-8", "replace")):
            line = parse_record(part)
            if line is not None:
                self._kept.append(line)


def _records(text: str) -> Iterator[str]:
    """Yield records; the device gives one at a time, and continuation lines begin with a space."""
    for line in text.splitlines():
        if line[:1].isdigit():
            yield line


def _by_command(run: Run) -> tuple[KernelLine, ...] | Unread:
    """Ask the programs that may be allowed what we are not: a group or a capability of a file."""
    reasons = []
    for command in _COMMANDS:
        try:
            lines = tuple(parse_stamped(run(command).splitlines()))
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{command[0]}: {_reason(error)}")
            continue
        if lines:
            return lines
        reasons.append(f"{command[0]}: it shows nothing")
    return Unread("; ".join(reasons))


def parse_stamped(lines: Iterable[str]) -> Iterator[KernelLine]:
    """Yield what dmesg and journalctl print as ``[seconds] text``; other lines are left out."""
    for line in lines:
        found = _STAMPED.match(line)
        if found is not None:
            yield KernelLine(float(found["at"]), 6, 0, _SOURCE.sub("", found["text"], count=1))


def _output_of(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_COMMAND_S,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        return said[-1][:200] if said else f"exit code {error.returncode}"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it took too long"


class Cgroup(NamedTuple):
    """The control group that accounts a process's memory: its name, and the folder that shows it."""

    path: str
    folder: Path


def cgroup_of(pid: int, *, proc: Path = _PROC) -> Cgroup | Unread:
    """Return the control group of ``pid``; read it while the process lives."""
    try:
        groups = (proc / str(pid) / "cgroup").read_text("utf-8", "replace")
        mounts = (proc / "self" / "mountinfo").read_text("utf-8", "replace")
    except OSError as error:
        return Unread(f"the control group of process {pid}: {error.strerror}")
    path, kind = _memory_path(groups)
    for root, folder in _mounts(mounts, kind):
        inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else path
        found = folder / inside.lstrip("/")
        if found.is_dir():
            return Cgroup(path, found)
    return Unread(f"no folder shows the control group {path or '(none)'} of process {pid}")


def oom_kills(cgroup: Cgroup) -> int | Unread:
    """Return how many processes of ``cgroup`` the kernel has killed for memory since it was made.

    Read it before the group is removed: with the group goes the counter.
    """
    reasons = []
    for name in ("memory.events", "memory.oom_control"):
        try:
            text = (cgroup.folder / name).read_text("utf-8", "replace")
        except OSError as error:
            reasons.append(f"{name}: {error.strerror}")
            continue
        counted = parse_oom_kill(text)
        if counted is not None:
            return counted
        reasons.append(f"{name}: it has no oom_kill (the kernel is older than 4.13)")
    return Unread("; ".join(reasons))


def parse_oom_kill(text: str) -> int | None:
    """Return the value of ``oom_kill`` in a memory.events or memory.oom_control; None without one."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def is_shared(cgroup: Cgroup, own: frozenset[int]) -> bool | Unread:
    """Whether processes other than ``own`` live in the group, so that its counter speaks for them too."""
    try:
        pids = {int(word) for word in (cgroup.folder / "cgroup.procs").read_text().split() if word.isdigit()}
    except OSError as error:
        return Unread(f"cgroup.procs: {error.strerror}")
    return not pids <= own


def _memory_path(groups: str) -> tuple[str, str]:
    """Return the path and the kind of file system of the group that accounts memory."""
    unified = ""
    for line in groups.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "memory" in controllers.split(","):
            return path, "cgroup"
        if not controllers:
            unified = path
    return unified, "cgroup2"


def _mounts(mounts: str, kind: str) -> Iterator[tuple[str, Path]]:
    """Yield root and mount point of each mount that shows groups of ``kind`` (and of memory, where split)."""
    for line in mounts.splitlines():
        left, dash, right = line.partition(" - ")
        fields, words = left.split(" "), right.split(" ")
        if not dash or len(fields) < 5 or len(words) < 3 or words[0] != kind:
            continue
        if kind == "cgroup2" or "memory" in words[2].split(","):
            yield fields[3], Path(fields[4].replace("\\040", " "))
