"""Ends the instance of a data directory from outside, and sees that it has ended."""

from __future__ import annotations

import enum
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from standfast.app import hold
from standfast.app.instance import Run, Unreadable, read_run
from standfast.services.adapters.procfs import is_alive, send
from standfast.services.model import Identity

#: The longest that an orderly end may take: executors drain, programs get their time, the store closes.
ORDERLY_S = 60.0
_LOOK_S = 0.05


class Ended(enum.StrEnum):
    """How an instance came to its end."""

    NOTHING_RAN = "nothing_ran"
    STOPPED = "stopped"
    WAS_GONE = "was_gone"  # It had been killed before; what it had left was ended now.
    STILL_RUNS = "still_runs"


@dataclass(frozen=True, slots=True)
class Down:
    """What became of the instance; ``run`` is the one that was meant, where its record could be read."""

    ended: Ended
    run: Run | None
    waited_s: float


def bring_down(
    data_dir: Path, *, limit_s: float = ORDERLY_S, told: Callable[[str], None] = lambda _: None
) -> Down:
    """Ask the instance of ``data_dir`` to end, once, and wait until it has, or ``limit_s`` is over.

    Raises ConflictError where another start is under way, or something cannot be ended.
    """
    lost = hold.lost_supervisors(data_dir)
    ended = _end_lost(lost, limit_s, told) if lost else None
    run = read_run(data_dir)
    if ended is not None and run is None:
        return ended
    if run is None and not (data_dir / hold.LOCK_NAME).exists():
        return Down(Ended.NOTHING_RAN, None, 0.0)
    if not isinstance(run, Run) or not run.is_alive:
        with hold.held(data_dir):
            left = hold.end_leftovers(data_dir)
        known = None if isinstance(run, Unreadable) else run
        return Down(Ended.WAS_GONE if left else Ended.NOTHING_RAN, known, 0.0)
    told(f"asking process {run.process.pid} to stop")
    started_s = time.monotonic()
    # A stopped process keeps the request pending, so it is continued too.
    for number in (signal.SIGTERM, signal.SIGCONT):
        send(run.process, number)
    # Each turn looks once; bounded by the limit.
    while is_alive(run.process) and time.monotonic() - started_s < limit_s:
        time.sleep(_LOOK_S)
    outcome = Ended.STILL_RUNS if is_alive(run.process) else Ended.STOPPED
    return Down(outcome, run, time.monotonic() - started_s)


def _end_lost(lost: Sequence[Identity], limit_s: float, told: Callable[[str], None]) -> Down:
    """End supervisors whose records were removed while they ran; each ends its services in order."""
    started_s = time.monotonic()
    for one in lost:
        told(f"asking process {one.pid} to stop, whose record was removed")
        for number in (signal.SIGTERM, signal.SIGCONT):
            send(one, number)
    # Each turn looks once; bounded by the limit.
    while any(map(is_alive, lost)) and time.monotonic() - started_s < limit_s:
        time.sleep(_LOOK_S)
    ended = Ended.STILL_RUNS if any(map(is_alive, lost)) else Ended.STOPPED
    return Down(ended, None, time.monotonic() - started_s)
