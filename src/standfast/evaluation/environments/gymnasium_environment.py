"""Makes a gymnasium environment an ``Environment``: own physics per variant, own criterion, no wrappers.

The engines are imported when an environment is made, never before: they are the extra
``standfast[environments]``. gymnasium's own wrappers (time limit, checker) are left out, because the
episode's rules check the same things and name whose doing a violation was.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from standfast.evaluation.environments.criteria import Criterion
from standfast.evaluation.environments.specification import DiscreteActions, EnvironmentSpec
from standfast.evaluation.environments.variation import Ranges, draw
from standfast.evaluation.ports import Action, Step


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one gymnasium task is made: engine, what varies and how it is applied, when it is won."""

    engine: str
    options: Mapping[str, Any]
    ranges: Ranges
    apply: Callable[[Any, Mapping[str, float]], None]
    criterion: Callable[[], Criterion]


class GymnasiumEnvironment:
    """One gymnasium task under the physics of a variant."""

    def __init__(self, spec: EnvironmentSpec, recipe: Recipe) -> None:
        self._spec = spec
        self._recipe = recipe
        self._criterion = recipe.criterion()
        self._steps = 0
        module, _, attribute = recipe.engine.partition(":")
        self._engine: Any = getattr(importlib.import_module(module), attribute)(**recipe.options)

    def reset(self, *, seed: int, variant: int) -> Sequence[float]:
        """Apply the physics of ``variant`` and draw the initial state from ``seed``."""
        self._recipe.apply(self._engine, draw(self._spec.id, variant, self._recipe.ranges))
        observation, _ = self._engine.reset(seed=seed)
        return _floats(observation)

    def step(self, action: Action) -> Step:
        """Apply ``action`` for one control interval."""
        observation, reward, has_ended, _, _ = self._engine.step(self._native(action))
        self._steps += 1
        seen = _floats(observation)
        is_last = self._steps >= self._spec.max_steps
        ruling = self._criterion.rule(seen, has_ended=bool(has_ended), is_last=is_last)
        return Step(seen, float(reward), ruling.is_over, ruling.is_success)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _native(self, action: Action) -> Any:
        if isinstance(self._spec.actions, DiscreteActions):
            return action
        return importlib.import_module("numpy").asarray(action, dtype="float64")


def _floats(observation: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in observation)
