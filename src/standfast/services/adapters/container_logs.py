"""Copies what a container prints into our own log, exactly once, whoever supervises it in the meantime.

The engine keeps the output in a file of its own, so that nobody's death blocks the container. What was copied
is known by the time of the last entry; what was copied after that was last written down is known by how much
longer our log has grown, because nobody else writes there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from standfast.services.adapters.container_ends import nanoseconds
from standfast.services.adapters.engine import EngineDownError, EngineLink, EngineRefusedError
from standfast.services.adapters.journal import FileJournal

_SAVE_S = 1.0
_RETRY_S = 0.5
#: A container that floods its log must not take the supervisor's time from all others: copying it may use
#: this share of a processor. What it cannot keep up with waits in the engine's file, which is bounded.
_MOST_SHARE = 0.1


class Cursor(NamedTuple):
    """How far it was copied: the last entry's time, how many had that very time, our log's size then."""

    ns: int = 0
    same: int = 0
    size: int = 0


class LogCopy:
    """Copies one container's output; ``save`` is called in the thread with each cursor worth keeping."""

    def __init__(self, link: EngineLink, container: str, *, is_tty: bool) -> None:
        self.cursor = Cursor()
        self._link = link
        self._container = container
        self._is_tty = is_tty
        self._closing = threading.Event()
        self._stream: Any = None
        self._save: Callable[[Cursor], None] = lambda _: None
        self._saved_s = 0.0
        self._again = 0

    def begin(
        self,
        cursor: Cursor,
        journal: FileJournal,
        save: Callable[[Cursor], None],
        finished: Callable[[], None],
    ) -> None:
        """Copy what comes after ``cursor``; ``finished`` is called in the thread at the container's end."""
        self.cursor, self._save = cursor, save

        def run() -> None:
            with contextlib.suppress(OSError):  # Where no log can be opened, there is nothing to copy into.
                self._run(journal)
            finished()

        threading.Thread(target=run, name="container log", daemon=True).start()

    def close(self) -> None:
        """Stop copying; the next one goes on from here."""
        self._closing.set()
        self._cut()

    def _cut(self) -> None:
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.close()

    def _run(self, journal: FileJournal) -> None:
        log = os.open(journal.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            copied = max(0, os.fstat(log).st_size - self.cursor.size)
            is_over = False
            # Each turn is one connection; ends with the container, or with this copy.
            while not is_over and not self._closing.is_set():
                try:
                    self._copy(log, copied)
                    copied, is_over = 0, not self._link.is_running(self._container)
                except EngineRefusedError:
                    is_over = True
                except EngineDownError:
                    self._closing.wait(_RETRY_S)
            self._keep(log)
        finally:
            os.close(log)

    def _copy(self, log: int, surplus: int) -> None:
        # Floats have a microsecond's grain at this size; what comes twice is told by its exact time.
        since = max(self.cursor.ns / 1e9 - 1e-3, 1e-3)
        self._stream = self._link.lines_of(self._container, since)
        pace = _Pace()
        for ns, text in self._entries(self._stream):
            if not self._is_fresh(ns):
                continue
            skipped = min(surplus, len(text))
            surplus -= skipped
            with contextlib.suppress(OSError):  # A full disk loses lines, and nothing else.
                os.write(log, text[skipped:])
            if time.monotonic() - self._saved_s > _SAVE_S:
                self._keep(log)
            pace.keep(self._closing)

    def _is_fresh(self, ns: int) -> bool:
        """Whether an entry was not copied yet; of entries at the cursor's very time, the first ones were."""
        if ns == self.cursor.ns and self._again < self.cursor.same:
            self._again += 1
            return False
        if ns < self.cursor.ns:
            return False
        same = self.cursor.same + 1 if ns == self.cursor.ns else 1
        self._again = same
        self.cursor = Cursor(ns, same, self.cursor.size)
        return True

    def _entries(self, stream: Any) -> Iterator[tuple[int, bytes]]:
        """Yield the time and the text of each entry."""
        self._again = 0
        for piece in _lines(stream) if self._is_tty else stream:
            stamp, _, text = piece.partition(b" ")
            yield nanoseconds(stamp.decode("ascii", "replace")), text

    def _keep(self, log: int) -> None:
        self._saved_s = time.monotonic()
        self.cursor = self.cursor._replace(size=os.fstat(log).st_size)
        self._save(self.cursor)


def _lines(stream: Any) -> Iterator[bytes]:
    """Yield whole lines of what comes in arbitrary pieces, as the output of a terminal does."""
    waiting = b""
    for piece in stream:
        waiting += piece
        *whole, waiting = waiting.split(b"\n")
        yield from (line + b"\n" for line in whole)
    if waiting:
        yield waiting


class _Pace:
    """Keeps the time that this thread uses below its share of each second."""

    def __init__(self) -> None:
        self._since_s, self._used_s = time.monotonic(), time.thread_time()

    def keep(self, closing: threading.Event) -> None:
        """Wait out the second where its share is used up."""
        passed_s, used_s = time.monotonic() - self._since_s, time.thread_time() - self._used_s
        if passed_s < 1.0 and used_s < _MOST_SHARE:
            return
        closing.wait(max(0.0, used_s / _MOST_SHARE - passed_s))
        self._since_s, self._used_s = time.monotonic(), time.thread_time()
