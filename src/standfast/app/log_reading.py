"""Reads a log by position: its end, the part of one life, and what is appended, whatever becomes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from standfast.kernel.errors import UnhealthyError
from standfast.services.adapters.lives import LIVES_NAME, read_life

#: What is read of a log at most: of its end, and of what was appended between two looks.
LARGEST_BYTES = 4_000_000
#: What has no end by then is told without one.
_LONGEST_LINE_BYTES = 1_000_000


def last_lines(path: Path, count: int, *, begin: int = 0) -> list[str]:
    """Return the last ``count`` lines that stand behind position ``begin``."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(min(begin, size), size - LARGEST_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError as error:
        raise UnhealthyError(
            f"{path} cannot be read", why=error.strerror or "", fix=f"ls -l {path}"
        ) from error
    return text.splitlines()[-count:]


def life_begins_at(data_dir: Path, name: str, path: Path) -> int | None:
    """Return where in its log the latest life of a service begins; None where none is written down.

    A log that was emptied under the life has only that life's output.
    """
    life = read_life(data_dir / LIVES_NAME / name)
    if life is None:
        return None
    try:
        return life.log_at if life.log_at <= path.stat().st_size else 0
    except OSError:
        return 0


class LogReader:
    """Reads what is appended to a log, whole lines at a time.

    A log that is moved aside is followed to the new one of its name, after its rest was read; one that is
    emptied is read from its beginning.
    """

    def __init__(self, path: Path, at: int, inode: int) -> None:
        self._path = path
        self._at = at
        self._inode = inode
        self._rest = b""

    @classmethod
    def at_end(cls, path: Path) -> LogReader:
        """Return a reader of everything that is appended from now on."""
        try:
            stat = path.stat()
        except OSError:
            return cls(path, 0, 0)
        return cls(path, stat.st_size, stat.st_ino)

    def more(self) -> Sequence[str]:
        """Return the lines that were completed since the last call; none where the log cannot be read."""
        try:
            with self._path.open("rb") as stream:
                stat = os.fstat(stream.fileno())
                before = self._older() if self._inode and stat.st_ino != self._inode else b""
                if stat.st_ino != self._inode or stat.st_size < self._at:
                    self._at, self._inode = 0, stat.st_ino
                stream.seek(self._at)
                new = stream.read(LARGEST_BYTES)
                self._at += len(new)
        except OSError:
            return ()
        whole, found, self._rest = (self._rest + before + new).rpartition(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            whole, self._rest = whole + found + self._rest, b""
        return whole.decode("utf-8", "replace").splitlines()

    def _older(self) -> bytes:
        """Return what had not been read of the file that was moved aside."""
        older = self._path.with_name(f"{self._path.name}.1")
        try:
            with older.open("rb") as stream:
                if os.fstat(stream.fileno()).st_ino != self._inode:
                    return b""
                stream.seek(self._at)
                return stream.read(LARGEST_BYTES)
        except OSError:
            return b""
