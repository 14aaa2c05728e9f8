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
from typing import Any, Literal, NamedTuple

from standfast.kernel.verdict import Verdict

#: State letters of a process that a signal or a debugger has stopped (proc(5)).
STOPPED = frozenset({"T", "t"})


class ServiceState(enum.StrEnum):
    """Where a service stands."""

    STOPPED = "stopped"
    WAITING = "waiting"  # Parked: a service that it needs is not ready. Spends no attempt.
    STARTING = "starting"  # It runs and has not been ready in this life, which is still young.
    READY = "ready"
    NOT_READY = "not_ready"  # It runs and does not answer as it should.
    BACKOFF = "backoff"  # It ended and is started again soon.
    HELD = "held"  # Starting it again would not help; says what would.
    STOPPING = "stopping"  # It was told to stop.
    COMPLETED = "completed"  # A task that ended with exit code 0; nothing of it runs, as is right.


class ServiceEvent(enum.Enum):
    """What can happen to a service."""

    PARK = enum.auto()  # Something that it needs is not ready.
    START = enum.auto()  # Its process was made, or taken back from an earlier supervisor.
    ANSWERED = enum.auto()  # The judgement is PASS.
    LATE = enum.auto()  # The judgement is worse than PASS, and it is no longer young or was ready.
    END_RETRY = enum.auto()  # It ended, and the rules say: start again.
    END_HOLD = enum.auto()  # It ended or cannot be started, and the rules say: do not.
    END_DONE = enum.auto()  # A task ended with exit code 0.
    STOP = enum.auto()  # Somebody asked for its end.
    GONE = enum.auto()  # Nothing of it runs any more, as was asked.


class Identity(NamedTuple):
    """One process and no other: a pid alone is given out again, (boot, pid, start) never is."""

    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must be seen before a service is ready; with nothing, running for a while has to do.

    One of: ``http`` is a URL that must answer ``status``, with ``body`` (a regular expression) in it where
    that is set; ``tcp`` is ``HOST:PORT``; ``command`` must end with exit code 0; ``log`` is a regular
    expression that a line of this life's output must match; ``file`` must exist and be of this life;
    ``notify`` waits for READY=1 (sd_notify(3)); ``health`` is what its driver knows of a health check that
    it has by itself, as containers do. ``timeout_s`` bounds one probe, ``interval_s`` lies between
    two of them once the service is ready. ``start_s`` is how long a life may take to its first answer before
    that is called a fault; 0 = learnt from this service's own lives.
    """

    http: str = ""
    status: int = 200
    body: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    log: str = ""
    file: str = ""
    notify: bool = False
    health: bool = False
    timeout_s: float = 2.0
    interval_s: float = 2.0
    start_s: float = 0.0

    @property
    def is_probed(self) -> bool:
        """Whether there is anything to ask."""
        is_told = self.is_once or self.health
        return bool(self.http or self.tcp or self.command or is_told)

    @property
    def is_once(self) -> bool:
        """Whether having been seen once in a life is enough: it is told, and cannot be asked again."""
        return bool(self.log or self.file or self.notify)

    @property
    def target(self) -> str:
        """What is asked, in words."""
        if self.command:
            return self.command[0]
        if self.log:
            return f"the line {self.log!r}"
        if self.health:
            return "its own health check"
        return self.http or self.tcp or self.file or ("READY=1" if self.notify else "nothing")


@dataclass(frozen=True, slots=True)
class Liveness:
    """A probe of a service that was ready; after ``failures`` bad answers in a row it is restarted."""

    ask: Readiness
    interval_s: float = 10.0
    failures: int = 3


class RestartWhen(enum.StrEnum):
    """Which ends are followed by another start."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how soon a service that ended is started again.

    ``backoff_s`` doubles with every end up to ``cap_s``, and falls back only after a life that was ready
    for ``stable_s``. After ``max_fast_failures`` equal ends without ever being ready it is held. More than
    ``budget`` restarts within ``budget_window_s`` hold it too, whatever each of them looked like.
    """

    when: RestartWhen = RestartWhen.ALWAYS
    backoff_s: float = 0.5
    cap_s: float = 30.0
    max_fast_failures: int = 3
    stable_s: float = 60.0
    budget: int = 20
    budget_window_s: float = 600.0


class Condition(enum.StrEnum):
    """What a service waits for in another one."""

    READY = "ready"
    STARTED = "started"
    COMPLETED = "completed"


class Dependency(NamedTuple):
    """Another service that must stand as ``condition`` says before this one starts.

    With ``patience_s`` this one starts all the same after that long. ``restart`` starts this one anew
    whenever the other one was started anew.
    """

    name: str
    condition: Condition = Condition.READY
    restart: bool = False
    patience_s: float = float("inf")


class Need(NamedTuple):
    """A condition outside the stack: ``command`` must end with exit code 0 before each start.

    While it does not, the service is held, no attempt is spent, and the condition alone is looked at every
    ``interval_s``. ``fix`` is what a person has to do; it is shown and never done.
    """

    name: str
    command: tuple[str, ...]
    fix: str = ""
    interval_s: float = 10.0
    timeout_s: float = 10.0


class Limits(NamedTuple):
    """Limits of everything that one life runs; 0 = none."""

    memory_bytes: int = 0
    cpus: float = 0.0


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as it was declared.

    ``kind`` "task" runs once and is completed by exit code 0. ``watch`` are files whose change makes
    another try worth it. ``driver`` says what runs it; ``options`` are that driver's own. ``file`` and
    ``line`` say where it was declared.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    ready: Readiness = Readiness()
    live: Liveness | None = None
    restart: RestartPolicy = RestartPolicy()
    depends_on: tuple[Dependency, ...] = ()
    needs: tuple[Need, ...] = ()
    limits: Limits = NO_LIMITS
    watch: tuple[Path, ...] = ()
    kind: Literal["daemon", "task"] = "daemon"
    stop_signal: int = int(signal.SIGTERM)
    stop_timeout_s: float = 5.0
    is_required: bool = True
    group: str = ""
    driver: str = "process"
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int = 0

    @property
    def is_task(self) -> bool:
        """Whether it is to run once and end."""
        return self.kind == "task"


class ExitStatus(NamedTuple):
    """How a process ended: by ``code``, or by ``signal_number`` where that is not 0; see ``UNSEEN``."""

    code: int
    signal_number: int = 0

    @property
    def text(self) -> str:
        """The end in words, with the signal's name."""
        if self == UNSEEN:
            return "an end that nobody saw"
        if not self.signal_number:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(self.signal_number).name
        except ValueError:
            name = "signal"
        return f"killed by {name} ({self.signal_number})"


