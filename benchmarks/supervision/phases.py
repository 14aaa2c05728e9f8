"""What is measured, the same way for each supervisor; times are those that the services wrote themselves."""

from __future__ import annotations

import socket
import statistics
import time
from dataclasses import dataclass, field
from functools import partial

from benchmarks.supervision import measure
from benchmarks.supervision.stack import FAILURES, Event, Instance, events, kill, wait_for

#: A supervisor that has given up is asked this long after the last start.
QUIET_S = 3.0
#: Longer than supervisor's startsecs: a kill right after a start would be taken for a failed one.
SETTLED_S = 1.3
RESPAWN_LIMIT_S = 15.0


@dataclass(frozen=True)
class Bringing:
    """How a stack came up; the times are None when it never did."""

    from_command_s: float | None
    from_first_s: float | None
    failed: int
    ready: int
    given_up: int

    @property
    def is_up(self) -> bool:
        """Whether all came up."""
        return self.from_command_s is not None


def bring_up(instance: Instance, limit_s: float) -> Bringing:
    """Start the stack, and wait until all are ready, or the supervisor has given up, or the limit."""
    asked = time.monotonic()
    instance.up()
    stack = instance.stack
    names = {service.name for service in stack.services}
    slowest = max(service.start_s for service in stack.services)
    given_up: set[str] = set()

    def settled() -> bool:
        seen = events(stack)
        missing = names - {event.name for event in seen if event.what == "ready"}
        if not missing:
            return True
        last = max((event.at for event in seen), default=asked)
        if time.monotonic() - last < QUIET_S or time.monotonic() - asked < slowest + QUIET_S:
            return False
        given_up.update(instance.given_up())
        return missing <= given_up

    every_s = 0.01 if slowest < 1 else 0.05
    wait_for(settled, limit_s, every_s)
    seen = events(stack)
    firsts = {event.name: event.at for event in reversed(seen) if event.what == "ready"}
    is_up = names <= set(firsts)
    end = max(firsts.values(), default=asked)
    begin = min((event.at for event in seen), default=asked)
    return Bringing(
        end - asked if is_up else None,
        end - begin if is_up else None,
        _failures(seen),
        len(firsts),
        len(given_up),
    )


def _failures(seen: list[Event]) -> int:
    return sum(event.what in FAILURES for event in seen)


@dataclass(frozen=True)
class Respawn:
    """Milliseconds from kill -9 of one service to the first line of the next, and to its readiness."""

    respawned_ms: float | None
    ready_ms: float | None


def respawn(instance: Instance, kills: int) -> list[Respawn]:
    """Kill ``kills`` services that nobody needs, one after the other, each once."""
    time.sleep(SETTLED_S)
    found = []
    for service in instance.stack.leaves[:kills]:
        (pid,) = instance.services()[service.name] or (0,)
        assert pid, f"{service.name} does not run"
        at = time.monotonic()
        kill(pid)

        after = partial(_ms_to, instance, service.name, at)
        wait_for(lambda after=after: after("ready") is not None, RESPAWN_LIMIT_S)  # type: ignore[misc]
        found.append(Respawn(after("begin"), after("ready")))
    return found


def _ms_to(instance: Instance, name: str, at: float, what: str) -> float | None:
    times = [e.at for e in events(instance.stack) if e.name == name and e.what == what and e.at > at]
    return (times[0] - at) * 1000 if times else None


@dataclass(frozen=True)
class Idle:
    """What a supervisor uses while nothing happens: CPU in percent of a core, memory in MB."""

    count: int
    window_s: float
    cpu_percent: float
    shims_cpu_percent: float
    memory: measure.Memory
    shims_memory: measure.Memory
    processes: int
    shims: int


def idle(instance: Instance, window_s: float) -> Idle:
    """Watch it for ``window_s``; what stands beside each service is counted apart."""
    own, main = instance.own_pids(), instance.main_pids()
    shims = own - main
    before, at = (measure.cpu_s(main), measure.cpu_s(shims)), time.monotonic()
    time.sleep(window_s)
    spent_s = time.monotonic() - at
    used, used_by_shims = measure.cpu_s(main) - before[0], measure.cpu_s(shims) - before[1]
    return Idle(
        len(instance.stack.services),
        spent_s,
        used / spent_s * 100,
        used_by_shims / spent_s * 100,
        measure.memory(main),
        measure.memory(shims),
        len(main),
        len(shims),
    )


def hopeless_starts(instance: Instance, windows_s: dict[str, float]) -> tuple[dict[str, int], int]:
    """Start what can never work; return the starts of each in its window, and how many are given up."""
    instance.up()
    stack, longest = instance.stack, max(windows_s.values())
    wait_for(lambda: len({event.name for event in events(stack)}) == len(stack.services), 30)
    time.sleep(longest)
    counts = {}
    for name, window_s in windows_s.items():
        begins = [event.at for event in events(stack) if event.name == name and event.what == "begin"]
        counts[name] = sum(at < begins[0] + window_s for at in begins) if begins else 0
    return counts, len(instance.given_up())


@dataclass(frozen=True)
class Crash:
    """What became of the services after kill -9 of the supervisor and its next start."""

    services: int
    outlived: int
    kept: int
    started: int
    failed: int
    serving: int


def crash(instance: Instance, window_s: float) -> Crash:
    """Kill the supervisor, start it again, and look after ``window_s``."""
    before = instance.services()
    instance.crash()
    time.sleep(0.5)
    at = time.monotonic()
    outlived = _still(before)
    instance.again()
    time.sleep(max(0.0, at + window_s - time.monotonic()))
    seen = [event for event in events(instance.stack) if event.at > at]
    return Crash(
        len(before),
        outlived,
        _still(before),
        sum(event.what == "begin" for event in seen),
        _failures(seen),
        sum(_answers(service.port) for service in instance.stack.services),
    )


def _still(before: dict[str, set[int]]) -> int:
    return sum(bool(pids) and all(map(measure.is_alive, pids)) for pids in before.values())


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def median(values: list[float | None]) -> float | None:
    """Return the median, or None where one is missing: what never came is not faster than the rest."""
    if not values or any(value is None for value in values):
        return None
    return statistics.median([value for value in values if value is not None])


@dataclass
class Figures:
    """All that was measured of one supervisor."""

    about: str
    skipped: str = ""
    up: list[Bringing] = field(default_factory=list)
    respawns: list[Respawn] = field(default_factory=list)
    slow: Bringing | None = None
    idle: list[Idle] = field(default_factory=list)
    hopeless: dict[str, int] = field(default_factory=dict)
    hopeless_given_up: int = 0
    crash: Crash | None = None
    notes: list[str] = field(default_factory=list)
