"""How a stack that is down comes back: what is down, in which order it returns, and what is done when.

1. The supervisor orders the starts by itself; here it is decided what has to be taken out of its way.
2. A person's hold stays, and with it whatever needs the service that is held.
3. Each service is acted on once. One that fails again after that is not cured by more of the same (I8).
4. What runs without a supervisor is kept: it is taken back and not started a second time.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from standfast.services.decide.explain import HOLD_REASONS
from standfast.services.decide.matrix import Cell, cell_of
from standfast.services.decide.order import roots, unmet
from standfast.services.decide.up import Failed, Pending, Up, window_of
from standfast.services.model import STOPPED, ServiceSpec, ServiceState

View = Mapping[str, Any]
#: How long a service must have stood so before something is done about it: it may be on its way.
_MOVING_S, _UNHEALTHY_S = 1.0, 5.0
#: How long an obstacle or an unmet need is waited out before the stack is called stuck at it.
_OBSTACLE_S = 10.0
_UP = (Cell.READY, Cell.COMPLETED, Cell.UNCHECKED)


class Way(enum.StrEnum):
    """How one service comes back."""

    START = "start"  # Nothing of it runs.
    RESTART = "restart"  # It runs and does not answer as it should.
    RELEASE = "release"  # The supervisor holds it after ends that a person may know to be cured.
    WAIT = "wait"  # It is on its way, or what is in its way is looked at again by itself.
    STAY = "stay"  # A person holds it, or something that it needs.


class Return(NamedTuple):
    """One service that is down; ``wave`` counts from 1, 0 where it stays; ``took_s`` is of its last start."""

    name: str
    cell: Cell
    way: Way
    wave: int
    why: str
    cls: str = ""
    evidence: tuple[str, ...] = ()
    since: str = ""
    took_s: float | None = None
    is_required: bool = True
    stays_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is down and how it comes back; ``path`` is the slowest chain, by what each took last time."""

    returns: tuple[Return, ...] = ()
    path: tuple[str, ...] = ()
    eta_s: float = 0.0
    unknown: tuple[str, ...] = field(default=())

    @property
    def waves(self) -> tuple[tuple[Return, ...], ...]:
        """The services that come back, by the order of their starts."""
        last = max((one.wave for one in self.returns), default=0)
        return tuple(
            tuple(one for one in self.returns if one.wave == number) for number in range(1, last + 1)
        )

    @property
    def staying(self) -> tuple[Return, ...]:
        """The services that stay down."""
        return tuple(one for one in self.returns if one.way is Way.STAY)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "down": [
                {**one._asdict(), "cell": str(one.cell), "way": str(one.way), "evidence": list(one.evidence),
                 "stays_for": list(one.stays_for)}
                for one in self.returns
            ],
            "waves": [[one.name for one in wave] for wave in self.waves],
            "eta_s": self.eta_s, "critical_path": list(self.path), "without_history": list(self.unknown),
        }  # fmt: skip


class Act(NamedTuple):
    """Something to be done now, and why."""

    way: Way
    name: str
    why: str


def plan_of(
    specs: Sequence[ServiceSpec], views: Mapping[str, View], took_s: Mapping[str, float | None]
) -> Plan:
    """Return how everything that is down comes back; ``took_s`` is what each took last time, where known."""
    down = {spec.name: spec for spec in specs if cell_of(views.get(spec.name)) not in _UP}
    stays = _staying(specs, down, views)
    waves = _waves({name: spec for name, spec in down.items() if name not in stays})
    returns = tuple(
        _return(spec, views.get(name, {}), waves.get(name, 0), took_s.get(name), stays.get(name, ()))
        for name, spec in down.items()
    )
    ordered = tuple(sorted(returns, key=lambda one: (one.wave == 0, one.wave)))
    path, eta_s = _longest(down, waves, took_s)
    unknown = tuple(one.name for one in ordered if one.wave and one.took_s is None)
    return Plan(ordered, path, eta_s, unknown)


def due(
    specs: Sequence[ServiceSpec],
    views: Mapping[str, View],
    *,
    acted: Collection[str],
    seen_s: Mapping[str, float],
) -> tuple[Act, ...]:
    """Return what is to be done now; ``seen_s`` is for how long each was seen to stand as it does."""
    states = _states(views)
    acts = []
    for spec in specs:
        view = views.get(spec.name)
        if view is None or spec.name in acted or view.get("held_by"):
            continue
        act = _act(spec, view, is_free=not unmet(spec, states), seen_s=seen_s.get(spec.name, 0.0))
        if act is not None:
            acts.append(act)
    return tuple(acts)


def judge_recovery(
    specs: Sequence[ServiceSpec],
    views: Mapping[str, View],
    *,
    acted: Collection[str],
    seen_s: Mapping[str, float],
) -> Up | Pending | Failed:
    """Return whether the required services are back and stable, will not come back, or are on their way.

    Where nothing is declared as required, everything is. What has to stay down is told only when nothing
    moves any more, so that the rest gets its chance.
    """
    wanted = [spec for spec in specs if spec.is_required] or list(specs)
    stuck = {
        name: str(view.get("message", ""))
        for name, view in views.items()
        if _is_stuck(name, view, acted=acted, seen_s=seen_s.get(name, 0.0))
    }
    by_name, states = {spec.name: spec for spec in specs}, _states(views)
    moving, lost = [], []
    for spec in wanted:
        view = views.get(spec.name, {})
        if not (lack := _lack(spec.name, view)):
            continue
        causes = {chain[-1] for chain in roots(spec.name, by_name, states)}
        if spec.name in stuck or (view.get("state") == "waiting" and causes and causes <= stuck.keys()):
            lost.append(lack)
        else:
            moving.append(lack)
    if moving:
        return Pending(tuple(moving))
    return Failed(tuple(lost)) if lost else Up()


