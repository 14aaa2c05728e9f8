"""Ends what runs without a supervisor, when nobody is to take it back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from standfast.services.adapters import procfs
from standfast.services.adapters.lives import FILE_NAME, all_lives
from standfast.services.model import Identity

#: How long it goes on killing; what is not gone then is stuck in the kernel.
_KILL_S = 10.0
#: The longest that a shim may take for an orderly end of its service.
_ORDERLY_S = 60.0
_LOOK_S = 0.02


class Left(NamedTuple):
    """How many processes were found, and how many of them could not be ended."""

    ended: int
    remaining: int


def end_all(mark: str, lives: Path, *, grace_s: float) -> Left:
    """End every life below ``lives`` in order, then whatever else carries ``mark``; forget the lives."""
    known = list(all_lives(lives))
    shims = [life.shim for life in known if procfs.is_alive(life.shim)]
    found = len(procfs.marked(mark))
    _signal_all(shims, (signal.SIGTERM, signal.SIGCONT))
    _wait(lambda: not any(procfs.is_alive(shim) for shim in shims), _ORDERLY_S)
    remaining = _end_marked(mark, grace_s)
    if not remaining:
        for life in known:
            (lives / life.name / FILE_NAME).unlink(missing_ok=True)
    return Left(found, remaining)


def _end_marked(mark: str, grace_s: float) -> int:
    """Ask, then kill, everything that carries ``mark``; return how many remain."""
    started, was_asked = time.monotonic(), False
    # Each turn looks anew; bounded by the grace and the time for killing.
    while True:
        left = procfs.marked(mark)
        waited_s = time.monotonic() - started
        if not left or waited_s > grace_s + _KILL_S:
            return len(left)
        if waited_s >= grace_s:
            _signal_all(left, (signal.SIGKILL,))
        elif not was_asked:
            was_asked = True
            _signal_all(left, (signal.SIGTERM, signal.SIGCONT))
        time.sleep(_LOOK_S)


def _wait(holds: object, limit_s: float) -> None:
    assert callable(holds)
    until_s = time.monotonic() + limit_s
    while not holds() and time.monotonic() < until_s:
        time.sleep(_LOOK_S)


def _signal_all(targets: Iterable[Identity], numbers: Iterable[int]) -> None:
    for target in targets:
        for number in numbers:
            procfs.send(target, number)
