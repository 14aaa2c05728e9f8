"""What an evaluation is made of: subjects, environments, episodes, rounds, and how each can end.

A round compares subjects. "What" is (round, subject, environment, episode) with the seed and the
variant; who ran it, when and how often is tracking, and lives in ``standfast.tasks``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class OutcomeClass(enum.StrEnum):
    """How an episode ended (acceptance K2); only the last one is not scored."""

    WON = "won"
    LOST = "lost"
    SUBJECT_ERROR = "subject_error"  # The subject broke the protocol: scored 0.
    INFRA_ERROR = "infra_error"  # We broke: never scored, retried (I6).


class Fault(enum.StrEnum):
    """Whose doing an error was."""

    SUBJECT = "subject"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is evaluated: ``uid`` is a number of the network, ``hotkey`` the identity behind it.

    ``committed_block`` decides first-commit priority: the smaller one came first.
    """

    uid: int
    hotkey: str
    endpoint: str
    committed_block: int

    @property
    def name(self) -> str:
        """The subject's key in stores and documents: the uid as text."""
        return str(self.uid)


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """Hard limits of one episode, in seconds of monotonic time.

    ``timeout_s`` bounds the whole episode, ``reset_s`` and ``act_s`` one call to the subject, and
    ``subject_budget_s`` the sum of all calls to it, so that a slow subject cannot hold a worker for
    ``max_steps * act_s``. ``reply_bytes`` bounds one reply of the subject.
    """

    timeout_s: float = 60.0
    reset_s: float = 5.0
    act_s: float = 0.5
    subject_budget_s: float = 20.0
    reply_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """Everything that is needed to run one episode; what of it a subject may see is the runner's rule."""

    environment: str
    seed: int
    variant: int
    endpoint: str
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """How one episode went.

    ``error_code`` is CamelCase (``Timeout``, ``SubjectRefused``, ``EnvironmentRaised``, ...), ``error``
    one line for people, ``fault`` whose doing it was; all three are set or none is. ``score`` is in
    [0, 1], ``steps`` counts calls of step, ``subject_s`` is the time spent waiting for the subject.
    """

    success: bool
    score: float = 0.0
    total_reward: float = 0.0
    steps: int = 0
    duration_s: float = 0.0
    subject_s: float = 0.0
    error_code: str = ""
    error: str = ""
    fault: Fault | None = None


class RoundState(enum.StrEnum):
    """Where a round is; the last three are final."""

    OPEN = "open"
    COMPLETE = "complete"
    PUBLISHED = "published"
    WITHHELD = "withheld"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Scores:
    """Success rates that a round measured: ``rates[uid][environment]``, and episodes per environment."""

    environments: tuple[str, ...]
    rates: Mapping[str, Mapping[str, float]]
    first_blocks: Mapping[str, int]
    episodes_per_env: int
