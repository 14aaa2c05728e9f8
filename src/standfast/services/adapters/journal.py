"""One file per service that everything it prints is appended to, never a pipe: our death blocks nobody.

1. At a start, a file beyond the limit moves aside to ``NAME.log.1``; one older generation is kept.
2. A service that floods its log while it runs cannot be made to open another file. Its file is open in
   append mode, so it may be emptied under it: the last part is kept as ``NAME.log.1``, the rest is
   dropped and counted.
3. What is shown of it holds no control characters: a log may not drive the reader's terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

#: Largest size of one log file.
LIMIT_BYTES = 10_000_000
#: What is kept of a file that is emptied under a running service.
KEPT_BYTES = 1_000_000
#: Growth between two looks that makes the next one come soon.
FAST_BYTES = 1_000_000
_TAIL_BYTES = 8_192
_TAIL_LINES = 12
_LINE_LENGTH = 400
#: What one look for a line reads at most.
_LOOK_BYTES = 262_144


class FileJournal:
    """The log of one service."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._dropped_bytes = 0
        self._life_at = 0
        self._looked_at = 0
        self._seen_bytes = 0
        self.grows_fast = False

    @property
    def path(self) -> str:
        """Where it lies."""
        return str(self._path)

    def open(self) -> int:
        """Return a descriptor to append to, after moving a file aside that is too large."""
        self.begin()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def begin(self) -> int:
        """Move a file aside that is too large; return where the next life's output begins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._size() > self._limit_bytes:
            self._path.replace(self._older)
        self.resume(self._size())
        return self._life_at

    def resume(self, life_at: int) -> None:
        """Take the output of a life back that began at ``life_at``, unless the file was emptied since."""
        self._life_at = life_at if life_at <= self._size() else 0
        self._looked_at = self._life_at

    def bound(self) -> int:
        """Keep the size within the limit; return how many bytes were dropped so far."""
        size = self._size()
        self.grows_fast = size - self._seen_bytes > FAST_BYTES
        self._seen_bytes = size
        if size > self._limit_bytes:
            kept = self._read_end(KEPT_BYTES)
            # On a full disk nothing can be kept, and emptying the file is all the more urgent.
            with contextlib.suppress(OSError):
                self._older.write_bytes(kept)
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
                self._life_at = self._looked_at = 0
                self._dropped_bytes += size - len(kept)
        return self._dropped_bytes

    def tail(self) -> tuple[str, ...]:
        """Return the last lines, without control characters."""
        return _lines(self._read_end(_TAIL_BYTES))[-_TAIL_LINES:]

    def lines(self) -> tuple[str, ...]:
        """Return the last lines that the present life wrote."""
        written = max(0, self._size() - self._life_at)
        return _lines(self._read_end(min(_TAIL_BYTES, written)))

    def saw(self, pattern: str) -> bool:
        """Return whether a line of the present life that was not looked at before matches ``pattern``.

        Raises re.error where that is no regular expression, whether there are lines or not.
        """
        wanted = re.compile(pattern)
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(min(self._looked_at, self._size()))
            raw = file.read(_LOOK_BYTES)
            whole = raw[: raw.rfind(b"\n") + 1]
            self._looked_at = (
                file.tell() - len(raw) + (len(whole) or (len(raw) if len(raw) == _LOOK_BYTES else 0))
            )
            return any(wanted.search(line) for line in _lines(whole))
        return False

    @property
    def _older(self) -> Path:
        return self._path.with_name(self._path.name + ".1")

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - asked for hundreds of logs, again and again
        except OSError:
            return 0

    def _read_end(self, count: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - count))
                return file.read(count)
        except OSError:
            return b""


def _lines(raw: bytes) -> tuple[str, ...]:
    text = raw.decode("utf-8", "replace")
    lines = ("".join(c for c in line if c.isprintable())[:_LINE_LENGTH] for line in text.splitlines())
    return tuple(line for line in lines if line.strip())
