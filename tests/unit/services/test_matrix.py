"""How much of a stack is ready: every cell, and a figure that does not flatter (M1, M2)."""

from __future__ import annotations

import pytest

from standfast.services.decide.matrix import Cell, cell_of, matrix_of
from standfast.services.model import ServiceState

#: The table of the recovery report, as its author saw it at 18:40.
TABLE = {
    "timescaledb": "ready", "redis": "ready", "zookeeper": "ready", "kafka-1": "ready", "kafka-2": "ready",
    "kafka-3": "ready", "prometheus": "unchecked", "grafana": "unchecked", "mlflow": "starting",
    "data-service": "starting", "regime-detection": "unchecked", "meta-controller": "building",
    "training-orchestrator": "building",
}  # fmt: skip


def view(kind: str) -> dict[str, object]:
    return {
        "ready": {"state": "ready", "reason": "Answers"},
        "unchecked": {"state": "ready", "reason": "Running"},
        "starting": {"state": "starting", "reason": "NotAskedYet"},
        "building": {"state": "starting", "reason": "Building"},
    }[kind]


def test_m1_the_tables_own_author_called_it_85_percent_and_it_is_46() -> None:
    found = matrix_of(tuple(TABLE), {name: view(kind) for name, kind in TABLE.items()})
    assert found.counts == {"ready": 6, "running without check": 3, "starting": 2, "building": 2}
    assert (found.ready, found.declared, found.percent) == (6, 13, 46)
    assert found.text == "6 of 13 ready (46 %): 3 running without check, 2 starting, 2 building"


def test_m2_what_is_gone_or_was_never_there_stays_in_the_denominator() -> None:
    views = {name: view(kind) for name, kind in TABLE.items()}
    before = matrix_of(tuple(TABLE), views)
    for gone in ("meta-controller", "redis"):
        del views[gone]
    after = matrix_of(tuple(TABLE), views)
    assert before.declared == after.declared == 13
    assert after.counts["missing"] == 2
    assert after.percent == 38


def test_m2_what_nobody_declared_adds_nothing() -> None:
    stranger = {"stranger": view("ready")}
    assert matrix_of(("db",), stranger).percent == 0
    assert matrix_of((), stranger).percent == 0
    assert matrix_of((), {}).text == "0 of 0 ready (0 %)"


def test_m1_nothing_is_rounded_up_to_a_hundred() -> None:
    views = {str(n): view("ready") for n in range(199)}
    assert matrix_of([*views, "last"], views).percent == 99


@pytest.mark.parametrize(
    ("seen", "cell"),
    [
        (None, Cell.MISSING),
        ({"state": "stopped"}, Cell.MISSING),
        ({"state": "waiting"}, Cell.MISSING),
        ({"state": "waiting", "last_exit": "exit code 1 after 2.0 s"}, Cell.EXITED),
        ({"state": "backoff", "starts": 3}, Cell.EXITED),
        ({"state": "stopping", "starts": 1}, Cell.EXITED),
        ({"state": "held", "starts": 3}, Cell.HELD),
        ({"state": "held", "reason": "Building"}, Cell.BUILDING),
        ({"state": "not_ready"}, Cell.UNHEALTHY),
        ({"state": "completed"}, Cell.COMPLETED),
        ({"state": "running"}, Cell.UNCHECKED),
        ({"state": "ready", "reason": "Running"}, Cell.UNCHECKED),
        ({"state": "something else"}, Cell.MISSING),
    ],
)
def test_m1_every_state_has_its_cell(seen: dict[str, object] | None, cell: Cell) -> None:
    assert cell_of(seen) is cell


def test_m1_no_state_of_a_service_is_forgotten() -> None:
    for state in ServiceState:
        is_good = cell_of({"state": str(state), "reason": "Answers", "starts": 1}) in (
            Cell.READY,
            Cell.COMPLETED,
        )
        assert is_good == (state in (ServiceState.READY, ServiceState.COMPLETED)), state


def test_a_task_that_is_completed_keeps_nobody_from_a_hundred() -> None:
    views = {"db": view("ready"), "migrate": {"state": "completed"}}
    assert matrix_of(("db", "migrate"), views).percent == 100
