"""What evaluation needs from outside: environments that a subject acts in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

#: One number per dimension of a continuous space, or the index of a discrete choice.
Action: TypeAlias = "tuple[float, ...] | int"


@dataclass(frozen=True, slots=True)
class Step:
    """What one action led to: ``is_success`` counts only where ``is_over`` is true."""

    observation: Sequence[float]
    reward: float
    is_over: bool
    is_success: bool


class Environment(Protocol):
    """One task with a beginning and an end, used by one episode and then closed.

    * ``reset`` is called once, first. The same ``seed`` and ``variant`` and the same actions give the
      same observations, in every process: ``variant`` fixes the physics, ``seed`` the initial state.
    * An observation holds what a controller needs, and neither the seed nor the variant: both would
      let a subject replay the episode before it acts.
    * ``step`` receives a finite action inside the declared bounds, and is not called after ``is_over``.
    * The end is the environment's to declare; a caller also ends an episode after ``max_steps``.
    * It knows nothing of time limits: whoever runs it stops it from outside, at any moment.
    * What it raises, returns malformed, or spends in time is never held against a subject (I6).
    """

    def reset(self, *, seed: int, variant: int) -> Sequence[float]:
        """Put the environment into its initial state and return the first observation."""
        ...

    def step(self, action: Action) -> Step:
        """Apply ``action`` for one control interval."""
        ...

    def close(self) -> None:
        """Release what the environment holds outside its process; may be called once, at any time."""
        ...
