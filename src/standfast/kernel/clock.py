"""Time and randomness as ports: rules receive values, drivers receive these.

Monotonic seconds are for leases and timeouts (I14); wall-clock time is for people. Tests and the
simulation pass their own.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where a driver gets its time.

    * ``monotonic`` never goes back and is not comparable between machines or boots.
    * ``wall`` is aware (UTC) and may jump either way; nothing is decided from it.
    """

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall(self) -> datetime:
        """Return the wall-clock instant in UTC."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)


class Entropy(Protocol):
    """Where a driver gets unpredictable bytes."""

    def token_bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        ...


class SystemEntropy:
    """The operating system's CSPRNG."""

    def token_bytes(self, count: int) -> bytes:
        """Return ``count`` bytes of ``secrets.token_bytes``."""
        return secrets.token_bytes(count)


def iso(instant: datetime) -> str:
    """Return ``instant`` as ISO 8601 in UTC with milliseconds, for people and facts."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
