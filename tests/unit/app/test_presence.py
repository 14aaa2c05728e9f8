"""What is concluded about an instance whose API does not answer, from values written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from standfast.app.client import UnreachableError
from standfast.app.instance import Run, Unreadable
from standfast.app.presence import Presence, ProcessSeen, judge
from standfast.kernel.errors import AuthError
from standfast.kernel.verdict import Verdict
from standfast.services.adapters.procfs import Listener
from standfast.services.model import Identity

RUN = Run(
    instance="i", name="n", process=Identity("boot", 41, 7), started_at="2026-01-01T00:00:00Z",
    version="0.1.0", config="f", blueprint="b", started_from="c", url="http://127.0.0.1:8321",
)  # fmt: skip
SILENT = UnreachableError("http://127.0.0.1:8321 gave no complete reply within 3 s", code="ApiTimeout")
ALIVE = Presence(
    Path("data"), RUN, age_s=9.0, main=ProcessSeen("standfast", 41, "S"), error=SILENT, port=8321,
    holder=Listener(41, "python standfast"), blueprint="b",
)  # fmt: skip


def main(letter: str) -> ProcessSeen:
    return ProcessSeen("standfast", 41, letter)


@pytest.mark.parametrize(
    ("seen", "verdict", "reason", "remedy"),
    [
        (Presence(Path("d"), None), Verdict.FAIL, "NotRunning", "standfast up BLUEPRINT"),
        (Presence(Path("d"), None, blueprint="b"), Verdict.FAIL, "NotRunning", "standfast up b"),
        (
            Presence(Path("d"), Unreadable(Path("d/run.json"), "garbage")),
            Verdict.UNKNOWN,
            "RecordUnreadable",
            "--url",
        ),
        (replace(ALIVE, main=main("")), Verdict.FAIL, "Killed", "standfast up b"),
        (replace(ALIVE, main=main("Z")), Verdict.FAIL, "Killed", "standfast up b"),
        (replace(ALIVE, main=main("T")), Verdict.FAIL, "ProcessStopped", "kill -CONT 41"),
        (replace(ALIVE, main=main("t")), Verdict.FAIL, "ProcessStopped", "kill -CONT 41"),
        (replace(ALIVE, main=main("D")), Verdict.FAIL, "Stuck", "dmesg"),
        (replace(ALIVE, run=replace(RUN, url="")), Verdict.UNKNOWN, "Starting", "ask again"),
        (replace(ALIVE, run=replace(RUN, url=""), age_s=90.0), Verdict.FAIL, "StartHangs", "standfast logs"),
        (ALIVE, Verdict.FAIL, "ApiTimeout", "standfast down"),
        (replace(ALIVE, holder=None), Verdict.FAIL, "ApiTimeout", "standfast logs"),
        (replace(ALIVE, holder=Listener(0, "")), Verdict.FAIL, "ApiTimeout", "standfast logs"),
        (replace(ALIVE, holder=Listener(99, "nginx")), Verdict.FAIL, "PortTaken", "stop that program"),
        (
            replace(
                ALIVE, error=AuthError("this token is not valid", fix="use another", code="TokenUnknown")
            ),
            Verdict.FAIL,
            "TokenUnknown",
            "use another",
        ),
    ],
)
def test_each_bad_day_has_its_reason_and_remedy(
    seen: Presence, verdict: Verdict, reason: str, remedy: str
) -> None:
    worst = judge(seen)[0]
    assert (worst.verdict, worst.reason) == (verdict, reason)
    assert remedy in worst.remedy


def test_a_stopped_child_is_named_beside_the_api_that_does_not_answer() -> None:
    children = (
        ProcessSeen("executor-1", 51, "T"),
        ProcessSeen("miner", 52, "S"),
        ProcessSeen("executor-2", 53, ""),
    )
    findings = judge(replace(ALIVE, children=children))
    assert {(f.reason, f.subject) for f in findings[1:]} == {
        ("ProcessStopped", "executor-1"),
        ("ProcessGone", "executor-2"),
    }
    assert next(f.remedy for f in findings if f.subject == "executor-1") == "kill -CONT 51"


def test_children_of_an_instance_that_is_gone_are_not_blamed() -> None:
    children = (ProcessSeen("executor-1", 51, ""),)
    assert [f.reason for f in judge(replace(ALIVE, main=main(""), children=children))] == ["Killed"]
