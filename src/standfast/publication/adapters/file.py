"""Publishes into a directory: numbered files that never change, and ``latest.json``.

1. ``000007.json`` is publication 7. It is linked into place from a finished, synced file, without
   overwriting: that link is the moment of publication.
2. ``latest.json`` is a copy of the highest number (K17), replaced atomically after it. If a crash falls
   between the two, the next call completes it.
3. One writer at a time, by ``flock`` on ``.lock``; waiting for it is bounded.
4. What is damaged or foreign is named and left alone, and nothing is published over it.
5. History is kept for ``round verify``; old numbers may be deleted by whoever needs the room.

The directory is on one local filesystem that has hard links; over NFS flock and rename promise less.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from standfast.kernel.errors import ConfigError
from standfast.publication.decide import fence
from standfast.publication.document import (
    MAX_DOCUMENT_BYTES,
    Document,
    DocumentError,
    parse,
    published_of,
    render,
)
from standfast.publication.model import Published
from standfast.publication.ports import (
    AlreadyThere,
    PublisherDamagedError,
    PublisherUnavailableError,
    PublisherUnusableError,
    Sent,
    refusal,
)

LATEST: Final = "latest.json"
LOCK: Final = ".lock"
# Fixed names: only the holder of the lock writes them, so whatever is found was left by a crash.
_INCOMING: Final = ".incoming.tmp"
_LATEST_INCOMING: Final = ".latest.tmp"
_NUMBERED = re.compile(r"\d+\.json")
_LOCK_POLL_S: Final = 0.02
_MOST_LOCK_WAIT_S: Final = 600.0

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})
_NO_DIRECTORY: Final = frozenset({errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG})
# What opening something that is no plain file of bounded size answers, here and from the kernel.
_NOT_A_FILE: Final = frozenset({errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.EFBIG, errno.ENXIO})

_T = TypeVar("_T")


class Disk:
    """The operating system's calls that publishing makes, one method per step that a crash can follow.

    Every method raises OSError as the kernel answers. Tests subclass it to fail or die at each step.
    """

    def make_directory(self, path: Path) -> None:
        """Create ``path`` and what is missing above it, durably; an existing directory is fine."""
        if path.is_dir():
            return
        missing = [path, *(parent for parent in path.parents if not parent.exists())]
        path.mkdir(parents=True, exist_ok=True)
        for created in missing:
            self.sync_directory(created.parent)

    @contextlib.contextmanager
    def locked(self, path: Path, *, wait_s: float) -> Iterator[None]:
        """Hold the exclusive lock on ``path``; TimeoutError after ``wait_s`` without it."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            deadline = time.monotonic() + wait_s
            while not _try_lock(handle):  # Bounded by the deadline.
                if time.monotonic() >= deadline:
                    raise TimeoutError
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)

    def names(self, directory: Path) -> list[str]:
        """Return the names in ``directory``."""
        return [entry.name for entry in directory.iterdir()]

    def read(self, path: Path) -> bytes:
        """Return the bytes of the plain file ``path``; EINVAL or EFBIG if it is none or too large."""
        # Non-blocking: opening a FIFO that was put there must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "not a plain file")
            with os.fdopen(handle, "rb", closefd=False) as source:
                data = source.read(MAX_DOCUMENT_BYTES + 1)
        finally:
            os.close(handle)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise OSError(errno.EFBIG, "larger than a publication")
        return data

    def write_new(self, path: Path, data: bytes) -> None:
        """Create ``path`` with ``data`` and sync it; EEXIST if it is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o644), "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())

    def link(self, source: Path, target: Path) -> None:
        """Give ``source`` the second name ``target``; EEXIST if that is taken."""
        os.link(source, target, follow_symlinks=False)

    def replace(self, source: Path, target: Path) -> None:
        """Rename ``source`` over ``target``, atomically."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove ``path``; an absent one is fine."""
        path.unlink(missing_ok=True)

    def sync_directory(self, path: Path) -> None:
        """Make the names in ``path`` durable."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True, slots=True)
class _Held:
    """The highest numbered publication, and whether ``latest.json`` is it already."""

    document: Document
    is_latest: bool


class FilePublisher:
    """A ``Publisher`` over the directory ``directory``, which the first publication creates.

    ``lock_wait_s`` bounds how long another writer is waited for. A directory that does not exist holds
    no publication. Calls do their work in a thread and do not block the loop; one that is cancelled
    finishes in the background, which is harmless because every outcome is whole.
    """

    def __init__(self, directory: Path, *, lock_wait_s: float = 5.0, disk: Disk | None = None) -> None:
        if not 0 <= lock_wait_s <= _MOST_LOCK_WAIT_S:  # Waiting for NaN or infinity never ends.
            raise ConfigError(f"lock_wait_s must be from 0 to {_MOST_LOCK_WAIT_S:.0f}, not {lock_wait_s}")
        self._directory = directory
        self._lock_wait_s = lock_wait_s
        self._disk = disk or Disk()

    def __repr__(self) -> str:
        return f"FilePublisher({str(self._directory)!r})"

    async def publish(self, document: Document) -> Sent | AlreadyThere:
        """Make ``document`` the last publication; see ``Publisher``.

        PublisherUnavailableError: locked, or the disk is full. PublisherUnusableError: may not write, or
        the disk fails. ConfigError: not a directory. PublisherDamagedError: what is there is not ours.
        """
        return await asyncio.to_thread(self._explained, lambda: self._publish(document))

    async def read_back(self) -> Published | None:
        """Return what is held now; see ``Publisher``. Raises as ``publish`` does."""
        return await asyncio.to_thread(self._explained, self._read_back)

    def _publish(self, document: Document) -> Sent | AlreadyThere:
        self._disk.make_directory(self._directory)
        with self._disk.locked(self._directory / LOCK, wait_s=self._lock_wait_s):
            self._sweep()
            held = self._settled()
            now_held = published_of(held.document) if held else None
            objections = fence(document, now_held)
            if objections:
                raise refusal(objections)
            if now_held is not None and now_held.epoch == document.epoch:
                return AlreadyThere(now_held)
            self._commit(document)
            return Sent(self._confirmed(document))

    def _read_back(self) -> Published | None:
        try:
            held = self._look()
        except FileNotFoundError:
            return None
        if held is None:
            return None
        if held.is_latest:
            # As in _settled: what is reported must outlive a power cut.
            self._disk.sync_directory(self._directory)
            return published_of(held.document)
        with self._disk.locked(self._directory / LOCK, wait_s=self._lock_wait_s):
            self._sweep()
            settled = self._settled()
        return published_of(settled.document) if settled else None

    def _sweep(self) -> None:
        """Remove what a crash left half written; the caller holds the lock."""
        for name in (_INCOMING, _LATEST_INCOMING):
            self._disk.remove(self._directory / name)

    def _settled(self) -> _Held | None:
        """Complete what a crash interrupted and return what is held; the caller holds the lock."""
        held = self._look()
        if held is None:
            return None
        # Its writer may have died before the name was durable; nothing is reported that is not.
        self._disk.sync_directory(self._directory)
        if not held.is_latest:
            self._point_latest(held.document)
        return held

    def _commit(self, document: Document) -> None:
        incoming, latest = self._directory / _INCOMING, self._directory / _LATEST_INCOMING
        target = self._path(document.epoch)
        with self._removed_after(incoming), self._removed_after(latest):
            # Both copies find their room on the disk before the first of them counts.
            self._disk.write_new(incoming, render(document))
            self._disk.write_new(latest, render(document))
            try:
                self._disk.link(incoming, target)
            except FileExistsError:
                self._object_to(target, "it appeared while the directory was locked")
            self._disk.sync_directory(self._directory)
            self._disk.replace(latest, self._directory / LATEST)
            self._disk.sync_directory(self._directory)

    def _point_latest(self, document: Document) -> None:
        # A copy, not a link: if the numbered file is damaged later, the good content is still here.
        incoming = self._directory / _LATEST_INCOMING
        with self._removed_after(incoming):
            self._disk.write_new(incoming, render(document))
            self._disk.replace(incoming, self._directory / LATEST)
            self._disk.sync_directory(self._directory)

    @contextlib.contextmanager
    def _removed_after(self, path: Path) -> Iterator[None]:
        try:
            yield
        finally:
            # On a full disk the half-written file holds the room that others need. If even this fails,
            # the next publication sweeps.
            with contextlib.suppress(OSError):
                self._disk.remove(path)

    def _confirmed(self, document: Document) -> Published:
        held = self._look()
        if held is None or not held.is_latest or held.document != document:
            raise PublisherDamagedError(
                f"publication {document.epoch} was written and reads back differently",
                fix=f"check the disk under {self._directory}, then compare {self._path(document.epoch)}",
            )
        return published_of(held.document)

    def _look(self) -> _Held | None:
        """Read what is held, without the lock.

        ``latest.json`` is read before the directory is listed: its number was there before it, so a
        writer at work can make it look late, never early.
        """
        latest = self._read(self._directory / LATEST)
        newest = self._newest(self._disk.names(self._directory))
        if newest is None:
            if latest is not None:
                self._object_to_missing(latest)
            return None
        document = self._read(self._path(newest))
        if document is None:
            self._object_to(self._path(newest), "it vanished while it was read")
        if document.epoch != newest:
            self._object_to(self._path(newest), f"it holds epoch {document.epoch}")
        if latest is None or latest.epoch < newest:
            return _Held(document, is_latest=False)
        if latest.epoch > newest:
            self._object_to_missing(latest)
        if latest != document:
            self._object_to(self._directory / LATEST, f"it differs from {self._path(newest).name}")
        return _Held(document, is_latest=True)

    def _newest(self, names: list[str]) -> int | None:
        numbers = []
        for name in names:
            if _NUMBERED.fullmatch(name) is None:
                continue
            digits = name.removesuffix(".json")
            if len(digits) > 16 or name != _file_name(int(digits)):
                self._object_to(self._directory / name, "its name is not a number as publications have it")
            numbers.append(int(digits))
        return max(numbers, default=None)

    def _read(self, path: Path) -> Document | None:
        try:
            return parse(self._disk.read(path))
        except FileNotFoundError:
            return None
        except DocumentError as error:
            self._object_to(path, error.what)
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise
            self._object_to(path, "it is not a plain file of bounded size")

    def _object_to(self, path: Path, why: str) -> NoReturn:
        other = "the highest numbered file" if path.name == LATEST else f"{LATEST}, the last good copy"
        raise PublisherDamagedError(
            f"{path} is not a publication that was written here",
            why=why,
            fix=f"compare it with {other}, then move it out of {self._directory}",
        )

    def _object_to_missing(self, latest: Document) -> NoReturn:
        path = self._path(latest.epoch)
        raise PublisherDamagedError(
            f"{path} is missing",
            why=f"{LATEST} is publication {latest.epoch}",
            fix=f"restore it: cp -n {self._directory / LATEST} {path}",
        )

    def _path(self, epoch: int) -> Path:
        return self._directory / _file_name(epoch)

    def _explained(self, act: Callable[[], _T]) -> _T:
        """Run ``act`` and turn the operating system's answers into what an operator must do."""
        where = self._directory
        try:
            return act()
        except TimeoutError:
            raise PublisherUnavailableError(
                f"another process has been publishing into {where} for more than {self._lock_wait_s} s",
                fix=f"see who holds it: fuser {where / LOCK}",
                code="PublisherLocked",
            ) from None
        except OSError as error:
            raise _explanation(error, where) from error


def _explanation(error: OSError, where: Path) -> Exception:
    why = os.strerror(error.errno) if error.errno is not None else str(error)
    if error.filename is not None:
        why = f"{why}: {os.fsdecode(error.filename)}"
    if error.errno in _NO_ROOM:
        return PublisherUnavailableError(
            f"no room to publish into {where}", why=why, fix=f"free space: df {where}", code="PublisherFull"
        )
    if error.errno in _NOT_ALLOWED:
        return PublisherUnusableError(
            f"may not use {where} for publications",
            why=why,
            fix="make it writable for this user, on a filesystem that is writable and has hard links",
            code="PublisherReadOnly",
        )
    if error.errno in _NO_DIRECTORY:
        return ConfigError(
            f"{where} cannot be the directory of publications",
            why=why,
            fix="name a directory, or a path that does not exist yet",
            code="PublisherPathInvalid",
        )
    return PublisherUnusableError(
        f"cannot publish into {where}",
        why=why,
        fix=f"look for disk errors: dmesg, and stat {where}",
        code="PublisherIoError",
    )


def _file_name(epoch: int) -> str:
    return f"{epoch:06d}.json"


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
