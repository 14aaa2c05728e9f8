"""What an executor may say about an episode (K2, K3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.app.reports import Invalid, to_report
from standfast.tasks.model import Report

GOOD: dict[str, Any] = {
    "task_id": "0123456789abcdef", "token": 7, "success": True, "score": 1.0, "total_reward": 3.5,
    "steps": 12,
    "duration_s": 0.5, "subject_s": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"error": "it broke"}, "contradict"),
        ({"fault": "subject"}, "contradict"),
        ({"success": False, "error": "it broke"}, "fault"),
        ({"success": False, "fault": "subject"}, "error"),
        ({"success": False, "fault": "subject", "error": "no code"}, "error_code"),
        ({"success": False, "fault": "weather", "error": "x"}, "fault"),
        ({"success": None}, "success"),
        ({"success": 1}, "success"),
        ({"score": float("nan")}, "score"),
        ({"score": float("inf")}, "score"),
        ({"score": -0.1}, "score"),
        ({"score": 1.1}, "score"),
        ({"score": "1"}, "score"),
        ({"score": True}, "score"),
        ({"total_reward": float("-inf")}, "total_reward"),
        ({"total_reward": 1e300}, "total_reward"),
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"task_id": "x" * 5_000}, "task_id"),
        ({"task_id": ""}, "task_id"),
        ({"task_id": None}, "task_id"),
        ({"task_id": "0123456789abcde\0"}, "task_id"),
        ({"success": False, "error": "a\0b", "error_code": "X", "fault": "subject"}, "error"),
        ({"success": False, "error": "\ud800", "error_code": "X", "fault": "subject"}, "error"),
        ({"success": False, "error": "x" * 2_001, "error_code": "X", "fault": "subject"}, "error"),
        ({"token": 0}, "token"),
        ({"token": True}, "token"),
        ({"token": 2**63}, "token"),
        ({"token": "7"}, "token"),
        ({"verified": True}, "verified"),
    ],
)
def test_k2_k3_what_makes_no_sense_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    made = to_report({**GOOD, **change})
    assert isinstance(made, Invalid)
    assert named in made.message
    assert len(made.task_id) <= 64
    assert "\0" not in made.task_id


@pytest.mark.parametrize("item", [None, 1, "text", [], [GOOD]])
def test_k3_an_item_that_is_no_object_is_refused(item: object) -> None:
    assert isinstance(to_report(item), Invalid)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("won", True, True)),
        ({"success": False, "score": 0.0}, ("lost", True, True)),
        (
            {"success": False, "error": "e", "error_code": "Timeout", "fault": "subject"},
            ("subject_error", True, False),
        ),
        (
            {"success": False, "error": "e", "error_code": "Killed", "fault": "infrastructure"},
            ("infra_error", False, False),
        ),
    ],
)
def test_k2_the_four_classes(change: dict[str, Any], expected: tuple[str, bool, bool]) -> None:
    report = to_report({**GOOD, **change})
    assert isinstance(report, Report)
    assert (report.outcome_class, report.is_result, report.is_clean) == expected


ANYTHING = st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists)


@given(value=ANYTHING, field=st.sampled_from(sorted(GOOD)))
def test_k3_any_value_in_any_field_is_a_report_or_invalid(value: object, field: str) -> None:
    made = to_report({**GOOD, field: value})
    if isinstance(made, Report):
        json.loads(made.outcome, parse_constant=lambda name: pytest.fail(f"{name} was stored"))
    else:
        assert made.message
