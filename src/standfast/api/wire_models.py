"""The shapes of kinitro's wire, by kinitro's names; fields of ours are optional and stand last."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_ENVIRONMENTS = 1_000


class TaskStatus(StrEnum):
    """Where a task is, in kinitro's words; what is fetched is always assigned."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    FAILED = "failed"


class EvaluationCycleStatus(StrEnum):
    """Where a round is, in kinitro's words; a withheld round is completed: it has scores."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class HealthResponse(BaseModel):
    """Whether work may be sent here; status 503 where it may not."""

    status: str = "ok"
    version: str = "0.1.0"
    database: str = "connected"


class Task(BaseModel):
    """A leased task; ``task_id`` and ``token`` let it be extended at ``/api/v1/tasks/heartbeat``."""

    task_uuid: str
    cycle_id: int
    miner_uid: int
    miner_hotkey: str
    miner_endpoint: str
    miner_repo: str | None = None
    miner_revision: str | None = None
    env_id: str
    seed: int
    status: TaskStatus
    created_at: datetime
    task_id: str | None = None
    token: int | None = None
    attempt: int | None = None
    ttl_s: float | None = None
    variant: int | None = None
    limits: dict[str, float] | None = None


class TaskFetchRequest(BaseModel):
    """A request for tasks; unknown keys are ignored, as kinitro does."""

    model_config = ConfigDict(hide_input_in_errors=True)

    executor_id: str = Field(description="Unique identifier for the executor")
    batch_size: int = Field(10, ge=1, le=100, description="Number of tasks to fetch")
    env_ids: list[str] | None = Field(
        None, max_length=MAX_ENVIRONMENTS, description="Filter by environment IDs"
    )


class TaskFetchResponse(BaseModel):
    """What was leased, and why nothing where nothing was."""

    tasks: list[Task]
    total_pending: int = Field(description="Total pending tasks in pool")
    reason: str = ""


class TaskResult(BaseModel):
    """How one task went; an error without ``fault`` counts as the network's own, and is tried again."""

    task_uuid: str = Field(description="UUID of the task")
    success: bool
    score: float = Field(0.0, ge=0, le=1)
    total_reward: float = 0.0
    timesteps: int = Field(0, ge=0)
    error: str | None = None
    verification_passed: bool | None = None
    verification_score: float | None = None
    error_code: str | None = None
    fault: Literal["subject", "infrastructure"] | None = None


class TaskSubmitRequest(BaseModel):
    """A batch of results; described here, and read leniently so that each has its own answer."""

    executor_id: str = Field(description="Executor that completed the tasks")
    results: list[TaskResult]


class ResultStatus(BaseModel):
    """The answer to one result, in the order of the batch."""

    task_uuid: str
    status: Literal["accepted", "duplicate", "stale", "expired", "invalid", "unknown"]
    message: str


class TaskSubmitResponse(BaseModel):
    """The answers to a batch; ``accepted`` counts what is durable now because of it."""

    accepted: int = Field(description="Number of results accepted")
    rejected: int = Field(description="Number of results rejected")
    errors: list[str] = Field(default_factory=list)
    items: list[ResultStatus] = Field(default_factory=list)


class TaskPoolStats(BaseModel):
    """How the tasks of a round stand."""

    total_tasks: int
    pending_tasks: int
    assigned_tasks: int
    completed_tasks: int
    failed_tasks: int
    active_executors: list[str]
    current_cycle_id: int | None


class EvaluationCycle(BaseModel):
    """A round; ``block_number`` is the number of its publication, 0 without one."""

    id: int
    block_number: int
    started_at: datetime
    completed_at: datetime | None
    status: EvaluationCycleStatus
    n_miners: int | None
    n_environments: int | None
    duration_seconds: float | None


class StatusResponse(BaseModel):
    """How the network stands."""

    current_cycle: EvaluationCycle | None
    last_completed_cycle: EvaluationCycle | None
    total_cycles: int
    total_miners_evaluated: int
    environments: list[str]
    is_evaluating: bool


class WeightsU16(BaseModel):
    """Weights for the chain; the values sum to 65535."""

    uids: list[int]
    values: list[int]


class WeightsResponse(BaseModel):
    """One publication; ``hotkeys`` names who stands behind each uid."""

    cycle_id: int
    block_number: int
    timestamp: datetime
    weights: dict[str, float] = Field(description="Normalized weights: {uid: weight}")
    weights_u16: WeightsU16
    metadata: dict[str, Any] = Field(default_factory=dict)
    hotkeys: dict[str, str] = Field(default_factory=dict)


class MinerScore(BaseModel):
    """One miner in one environment; ``carried_from`` is the round that measured a rate carried over."""

    uid: int
    hotkey: str
    env_id: str
    success_rate: float
    mean_reward: float
    episodes_completed: int
    episodes_failed: int
    carried_from: int | None = None


class ScoresResponse(BaseModel):
    """The scores of one round; a pruned one has rates and no counts any more."""

    cycle: EvaluationCycle
    scores: list[MinerScore]
    miner_summary: dict[str, dict[str, float]] = Field(default_factory=dict)
    is_pruned: bool = False


class MinerInfo(BaseModel):
    """A miner that has rates."""

    uid: int
    hotkey: str
    last_evaluated_block: int | None
    avg_success_rate: float | None
    environments_evaluated: list[str]


class EnvironmentInfo(BaseModel):
    """An environment of the rounds to come; ``n_evaluations`` counts the miners with a rate in it."""

    env_id: str
    env_name: str
    task_name: str
    n_evaluations: int
    avg_success_rate: float | None
