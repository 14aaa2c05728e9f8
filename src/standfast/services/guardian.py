"""Outlives a supervisor that was killed, for as long as it takes to end what that one had started.

Run as ``python -m standfast.services.guardian MARK GRACE_S``. Its standard input is a pipe of which only
the supervisor holds the other end, so the end of file means that the supervisor is gone, by whatever
means. The kernel's own tie (PR_SET_PDEATHSIG) reaches direct children only, and SIGTERM can be ignored.

Lines on standard input: ``PID START_TICKS`` of each service's process, or ``done`` before a clean end.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable

from standfast.services.adapters import procfs
from standfast.services.model import Identity

#: How long it goes on killing; what is not gone then is stuck in the kernel.
_KILL_S = 10.0
_LOOK_S = 0.02


def main() -> None:
    """Wait for the end of the supervisor, then end what is left of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever stops everything stops the supervisor, and that one stops this.
        signal.signal(number, signal.SIG_IGN)
    leaders = read_leaders(sys.stdin)
    if leaders is not None:
        end_all(sys.argv[1], leaders, grace_s=float(sys.argv[2]))


def read_leaders(lines: Iterable[str]) -> list[Identity] | None:
    """Return the processes that were named by the end of ``lines``, or None after a clean end."""
    boot, leaders = procfs.boot_id(), []
    for line in lines:
        words = line.split()
        if words == ["done"]:
            return None
        # A supervisor that is killed in mid-write leaves half a line.
        if len(words) == 2 and line.endswith("\n"):
            leaders.append(Identity(boot, int(words[0]), int(words[1])))
    return leaders


def end_all(mark: str, leaders: Iterable[Identity], *, grace_s: float) -> int:
    """End everything that carries ``mark`` or is in a leader's session; return how many remain.

    A leader that no longer lives is no proof of who has its number now, so its session is not used.
    """
    known = list(leaders)
    started, was_asked = time.monotonic(), False
    # Each turn looks anew; bounded by the grace and the time for killing.
    while True:
        sessions = frozenset(leader.pid for leader in known if procfs.is_alive(leader))
        left = procfs.marked(mark, sessions=sessions)
        waited_s = time.monotonic() - started
        if not left or waited_s > grace_s + _KILL_S:
            return len(left)
        if waited_s >= grace_s:
            _signal_all(left, (signal.SIGKILL,))
        elif not was_asked:
            was_asked = True
            _signal_all(left, (signal.SIGTERM, signal.SIGCONT))
        time.sleep(_LOOK_S)


def _signal_all(targets: Iterable[Identity], numbers: Iterable[int]) -> None:
    for target in targets:
        for number in numbers:
            procfs.send(target, number)


if __name__ == "__main__":
    main()
