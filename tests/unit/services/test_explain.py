"""Why a service is not ready: the first closed gate, for each way in which it can be closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.explanation import ExplainedGate
from standfast.kernel.verdict import Verdict
from standfast.services.decide.explain import Known, explain
from standfast.services.model import (
    Condition,
    Dependency,
    ExitStatus,
    Need,
    Readiness,
    ServiceSpec,
    ServiceState,
    ServiceView,
)
from standfast.services.records import LifeRecord, PersonHold

ANSWERS = ExplainedGate("supervised", Verdict.PASS, "the supervisor answers")
SPECS = {
    "db": ServiceSpec("db", ("postgres",), file="standfast.toml", line=3),
    "migrate": ServiceSpec("migrate", ("migrate",), kind="task", depends_on=(Dependency("db"),)),
    "cache": ServiceSpec("cache", ("redis",), depends_on=(Dependency("db"),)),
    "api": ServiceSpec(
        "api", ("api",), port=8000, ready=Readiness(http="http://127.0.0.1:8000/health"),
        depends_on=(Dependency("cache"), Dependency("migrate", Condition.COMPLETED)),
        needs=(Need("it is registered", ("check",), "register it", 12.0),), file="standfast.toml", line=20,
    ),
}  # fmt: skip
READY = {"state": "ready", "reason": "Answers", "pid": 7, "process_state": "S", "stable_for_s": 100.0}


def view(name: str, **changed: Any) -> dict[str, Any]:
    return ServiceView(name, ServiceState.STOPPED, "").as_dict() | changed


def known(name: str = "api", **views: dict[str, Any]) -> Known:
    """Return what is known when everything is well, but for ``views``."""
    well = {one: view(one, **READY) for one in SPECS} | {"migrate": view("migrate", state="completed")}
    return Known(
        name, SPECS, {**well, **{one: view(one, **more) for one, more in views.items()}}, ANSWERS,
        sources=("standfast.toml",),
    )  # fmt: skip


def life(**changed: Any) -> LifeRecord:
    plain = LifeRecord(
        "api", "l1", "boot", "2026-01-01T00:00:00Z", None, "2026-01-01T00:00:02Z", ExitStatus(1), 2.2, False,
        "boom", (), "", "code_bug", "", "", "", (), False,
    )  # fmt: skip
    return plain._replace(**changed)


def test_nothing_is_closed_where_everything_was_seen_to_be_well() -> None:
    found = explain(known())
    assert found.answer is None
    assert found.verdict is Verdict.PASS
    assert [gate.name for gate in found.gates] == [
        "declared", "supervised", "dependencies", "person's hold", "machine's hold", "needs", "obstacles",
        "process", "readiness", "stability",
    ]  # fmt: skip
    assert "standfast.toml:20" in found.gates[0].observed


def test_a_chain_leads_to_its_root_and_the_root_names_the_command() -> None:
    held = {
        "state": "held", "reason": "SameFailure", "message": "ended 3 times in the same way",
        "remedy": "mend it", "since": "2026-01-01T00:00:05Z",
    }  # fmt: skip
    found = explain(
        known(
            db=held, cache={"state": "waiting", "waits_for": ["db"]}, migrate={"state": "waiting"},
            api={"state": "waiting", "waits_for": ["cache", "migrate"]},
        )
    )  # fmt: skip
    answer = found.answer
    assert answer is not None
    assert answer.name == "dependencies"
    assert answer.observed == "it waits, because db is held: ended 3 times in the same way"
    assert set(answer.evidence) == {"api <- cache <- db", "api <- migrate <- db"}
    assert (answer.remedy, answer.since) == ("mend it", "2026-01-01T00:00:05Z")
    assert "cache ready, migrate completed" in answer.expected


def test_two_causes_are_both_named() -> None:
    found = explain(
        known(
            cache={"state": "backoff", "message": "exit code 1 after 0.1 s"},
            migrate={"state": "held", "reason": "Permanent", "message": "no such table"},
            api={"state": "waiting"},
        )
    )
    assert found.answer is not None
    assert "cache is backoff: exit code 1" in found.answer.observed
    assert "migrate is held: no such table" in found.answer.observed
    assert found.answer.remedy == "standfast explain cache; standfast explain migrate"


def test_a_dependency_that_fails_now_is_no_gate_of_who_serves_all_the_same() -> None:
    found = explain(known(cache={"state": "held", "reason": "Permanent"}))
    assert found.answer is None
    assert "cache is held" in found.gates[2].observed


def test_a_running_service_that_fails_with_its_dependency_is_led_to_it() -> None:
    found = explain(
        known(cache={"state": "held", "reason": "Permanent"}, api={**READY, "state": "not_ready"})
    )
    assert found.answer is not None
    assert found.answer.name == "dependencies"


BAD_DAYS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "held after the same failure",
        {
            "state": "held", "reason": "SameFailure", "message": "three times", "retry_in_s": 58.4,
            "cls": "code_bug", "evidence": ["rule traceback"], "remedy": "mend it; standfast release api",
        },
        "machine's hold", "tries again in 58 s", "standfast release api",
    ),
    (
        "held for a named class",
        {"state": "held", "reason": "PermanentRegistration", "message": "not there", "remedy": "register"},
        "machine's hold", "does not try again by itself", "register",
    ),
    (
        "need not met",
        {"state": "held", "reason": "NeedUnmet", "message": "not registered", "remedy": "register it"},
        "needs", "not registered", "register it",
    ),
    (
        "port taken",
        {"state": "held", "reason": "PortInUse", "message": "8000 is in use by pid 9", "remedy": "kill 9"},
        "obstacles", "pid 9", "kill 9",
    ),
    (
        "obstacle of a driver that is not known here",
        {"state": "held", "reason": "EngineDown", "message": "no engine"},
        "obstacles", "EngineDown", "standfast",
    ),
    (
        "stopped by a signal", {**READY, "state": "not_ready", "process_state": "T"},
        "process", "stopped", "kill -CONT 7",
    ),
    (
        "between two starts", {"state": "backoff", "message": "exit code 1"},
        "process", "started again soon", "logs api",
    ),
    ("not started", {"state": "stopped"}, "process", "does not run", "standfast logs api"),
    (
        "loading", {**READY, "state": "starting", "reason": "Refused", "message": "connection refused"},
        "readiness", "connection refused", "standfast logs api",
    ),
    (
        "answers wrongly", {**READY, "state": "not_ready", "reason": "WrongStatus", "message": "status 503"},
        "readiness", "503", "standfast logs api",
    ),
    (
        "too young", {**READY, "stable_for_s": 0.4, "restarts_in_window": 4},
        "stability", "0 s", "ask again in 3 s",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("view", "gate", "says", "remedy"), [row[1:] for row in BAD_DAYS],
                         ids=[row[0] for row in BAD_DAYS])  # fmt: skip
def test_a_bad_day_has_its_gate_with_what_clears_it(
    view: dict[str, Any], gate: str, says: str, remedy: str
) -> None:
    answer = explain(known(api=view)).answer
    assert answer is not None
    assert answer.name == gate
    assert says in answer.observed
    assert remedy in answer.remedy
    assert answer.expected


def test_a_hold_shows_its_class_and_its_last_ends_as_evidence() -> None:
    held = known(api={"state": "held", "reason": "SameFailure", "message": "m", "cls": "code_bug"})
    lives = (life(last_line="first"), life(), life(last_line="asked for", cls="requested_stop"))
    answer = explain(replace(held, lives=lives)).answer
    assert answer is not None
    assert answer.evidence[0] == "class code_bug"
    assert [text.rsplit(": ")[-1] for text in answer.evidence[1:]] == ["boom", "first"]


def test_readiness_tells_what_was_learnt() -> None:
    loading = {**READY, "state": "starting", "reason": "Refused", "grace_s": 62.0, "usual_ready_s": 41.0}
    answer = explain(known(api=loading)).answer
    assert answer is not None
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.expected == "http://127.0.0.1:8000/health within 62 s of its start"
    assert answer.evidence == ("it usually takes 41.0 s",)


def test_a_persons_hold_is_named_with_who_why_and_since() -> None:
    held = known(api={"state": "held", "reason": "HeldByPerson", "held_by": "ada@rig"})
    held = replace(held, holds={"api": PersonHold("ada@rig", "the disk is replaced", "2026-01-01T00:00:00Z")})
    answer = explain(held).answer
    assert answer is not None
    assert answer.name == "person's hold"
    assert answer.observed == "ada@rig holds it: the disk is replaced"
    assert (answer.since, answer.remedy) == ("2026-01-01T00:00:00Z", "standfast release api")


def test_a_persons_hold_is_known_without_a_supervisor() -> None:
    gone = ExplainedGate("supervised", Verdict.FAIL, "it is gone", remedy="standfast up --detach")
    dark = replace(known(api={"state": "held", "reason": "HeldByPerson"}), supervised=gone, is_fresh=False)
    dark = replace(dark, holds={"api": PersonHold("ada@rig", "", "")})
    found = explain(dark)
    assert found.answer is gone
    closed = [gate.name for gate in found.gates if gate.is_closed]
    assert closed == ["supervised", "dependencies", "person's hold"]


def test_r1_a_name_that_another_file_defines_is_refused_with_that_file() -> None:
    asked = replace(
        known("meta-controller"), sources=("docker-compose.yml",),
        elsewhere=("infrastructure/docker-compose.yml:313",), runs_by="docker compose up meta-controller",
    )  # fmt: skip
    found = explain(asked)
    assert len(found.gates) == 1
    assert found.gates[0].observed == (
        "meta-controller is not in docker-compose.yml; it is defined in infrastructure/docker-compose.yml:313"
    )
    assert "add infrastructure/docker-compose.yml to [stack] files" in found.gates[0].remedy
    assert "docker compose up meta-controller" in found.gates[0].remedy


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    (gate,) = explain(known("apj")).gates
    assert gate.verdict is Verdict.FAIL
    assert gate.remedy.startswith("did you mean api? the services are: api, cache, db, migrate")


def test_a_service_that_was_written_down_after_the_start_says_so() -> None:
    (gate,) = explain(replace(known("worker"), declared_now="standfast.toml:44")).gates
    assert "standfast.toml:44" in gate.observed
    assert gate.remedy.startswith("standfast up")


@given(
    state=st.sampled_from([*ServiceState, "running", "", "nonsense"]),
    reason=st.sampled_from(["", "Answers", "HeldByPerson", "NeedUnmet", "SameFailure", "PortInUse", "Other"]),
    pid=st.sampled_from([None, 7]),
    letter=st.sampled_from(["", "S", "T", "Z"]),
    is_fresh=st.booleans(),
    below=st.sampled_from(["ready", "held", "waiting", "stopped", "completed"]),
)
def test_i1_a_service_that_is_not_ready_has_a_closed_gate_whatever_was_seen(
    state: str, reason: str, pid: int | None, letter: str, is_fresh: bool, below: str
) -> None:
    api = {"state": str(state), "reason": reason, "pid": pid, "process_state": letter}
    seen = replace(known(api=api, cache={"state": below}), is_fresh=is_fresh)
    if not is_fresh:
        gone = ExplainedGate("supervised", Verdict.UNKNOWN, "hung", remedy="standfast status")
        seen = replace(seen, supervised=gone)
    found = explain(seen)
    if state not in ("ready", "completed") or not is_fresh:
        assert found.answer is not None
        assert found.answer.remedy
    assert all(gate.observed for gate in found.gates)
