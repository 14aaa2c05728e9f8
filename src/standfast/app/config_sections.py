"""The sections of ``standfast.toml``: every setting with its type, its bounds, its default and what it does.

Each number has both bounds (acceptance K11); text has a length; NaN and infinity are no numbers here. What
spans two settings stands in ``config_rules``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from standfast.evaluation.model import EpisodeLimits

_T = TypeVar("_T")

Seconds = Annotated[float, Field(ge=0.05, le=86_400.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=63)]
Text = Annotated[str, Field(max_length=4_096)]
NonEmpty = Annotated[str, Field(min_length=1, max_length=4_096)]
# TOML has arrays and no tuples; only the container is converted, what is in it stays strict.
Many = Annotated[tuple[_T, ...], Field(strict=False, max_length=4_096)]


class Section(BaseModel):
    """A table of the file: unknown keys, other types, NaN and infinity are refused; values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class InstanceSettings(Section):
    """What this instance is called."""

    name: Name = Field("standfast", description="What people call this instance; it is shown in status.")


class StoreSettings(Section):
    """Where everything that must survive is kept."""

    url: NonEmpty = Field(
        "sqlite",
        description="`sqlite` (a file in the data directory), `sqlite:PATH`, or `postgresql://...`. "
        "`sqlite::memory:` keeps nothing beyond the process.",
    )
    connections: int = Field(8, ge=1, le=64, description="Connections to PostgreSQL; SQLite has one writer.")


class ApiSettings(Section):
    """Where the HTTP API listens."""

    host: NonEmpty = Field("127.0.0.1", description="Address to listen on; loopback unless you change it.")
    port: Port = Field(8321, description="Port to listen on; 0 takes any free one.")
    require_tokens: bool = Field(
        True, description="Whether every call needs a token; may be false on loopback only."
    )
    kinitro: bool = Field(
        True,
        description="Whether kinitro's routes are served too, below `/v1`; as there, only fetching and "
        "submitting need a token.",
    )


class SchedulerSettings(Section):
    """How the scheduler keeps time."""

    tick_s: Seconds = Field(0.5, description="How often the scheduler looks at what is owed.")
    takeover_s: Seconds = Field(
        10.0, description="How long a leader may be silent before a standby takes the lead."
    )


