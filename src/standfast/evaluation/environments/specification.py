"""What is known about an environment without starting it: its name, spaces, limits, and who makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from standfast.kernel.errors import ConfigError

#: Bounds that keep one episode and one message small; an environment beyond them is refused at start.
MAX_DIMENSIONS = 1_024
MAX_STEPS = 100_000
MAX_VARIANTS = 2**31


@dataclass(frozen=True, slots=True)
class ContinuousActions:
    """A vector with one closed interval per dimension; the bounds are finite."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the space as a subject sees it."""
        return {
            "kind": "continuous",
            "shape": [len(self.low)],
            "low": list(self.low),
            "high": list(self.high),
        }


@dataclass(frozen=True, slots=True)
class DiscreteActions:
    """One choice of ``0 .. n - 1``."""

    n: int

    def as_dict(self) -> dict[str, Any]:
        """Return the space as a subject sees it."""
        return {"kind": "discrete", "n": self.n}


ActionSpace: TypeAlias = ContinuousActions | DiscreteActions


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """One entry of a catalogue.

    ``factory`` is ``module:attribute``: a callable that takes this entry and returns an ``Environment``.
    It is imported only in the process that runs the episode, so that a catalogue can be read where the
    simulators are not installed. ``summary`` says in one line what success is. Raises ConfigError for a
    value out of bounds.
    """

    id: str
    factory: str
    actions: ActionSpace
    observation_size: int
    max_steps: int
    variants: int = 1
    summary: str = ""

    def __post_init__(self) -> None:
        objection = _objection(self)
        if objection:
            raise ConfigError(
                f"environment {self.id!r} cannot be used", why=objection, fix="correct its catalogue entry"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as plain JSON values."""
        return {
            "id": self.id,
            "factory": self.factory,
            "actions": self.actions.as_dict(),
            "observation_size": self.observation_size,
            "max_steps": self.max_steps,
            "variants": self.variants,
            "summary": self.summary,
        }


def spec_from_dict(value: Mapping[str, Any]) -> EnvironmentSpec:
    """Return the entry that ``as_dict`` wrote."""
    actions = value["actions"]
    space: ActionSpace
    if actions["kind"] == "discrete":
        space = DiscreteActions(actions["n"])
    else:
        space = ContinuousActions(tuple(actions["low"]), tuple(actions["high"]))
    return EnvironmentSpec(**{**value, "actions": space})


def _objection(spec: EnvironmentSpec) -> str:
    module, colon, attribute = spec.factory.partition(":")
    if not (spec.id and spec.id.isprintable() and len(spec.id) <= 128):
        return "its id must be 1 to 128 printable characters"
    if not (module and colon and attribute):
        return f"its factory {spec.factory!r} is not 'module:attribute'"
    for name, value, limit in (
        ("observation_size", spec.observation_size, MAX_DIMENSIONS),
        ("max_steps", spec.max_steps, MAX_STEPS),
        ("variants", spec.variants, MAX_VARIANTS),
    ):
        if not 1 <= value <= limit:
            return f"{name} is {value}, and must be 1 to {limit}"
    return _space_objection(spec.actions)


def _space_objection(space: ActionSpace) -> str:
    if isinstance(space, DiscreteActions):
        return "" if 1 <= space.n <= MAX_DIMENSIONS else f"n is {space.n}, and must be 1 to {MAX_DIMENSIONS}"
    if not 1 <= len(space.low) == len(space.high) <= MAX_DIMENSIONS:
        return "low and high must have the same length, at least 1"
    if not all(math.isfinite(v) for v in (*space.low, *space.high)):
        return "low and high must be finite"
    if not all(low < high for low, high in zip(space.low, space.high, strict=True)):
        return "every low must be below its high"
    return ""
