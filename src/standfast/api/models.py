"""The shapes of requests: unknown keys, other types, NaN, infinity and unbounded sizes are refused.

Results are not here: they are read one by one, so that one of them cannot spoil the batch (K3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_RESULTS = 500
MAX_HELD = 5_000
_MAX_INFO_VALUES, _MAX_INFO_CHARS, _MAX_INFO_DEPTH = 200, 8_000, 5
_MAX_TOKEN = 2**62


def _storable(text: str) -> str:
    """Refuse what a database or a terminal cannot take: NUL and other control characters."""
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


def _bounded_json(value: Any) -> Any:
    """Refuse free-form JSON that is too deep, too large, not finite, or not text that can be stored."""
    chars = 0
    for count, (one, depth) in enumerate(_walk(value, 0), start=1):
        chars += len(one) if isinstance(one, str) else 8
        if count > _MAX_INFO_VALUES or chars > _MAX_INFO_CHARS or depth > _MAX_INFO_DEPTH:
            raise ValueError(
                f"at most {_MAX_INFO_VALUES} values, {_MAX_INFO_CHARS} characters, {_MAX_INFO_DEPTH} levels"
            )
        if isinstance(one, str):
            _storable(one)
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("a number is not finite")
        if isinstance(one, int) and abs(one) > 2**53:
            raise ValueError("a number is too large")
    return value


def _walk(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    """Yield ``value`` and everything in it; the caller stops at its own bounds, so depth is bounded too."""
    yield value, depth
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, depth + 1
            yield from _walk(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, depth + 1)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*$", max_length=64)]
Line = Annotated[str, Field(max_length=500), AfterValidator(_storable)]
Info = Annotated[dict[str, Any], BeforeValidator(_bounded_json)]
TaskName = Annotated[str, Field(pattern=r"^[0-7][0-9a-f]{15}$")]


class Body(BaseModel):
    """A request's body: strict, closed, finite."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Held(Body):
    """A lease that an executor says it holds."""

    task_id: TaskName
    token: int = Field(ge=0, le=_MAX_TOKEN)


class Register(Body):
    """An executor announces a new life."""

    executor: Name
    instance: Name
    info: Info = Field(default_factory=dict)


class Claim(Register):
    """An executor asks for work."""

    count: int = Field(ge=1, le=100)


class Heartbeat(Register):
    """An executor extends what it holds."""

    held: list[Held] = Field(default_factory=list, max_length=MAX_HELD)


class Release(Body):
    """An executor gives leases back: the named ones, or with null all it has."""

    executor: Name
    held: list[Held] | None = Field(max_length=MAX_HELD)
    reason: Line = ""


class Drain(Body):
    """An operator stops or resumes handing out work."""

    on: bool


class NewToken(Body):
    """An operator asks for a token."""

    name: Name
    scopes: list[Literal["read", "execute", "operate", "admin"]] = Field(min_length=1, max_length=4)


class Lease(BaseModel):
    """A lease as it is granted; ``ttl_s`` counts from the grant."""

    task_id: str
    attempt_id: str
    token: int
    attempt: int
    batch: str
    subject: str
    spec: dict[str, Any]
    ttl_s: float


class Claimed(BaseModel):
    """What a claim got, and why it got nothing where it got nothing."""

    leases: list[Lease]
    reason: str


class Result(BaseModel):
    """How one episode went; ``error``, ``error_code`` and ``fault`` are all set or none is (K2)."""

    task_id: str = Field(max_length=64)
    token: int = Field(ge=1, le=_MAX_TOKEN)
    success: bool
    score: float = Field(0.0, ge=0, le=1)
    total_reward: float = 0.0
    steps: int = Field(0, ge=0)
    duration_s: float = Field(0.0, ge=0)
    subject_s: float = Field(0.0, ge=0)
    error: str = Field("", max_length=2_000)
    error_code: str = Field("", max_length=2_000)
    fault: Literal["subject", "infrastructure"] | None = None


class Submit(BaseModel):
    """A batch of results; described here, and read leniently so that each item has its own answer."""

    executor: Name
    results: list[Result] = Field(min_length=1, max_length=MAX_RESULTS)


class ItemAnswer(BaseModel):
    """The answer to one result."""

    index: int
    task_id: str
    status: Literal["accepted", "duplicate", "stale", "expired", "invalid", "unknown"]
    code: Literal[200, 404, 409, 422]
    message: str


class Submitted(BaseModel):
    """The answers to a batch, in its order; ``accepted`` counts what is durable now because of it."""

    accepted: int
    items: list[ItemAnswer]


class Beaten(BaseModel):
    """The answer to a heartbeat: what of the held is lost."""

    lost: list[str]
    cordoned: bool
    draining: bool


class Registered(BaseModel):
    """The answer to a new life: what the earlier one held went back, and how leases behave."""

    requeued: int
    lease_ttl_s: float
    heartbeat_s: float


class Released(BaseModel):
    """How many leases went back."""

    released: int


class ErrorDetail(BaseModel):
    """What went wrong, and what to do."""

    code: str
    what: str
    why: str
    fix: str
    since: str


class ErrorReply(BaseModel):
    """The body of every status from 400 on."""

    error: ErrorDetail
