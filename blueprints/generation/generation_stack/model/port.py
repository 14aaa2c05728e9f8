"""What the service needs of a model; ``procedural`` and ``trellis`` are the two that there are."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from generation_stack.splats.png import Bytes


class CancelledWorkError(Exception):
    """The work was stopped because nobody waits for it any more; never a result, never a failure."""


class LoadError(Exception):
    """The model cannot be loaded; the text says why and what to do."""


class CancelToken:
    """Tells a working thread to stop; the thread has to ask, often enough to stop within a second."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._cancelled_at = 0.0

    def cancel(self) -> None:
        """Ask the work to stop."""
        if not self._event.is_set():
            self._cancelled_at = time.monotonic()
            self._event.set()

    @property
    def cancelled_for_s(self) -> float:
        """Seconds since it was asked to stop; 0 while it was not."""
        return time.monotonic() - self._cancelled_at if self._event.is_set() else 0.0

    def check(self) -> None:
        """Raise CancelledWorkError where the work was asked to stop."""
        if self._event.is_set():
            raise CancelledWorkError

    def wait(self, wait_s: float) -> None:
        """Wait, but not longer than until the work is asked to stop, which raises."""
        self._event.wait(wait_s)
        self.check()


@dataclass(frozen=True, slots=True)
class Wish:
    """What one request asks for: a prompt or a picture. ``count`` is None where the model decides."""

    seed: int
    prompt: str = ""
    picture: Bytes | None = field(default=None, compare=False)
    count: int | None = None


class Memory(NamedTuple):
    """Bytes that the model's device holds for this process."""

    kind: str
    now_bytes: int
    peak_bytes: int


class Backend(Protocol):
    """One kind of model. All methods but ``cancel`` of a token are called in one thread, one at a time.

    - ``load`` returns when ``make`` may be called, and raises LoadError where that will never be.
    - ``make`` returns a whole PLY file; it asks ``token`` at least several times a second.
    - ``release`` gives back all memory but the model itself, and may be called at any time after ``load``.
    - ``memory`` measures the device; the peak is of the time since the last ``release``.
    """

    name: str
    #: Which of "prompt" and "image" it takes.
    takes: frozenset[str]
    #: Whether a request may say how many Gaussians it wants.
    takes_count: bool

    def load(self, token: CancelToken) -> None:
        """Load the model."""

    def make(self, wish: Wish, token: CancelToken) -> bytes:
        """Make one result."""

    def release(self) -> None:
        """Give memory back."""

    def memory(self) -> Memory:
        """Measure."""
