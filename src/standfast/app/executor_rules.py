"""What an executor decides: how much work to take, what an answer means, how long to wait, what to report.

1. Work is taken only for a free place, and only while its report will find room in the spool.
2. A report is let go when the API gave it a final answer; every other reply keeps it.
3. A lease whose episode cannot even be understood is reported as our own failure, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from standfast.app.spool import Spooled
from standfast.evaluation.episode.blame import InvalidReportError, classify
from standfast.evaluation.model import EpisodeLimits, EpisodeReport, EpisodeSpec, Fault, OutcomeClass
from standfast.kernel.backoff import Backoff
from standfast.kernel.clock import Entropy
from standfast.kernel.errors import AuthError, StandfastError

#: Most leases that one request may ask for.
MAX_CLAIM = 100
#: How often leases are extended where the API does not say.
HEARTBEAT_S = 5.0
MAX_HEARTBEAT_S = 3_600.0
#: Answers after which a report is settled: sending it again can change nothing.
FINAL = frozenset({"accepted", "duplicate", "stale", "expired", "invalid", "unknown"})
_BACKOFF = Backoff(base_s=0.5, cap_s=15.0)
_REFUSED_BACKOFF = Backoff(base_s=5.0, cap_s=60.0)


@dataclass(frozen=True, slots=True)
class Leased:
    """A lease as the API granted it; ``spec`` is checked only when it is run."""

    task_id: str
    token: int
    spec: Mapping[str, Any]


class Refused(NamedTuple):
    """A report that was answered and not counted, and why."""

    number: int
    task_id: str
    status: str
    message: str


class Settled(NamedTuple):
    """What a batch of answers settles: what may go, and what of it did not count."""

    done: tuple[int, ...]
    refused: tuple[Refused, ...]


def claim_count(*, capacity: int, running: int, room: int) -> int:
    """Return how many leases to ask for; ``room`` is how many more reports the spool takes."""
    return max(0, min(capacity - running, room - running, MAX_CLAIM))


def leases_of(reply: Mapping[str, Any]) -> tuple[Leased, ...]:
    """Return the leases in a reply; what has no name or token could never be reported, and is skipped."""
    granted = reply.get("leases")
    leases = []
    for one in granted if isinstance(granted, list) else ():
        known = one if isinstance(one, dict) else {}
        task_id, token = known.get("task_id"), known.get("token")
        if isinstance(task_id, str) and isinstance(token, int):
            spec = known.get("spec")
            leases.append(Leased(task_id, token, spec if isinstance(spec, dict) else {}))
    return tuple(leases)


def settle(batch: Sequence[Spooled], answers: Sequence[Mapping[str, Any]]) -> Settled:
    """Return which reports of ``batch`` are settled by ``answers`` (one each, in order)."""
    done, refused = [], []
    for spooled, answer in zip(batch, answers, strict=True):
        status = answer.get("status")
        if status not in FINAL:
            continue  # A newer API may say more than we know; the report stays until it is understood.
        done.append(spooled.number)
        if status not in ("accepted", "duplicate"):
            message = str(answer.get("message", ""))[:300]
            refused.append(Refused(spooled.number, str(spooled.item.get("task_id")), status, message))
    return Settled(tuple(done), tuple(refused))


def wait_after(error: StandfastError, failures: int, *, unit: float) -> float:
    """Return the wait after the ``failures``-th failure in a row; ``unit`` is drawn in [0, 1).

    A refusal of who we are needs a person, so it is asked again rarely.
    """
    backoff = _REFUSED_BACKOFF if isinstance(error, AuthError) else _BACKOFF
    return backoff.wait_s(failures, unit=unit)


def unit_of(entropy: Entropy) -> float:
    """Draw a number in [0, 1)."""
    return int.from_bytes(entropy.token_bytes(4), "big") / 2**32


def heartbeat_of(reply: Mapping[str, Any]) -> float:
    """Return how often leases are to be extended, as the API says at registration; 0 is never."""
    said = reply.get("heartbeat_s")
    if not isinstance(said, int | float) or isinstance(said, bool):
        return HEARTBEAT_S
    return float(said) if 0 <= said <= MAX_HEARTBEAT_S else HEARTBEAT_S


def lost_tokens(reply: Mapping[str, Any], held: Mapping[str, int]) -> tuple[int, ...]:
    """Return the tokens that the API has taken away, of those that were asked about.

    By token, because a task may have been leased to the same executor anew since it was asked.
    """
    lost = reply.get("lost")
    names = lost if isinstance(lost, list) else []
    return tuple(held[name] for name in names if isinstance(name, str) and name in held)


def poll_wait(poll_s: float, *, unit: float) -> float:
    """Return the wait before asking again when no work was waiting: executors must not ask in step."""
    return poll_s * (0.8 + 0.4 * unit)


class SpecError(ValueError):
    """What is leased is not an episode that this version can run."""


_LIMIT_NAMES = frozenset(f.name for f in fields(EpisodeLimits))
_SPEC_NAMES = frozenset({"environment", "seed", "variant", "episode", "endpoint", "limits"})


def spec_of(raw: Mapping[str, Any]) -> EpisodeSpec:
    """Return the episode that a lease describes; SpecError names what is wrong.

    Keys that this version does not know are refused: to ignore one could be to run something else.
    """
    unknown, missing = sorted(set(raw) - _SPEC_NAMES), sorted(_SPEC_NAMES - {"episode"} - set(raw))
    if unknown or missing:
        raise SpecError(f"the episode's keys are wrong: unknown {unknown[:5]}, missing {missing}")
    limits = raw["limits"]
    if not isinstance(limits, dict) or set(limits) - _LIMIT_NAMES:
        raise SpecError("the episode's limits are not those this version knows")
    for name in ("seed", "variant"):
        if not isinstance(raw[name], int) or isinstance(raw[name], bool):
            raise SpecError(f"the episode's {name} is not a whole number")
    for name in ("environment", "endpoint"):
        if not isinstance(raw[name], str):
            raise SpecError(f"the episode's {name} is not text")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in limits.values()):
        raise SpecError("the episode's limits are not numbers")
    return EpisodeSpec(
        raw["environment"], raw["seed"], raw["variant"], raw["endpoint"], EpisodeLimits(**limits)
    )


def our_failure(code: str, text: str) -> EpisodeReport:
    """Return the report of an episode that we could not run: not scored, tried again (I6)."""
    return EpisodeReport(success=False, error_code=code, error=text[:500], fault=Fault.INFRASTRUCTURE)


def checked(report: EpisodeReport) -> tuple[EpisodeReport, OutcomeClass]:
    """Return ``report`` with its class; one that contradicts itself becomes a failure of ours."""
    try:
        return report, classify(report)
    except InvalidReportError as error:
        return our_failure("EpisodeGarbled", f"the report cannot be used: {error}"), OutcomeClass.INFRA_ERROR


def item_of(lease: Leased, report: EpisodeReport) -> dict[str, Any]:
    """Return what is submitted for ``lease``: plain JSON values, all finite."""
    said = asdict(report)
    said["fault"] = report.fault.value if report.fault else None
    return {"task_id": lease.task_id, "token": lease.token, **said}
