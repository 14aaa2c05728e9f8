"""What is known about the end of a service, and what it was an end of: frozen values.

The class names a failure, the action says what a supervisor does about it. Every field of the evidence is
optional: what was not observed is None or empty, and supports nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from standfast.services.model import ExitStatus

#: Below this a class is a guess: it is shown, and never acted on as if it were known.
SURE = 0.7
#: The same end so many times without ever being ready is taken for hopeless, whatever its class (A000-2).
MOST_REPEATS = 3


class FailureClass(enum.StrEnum):
    """The kinds of failure that are told apart; each has one action in ``ACTIONS``."""

    PERMANENT_REGISTRATION = "permanent_registration"
    PERMANENT_AUTH = "permanent_auth"
    PERMANENT_CONFIG = "permanent_config"
    PERMANENT_STATE = "permanent_state"
    HOST_GPU_DRIVER = "host_gpu_driver"
    HOST_ENGINE_DOWN = "host_engine_down"
    HARDWARE = "hardware"
    RESOURCE_GPU_OOM = "resource_gpu_oom"
    RESOURCE_OOM = "resource_oom"
    RESOURCE_DISK = "resource_disk"
    RESOURCE_FD = "resource_fd"
    RESOURCE_SHM = "resource_shm"
    RESOURCE_CONNECTIONS = "resource_connections"
    PORT_CONFLICT = "port_conflict"
    DEPENDENCY_NOT_READY = "dependency_not_ready"
    BLOCKED_BY_DEPENDENCY = "blocked_by_dependency"
    TRANSIENT_NETWORK = "transient_network"
    CODE_BUG = "code_bug"
    REQUESTED_STOP = "requested_stop"
    AMBIGUOUS_137 = "ambiguous_137"
    WARNING_CONFIG = "warning_config"
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What a supervisor does about an end."""

    NO_RESTART = "no_restart"
    BACKOFF = "backoff"
    BACKOFF_LIMITED = "backoff_limited"
    PARK = "park"
    HOLD_UNTIL_CHANGE = "hold_until_change"
    HOLD_UNTIL_TRUE = "hold_until_true"
    HOLD_UNTIL_CLEAR = "hold_until_clear"
    HOLD = "hold"
    CORDON = "cordon"
    DRAIN = "drain"
    REPORT = "report"


class Course(NamedTuple):
    """An action, in one word for a supervisor and in words for a person."""

    action: Action
    text: str


_C, _A = FailureClass, Action

ACTIONS: Mapping[FailureClass, Course] = {
    _C.PERMANENT_REGISTRATION: Course(
        _A.HOLD_UNTIL_TRUE,
        "hold after the first start; look at the registration now and then, start when it is there",
    ),
    _C.PERMANENT_AUTH: Course(
        _A.HOLD_UNTIL_CHANGE, "hold after the first start, until a credential or a permission changes"
    ),
    _C.PERMANENT_CONFIG: Course(
        _A.HOLD_UNTIL_CHANGE, "hold after the first start, until an input changes (file, image, environment)"
    ),
    _C.PERMANENT_STATE: Course(_A.HOLD, "hold; a person decides about the data, nothing wipes it"),
    _C.HOST_GPU_DRIVER: Course(_A.CORDON, "hold the GPU services of this host, and nothing else"),
    _C.HOST_ENGINE_DOWN: Course(
        _A.HOLD_UNTIL_CLEAR,
        "hold until the container engine answers; until then nothing is known of containers",
    ),
    _C.HARDWARE: Course(_A.DRAIN, "drain; do not start again on that device"),
    _C.RESOURCE_GPU_OOM: Course(
        _A.BACKOFF_LIMITED, "wait for free GPU memory and name who holds it; held after 2 tries"
    ),
    _C.RESOURCE_OOM: Course(_A.BACKOFF_LIMITED, "back off; after 3 tries hold: raise the limit or shrink"),
    _C.RESOURCE_DISK: Course(_A.HOLD_UNTIL_CLEAR, "hold until there is room to write"),
    _C.RESOURCE_FD: Course(_A.HOLD_UNTIL_CLEAR, "hold until the limit is raised or files are closed"),
    _C.RESOURCE_SHM: Course(_A.HOLD_UNTIL_CLEAR, "hold until there is enough shared memory"),
    _C.RESOURCE_CONNECTIONS: Course(_A.HOLD_UNTIL_CLEAR, "hold until connections are free again"),
    _C.PORT_CONFLICT: Course(
        _A.HOLD_UNTIL_CLEAR, "find the holder: an orphan of our own is ended, a foreign one is a blocker"
    ),
    _C.DEPENDENCY_NOT_READY: Course(
        _A.PARK, "park until the dependency is ready; this is not counted as a crash"
    ),
    _C.BLOCKED_BY_DEPENDENCY: Course(_A.PARK, "park; cure the service that it waits for"),
    _C.TRANSIENT_NETWORK: Course(_A.BACKOFF, "start again with backoff and jitter, without a limit"),
    _C.CODE_BUG: Course(_A.BACKOFF_LIMITED, "try 3 times with backoff, then hold"),
    _C.REQUESTED_STOP: Course(_A.NO_RESTART, "do not start again"),
    _C.AMBIGUOUS_137: Course(
        _A.BACKOFF_LIMITED, "start again with backoff; find out who sent SIGKILL before calling it memory"
    ),
    _C.WARNING_CONFIG: Course(_A.REPORT, "report it; nothing has failed"),
    _C.UNKNOWN: Course(_A.BACKOFF_LIMITED, "start again with backoff; the same end 3 times is held"),
}
"""What follows each class; total, by test."""

