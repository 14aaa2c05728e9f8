"""Keeps an executor's finished reports on disk until the API has answered them.

1. ``append`` returns when the report and its directory entry are fsynced: from then on a power failure
   costs a second delivery, never the report.
2. One file per report, each with the hash of its content. A file that does not match is set aside under
   ``damaged/`` and counted; the others are unharmed.
3. The spool is bounded. An executor that finds it full, or its disk full, must stop taking work.
4. One process per folder, by a lock that the kernel drops when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import ConflictError, StandfastError, TransientError

_SUFFIX = ".report"
_PARTIAL = ".partial"
_DAMAGED = "damaged"
_TRIAL_BYTES = 4_096


class SpoolUnwritableError(TransientError):
    """The report could not be made durable: the disk is full or refuses, or the bound is reached."""

    code = "SpoolUnwritable"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much may wait for delivery."""

    reports: int = 10_000
    bytes: int = 64_000_000


class Spooled(NamedTuple):
    """A report that waits for its answer; ``number`` gives the order in which reports were finished."""

    number: int
    item: Mapping[str, Any]
    size: int


class Spool:
    """The reports of one executor that nobody has answered yet.

    * ``waiting`` lists them oldest first, those of earlier lives too.
    * A report leaves only by ``remove``; what cannot be read leaves by being set aside, and is counted.
    * Not for several threads at once: its owner calls it from one place at a time.
    """

    def __init__(self, folder: Path, limits: SpoolLimits | None = None) -> None:
        self._folder = folder
        self._limits = limits or SpoolLimits()
        self._waiting: dict[int, Spooled] = {}
        self._bytes = 0
        self.damaged = 0
        self._lock_fd = -1
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = _take_lock(folder)
            self._load()
        except OSError as error:
            self.close()
            raise _unwritable(folder, error) from error
        self._next = max(self._waiting, default=0) + 1

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def waiting(self) -> tuple[Spooled, ...]:
        """What waits for an answer, oldest first."""
        return tuple(self._waiting[number] for number in sorted(self._waiting))

    def __len__(self) -> int:
        return len(self._waiting)

    def room(self) -> int:
        """Return how many more reports may be appended."""
        if self._bytes >= self._limits.bytes:
            return 0
        return max(0, self._limits.reports - len(self._waiting))

    def append(self, item: Mapping[str, Any]) -> Spooled:
        """Make ``item`` durable and return it; SpoolUnwritableError where that is not possible."""
        if self.room() == 0:
            raise SpoolUnwritableError(
                f"{len(self)} reports wait in {self._folder}, and that is the bound",
                fix="make the API reachable: they are delivered by themselves",
                code="SpoolFull",
            )
        body = canonical_json(item).encode("utf-8", "replace")
        number = self._next
        try:
            _write_durably(self._path(number), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        self._next = number + 1
        return self._keep(number, item, len(body))

    def try_disk(self) -> None:
        """Write and delete as much as a report may need; SpoolUnwritableError where the disk refuses."""
        trial = self._folder / f"trial{_PARTIAL}"
        try:
            _write_durably(trial, b"0" * _TRIAL_BYTES)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        finally:
            with contextlib.suppress(OSError):
                trial.unlink(missing_ok=True)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget reports that were answered; one that cannot be deleted is delivered again, harmlessly."""
        for number in numbers:
            with contextlib.suppress(OSError):
                self._path(number).unlink(missing_ok=True)
            gone = self._waiting.pop(number, None)
            self._bytes -= gone.size if gone else 0
        with contextlib.suppress(OSError):
            _sync_folder(self._folder)

    def _keep(self, number: int, item: Mapping[str, Any], size: int) -> Spooled:
        self._waiting[number] = Spooled(number, item, size)
        self._bytes += size
        return self._waiting[number]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{_SUFFIX}"

    def _load(self) -> None:
        """Read what earlier lives left; each file is kept, set aside, or (half written) deleted."""
        self.damaged = len(list((self._folder / _DAMAGED).glob("*")))
        for path in sorted(self._folder.iterdir()):
            if path.suffix == _PARTIAL:
                path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                self._load_one(path)

    def _load_one(self, path: Path) -> None:
        raw = path.read_bytes()
        item = _checked(raw)
        if item is None or not path.stem.isdecimal():
            self._set_aside(path)
        else:
            self._keep(int(path.stem), item, len(raw))

    def _set_aside(self, path: Path) -> None:
        aside = self._folder / _DAMAGED
        aside.mkdir(exist_ok=True)
        # The name says which one it was, the suffix keeps an earlier one of that name.
        path.rename(aside / f"{path.name}.{self.damaged}")
        self.damaged += 1


def _checked(raw: bytes) -> Mapping[str, Any] | None:
    """Return the report in ``raw``; None where it is not what was written."""
    digest, newline, body = raw.partition(b"\n")
    if not newline or hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        item = json.loads(body)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def _write_durably(path: Path, content: bytes) -> None:
    partial = path.with_suffix(_PARTIAL)
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        partial.rename(path)
        _sync_folder(path.parent)
    except OSError:
        # Nothing was acknowledged; what is left of it must not use up the disk.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _write_all(fd: int, content: bytes) -> None:
    """Write all of ``content``; each turn writes at least a byte or raises."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_lock(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 100, 0).decode("utf-8", "replace").strip()
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise ConflictError(
            f"the spool {folder} is in use by {holder or 'another process'}",
            why="an executor of this name runs already",
            fix="stop it, or start this one under another name (--name)",
            code="ExecutorRunning",
        ) from None
    with contextlib.suppress(OSError):  # A full disk must not hide behind the note of who we are.
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()}".encode(), 0)
    return fd


def _unwritable(folder: Path, error: OSError) -> StandfastError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return SpoolUnwritableError(
        f"reports cannot be kept in {folder}",
        why=error.strerror or type(error).__name__,
        fix="free some space there (df -h); no work is taken until then" if is_full else f"ls -ld {folder}",
        code="SpoolDiskFull" if is_full else "SpoolUnwritable",
    )
