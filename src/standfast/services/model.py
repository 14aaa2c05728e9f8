"""What a service is, where it stands, and what was seen of it: frozen values.

A *service* is a program that this instance keeps running: an executor, or one of the blueprint's own. A
*life* is one start of it to its end.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from standfast.kernel.verdict import Verdict

#: State letters of a process that a signal or a debugger has stopped (proc(5)).
STOPPED = frozenset({"T", "t"})


class ServiceState(enum.StrEnum):
    """Where a service stands."""

    STOPPED = "stopped"
    STARTING = "starting"  # It runs and has not been ready in this life, which is still young.
    READY = "ready"
    NOT_READY = "not_ready"  # It runs and does not answer as it should.
    BACKOFF = "backoff"  # It ended and is started again soon.
    HELD = "held"  # Starting it again would not help; says what would.
    STOPPING = "stopping"  # It was told to stop.


class ServiceEvent(enum.Enum):
    """What can happen to a service."""

    START = enum.auto()  # Its process was made.
    ANSWERED = enum.auto()  # The judgement is PASS.
    LATE = enum.auto()  # The judgement is worse than PASS, and it is no longer young or was ready.
    END_RETRY = enum.auto()  # It ended, and the rules say: start again.
    END_HOLD = enum.auto()  # It ended or cannot be started, and the rules say: do not.
    STOP = enum.auto()  # Somebody asked for its end.
    GONE = enum.auto()  # Nothing of it runs any more, as was asked.


class Identity(NamedTuple):
    """One process and no other: a pid alone is given out again, (boot, pid, start) never is."""

    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must answer before a service is ready; with neither, running for a while has to do.

    ``http`` is a URL that must answer 200, ``tcp`` is ``HOST:PORT``. ``timeout_s`` bounds one probe.
    ``start_s`` is how long a life may take to its first answer before that is called a fault.
    """

    http: str = ""
    tcp: str = ""
    timeout_s: float = 2.0
    start_s: float = 30.0

    @property
    def is_probed(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self.http or self.tcp)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how soon a service that ended is started again.

    ``backoff_s`` doubles with every end up to ``cap_s``, and falls back only after a life that was ready
    for ``stable_s``. After ``max_fast_failures`` equal ends without ever being ready it is held.
    """

    backoff_s: float = 1.0
    cap_s: float = 30.0
    max_fast_failures: int = 3
    stable_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as it was declared; ``stage`` orders starts (low first) and stops (high first)."""

    name: str
    command: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    ready: Readiness = Readiness()
    restart: RestartPolicy = RestartPolicy()
    stop_timeout_s: float = 5.0
    is_required: bool = True
    stage: int = 0


class ExitStatus(NamedTuple):
    """How a process ended: by ``code``, or by ``signal_number`` where that is not 0."""

    code: int
    signal_number: int = 0

    @property
    def text(self) -> str:
        """The end in words, with the signal's name."""
        if not self.signal_number:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(self.signal_number).name
        except ValueError:
            name = "signal"
        return f"killed by {name} ({self.signal_number})"


@dataclass(frozen=True, slots=True)
class End:
    """How one life ended; ``left_behind`` counts processes of it that outlived its own."""

    status: ExitStatus
    lived_s: float
    ready_s: float  # How long it had been ready at the end; 0 = it never was.
    last_line: str = ""
    left_behind: int = 0
    at: str = ""

    @property
    def was_ready(self) -> bool:
        """Whether this life was ever ready."""
        return self.ready_s > 0


class ProbeSample(NamedTuple):
    """What one probe saw; never judges. ``reason`` is CamelCase, empty where the answer was good."""

    at_s: float
    reason: str = ""
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the answer was the wanted one."""
        return not self.reason


class Seen(NamedTuple):
    """What was observed of a running service by ``now_s`` (monotonic).

    ``letter`` is the state of its process in /proc (R, S, D, T, Z), empty where it could not be read;
    ``stopped_below`` is a process of its own making that is stopped, or 0.
    """

    now_s: float
    started_s: float
    pid: int
    letter: str
    latest: ProbeSample | None = None
    last_good_s: float | None = None
    stopped_below: int = 0


class Judgement(NamedTuple):
    """What the evidence about a running service supports."""

    verdict: Verdict
    reason: str
    message: str
    remedy: str = ""


class Restart(NamedTuple):
    """Start it again after ``delay_s``."""

    delay_s: float


class Held(NamedTuple):
    """Do not start it again until something changes, or ``retry_s`` has passed as a slow probe."""

    reason: str
    message: str
    remedy: str
    retry_s: float


class Obstacle(NamedTuple):
    """Why a service cannot even be started; ``recheck_s`` is when looking again is worth it."""

    reason: str
    message: str
    remedy: str
    recheck_s: float


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service as status shows it; instants are ISO 8601."""

    name: str
    state: ServiceState
    since: str
    pid: int | None = None
    process_state: str = ""
    starts: int = 0
    restarts: int = 0
    last_exit: str = ""
    last_error: str = ""
    reason: str = ""
    message: str = ""
    remedy: str = ""
    log: str = ""
    log_tail: tuple[str, ...] = ()
    log_dropped_bytes: int = 0
    is_required: bool = True
    port: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, ServiceState) else value
