"""The model for a bare machine: splats by rules, on the CPU, in milliseconds."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from generation_stack.model.port import CancelToken, Memory, Wish
from generation_stack.splats import ply, procedural

DEFAULT_COUNT = 40_000
_STATM = Path("/proc/self/statm")


class ProceduralBackend:
    """Loads nothing. ``load_s`` and ``pace`` are for demonstrations and tests; by default it is not slowed.

    ``load_s`` is how long loading takes; ``pace`` is the most Gaussians per second.
    """

    name = "procedural"
    takes = frozenset({"prompt", "image"})
    takes_count = True

    def __init__(self, *, load_s: float = 0.0, pace: int = 0) -> None:
        self._load_s = load_s
        self._pace = pace
        self._peak = 0
        self._libc = ctypes.CDLL(None, use_errno=True)

    def load(self, token: CancelToken) -> None:
        """Make one small result, so that the first request is as quick as the others."""
        procedural.from_prompt("a ball", seed=0, count=1_000, progress=lambda made: token.check())
        if self._load_s:
            token.wait(self._load_s)

    def make(self, wish: Wish, token: CancelToken) -> bytes:
        """Make one result; the same wish gives the same bytes."""

        def progress(made: int) -> None:
            self._peak = max(self._peak, _resident_bytes())
            token.check()
            if self._pace:
                token.wait(made / self._pace)

        count = wish.count or DEFAULT_COUNT
        if wish.picture is not None:
            cloud = procedural.from_picture(wish.picture, seed=wish.seed, count=count, progress=progress)
        else:
            cloud = procedural.from_prompt(wish.prompt, seed=wish.seed, count=count, progress=progress)
        token.check()
        data = ply.encode(cloud)
        self._peak = max(self._peak, _resident_bytes())
        return data

    def release(self) -> None:
        """Give freed memory back to the system; the allocator of glibc keeps it otherwise."""
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)
        self._peak = 0

    def memory(self) -> Memory:
        """Return the resident memory of this process: there is no other device."""
        now = _resident_bytes()
        return Memory("resident", now, max(now, self._peak))


def _resident_bytes() -> int:
    return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