FIXES: Mapping[FailureClass, str] = {
    _C.PERMANENT_REGISTRATION: "register the identity with its network, then wait: it is looked at again",
    _C.PERMANENT_AUTH: "give it the credential or the permission that it lacks",
    _C.PERMANENT_CONFIG: "correct what it was started with: its command, its files, its environment",
    _C.PERMANENT_STATE: "make a copy of its data before anything is changed",
    _C.HOST_GPU_DRIVER: "nvidia-smi (or rocm-smi) on the host says what the driver says",
    _C.HOST_ENGINE_DOWN: "systemctl status docker",
    _C.HARDWARE: "dmesg --level=err,crit says which device",
    _C.RESOURCE_GPU_OOM: "nvidia-smi --query-compute-apps=pid,used_memory --format=csv",
    _C.RESOURCE_OOM: "raise the memory limit of the service, or make it need less",
    _C.RESOURCE_DISK: "df -h; df -i",
    _C.RESOURCE_FD: "ulimit -n; ls /proc/PID/fd | wc -l",
    _C.RESOURCE_SHM: "df -h /dev/shm",
    _C.RESOURCE_CONNECTIONS: "count who holds the connections, then raise the limit or close the leak",
    _C.PORT_CONFLICT: "ss -ltnp",
    _C.DEPENDENCY_NOT_READY: "see whether what it needs is up: standfast status",
    _C.BLOCKED_BY_DEPENDENCY: "cure the service that it waits for: standfast status",
    _C.TRANSIENT_NETWORK: "look at what it talks to, and at the way there",
    _C.CODE_BUG: "read the lines before the end, and report them with the program's version",
    _C.REQUESTED_STOP: "nothing: somebody asked for it",
    _C.AMBIGUOUS_137: "dmesg | grep -i oom; docker events --since 1h",
    _C.WARNING_CONFIG: "set what it says is not set",
    _C.UNKNOWN: "read the lines before the end; a rule of your own names it (docs/how-to/failure-classes.md)",
}
"""What to do where no rule says it better; total, by test."""

HELD_REPEATEDLY = Course(
    _A.HOLD, "hold; then try on a slow schedule (1, 5, 15 min), or when an input has changed"
)

#: Actions that need a class that is known: done on a guess they would keep a good service down.
HOLDS = frozenset(
    {_A.HOLD, _A.HOLD_UNTIL_CHANGE, _A.HOLD_UNTIL_TRUE, _A.HOLD_UNTIL_CLEAR, _A.CORDON, _A.DRAIN}
)
GUESSED = Course(_A.BACKOFF_LIMITED, "the class is a guess: try 3 times with backoff, then hold")

PERMANENT = frozenset({_C.PERMANENT_REGISTRATION, _C.PERMANENT_AUTH, _C.PERMANENT_CONFIG, _C.PERMANENT_STATE})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was observed of one end.

    ``asked_by`` is who asked for the stop; empty: nobody did, None: nobody watched. ``ready_s`` is how long
    it had been ready, 0 where it never was, None where that is not known. ``oom_kills`` is how far the
    cgroup's counter grew during the life; ``is_cgroup_shared`` says that others live in that cgroup.
    ``is_oom_flagged`` is the container runtime's word. ``pids`` and ``cgroup`` are what kernel lines must
    name to be about this service; empty: any line is. ``dependencies_down`` names the declared
    dependencies that were not ready at the end; ``dependency_addresses`` has the declared ones
    (``HOST:PORT`` or a name), None where none are known. ``repeats`` counts equal fingerprints in a row
    without ever being ready, this end included.
    """

    status: ExitStatus | None = None
    lines: tuple[str, ...] = ()
    asked_by: str | None = None
    ready_s: float | None = None
    lived_s: float | None = None
    oom_kills: int | None = None
    is_cgroup_shared: bool = False
    is_oom_flagged: bool = False
    kernel_lines: tuple[str, ...] = ()
    pids: frozenset[int] = frozenset()
    cgroup: str = ""
    dependencies_down: tuple[str, ...] = ()
    dependency_addresses: tuple[str, ...] | None = None
    repeats: int = 0
    command: tuple[str, ...] = ()

    @property
    def signal_number(self) -> int:
        """The signal that ended it, also where a shell or a runtime said 128 + n; 0 = none."""
        if self.status is None:
            return 0
        if self.status.signal_number:
            return self.status.signal_number
        # 255 and the like are exit codes; signals end at 64 (signal(7)).
        return self.status.code - 128 if 128 < self.status.code <= 128 + 64 else 0

    @property
    def exit_code(self) -> int | None:
        """The exit code; None where a signal ended it or nothing is known."""
        return None if self.status is None or self.signal_number else self.status.code


@dataclass(frozen=True, slots=True)
class Classified:
    """What one end was; ``rule`` says which rule or which kind of evidence named it."""

    cls: FailureClass
    sub: str
    action: Action
    action_text: str
    evidence: tuple[str, ...]
    fix: str
    rule: str
    confidence: float

    @property
    def is_sure(self) -> bool:
        """Whether the evidence supports acting on the class, and not only showing it."""
        return self.confidence >= SURE

    @property
    def is_permanent(self) -> bool:
        """Whether it is surely of a class that no further start can cure."""
        return self.cls in PERMANENT and self.is_sure
