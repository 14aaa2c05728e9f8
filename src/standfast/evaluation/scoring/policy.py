"""Which rule turns rates into weights, and the few numbers it may be given.

1. ``original`` is the rule of the network that Standfast replaces, number for number, with its faults;
   it exists so that a move to Standfast changes nothing until somebody decides so.
2. ``standfast`` is the default. ``score.py`` says what it promises.
3. A temperature that is not a positive finite number is refused before anything is computed (K8).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from standfast.kernel.errors import ConfigError


class PolicyName(enum.StrEnum):
    """The two rules."""

    ORIGINAL = "original"
    STANDFAST = "standfast"


class SubsetScheme(enum.StrEnum):
    """What winning a set of ``size`` environments is worth."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    EQUAL = "equal"

    def worth(self, size: int) -> float:
        """Return ``size``, ``2 ** (size - 1)`` or 1."""
        if self is SubsetScheme.LINEAR:
            return float(size)
        return float(2 ** (size - 1)) if self is SubsetScheme.EXPONENTIAL else 1.0


def require_temperature(value: object, *, key: str = "temperature") -> float:
    """Return ``value`` as a float; ConfigError, naming ``key``, unless it is a finite number above 0.

    NaN must be named apart: it passes every ``<= 0`` check and then makes every weight NaN. Infinity
    would pay everybody the same, whatever they did.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key} is {value!r}, which is not a number", fix=f"set {key} to a number above 0")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise ConfigError(
            f"{key} is {number!r}",
            why="it must be finite and above 0",
            fix=f"set {key} to a number above 0; 1.0 is the default",
        )
    return number


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """How a round's rates become weights.

    ``burn_uid`` says what happens when nobody qualifies under ``standfast``: None holds (nothing is
    published), a uid receives everything. ``original`` never asks. Raises ConfigError for a bad
    temperature.
    """

    name: PolicyName = PolicyName.STANDFAST
    temperature: float = 1.0
    scheme: SubsetScheme = SubsetScheme.LINEAR
    burn_uid: str | None = None

    def __post_init__(self) -> None:
        require_temperature(self.temperature)
