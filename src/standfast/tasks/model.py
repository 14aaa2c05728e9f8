"""Units of work and their tracking.

A *task* is what is to be done: it never changes and has one name in every process. *Tracking* is where it
stands; an *attempt* is one execution, appended at the claim and never overwritten by a later one.
Values on the hot path are NamedTuples: a batch of 100 makes hundreds of them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class TaskState(enum.IntEnum):
    """Where a task stands; DONE, DEAD and CANCELLED are final."""

    PENDING = 0
    LEASED = 1
    DONE = 2  # A result was accepted; what the result says is the caller's business.
    PAUSED = 3  # Attempts are used up; holds no slot, dies at the end of its TTL unless requeued.
    DEAD = 4
    CANCELLED = 5


class AttemptState(enum.IntEnum):
    """How an attempt stands or ended."""

    RUNNING = 0
    RESULT = 1  # Its result was accepted.
    FAILED = 2  # It was reported as failed by our own infrastructure.
    EXPIRED = 3  # Its lease ran out.
    RELEASED = 4  # Its holder gave it back, or came back without it.
    CANCELLED = 5


class Event(enum.Enum):
    """What can happen to a task."""

    CLAIM = enum.auto()
    RESULT = enum.auto()
    FAIL_RETRY = enum.auto()
    FAIL_LIMIT = enum.auto()
    RELEASE = enum.auto()
    TTL_OVER = enum.auto()
    CANCEL = enum.auto()
    REQUEUE = enum.auto()


class Answer(enum.StrEnum):
    """What one report was answered."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # The identical report was accepted before.
    STALE = "stale"  # The lease was granted anew; recorded as late, not counted (I3).
    EXPIRED = "expired"  # The lease is over; recorded as late, not counted (I3).
    INVALID = "invalid"  # The report itself cannot be used.
    UNKNOWN = "unknown"  # There is no such task.


class NewTask(NamedTuple):
    """Work to add: ``key`` names it within its batch, ``order`` decides when it is claimed (low first)."""

    task_id: str
    batch: str
    subject: str
    lane: str
    key: str
    spec: Mapping[str, Any]
    order: int


class Lease(NamedTuple):
    """An exclusive, expiring right to one task; ``ttl_s`` counts from the grant."""

    task_id: str
    attempt_id: str
    token: int
    attempt: int
    batch: str
    subject: str
    spec: str
    ttl_s: float


class Tracking(NamedTuple):
    """Where a task stands, as the store has it; instants are milliseconds of the lease clock."""

    row: int
    subject: str
    state: int
    token: int
    holder: str | None
    expires_at_ms: int
    attempts: int


class Look(NamedTuple):
    """What a claim has to know before it chooses: ``free`` slots and ``running`` tasks by subject.

    A subject that is paused, or has no free slot, is not in ``free``.
    """

    now_ms: int
    is_draining: bool
    is_cordoned: bool
    is_any_aside: bool
    last_token: int
    free: Mapping[str, int]
    running: Mapping[str, int]


class Waiting(NamedTuple):
    """A task that waits: ``token`` is its last attempt's, 0 for none; ``name`` is its key in the store."""

    row: int
    subject: str
    token: int
    attempts: int
    order: int
    name: int
    batch: str
    spec: str


#: What is written of one new lease: row, token, token of the task's last attempt, name of the attempt.
Granted = tuple[int, int, int, str]


class Ending(NamedTuple):
    """How one attempt ends and where its task goes; written only while its token holds the lease."""

    row: int
    token: int
    state: int
    order: int
    not_before_ms: int
    expires_at_ms: int
    attempts: int
    attempt_state: int
    outcome_class: str | None
    outcome: str | None
    error_code: str
    error: str


class Prior(NamedTuple):
    """What is known of the attempt that a report names; ``name`` is the key of its task."""

    name: int
    state: int
    holder: str
    outcome_class: str | None
    outcome: str | None
    error_code: str | None
    error: str | None


class Report(NamedTuple):
    """What a holder says about one lease.

    ``outcome`` is canonical JSON; ``outcome_class`` is a name that the caller counts by; ``is_result`` is
    False for a failure of our own infrastructure, which is retried; ``is_clean`` feeds the subject's slots.
    """

    task_id: str
    token: int
    is_result: bool
    is_clean: bool
    outcome_class: str
    outcome: str
    error_code: str = ""
    error: str = ""


class ItemAnswer(NamedTuple):
    """The answer to one report, in the order of the batch."""

    task_id: str
    answer: Answer
    message: str = ""


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """How leases, retries and slots behave; seconds, except where the name says otherwise."""

    lease_ttl_s: float = 60.0
    max_attempts: int = 3
    retry_base_s: float = 1.0
    retry_cap_s: float = 60.0
    paused_ttl_s: float = 600.0
    slots_initial: int = 6
    slots_min: int = 3
    slots_max: int = 10
    slots_min_samples: int = 50
    slots_interval_s: float = 21_600.0
    executor_silent_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Disjoint numbers of tasks: total = succeeded + failed + running + pending (I5).

    ``paused`` is a part of pending; ``dead`` and ``cancelled`` together are failed.
    """

    succeeded: int = 0
    running: int = 0
    waiting: int = 0
    paused: int = 0
    dead: int = 0
    cancelled: int = 0

    @property
    def pending(self) -> int:
        """Tasks that still may run: waiting and paused ones."""
        return self.waiting + self.paused

    @property
    def failed(self) -> int:
        """Tasks that ended without an accepted result."""
        return self.dead + self.cancelled

    @property
    def total(self) -> int:
        """All tasks."""
        return self.succeeded + self.failed + self.running + self.pending

    def as_dict(self) -> dict[str, int]:
        """Return all numbers by name."""
        return {
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "running": self.running,
            "pending": self.pending,
            "paused": self.paused,
            "dead": self.dead,
            "cancelled": self.cancelled,
        }


@dataclass(frozen=True, slots=True)
class ExecutorInfo:
    """A process that may hold leases, as last heard of; ``silent_s`` counts on the lease clock."""

    name: str
    instance: str
    last_seen_at: str
    silent_s: float
    cordoned: bool
    running: int
    info: Mapping[str, Any]