class TaskSettings(Section):
    """Leases, retries and concurrency slots."""

    lease_ttl_s: Seconds = Field(30.0, description="How long a lease lasts unless a heartbeat extends it.")
    heartbeat_s: float = Field(
        5.0, ge=0.0, le=3_600.0, description="How often an executor extends its leases; 0 = never."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts before a task is paused.")
    retry_base_s: Seconds = Field(1.0, description="Longest wait before the first retry; doubles each time.")
    retry_cap_s: Seconds = Field(30.0, description="Longest wait before any retry.")
    paused_ttl_s: Seconds = Field(60.0, description="How long a paused task waits for an operator.")
    slots_initial: int = Field(6, ge=1, le=1_000, description="Concurrent tasks of one subject at first.")
    slots_min: int = Field(3, ge=1, le=1_000, description="Fewest concurrent tasks of one subject.")
    slots_max: int = Field(10, ge=1, le=1_000, description="Most concurrent tasks of one subject.")
    slots_min_samples: int = Field(
        50, ge=1, le=1_000_000, description="Results before the slots of a subject are adjusted."
    )
    slots_interval_s: Seconds = Field(21_600.0, description="Shortest time between two adjustments.")
    executor_silent_s: Seconds = Field(
        6.0, description="How long an executor may say nothing before status calls it silent."
    )


class ExecutorSettings(Section):
    """The executors that `standfast up` starts, and those started apart."""

    count: int = Field(2, ge=0, le=64, description="Executor processes that `standfast up` starts.")
    concurrency: int = Field(8, ge=1, le=256, description="Episodes that one executor runs at a time.")
    poll_s: Seconds = Field(0.5, description="Wait before asking again when there is no work.")
    submit_batch: int = Field(50, ge=1, le=500, description="Most results in one request.")


class LimitSettings(Section):
    """Hard limits of one episode."""

    timeout_s: Seconds = Field(60.0, description="The whole episode; its process is killed then.")
    reset_s: Seconds = Field(5.0, description="One reset call to the subject.")
    act_s: Seconds = Field(0.5, description="One act call to the subject.")
    subject_budget_s: Seconds = Field(20.0, description="All calls to the subject in one episode.")
    reply_bytes: int = Field(
        1_000_000, ge=64, le=100_000_000, description="Largest reply of the subject that is read."
    )

    def episode_limits(self) -> EpisodeLimits:
        """Return the limits as the value that episodes carry."""
        return EpisodeLimits(**self.model_dump())


class EnvironmentSettings(Section):
    """One environment of every round."""

    id: NonEmpty = Field(description="Name in the catalogue, such as `mujoco/reacher`.")
    episodes: int = Field(10, ge=1, le=10_000, description="Episodes of each subject in each round.")
    rotate: int = Field(2, ge=0, le=10_000, description="Variants of the sampling list replaced per round.")
    pool: int = Field(1_000, ge=1, le=1_000_000, description="Variants that the sampling list draws from.")
    weight: float = Field(1.0, ge=0.0, le=1_000.0, description="Weight of the environment among the others.")


class EvaluationSettings(Section):
    """What a round is, when it ends, and how it is scored."""

    interval_s: float = Field(
        60.0, ge=0.0, le=604_800.0, description="From one round's opening to the next; 0 = at once."
    )
    deadline_s: Seconds = Field(600.0, description="Longest time a round may be open.")
    min_subject_share: Share = Field(
        0.9, description="A subject counts when this share of its episodes was scored."
    )
    min_subjects: int = Field(1, ge=1, le=4_096, description="Subjects that must count for a round to count.")
    on_deadline: Literal["partial", "fail"] = Field(
        "partial", description="Whether a round with open tasks at its deadline is scored or failed."
    )
    policy: Literal["standfast", "original"] = Field("standfast", description="Which scoring rules apply.")
    temperature: float = Field(
        1.0, ge=1e-6, le=1e6, description="Softmax temperature; smaller means that the winner takes more."
    )
    subset_weight_scheme: Literal["linear", "exponential", "equal"] = Field(
        "linear", description="How the points of a subset grow with its size."
    )
    keep_rounds: int = Field(200, ge=1, le=1_000_000, description="Rounds whose details are kept.")
    max_rounds: int = Field(0, ge=0, le=1_000_000_000, description="Stop after so many rounds; 0 = never.")
    packages: Many[Name] = Field(
        (), description="Installed packages whose environments may be used (`standfast.environments`)."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings, description="Hard limits of one episode.")
    environments: Many[EnvironmentSettings] = Field((), description="The environments of every round.")


class SubjectSettings(Section):
    """One subject that is evaluated."""

    uid: int = Field(ge=0, le=65_535, description="Number in the network.")
    hotkey: NonEmpty = Field(description="Identity that a publication names.")
    endpoint: NonEmpty = Field(description="Where it serves its policy, such as `http://127.0.0.1:8401`.")
    committed_block: int = Field(
        0, ge=0, le=2**53 - 1, description="Block of its first commitment; the smaller one came first."
    )


class PublicationSettings(Section):
    """Where weights go, and what they must rest on."""

    kind: Literal["file", "http", "none"] = Field("file", description="Which publisher is used.")
    path: NonEmpty = Field("publications", description="Folder of `file`, relative to the data directory.")
    url: Text = Field("", description="Address of `http`.")
    key_file: Text = Field("", description="Ed25519 key of `http`, relative to this file.")
    min_scored_share: Share = Field(0.5, description="Scored share of every subject that carries weight.")
    max_age_s: Seconds = Field(3_600.0, description="Oldest weights that may be published.")
    timeout_s: Seconds = Field(10.0, description="Longest time one publication may take.")
