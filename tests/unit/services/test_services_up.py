"""Whether a stack is up: what `up --wait` may say, on literals."""

from __future__ import annotations

from typing import Any

import pytest

from standfast.services.decide.up import PROBED_S, UNPROBED_S, Failed, Pending, Up, judge_up, window_of


def view(name: str = "web", state: str = "ready", **more: Any) -> dict[str, Any]:
    """Return a view as ``ServiceView.as_dict`` makes it, of a service that is well."""
    known: dict[str, Any] = {
        "name": name, "state": state, "is_required": True, "reason": "Answers", "message": "", "restarts": 0,
        "stable_for_s": 600.0, "waits_for": [], "last_exit": "", "longest_life_s": 0.0, "remedy": "",
    }  # fmt: skip
    return known | more


def pending(*views: dict[str, Any]) -> str:
    judged = judge_up(views)
    assert isinstance(judged, Pending), judged
    return " ".join(judged.missing)


def failed(*views: dict[str, Any]) -> str:
    judged = judge_up(views)
    assert isinstance(judged, Failed), judged
    return " ".join(judged.why)


def test_nothing_that_is_required_is_never_up() -> None:
    assert "nothing" in pending()
    assert "nothing" in pending(view(is_required=False))


def test_ready_and_stable_is_up() -> None:
    assert judge_up([view(), view("db")]) == Up()


@pytest.mark.parametrize("state", ["stopped", "waiting", "starting", "not_ready", "backoff", "stopping"])
def test_anything_else_is_not_up(state: str) -> None:
    assert "web" in pending(view("web", state), view("db"))


def test_one_look_at_a_crash_loop_is_not_enough() -> None:
    assert "ready for 2 of 3 s" in pending(view(stable_for_s=2.0))
    assert "15 s" in pending(view(stable_for_s=14.0, reason="Running"))


@pytest.mark.parametrize("lived_s", [0.2, 1.2, 2.2, 11.0])
def test_the_window_outlives_what_the_service_lived_before_it_ended(lived_s: float) -> None:
    ended = view(reason="Running", longest_life_s=lived_s, stable_for_s=lived_s + 0.1)
    assert window_of(ended) > max(lived_s, UNPROBED_S - 0.1)
    assert isinstance(judge_up([ended]), Pending)
    assert window_of(view(longest_life_s=40.0)) == 60.0
    assert window_of(view()) == PROBED_S


def test_what_is_held_is_hopeless_at_once_and_says_why() -> None:
    held = view("web", "held", reason="SameFailure", message="ended 3 times: boom")
    assert failed(held, view("db", "starting")) == "web is held: ended 3 times: boom"


@pytest.mark.parametrize("reason", ["PortInUse", "StartFailed"])
def test_a_hold_that_may_clear_within_moments_is_waited_for(reason: str) -> None:
    assert "port 1" in pending(view("web", "held", reason=reason, message="its port 1 is in use"))


def test_a_need_that_is_not_true_is_for_a_person() -> None:
    assert "not so" in failed(view("web", "held", reason="NeedUnmet", message="it needs x, which is not so"))


def test_what_was_restarted_on_the_way_is_not_called_up() -> None:
    restarted = view(restarts=1, last_exit="exit code 1 after 0.2 s")
    assert "restarted 1 times on the way" in failed(restarted, view("db"))
    # Until everything is ready it may still become hopeless; the answer waits.
    assert "db" in pending(restarted, view("db", "starting"))


def test_restarts_from_before_the_wait_are_none_of_it() -> None:
    was = {"web": 5}
    assert judge_up([view(restarts=5)], before=was) == Up()
    ended = "exit code 1 after 2.0 s"
    assert isinstance(judge_up([view(restarts=6, last_exit=ended)], before=was), Failed)
    assert judge_up([view(restarts=6)], before=was) == Up(), "a restart that was asked for is no failure"
    assert isinstance(judge_up([view("new", restarts=1, last_exit=ended)], before=was), Failed)
    # A supervisor that was started anew counts from zero.
    assert isinstance(judge_up([view(restarts=1, last_exit=ended)], before=was), Failed)


def test_a_completed_task_is_up_and_one_that_failed_is_not() -> None:
    assert judge_up([view("migrate", "completed", stable_for_s=0.0), view()]) == Up()
    assert "migrate" in failed(view("migrate", "held", message="exit code 3"), view())


def test_what_is_not_required_is_no_obstacle() -> None:
    extra = view("extra", "held", is_required=False, message="no", restarts=9)
    assert judge_up([extra, view()]) == Up()


def test_a_parked_service_names_what_it_waits_for() -> None:
    assert pending(view("web", "waiting", waits_for=["db", "cache"])) == "web waits for db, cache"
