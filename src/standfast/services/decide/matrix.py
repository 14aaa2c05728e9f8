"""How much of a stack is there: one cell for each declared service, and one figure that cannot flatter.

1. A process that runs and that nobody asks, one that still starts and one that is being built are not ready.
2. The denominator is what was declared, always: a service that is not there counts like one that failed.
3. The figure is rounded down, so that it says 100 % only where everything is ready.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: Reasons of a ready service of which nothing is known but that it runs.
UNCHECKED_REASONS = frozenset({"Running", "Settling"})
_BUILDING = "Building"


class Cell(enum.StrEnum):
    """How one declared service stands."""

    READY = "ready"
    COMPLETED = "completed"  # A task that ended with exit code 0: it did what it was declared for.
    UNCHECKED = "running without check"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    BUILDING = "building"
    EXITED = "exited"
    HELD = "held"
    MISSING = "missing"


_GOOD = (Cell.READY, Cell.COMPLETED)


class Matrix(NamedTuple):
    """Every declared service with its cell, in the order of the declaration."""

    cells: tuple[tuple[str, Cell], ...]

    @property
    def declared(self) -> int:
        """How many services were declared."""
        return len(self.cells)

    @property
    def ready(self) -> int:
        """How many are as they should be."""
        return sum(cell in _GOOD for _, cell in self.cells)

    @property
    def percent(self) -> int:
        """The share of ready ones, rounded down; 0 where nothing is declared."""
        return 100 * self.ready // self.declared if self.declared else 0

    @property
    def counts(self) -> dict[str, int]:
        """How many services stand in each cell; cells that nobody stands in are left out."""
        counted = Counter(cell for _, cell in self.cells)
        return {str(cell): counted[cell] for cell in Cell if counted[cell]}

    @property
    def text(self) -> str:
        """The matrix in one line."""
        rest = ", ".join(f"{count} {name}" for name, count in self.counts.items() if Cell(name) not in _GOOD)
        return f"{self.ready} of {self.declared} ready ({self.percent} %){f': {rest}' if rest else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Return the matrix as plain JSON values."""
        return {
            "ready": self.ready, "declared": self.declared, "percent": self.percent, "counts": self.counts,
            "cells": {name: str(cell) for name, cell in self.cells},
        }  # fmt: skip


def matrix_of(declared: Sequence[str], views: Mapping[str, Mapping[str, Any]]) -> Matrix:
    """Return the matrix of the ``declared`` names; what is only in ``views`` counts nothing.

    ``views`` are services as ``ServiceView.as_dict`` shows them, by name.
    """
    return Matrix(tuple((name, cell_of(views.get(name))) for name in declared))


def cell_of(view: Mapping[str, Any] | None) -> Cell:
    """Return how a service stands of which ``view`` was seen; None = nothing was."""
    if view is None:
        return Cell.MISSING
    state, reason = str(view.get("state", "")), view.get("reason", "")
    if state == "ready":
        return Cell.UNCHECKED if reason in UNCHECKED_REASONS else Cell.READY
    if reason == _BUILDING:
        return Cell.BUILDING
    plain = {
        "starting": Cell.STARTING, "completed": Cell.COMPLETED, "not_ready": Cell.UNHEALTHY,
        "held": Cell.HELD, "running": Cell.UNCHECKED,
    }  # fmt: skip
    if state in plain:
        return plain[state]
    # Stopped, waiting, to be started again: nothing of it runs. It exited, unless it was never there.
    return Cell.EXITED if view.get("last_exit") or view.get("starts") else Cell.MISSING
