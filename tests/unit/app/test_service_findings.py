"""What a status says of services: one finding each, causes first, and no alarm for what merely waits."""

from __future__ import annotations

from typing import Any

import pytest

from standfast.app.service_findings import service_findings
from standfast.kernel.verdict import Verdict
from standfast.services.model import ServiceState


def view(name: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "is_required": True, **more}


def test_what_waits_is_no_second_alarm_and_stands_below_its_cause() -> None:
    found = service_findings(
        [
            view("api", "waiting", waits_for=["cache"], depends_on=["cache"], message="waits for cache"),
            view("cache", "waiting", waits_for=["db"], depends_on=["db"], message="waits for db"),
            view("db", "held", message="three times", reason="SameFailure", remedy="mend it"),
            view("web"),
        ]
    )
    assert [(one.subject, one.verdict) for one in found] == [
        ("db", Verdict.FAIL), ("cache", Verdict.UNKNOWN), ("api", Verdict.UNKNOWN), ("web", Verdict.PASS),
    ]  # fmt: skip
    assert found[0].message == "db is held: three times; api, cache wait for it"
    assert found[0].evidence["blocks"] == ["api", "cache"]
    assert sum(one.verdict is Verdict.FAIL for one in found) == 1


def test_of_two_failures_the_deeper_one_comes_first() -> None:
    found = service_findings(
        [view("api", "not_ready", depends_on=["db"]), view("db", "backoff", depends_on=[])]
    )
    assert [one.subject for one in found] == ["db", "api"]


@pytest.mark.parametrize("state", list(ServiceState))
def test_every_state_is_judged_and_only_good_ones_pass(state: ServiceState) -> None:
    (found,) = service_findings([view("db", str(state))])
    assert (found.verdict is Verdict.PASS) == (state in (ServiceState.READY, ServiceState.COMPLETED))
    assert found.verdict is Verdict.PASS or "standfast explain db" in found.remedy


def test_i1_what_nobody_asked_is_unknown() -> None:
    for state in ("running", "unknown", "starting"):
        assert service_findings([view("db", state)])[0].verdict is Verdict.UNKNOWN


def test_what_is_not_required_never_fails() -> None:
    assert service_findings([view("extra", "held", is_required=False)])[0].verdict is Verdict.UNKNOWN


def test_a_circle_and_a_dependency_that_is_not_there_end_nothing() -> None:
    found = service_findings(
        [
            view("a", "waiting", waits_for=["b"], depends_on=["b"]),
            view("b", "waiting", waits_for=["a"], depends_on=["a"]),
            view("c", "waiting", waits_for=["ghost"], depends_on=["ghost"]),
        ]
    )
    assert len(found) == 3


def test_evidence_is_what_a_reader_acts_on() -> None:
    (found,) = service_findings([view("db", "held", cls="code_bug", pid=None, restarts=3, retry_in_s=58.0)])
    assert found.evidence == {"cls": "code_bug", "restarts": 3, "retry_in_s": 58.0}
