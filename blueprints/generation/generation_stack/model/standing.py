"""Decides where the model service stands; a pure rule over what is known, so that /health cannot be kind."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """What a caller may expect."""

    STARTING = "starting"  # The model is being loaded.
    READY = "ready"  # A request sent now is accepted.
    BUSY = "busy"  # The model is loaded and its queue is full: a request sent now is refused.
    FAILED = "failed"  # The model could not be loaded, or does not come back from its work.
    STOPPING = "stopping"  # It was asked to end.


class Facts(NamedTuple):
    """What is known about the service at one moment."""

    is_loaded: bool = False
    load_error: str = ""
    is_stopping: bool = False
    open_requests: int = 0
    capacity: int = 1
    #: Seconds that work has gone on after it was told to stop.
    deaf_s: float = 0.0
    deaf_limit_s: float = 10.0


class Standing(NamedTuple):
    """The state, and why."""

    state: State
    reason: str

    @property
    def serves(self) -> bool:
        """Whether the model is loaded and works through what was accepted."""
        return self.state in (State.READY, State.BUSY)


def standing(facts: Facts) -> Standing:
    """Return where a service with these facts stands; the worst that is true."""
    if facts.load_error:
        return Standing(State.FAILED, facts.load_error)
    if facts.deaf_s > facts.deaf_limit_s:
        return Standing(
            State.FAILED,
            f"a generation goes on for {facts.deaf_s:.0f} s after it was stopped "
            f"(more than {facts.deaf_limit_s:g} s); only a restart ends it",
        )
    if facts.is_stopping:
        return Standing(State.STOPPING, "it was asked to end")
    if not facts.is_loaded:
        return Standing(State.STARTING, "the model is being loaded")
    if facts.open_requests >= facts.capacity:
        return Standing(
            State.BUSY, f"{facts.open_requests} requests are open; it takes {facts.capacity} at once"
        )
    return Standing(State.READY, f"{facts.open_requests} of {facts.capacity} requests are open")
