"""When an episode is over and whether it was a success: three rules that all built-in environments share.

Each rule is asked once per step and remembers only how long its condition has held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether the episode is over, and if so whether it was a success."""

    is_over: bool
    is_success: bool


class Criterion(Protocol):
    """Rules on one episode; made anew for each."""

    def rule(self, observation: Sequence[float], *, has_ended: bool, is_last: bool) -> Ruling:
        """Rule on one step: ``has_ended`` is the engine's own verdict, ``is_last`` the step limit's."""
        ...


class Survive:
    """Success is to reach the step limit; the engine's end (fallen, out of bounds) is a failure."""

    def rule(self, observation: Sequence[float], *, has_ended: bool, is_last: bool) -> Ruling:
        """Rule on one step."""
        return Ruling(has_ended or is_last, is_last and not has_ended)


class Reach:
    """Success is the engine's end (the goal); the step limit is a failure."""

    def rule(self, observation: Sequence[float], *, has_ended: bool, is_last: bool) -> Ruling:
        """Rule on one step."""
        return Ruling(has_ended or is_last, has_ended)


class Hold:
    """Success is to satisfy a condition on the observation for ``steps`` steps in a row."""

    def __init__(self, condition: Callable[[Sequence[float]], bool], *, steps: int) -> None:
        self._condition = condition
        self._needed = steps
        self._held = 0

    def rule(self, observation: Sequence[float], *, has_ended: bool, is_last: bool) -> Ruling:
        """Rule on one step."""
        self._held = self._held + 1 if self._condition(observation) else 0
        is_success = self._held >= self._needed
        return Ruling(is_success or has_ended or is_last, is_success)