def _act(spec: ServiceSpec, view: View, *, is_free: bool, seen_s: float) -> Act | None:
    name, state, why = spec.name, view.get("state"), str(view.get("message", ""))
    if state == "held" and view.get("reason") in HOLD_REASONS:
        return Act(Way.RELEASE, name, why)
    if state in ("backoff", "stopped") and is_free and seen_s >= _MOVING_S:
        return Act(Way.START, name, why)
    is_stopped = view.get("process_state") in STOPPED
    if state == "not_ready" and is_free and seen_s >= (_MOVING_S if is_stopped else _UNHEALTHY_S):
        return Act(Way.RESTART, name, why)
    return None


def _is_stuck(name: str, view: View, *, acted: Collection[str], seen_s: float) -> bool:
    if view.get("state") != "held":
        return False
    if view.get("held_by"):
        return True
    if view.get("reason") in HOLD_REASONS:
        return name in acted and seen_s >= _MOVING_S
    # An image that is built is on its way, however long that takes.
    return view.get("reason") != "Building" and seen_s >= _OBSTACLE_S


def _lack(name: str, view: View) -> str:
    """Return what a service lacks to be back, or an empty string."""
    state = view.get("state", "missing")
    if state == "completed":
        return ""
    if state != "ready":
        said = f": {view['message']}" if view.get("message") else ""
        return f"{name} is {str(state).replace('_', ' ')}{said}"
    stable_s, window_s = float(view.get("stable_for_s", 0.0)), window_of(view)
    return "" if stable_s >= window_s else f"{name} is ready for {stable_s:.0f} of {window_s:.0f} s"


def _staying(
    specs: Sequence[ServiceSpec], down: Mapping[str, ServiceSpec], views: Mapping[str, View]
) -> dict[str, tuple[str, ...]]:
    """Return what stays down, each with the held services that it stays for; a held one names itself."""
    stays: dict[str, tuple[str, ...]] = {name: (name,) for name in down if views.get(name, {}).get("held_by")}
    grew = True
    # Each turn adds one at least.
    while grew:
        more = {}
        for spec in specs:
            causes = {cause for one in spec.depends_on for cause in stays.get(one.name, ())}
            if spec.name in down and spec.name not in stays and causes:
                more[spec.name] = tuple(sorted(causes))
        stays |= more
        grew = bool(more)
    return stays


def _waves(down: Mapping[str, ServiceSpec]) -> dict[str, int]:
    """Return in which wave each starts: one after the last of what it needs that is down, too."""
    waves: dict[str, int] = {}
    left = dict(down)
    # Each turn places one at least; a circle, which no stack may have, is placed as it is.
    while left:
        free = [name for name, spec in left.items() if not {d.name for d in spec.depends_on} & left.keys()]
        for name in free or list(left):
            below = [waves.get(one.name, 0) for one in left[name].depends_on]
            waves[name] = 1 + max(below, default=0)
        left = {name: spec for name, spec in left.items() if name not in waves}
    return waves


def _longest(
    down: Mapping[str, ServiceSpec], waves: Mapping[str, int], took_s: Mapping[str, float | None]
) -> tuple[tuple[str, ...], float]:
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for name in sorted(waves, key=lambda one: waves[one]):
        before = [best[one.name] for one in down[name].depends_on if one.name in best]
        total_s, path = max(before, default=(0.0, ()), key=lambda one: one[0])
        best[name] = (total_s + (took_s.get(name) or 0.0), (*path, name))
    total_s, path = max(best.values(), default=(0.0, ()), key=lambda one: (one[0], len(one[1])))
    return path, total_s


def _return(
    spec: ServiceSpec, view: View, wave: int, took_s: float | None, stays_for: tuple[str, ...]
) -> Return:
    cell = cell_of(view or None)
    why = str(view.get("message") or view.get("last_exit") or "nothing is known of it")
    return Return(
        spec.name, cell, Way.STAY if stays_for else _way(view, cell), wave, why,
        cls=str(view.get("cls", "")), evidence=tuple(map(str, view.get("evidence", ()))),
        since=str(view.get("since", "")), took_s=took_s, is_required=spec.is_required, stays_for=stays_for,
    )  # fmt: skip


def _way(view: View, cell: Cell) -> Way:
    if cell is Cell.HELD:
        return Way.RELEASE if view.get("reason") in HOLD_REASONS else Way.WAIT
    if cell is Cell.UNHEALTHY:
        return Way.RESTART
    return Way.WAIT if cell in (Cell.STARTING, Cell.BUILDING) else Way.START


def _states(views: Mapping[str, View]) -> dict[str, ServiceState]:
    known = {str(state) for state in ServiceState}
    return {name: ServiceState(view["state"]) for name, view in views.items() if view.get("state") in known}
