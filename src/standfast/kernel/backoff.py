"""How long to wait before trying again: exponential, capped, with full jitter.

Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015) spreads a crowd of
retrying clients best of the variants compared there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of at most ``base_s * factor ** (attempt - 1)``, never more than ``cap_s``."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0

    def ceiling_s(self, attempt: int) -> float:
        """Return the largest wait before the retry that follows ``attempt`` (1 is the first)."""
        # The exponent is bounded so that a million attempts cannot overflow a float.
        exponent = min(max(attempt, 1) - 1, 64)
        return min(self.cap_s, self.base_s * self.factor**exponent)

    def wait_s(self, attempt: int, *, unit: float) -> float:
        """Return the wait for ``unit`` in [0, 1), drawn by the caller; at least a tenth of the ceiling."""
        ceiling = self.ceiling_s(attempt)
        return ceiling * (0.1 + 0.9 * unit)