#: Nobody saw how it ended; the number is no program's own.
UNSEEN = ExitStatus(-1)


class Outcome(NamedTuple):
    """How one life ended, as whoever ran it saw it.

    ``status`` is None where nobody saw it (its shim was killed, the machine was restarted); ``lost`` says
    why then. ``is_oom_flagged`` is a container runtime's word for a kill for want of memory.
    ``oom_kills`` counts kills by the kernel for want of memory in this life's control group; None = it had
    none to look at, and ``is_shared`` says that others live in that group. ``peak_bytes`` is the most memory
    it used, 0 = unknown. ``asked_by`` is who asked for the end, as far as that was seen. ``ended_s`` is
    monotonic, of this boot.
    """

    status: ExitStatus | None
    left_behind: int = 0
    oom_kills: int | None = None
    is_shared: bool = False
    peak_bytes: int = 0
    asked_by: str = ""
    lost: str = ""
    ended_s: float | None = None
    is_oom_flagged: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How one life ended; ``left_behind`` counts processes of it that outlived its own.

    ``down`` names the services that it depends on and that were not ready then. ``cls``, ``action``,
    ``rule``, ``fix`` and ``evidence`` are what the failure was recognised as; empty = nothing was.
    """

    status: ExitStatus
    lived_s: float
    ready_s: float  # How long it had been ready at the end; 0 = it never was.
    last_line: str = ""
    left_behind: int = 0
    at: str = ""
    at_s: float = float("-inf")  # Monotonic, of this boot: what budgets are counted in.
    print_: str = ""
    down: tuple[str, ...] = ()
    oom_kills: int | None = None
    asked_by: str = ""
    cls: str = ""
    action: str = ""
    rule: str = ""
    fix: str = ""
    evidence: tuple[str, ...] = ()
    is_permanent: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)  # What the outcome of a start depended on.

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


class Parked(NamedTuple):
    """Do not start it before the services in ``down`` are ready; counts as nobody's failure."""

    down: tuple[str, ...]


class Done(NamedTuple):
    """It did what it was declared for; nothing follows."""


class Spent(NamedTuple):
    """Restarts within the budget's window: of the service, of its group, of the whole host."""

    service: int = 0
    group: int = 0
    host: int = 0


class Budgets(NamedTuple):
    """Most restarts within a service's window that its group and the host may make before holds follow."""

    group: int = 60
    host: int = 200


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
    waits_for: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    uptime_s: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpus_limit: float = 0.0
    is_limited_by_kernel: bool = False
    ready_after_s: float | None = None
    grace_s: float = 0.0
    usual_ready_s: float | None = None
    cls: str = ""
    action: str = ""
    evidence: tuple[str, ...] = ()
    held_by: str = ""
    retry_in_s: float | None = None
    restarts_in_window: int = 0
    stable_for_s: float = 0.0
    longest_life_s: float = 0.0  # Of its recent ends that nobody asked for.
    is_stable: bool = False
    is_adopted: bool = False
    group: str = ""
    driver: str = "process"
    kind: str = "daemon"
    declared_in: str = ""
    life: str = ""
    status_text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, ServiceState) else value
