"""Writes what ``up`` tells: a page that is redrawn on a terminal, lines anywhere else.

A terminal that has gone away, a closed pipe or a full disk never ends the instance: what cannot be told
is dropped.
"""

from __future__ import annotations

import sys
from typing import IO, Any, Protocol, TextIO, cast

from rich.console import Console
from rich.live import Live

from standfast.app.progress import Seen, news, nothing_seen, page, progress_line

#: Between two lines about a round that merely goes on.
_PROGRESS_S = 10.0


class Reporter(Protocol):
    """Tells a person how the instance is.

    * Neither method raises because the reader is gone.
    """

    def say(self, text: str) -> None:
        """Tell one line now."""
        ...

    def show(self, seen: Seen, now_s: float) -> None:
        """Tell what is new in ``seen``; ``now_s`` is monotonic."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


def tolerant(stream: TextIO) -> TextIO:
    """Return ``stream`` in a form that drops what cannot be written instead of raising."""
    # It passes on every attribute that it does not have, which no type can say.
    return cast(TextIO, _TolerantStream(stream))


class _TolerantStream:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text`` if that is possible; say that it was."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LineReporter:
    """One line per event, for pipes and logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before: Seen = nothing_seen()
        self._told_s = float("-inf")

    def say(self, text: str) -> None:
        """Tell one line now."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def show(self, seen: Seen, now_s: float) -> None:
        """Tell what happened since the last look, and every ten seconds how far the round is."""
        stamp = f"{seen['at'][11:19]} "
        lines = news(self._before, seen)
        self._before = seen
        progress = progress_line(seen)
        if progress and now_s - self._told_s >= _PROGRESS_S:
            self._told_s = now_s
            lines.append(progress)
        for line in lines:
            self.say(f"{stamp}{line}")

    def close(self) -> None:
        """Do nothing: lines stand."""


class PageReporter:
    """A page that is redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Tell one line above the page."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, seen: Seen, now_s: float) -> None:
        """Redraw the page."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(page(seen), refresh=True)

    def close(self) -> None:
        """Take the page away and give the cursor back: what it showed is true no longer."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def reporter_for(stream: TextIO | None = None) -> Reporter:
    """Return the reporter that suits ``stream``, stderr where none is given."""
    target = tolerant(stream or sys.stderr)
    return PageReporter(target) if target.isatty() else LineReporter(target)
