"""Where a service stands after what happened to it: one table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from standfast.services.model import ServiceEvent, ServiceState

_S, _E = ServiceState, ServiceEvent
_RUNNING = (_S.STARTING, _S.READY, _S.NOT_READY)
_WAITING = (_S.STOPPED, _S.WAITING, _S.BACKOFF, _S.HELD, _S.COMPLETED)

TRANSITIONS: Mapping[tuple[ServiceState, ServiceEvent], ServiceState] = {
    **{(state, _E.PARK): _S.WAITING for state in _WAITING},
    **{(state, _E.START): _S.STARTING for state in _WAITING},
    **{(state, _E.END_HOLD): _S.HELD for state in _WAITING},
    **{(state, _E.STOP): _S.STOPPED for state in _WAITING},
    **{(state, _E.END_RETRY): _S.BACKOFF for state in _WAITING},
    **{(state, _E.END_DONE): _S.COMPLETED for state in _RUNNING},
    **{(state, _E.ANSWERED): _S.READY for state in _RUNNING},
    **{(state, _E.LATE): _S.NOT_READY for state in _RUNNING},
    **{(state, _E.END_RETRY): _S.BACKOFF for state in _RUNNING},
    **{(state, _E.END_HOLD): _S.HELD for state in _RUNNING},
    **{(state, _E.STOP): _S.STOPPING for state in _RUNNING},
    # An earlier supervisor saw a task complete.
    (_S.STOPPED, _E.END_DONE): _S.COMPLETED,
    (_S.STOPPING, _E.GONE): _S.STOPPED,
    # Asked twice, and a probe's answer that was on its way when the stop was asked for.
    (_S.STOPPING, _E.STOP): _S.STOPPING,
    (_S.STOPPING, _E.ANSWERED): _S.STOPPING,
    (_S.STOPPING, _E.LATE): _S.STOPPING,
}
"""Every move there is; any other (state, event) is a bug of the driver."""


def move(state: ServiceState, event: ServiceEvent) -> ServiceState:
    """Return the state that follows; a pair that is not in the table breaks an invariant."""
    following = TRANSITIONS.get((state, event))
    assert following is not None, f"no move from {state} on {event.name}"
    return following
