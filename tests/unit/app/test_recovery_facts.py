"""Why a stack was down and what is left, as the report is told: from what was seen and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from standfast.app.recovery_facts import causes_of, lessons_of, risks_of
from standfast.app.stack_look import LifeSeen, StackSeen
from standfast.app.stack_status import rows_of
from standfast.services.adapters.lives import Life
from standfast.services.decide.recover import plan_of
from standfast.services.model import (
    Dependency,
    Identity,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
    ServiceState,
    ServiceView,
)

SPECS = (
    ServiceSpec("db", ("db",)), ServiceSpec("cache", ("cache",)),
    ServiceSpec("api", ("api",), depends_on=(Dependency("db"),)),
)  # fmt: skip
EXIT = {"code": 0, "signal": 9, "s": 20.0, "at": 1_700_000_010.0, "left": 0, "oom_kills": None,
        "shared_oom_kills": None, "peak_bytes": 0}  # fmt: skip
READY = {"state": "ready", "reason": "Answers", "stable_for_s": 60.0}


def life(name: str, *, boot: str = "boot", ended: dict[str, Any] | None = None) -> LifeSeen:
    record = Life(
        name, f"life-{name}", "spec", boot, Identity(boot, 50, 1), Identity(boot, 51, 2), started_s=10.0,
        started_at=1_700_000_000.0, log_at=0, cgroups=(), ready_s=None, status="", is_stopped=False,
        asked_by=0, exit=ended, is_gone=False,
    )  # fmt: skip
    return LifeSeen(record, "", "", 0)


def dark(**lives: LifeSeen) -> StackSeen:
    return StackSeen(
        Path("data"), datetime(2026, 1, 1, tzinfo=UTC), 100.0, "boot", specs=SPECS, lives=lives
    )  # fmt: skip


def view(name: str, **more: Any) -> dict[str, Any]:
    return ServiceView(name, ServiceState.STOPPED, "").as_dict() | more


def causes(seen: StackSeen, supervisor: tuple[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    plan = plan_of(SPECS, {row["name"]: row for row in rows_of(seen)}, {})
    found = causes_of(seen, plan, supervisor)
    assert all(cause.evidence for cause in found)
    return {cause.text: cause.services for cause in found}


def test_r4_an_end_that_nobody_saw_is_called_that_and_nothing_else() -> None:
    seen = dark(**{spec.name: life(spec.name) for spec in SPECS})
    found = causes(seen, ("gone without a goodbye", "run.json names process 41, which is not there"))
    assert found == {
        "gone without a goodbye": ("the supervisor",),
        "gone, and so is the shim that would have told how it ended": ("db", "cache", "api"),
    }
    text = str(causes_of(seen, plan_of(SPECS, {r["name"]: r for r in rows_of(seen)}, {}), None))
    assert "memory" not in text
    assert "process 51" in text


def test_r3_lives_of_another_boot_are_the_machines_restart() -> None:
    seen = dark(**{spec.name: life(spec.name, boot="earlier") for spec in SPECS})
    assert causes(seen) == {
        "the machine was restarted, and how it ended before was seen by nobody": ("db", "cache", "api")
    }
    (cause,) = causes_of(seen, plan_of(SPECS, {r["name"]: r for r in rows_of(seen)}, {}), None)
    assert cause.since == "2025-12-31T23:58:20.000Z at the latest"
    assert "is of boot earlier, this is boot boot" in cause.evidence[0]


def test_an_end_that_a_shim_wrote_down_has_its_instant_and_its_signal() -> None:
    seen = dark(db=life("db", ended=EXIT), cache=life("cache", ended=EXIT))
    plan = plan_of(SPECS, {row["name"]: row for row in rows_of(seen)}, {})
    found = {cause.text: cause for cause in causes_of(seen, plan, None)}
    assert found["killed by SIGKILL (9)"].since == "2023-11-14T22:13:30.000Z"
    assert found["killed by SIGKILL (9)"].services == ("db", "cache"), "one cause for what says the same"
    assert "no life is written down" in found["it does not run"].evidence[0]


def test_what_waits_is_a_consequence_and_no_cause() -> None:
    views = [
        view(
            "db", state="held", reason="SameFailure", message="three times", cls="code_bug",
            evidence=["rule x"],
        ),
        view("cache", **READY), view("api", state="waiting", message="waits for db"),
    ]  # fmt: skip
    seen = replace(dark(), answer={"services": views, "trouble": ""})
    assert causes(seen) == {"three times": ("db",), "kept waiting by what they depend on": ("api",)}
    plan = plan_of(SPECS, {row["name"]: row for row in views}, {})
    cause = causes_of(seen, plan, None)[0]
    assert (cause.cls, cause.evidence[0]) == ("code_bug", "rule x")


def risks(specs: tuple[ServiceSpec, ...] = SPECS, unit: str = "", **views: dict[str, Any]) -> list[str]:
    found = risks_of(specs, views, owner="ada@rig", unit=unit, trouble=())
    assert all(risk.evidence and risk.owner and risk.remedy for risk in found)
    return [f"{risk.text} ({risk.owner})" for risk in found]


def test_what_is_not_back_is_a_risk_with_its_owner() -> None:
    held = view("db", state="held", held_by="bob@rig", message="held by bob@rig")
    well = view("api", **READY)
    assert risks(db=held, api=well) == ["db is not back (bob@rig)", "cache is not back (ada@rig)"]


@pytest.mark.parametrize(
    ("spec", "seen", "says"),
    [
        (ServiceSpec("db", ()), {**READY, "reason": "Running"}, "Whether db works is known to nobody"),
        (
            ServiceSpec("db", (), restart=RestartPolicy(RestartWhen.NEVER)), READY,
            "db is not started again when it ends",
        ),
        (ServiceSpec("db", ()), {**READY, "restarts_in_window": 15}, "db is close to being held"),
    ],
)  # fmt: skip
def test_what_is_back_and_stands_on_thin_ice_is_a_risk(
    spec: ServiceSpec, seen: dict[str, Any], says: str
) -> None:
    assert risks((spec,), db=view("db", **seen)) == [f"{says} (ada@rig)"]


def test_nothing_is_a_risk_that_was_not_found() -> None:
    assert risks(**{spec.name: view(spec.name, **READY) for spec in SPECS}) == []
    unit = "no unit is installed"
    assert risks(unit=unit, **{spec.name: view(spec.name, **READY) for spec in SPECS}) == [
        "A restart of the machine leaves this stack down (ada@rig)"
    ]


def test_lessons_follow_from_findings_only() -> None:
    seen = dark(**{spec.name: life(spec.name) for spec in SPECS})
    plan = plan_of(SPECS, {row["name"]: row for row in rows_of(seen)}, {})
    found = [one.text for one in lessons_of(seen, causes_of(seen, plan, None), unit="no unit is installed")]
    assert found == [
        "A person had to start the supervisor; an installed unit does that.",
        "How 3 services ended cannot be told: nothing outlived them that could have seen it.",
    ]
    well = replace(dark(), answer={"services": [], "trouble": ""})
    assert lessons_of(well, (), unit="no unit is installed") == ()
