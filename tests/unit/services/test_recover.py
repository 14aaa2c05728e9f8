"""How a stack comes back: the plan, what is done when, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from standfast.services.decide.matrix import Cell
from standfast.services.decide.recover import Way, due, judge_recovery, plan_of
from standfast.services.decide.up import Failed, Pending, Up
from standfast.services.model import Dependency, ServiceSpec, ServiceState, ServiceView

READY = {"state": "ready", "reason": "Answers", "stable_for_s": 60.0}
HELD = {"state": "held", "reason": "SameFailure", "message": "three times"}
BY_ADA = {"state": "held", "reason": "HeldByPerson", "held_by": "ada@rig", "message": "held by ada@rig"}
GONE = {"state": "stopped", "starts": 1, "message": "nobody saw its end"}


def spec(name: str, *needs: str, **more: Any) -> ServiceSpec:
    return ServiceSpec(name, (name,), depends_on=tuple(Dependency(one) for one in needs), **more)


STACK = (
    spec("db"),
    spec("broker"),
    spec("cache", "db"),
    spec("model", "broker"),
    spec("api", "cache", "model"),
)


def views(**changed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    well = {one.name: READY for one in STACK}
    plain = ServiceView("", ServiceState.STOPPED, "").as_dict()
    return {name: {**plain, "name": name, **view} for name, view in {**well, **changed}.items()}


ALL_GONE = views(**{one.name: GONE for one in STACK})


def test_n1_nothing_is_planned_for_what_is_well() -> None:
    plan = plan_of(STACK, views(), {})
    assert (plan.returns, plan.waves, plan.eta_s) == ((), (), 0.0)


def test_n1_everything_comes_back_in_the_order_of_its_needs_with_the_time_it_took() -> None:
    took = {"db": 0.5, "broker": 0.2, "cache": 0.1, "model": 40.0, "api": 1.0}
    plan = plan_of(STACK, ALL_GONE, took)
    assert [[one.name for one in wave] for wave in plan.waves] == [
        ["db", "broker"],
        ["cache", "model"],
        ["api"],
    ]
    assert all(one.way is Way.START and one.why == "nobody saw its end" for one in plan.returns)
    assert plan.path == ("broker", "model", "api")
    assert plan.eta_s == pytest.approx(41.2)
    assert plan.unknown == ()


def test_n1_what_has_no_history_is_said_and_not_guessed() -> None:
    plan = plan_of(STACK, ALL_GONE, {"db": 0.5, "model": None})
    assert set(plan.unknown) == {"broker", "cache", "model", "api"}
    assert plan.eta_s == pytest.approx(0.5)


def test_what_runs_is_no_reason_to_wait_for() -> None:
    plan = plan_of(STACK, views(api=GONE, db=GONE), {})
    assert [[one.name for one in wave] for wave in plan.waves] == [["db", "api"]]


def test_a_process_that_runs_without_a_supervisor_is_kept() -> None:
    running = {"state": "running", "reason": "NobodyAsks"}
    assert plan_of(STACK, views(**{one.name: running for one in STACK}), {}).returns == ()


def test_a_persons_hold_stays_and_keeps_what_needs_it() -> None:
    plan = plan_of(STACK, views(model=BY_ADA, api=GONE, db=HELD), {})
    assert {one.name: (one.way, one.wave, one.stays_for) for one in plan.returns} == {
        "db": (Way.RELEASE, 1, ()),
        "model": (Way.STAY, 0, ("model",)),
        "api": (Way.STAY, 0, ("model",)),
    }
    assert [one.name for one in plan.staying] == ["model", "api"]


@pytest.mark.parametrize(
    ("view", "way", "cell"),
    [
        (HELD, Way.RELEASE, Cell.HELD),
        ({"state": "held", "reason": "NeedUnmet"}, Way.WAIT, Cell.HELD),
        ({"state": "held", "reason": "PortInUse"}, Way.WAIT, Cell.HELD),
        ({"state": "not_ready", "pid": 3}, Way.RESTART, Cell.UNHEALTHY),
        ({"state": "starting", "pid": 3}, Way.WAIT, Cell.STARTING),
        ({"state": "backoff", "starts": 2}, Way.START, Cell.EXITED),
        ({"state": "stopped"}, Way.START, Cell.MISSING),
    ],
)
def test_each_state_has_its_way_back(view: dict[str, Any], way: Way, cell: Cell) -> None:
    (one,) = plan_of(STACK, views(db=view), {}).returns
    assert (one.way, one.cell) == (way, cell)


def test_the_plan_is_plain_json() -> None:
    plain = plan_of(STACK, views(db=HELD), {"db": 0.5}).as_dict()
    assert plain["waves"] == [["db"]]
    assert plain["down"][0]["way"] == "release"


def acts(
    seen_s: float = 60.0, acted: tuple[str, ...] = (), **changed: Mapping[str, Any]
) -> list[tuple[Way, str]]:
    seen = dict.fromkeys((one.name for one in STACK), seen_s)
    return [(act.way, act.name) for act in due(STACK, views(**changed), acted=acted, seen_s=seen)]


def test_i8_each_service_is_acted_on_once() -> None:
    assert acts(db=HELD) == [(Way.RELEASE, "db")]
    assert acts(db=HELD, acted=("db",)) == []


def test_i10_nothing_is_done_about_what_a_person_holds() -> None:
    assert acts(db=BY_ADA) == []
    assert acts(db={**HELD, "held_by": "ada@rig"}) == []


def test_nothing_is_done_about_what_moves_by_itself() -> None:
    waiting = {"state": "waiting"}
    for view in ({"state": "starting"}, waiting, {"state": "held", "reason": "NeedUnmet"}):
        assert acts(cache=view) == []
    assert acts(0.1, db={"state": "backoff"}) == []
    assert acts(2.0, db={"state": "not_ready"}) == []
    assert acts(db=waiting, cache={"state": "not_ready"}) == [], "it fails because db is not there"


def test_what_stands_still_is_started_and_what_hangs_is_restarted() -> None:
    assert acts(db={"state": "backoff"}) == [(Way.START, "db")]
    assert acts(db={"state": "not_ready"}) == [(Way.RESTART, "db")]
    assert acts(2.0, db={"state": "not_ready", "process_state": "T"}) == [(Way.RESTART, "db")]


def judged(
    seen_s: float = 60.0, acted: tuple[str, ...] = (), specs: tuple[ServiceSpec, ...] = STACK,
    **changed: Mapping[str, Any],
) -> Up | Pending | Failed:  # fmt: skip
    seen = dict.fromkeys((one.name for one in specs), seen_s)
    return judge_recovery(specs, views(**changed), acted=acted, seen_s=seen)


def test_it_is_over_when_everything_is_ready_and_stable() -> None:
    assert judged() == Up()
    assert judged(db={"state": "completed"}) == Up()
    young = judged(db={**READY, "stable_for_s": 1.0})
    assert young == Pending(("db is ready for 1 of 3 s",))


def test_a_service_that_was_not_seen_is_not_back() -> None:
    assert judge_recovery(STACK, {}, acted=(), seen_s={}) == Pending(
        tuple(f"{one.name} is missing" for one in STACK)
    )


def test_it_is_lost_only_when_nothing_moves_any_more() -> None:
    waiting = {"state": "waiting", "message": "waits for db"}
    assert isinstance(judged(db=HELD), Pending), "nobody has tried to release it yet"
    lost = judged(acted=("db",), db=HELD, cache=waiting, api=waiting)
    assert lost == Failed(
        ("db is held: three times", "cache is waiting: waits for db", "api is waiting: waits for db")
    )
    still = judged(acted=("db",), db=HELD, cache=waiting, broker={"state": "starting", "message": "loading"})
    assert still == Pending(("broker is starting: loading",))


def test_a_hold_of_a_person_and_a_need_that_stays_unmet_are_told() -> None:
    assert judged(db=BY_ADA) == Failed(("db is held: held by ada@rig",))
    need = {"state": "held", "reason": "NeedUnmet", "message": "not registered"}
    assert isinstance(judged(2.0, db=need), Pending)
    assert judged(db=need) == Failed(("db is held: not registered",))
    assert isinstance(judged(db={"state": "held", "reason": "Building"}), Pending)


def test_what_is_not_required_keeps_nobody_waiting() -> None:
    specs = (spec("db"), spec("extra", is_required=False))
    assert judge_recovery(specs, views(extra=HELD), acted=(), seen_s={}) == Up()
    only = (spec("extra", is_required=False),)
    assert isinstance(judge_recovery(only, views(extra=GONE), acted=(), seen_s={}), Pending)
