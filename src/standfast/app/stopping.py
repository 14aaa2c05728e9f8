"""Why and how fast an instance is to end, and where its own log lies; without anything heavy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

LOG_NAME = "standfast.log"


@dataclass(slots=True)
class Stop:
    """Why and how fast the instance is to end."""

    asked: asyncio.Event
    hurry: asyncio.Event
    reason: str = ""

    @classmethod
    def fresh(cls) -> Stop:
        """Return one that nobody has asked for."""
        return cls(asyncio.Event(), asyncio.Event())

    def ask(self, reason: str) -> None:
        """Ask for the end; asked again, it becomes urgent."""
        if self.asked.is_set():
            self.hurry.set()
        else:
            self.reason = reason
            self.asked.set()
