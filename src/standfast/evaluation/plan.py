"""What a round will do, fixed when it opens: subjects, environments with their variants, seeds, rules.

1. The plan is written once, in the transaction that adds the tasks; a restart reads it, never remakes it.
2. Every subject gets the same (environment, variant, seed) for the same episode (paired, K1 d).
3. The order of claims is drawn, not derived, so that nobody can foresee what comes next (K1 f).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from standfast.evaluation.model import EpisodeLimits, Subject
from standfast.evaluation.scoring.policy import PolicyName, ScoringPolicy, SubsetScheme
from standfast.evaluation.seeds import derive_seed
from standfast.kernel.ids import stable_id
from standfast.tasks.model import NewTask

_ORDER_SCALE = 2**48
_LEAST_WEIGHT = 1e-3  # A weight of 0 means last, not never: a round waits for all its tasks.


@dataclass(frozen=True, slots=True)
class EnvironmentChoice:
    """An environment of the rounds to come.

    ``pool`` is the number of variants the sampling list draws from, ``rotate`` how many of the list are
    replaced each round, ``weight`` how early its tasks are claimed relative to others.
    """

    id: str
    episodes: int = 10
    rotate: int = 2
    pool: int = 1000
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Completeness:
    """When a round may end with a result.

    ``min_subject_share`` is the share of a subject's episodes, in each environment, that must be scored for
    it to count as measured; ``on_deadline`` says what becomes of a round with open tasks: "partial" ends it
    with the subjects that are measured, "fail" fails it.
    """

    min_subject_share: float = 0.9
    min_subjects: int = 1
    on_deadline: str = "partial"


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """What rounds are made from; seconds of the lease clock."""

    subjects: tuple[Subject, ...]
    environments: tuple[EnvironmentChoice, ...]
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)
    completeness: Completeness = field(default_factory=Completeness)
    scoring: ScoringPolicy = field(default_factory=ScoringPolicy)
    interval_s: float = 60.0
    deadline_s: float = 600.0
    keep_rounds: int = 200
    max_rounds: int = 0


@dataclass(frozen=True, slots=True)
class PlannedEnvironment:
    """An environment of one round: episode ``i`` runs ``variants[i]``."""

    id: str
    variants: tuple[int, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round, fixed: anyone who has it and the secret can name every task and its seed."""

    number: int
    commitment: str
    subjects: tuple[Subject, ...]
    environments: tuple[PlannedEnvironment, ...]
    limits: EpisodeLimits
    completeness: Completeness
    scoring: ScoringPolicy

    @property
    def batch(self) -> str:
        """The name of the round's batch of tasks."""
        return f"round-{self.number:06}"

    @property
    def expected(self) -> int:
        """The number of episodes of the whole round."""
        return len(self.subjects) * sum(len(e.variants) for e in self.environments)


def tasks_of(plan: RoundPlan, secret: bytes, unit: Callable[[], float]) -> list[NewTask]:
    """Return the round's tasks; ``unit`` draws from (0, 1) and decides the order of claims only.

    The order is an exponential race (Efraimidis and Spirakis, 2006): a random permutation in which an
    environment of weight 2 comes up twice as early, on average, as one of weight 1.
    """
    limits = asdict(plan.limits)
    tasks = []
    for environment, episode, variant in _episodes(plan):
        seed = derive_seed(secret, environment=environment.id, variant=variant, episode=episode)
        for subject in plan.subjects:
            key = f"{subject.name}/{environment.id}/{episode:05}"
            spec = {
                "environment": environment.id, "episode": episode, "variant": variant, "seed": seed,
                "endpoint": subject.endpoint, "limits": limits,
            }  # fmt: skip
            order = int(-math.log(unit()) / max(environment.weight, _LEAST_WEIGHT) * _ORDER_SCALE)
            task_id = stable_id(plan.batch, key)
            tasks.append(NewTask(task_id, plan.batch, subject.name, environment.id, key, spec, order))
    return tasks


def _episodes(plan: RoundPlan) -> list[tuple[PlannedEnvironment, int, int]]:
    return [(e, episode, variant) for e in plan.environments for episode, variant in enumerate(e.variants)]


def plan_to_json(plan: RoundPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    scoring = plan.scoring
    return {
        "number": plan.number,
        "commitment": plan.commitment,
        "subjects": [asdict(subject) for subject in plan.subjects],
        "environments": [
            {"id": e.id, "variants": list(e.variants), "weight": e.weight} for e in plan.environments
        ],
        "limits": asdict(plan.limits),
        "completeness": asdict(plan.completeness),
        "scoring": {
            "policy": scoring.name.value, "temperature": scoring.temperature,
            "subset_weight_scheme": scoring.scheme.value, "burn_uid": scoring.burn_uid,
        },
    }  # fmt: skip


def plan_from_json(raw: Mapping[str, Any]) -> RoundPlan:
    """Return the plan that ``plan_to_json`` wrote."""
    scoring = raw["scoring"]
    return RoundPlan(
        number=raw["number"],
        commitment=raw["commitment"],
        subjects=tuple(Subject(**subject) for subject in raw["subjects"]),
        environments=tuple(
            PlannedEnvironment(e["id"], tuple(e["variants"]), e["weight"]) for e in raw["environments"]
        ),
        limits=EpisodeLimits(**raw["limits"]),
        completeness=Completeness(**raw["completeness"]),
        scoring=ScoringPolicy(
            name=PolicyName(scoring["policy"]),
            temperature=scoring["temperature"],
            scheme=SubsetScheme(scoring["subset_weight_scheme"]),
            burn_uid=scoring["burn_uid"],
        ),
    )


def planned(choice: EnvironmentChoice, variants: Sequence[int]) -> PlannedEnvironment:
    """Return the environment of one round with the variants its sampling list has now."""
    return PlannedEnvironment(choice.id, tuple(variants), choice.weight)
