"""Time for deadlines that outlive a process: it goes on while the machine sleeps and never jumps.

Within one boot it is CLOCK_BOOTTIME. After a reboot that has begun anew, and the wall clock, which may
have been set, is all there is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(NamedTuple):
    """A point in time as it is kept on disk."""

    boot_id: str
    boot_s: float
    wall_s: float


class Clock:
    """The machine's clock."""

    def __init__(self) -> None:
        self.boot_id = _BOOT_ID.read_text("ascii").strip()

    def now(self) -> float:
        """Return the seconds since this boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def moment(self, at: float) -> Moment:
        """Return the point in time that ``now()`` calls ``at``, in a form that can be kept."""
        return Moment(self.boot_id, at, time.time() + (at - self.now()))

    def read(self, moment: Moment) -> float:
        """Return what ``now()`` says, said or will say at a kept point in time."""
        if moment.boot_id == self.boot_id:
            return moment.boot_s
        return self.now() + (moment.wall_s - time.time())
