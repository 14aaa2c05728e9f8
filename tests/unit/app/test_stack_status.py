"""What is said of a stack whose supervisor is gone, stopped, hung, starting or lost its files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from standfast.app.instance import Run, Unreadable
from standfast.app.presence import ProcessSeen
from standfast.app.stack_look import LifeSeen, StackSeen
from standfast.app.stack_status import findings, rows_of, status_of
from standfast.kernel.errors import TransientError
from standfast.kernel.verdict import Verdict
from standfast.services.adapters.lives import Life
from standfast.services.model import Dependency, ExitStatus, Identity, ServiceSpec, ServiceState, ServiceView
from standfast.services.records import LifeRecord, PersonHold, Records

RUN = Run(
    instance="i", name="trading", process=Identity("boot", 41, 7), started_at="2026-01-01T00:00:00Z",
    version="0.1.0", config="f", blueprint="b", started_from="c",
)  # fmt: skip
SPECS = (
    ServiceSpec("db", ("db",), port=5432),
    ServiceSpec("api", ("api",), depends_on=(Dependency("db"),)),
    ServiceSpec("migrate", ("migrate",), kind="task"),
)
SILENT = TransientError("the supervisor of data gave no answer within 3 s", code="SupervisorSilent")


def life(
    name: str, *, letter: str = "S", boot: str = "boot", ended: dict[str, Any] | None = None
) -> LifeSeen:
    record = Life(
        name, f"life-{name}", "spec", boot, Identity(boot, 50, 1), Identity(boot, 51, 2), started_s=10.0,
        started_at=1_700_000_000.0, log_at=0, cgroups=(), ready_s=None, status="", is_stopped=False,
        asked_by=0, exit=ended, is_gone=ended is not None,
    )  # fmt: skip
    return LifeSeen(record, letter, letter, 20_000_000)


BOTH = {"db": life("db"), "api": life("api")}
DARK = StackSeen(
    Path("data"), datetime(2026, 1, 1, 1, tzinfo=UTC), 100.0, "boot", run=RUN,
    main=ProcessSeen("supervisor", 41, "S"), age_s=3600.0, error=SILENT, specs=SPECS, lives=BOTH,
    ports=frozenset({5432}), blueprint="b",
)  # fmt: skip


def main(letter: str) -> ProcessSeen:
    return ProcessSeen("supervisor", 41, letter)


def answering(*views: dict[str, Any], trouble: str = "") -> StackSeen:
    well = [ServiceView(one.name, ServiceState.READY, "").as_dict() for one in SPECS]
    return replace(DARK, answer={"services": list(views) or well, "trouble": trouble}, error=None, lives={})


@pytest.mark.parametrize(
    ("seen", "verdict", "reason", "says", "remedy"),
    [
        (replace(DARK, main=main("")), Verdict.FAIL, "SupervisorKilled", "2 of 3 services", "up b --detach"),
        (replace(DARK, main=main("Z")), Verdict.FAIL, "SupervisorKilled", "no goodbye", "standfast down"),
        (replace(DARK, main=main("T")), Verdict.FAIL, "SupervisorStopped", "go on", "kill -CONT 41"),
        (DARK, Verdict.FAIL, "SupervisorSilent", "no answer within 3 s", "kill -9 41; standfast up b"),
        (replace(DARK, age_s=2.0), Verdict.UNKNOWN, "SupervisorStarting", "2 s ago", "ask again"),
        (replace(DARK, run=None, main=None), Verdict.FAIL, "SupervisorKilled", "go on", "standfast up b"),
        (replace(DARK, run=None, main=None, lives={}), Verdict.FAIL, "NotRunning", "nothing", "up b"),
        (
            replace(DARK, run=Unreadable(Path("run.json"), "it is garbage"), main=None),
            Verdict.UNKNOWN, "RecordUnreadable", "garbage", "takes back what runs",
        ),
        (
            replace(DARK, boot_id="later", main=main(""), lives={"db": life("db", letter="")}),
            Verdict.FAIL, "MachineRestarted", "machine was restarted", "standfast units",
        ),
        (
            replace(answering(), trouble="stack.json is not what standfast writes"),
            Verdict.UNKNOWN, "DeclarationUnreadable", "stack.json", "standfast up b",
        ),
        (answering(trouble="no room on the disk"), Verdict.FAIL, "HistoryUnwritten", "no room", "df -h"),
    ],
)  # fmt: skip
def test_a_bad_day_is_named_with_what_goes_on_and_what_to_do(
    seen: StackSeen, verdict: Verdict, reason: str, says: str, remedy: str
) -> None:
    found = [one for one in findings(seen) if one.reason == reason]
    assert len(found) == 1, [one.reason for one in findings(seen)]
    assert found[0].verdict is verdict
    assert says in found[0].message
    assert remedy in found[0].remedy


def test_a_stack_that_answers_is_judged_by_its_services() -> None:
    assert {one.verdict for one in findings(answering())} == {Verdict.PASS}
    held = ServiceView("db", ServiceState.HELD, "", reason="SameFailure", message="m").as_dict()
    assert findings(answering(held))[0].subject == "db"


def test_a_stack_that_was_ended_in_order_has_one_thing_to_say() -> None:
    ended = replace(DARK, run=None, main=None, lives={})
    assert [one.reason for one in findings(ended)] == ["NotRunning"]


def test_i1_a_process_that_nobody_asks_is_not_ready() -> None:
    gone = status_of(replace(DARK, main=main("")))
    assert gone["verdict"] == "FAIL"
    assert gone["matrix"]["percent"] == 0
    assert gone["matrix"]["counts"] == {"running without check": 2, "missing": 1}
    row = {one["name"]: one for one in gone["services"]}["db"]
    assert (row["state"], row["pid"], row["reason"]) == ("running", 51, "NobodyAsks")
    assert "its port 5432 is listened on" in row["message"]
    assert row["uptime_s"] == 90.0


def test_what_ended_without_a_supervisor_is_told_with_how_and_when() -> None:
    code = {"code": 3, "signal": 0, "s": 20.0, "at": 1_700_000_010.0, "left": 0, "oom_kills": None,
            "shared_oom_kills": None, "peak_bytes": 0}  # fmt: skip
    lives = {"db": life("db", letter="", ended=code), "api": life("api", letter="", boot="boot")}
    rows = {one["name"]: one for one in rows_of(replace(DARK, main=main(""), lives=lives))}
    assert rows["db"]["last_exit"] == "exit code 3 after 10.0 s at 2023-11-14T22:13:30.000Z"
    assert rows["db"]["since"] == "2023-11-14T22:13:30.000Z"
    assert "nobody saw its end" in rows["api"]["message"]
    found = findings(replace(DARK, main=main(""), lives=lives))
    assert {one.subject for one in found if one.verdict is Verdict.FAIL} == {"", "db", "api", "migrate"}


def test_what_is_on_record_is_told_without_a_life() -> None:
    end = LifeRecord(
        "migrate", "l", "boot", "2026-01-01T00:00:00Z", None, "2026-01-01T00:00:09Z", ExitStatus(0), 9.0,
        False, "", (), "", "", "", "", "", (), False,
    )  # fmt: skip
    records = Records({"migrate": (end,)}, {"db": PersonHold("ada@rig", "new disk", "2026-01-01T00:00:00Z")})
    dark = replace(DARK, main=main(""), lives={"api": life("api")}, records=records)
    rows = {one["name"]: one for one in rows_of(dark)}
    assert rows["migrate"]["state"] == "completed"
    assert (rows["db"]["state"], rows["db"]["message"]) == ("held", "held by ada@rig: new disk")


def test_a_life_that_nothing_declares_is_shown_and_counts_nothing() -> None:
    dark = replace(DARK, lives={**BOTH, "old": life("old")})
    assert "old" in {row["name"] for row in rows_of(dark)}
    assert status_of(dark)["matrix"]["declared"] == 3


def test_a_stopped_process_is_an_alarm_of_its_own() -> None:
    dark = replace(DARK, main=main(""), lives={**BOTH, "db": life("db", letter="T")})
    found = {one.subject: one for one in findings(dark) if one.check == "service"}
    assert set(found) == {"db", "migrate"}
    assert found["db"].remedy == "kill -CONT 51"
