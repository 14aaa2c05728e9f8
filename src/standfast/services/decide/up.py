"""Whether a stack is up: every required service ready, for a while, and nothing restarted on the way.

One sample that says "running" proves nothing: a container in a crash loop runs most of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: How long a service must have been ready: one that is probed, and one of which only its running is known.
PROBED_S, UNPROBED_S = 3.0, 15.0
#: A service that ended before must outlive its longest recent life by so much.
_OUTLIVE = 1.5
_UNPROBED = frozenset({"Running", "Settling"})
NOTHING_BEFORE: Mapping[str, int] = {}


class Pending(NamedTuple):
    """Not yet; ``missing`` says of each service what it lacks."""

    missing: tuple[str, ...]


class Up(NamedTuple):
    """Everything required is ready and stable, and nothing restarted."""


class Failed(NamedTuple):
    """It will not come up by itself, or did not without restarts; ``why`` has a line for each service."""

    why: tuple[str, ...]


def judge_up(
    views: Sequence[Mapping[str, Any]], *, before: Mapping[str, int] = NOTHING_BEFORE
) -> Up | Pending | Failed:
    """Judge services as ``ServiceView.as_dict`` shows them; those not required are no obstacle.

    ``before`` has the restarts of each service from before it was to come up: they are none of this.
    """
    required = [view for view in views if view["is_required"]]
    held = [_held(view) for view in required if view["state"] == "held" and not _waits(view)]
    if held:
        return Failed(tuple(held))
    missing = tuple(text for view in required if (text := _missing(view)))
    if missing or not required:
        return Pending(missing or ("nothing is declared as required, so there is nothing to wait for",))
    # A restart that somebody asked for leaves no end on record.
    restarted = tuple(_restarted(view) for view in required if _since(view, before) and view["last_exit"])
    return Failed(restarted) if restarted else Up()


def _held(view: Mapping[str, Any]) -> str:
    return f"{view['name']} is held: {view['message']}"


def _since(view: Mapping[str, Any], before: Mapping[str, int]) -> int:
    """Return the restarts since ``before``; a count that is lower is another supervisor's, from zero."""
    counted, known = int(view["restarts"]), before.get(view["name"], 0)
    return counted - known if counted >= known else counted


def _restarted(view: Mapping[str, Any]) -> str:
    return (
        f"{view['name']} is ready now, and was restarted {view['restarts']} times on the way: "
        f"{view['last_exit']}"
    )


def _waits(view: Mapping[str, Any]) -> bool:
    """Whether the hold may clear by itself: a port or an engine looked at again, a build under way."""
    return view["reason"] in ("PortInUse", "StartFailed", "EngineDown", "Building")


def _missing(view: Mapping[str, Any]) -> str:
    name, state = view["name"], view["state"]
    if state == "completed":
        return ""
    if state == "waiting":
        return f"{name} waits for {', '.join(view['waits_for'])}"
    if state != "ready":
        return f"{name} is {state}{': ' + view['message'] if view['message'] else ''}"
    window_s = window_of(view)
    if view["stable_for_s"] < window_s:
        return f"{name} is ready for {view['stable_for_s']:.0f} of {window_s:.0f} s"
    return ""


def window_of(view: Mapping[str, Any]) -> float:
    """Return how long ``view`` must have been ready before that is believed."""
    least = UNPROBED_S if view["reason"] in _UNPROBED else PROBED_S
    return max(least, float(view.get("longest_life_s", 0.0)) * _OUTLIVE)
