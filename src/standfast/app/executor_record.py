"""What an executor remembers about itself: how often what happened, and what is failing now."""

from __future__ import annotations

from collections import Counter
from typing import Any

import structlog

from standfast.kernel.errors import StandfastError

log = structlog.get_logger(__name__)
_MAX_TEXT = 500


class Record:
    """Counters since the start, and the errors that have not gone away yet, one per activity.

    An error is logged when it begins and when it ends, not at every retry.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._failing: dict[str, str] = {}

    def failing(self, doing: str, error: StandfastError) -> None:
        """Note that ``doing`` fails now."""
        if doing not in self._failing:
            log.warning("executor_failing", doing=doing, code=error.code, error=str(error))
        self._failing[doing] = f"{doing}: {error.code}: {error.what}"

    def worked(self, doing: str) -> None:
        """Note that ``doing`` works (again)."""
        if self._failing.pop(doing, None) is not None:
            log.info("executor_recovered", doing=doing)

    @property
    def last_error(self) -> str:
        """Everything that fails now, as one bounded line; empty where nothing does."""
        return "; ".join(self._failing.values())[:_MAX_TEXT]

    def as_dict(self) -> dict[str, Any]:
        """Return it as status shows it."""
        return {"last_error": self.last_error, "counters": dict(self.counters)}
