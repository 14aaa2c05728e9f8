"""What the report of a recovery says of which facts, and what it never says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from standfast.reports.claims import Claim, UnfoundedError
from standfast.reports.markdown import render
from standfast.reports.recovery import Action, Back, Cause, Facts, Risk, Share, availability, build
from standfast.services.decide.matrix import Cell, Matrix

DOWN = Matrix((("db", Cell.EXITED), ("api", Cell.EXITED), ("model", Cell.READY)))
UP = Matrix((("db", Cell.READY), ("api", Cell.READY), ("model", Cell.READY)))
FACTS = Facts(
    stack="trading", data_dir="data", who="ada@rig", began_at="2026-01-01T00:00:00Z",
    ended_at="2026-01-01T00:00:20Z", duration_s=20.0, outcome="Recovered", before=DOWN, after=UP,
    lookers=("the supervisor was asked",), timeline=((0.0, 1), (5.0, 2), (15.0, 3)),
    causes=(Cause(("db",), "killed by SIGKILL (9)", ("db: written by its shim",), "2025-12-31T23:59:50Z"),),
    actions=(Action("2026-01-01T00:00:01Z", 1.0, "started a supervisor"),),
    back=(Back("db", 5.0, 4.0, 0.5), Back("api", 15.0, 10.5, 9.0)),
    availability=Share(80.0, "2025-12-31T23:59:50Z", "ends as they were written down"),
)  # fmt: skip


def section(facts: Facts, title: str) -> str:
    page = render(build(facts))
    return page.split(f"## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


def test_g_all_sections_are_there_in_their_order() -> None:
    titles = [line[3:] for line in render(build(FACTS)).splitlines() if line.startswith("## ")]
    assert titles == [
        "Summary", "Causes", "Actions", "Matrix", "Back", "Availability", "Remaining risks", "Lessons",
    ]  # fmt: skip


def test_m2_before_and_after_have_the_same_denominator() -> None:
    text = section(FACTS, "Matrix")
    assert "| db | exited | ready |" in text
    assert "| services ready | 1 of 3 | 3 of 3 |" in text
    assert "| share | 33 % | 100 % |" in text
    assert "1 of 3 ready (33 %): 2 exited before, 3 of 3 ready (100 %) after" in section(FACTS, "Summary")


def test_g_causes_have_their_evidence_and_say_when_nobody_saw_them() -> None:
    assert (
        "db: killed by SIGKILL (9), since 2025-12-31T23:59:50Z.\n  - seen: db: written by its shim"
        in section(FACTS, "Causes")
    )
    unseen = replace(FACTS, causes=(Cause(("db",), "gone", ("nothing is there",)),))
    assert "when it began was seen by nobody" in section(unseen, "Causes")
    named = replace(FACTS, causes=(Cause(("db",), "exit code 1", ("e",), cls="resource_oom"),))
    assert "[resource_oom]" in section(named, "Causes").replace("\\", "")


def test_g_a_cause_a_risk_or_a_lesson_without_evidence_makes_no_report() -> None:
    for facts in (
        replace(FACTS, causes=(Cause(("db",), "out of memory", ()),)),
        replace(FACTS, risks=(Risk("it may come again", "ada", "add memory", ()),)),
        replace(FACTS, availability=Share(99.9, "now", "")),
        replace(FACTS, lookers=()),
    ):
        with pytest.raises(UnfoundedError):
            build(facts)


def test_what_is_left_names_its_owner_and_what_is_to_be_done() -> None:
    risk = Risk("cache is not back", "bob@rig", "standfast release cache", ("the supervisor: held",))
    text = section(replace(FACTS, risks=(risk,), missing=("cache is held",)), "Remaining risks")
    assert "cache is not back. Owner: bob@rig. To do: standfast release cache." in text
    assert "Not back: cache is held." in section(replace(FACTS, missing=("cache is held",)), "Summary")


def test_what_was_not_found_is_said_with_what_was_looked_at() -> None:
    nothing = replace(FACTS, causes=(), actions=(), back=(), availability=None)
    for title in ("Causes", "Actions", "Availability", "Remaining risks", "Lessons"):
        assert "seen: the supervisor was asked" in section(nothing, title)


def test_lessons_come_from_measurements_only() -> None:
    text = section(FACTS, "Lessons")
    assert "How long a recovery takes is decided by api." in text
    assert "its start took 10.5 s of 20.0 s" in text
    assert "db was slower than before.\n  - seen: its start took 4.0 s, last time 0.5 s" in text
    assert "api was slower" not in text
    quick = replace(FACTS, back=(Back("db", 5.0, 0.2, 0.01),))
    assert "None follows from what was found." in section(quick, "Lessons")
    told = replace(FACTS, lessons=(Claim("Install a unit.", ("no unit is there",)),))
    assert "Install a unit." in section(told, "Lessons")


@pytest.mark.parametrize(
    ("timeline", "before_s", "ready_before_s", "percent"),
    [
        (((0.0, 3),), 0.0, 0.0, 100.0),
        (((0.0, 0),), 0.0, 0.0, 0.0),
        (((0.0, 1), (5.0, 2), (15.0, 3)), 0.0, 0.0, 100 * (5 + 20 + 15) / 60),
        (((0.0, 1), (5.0, 2), (15.0, 3)), 10.0, 30.0, 100 * (40 + 30) / 90),
        (((0.0, 3), (30.0, 0)), 0.0, 0.0, 100.0),
    ],
)
def test_availability_is_the_area_under_the_looks(
    timeline: tuple[tuple[float, int], ...], before_s: float, ready_before_s: float, percent: float
) -> None:
    found = availability(timeline, 3, 20.0, before_s=before_s, ready_before_s=ready_before_s)
    assert found == pytest.approx(percent)


def test_availability_of_nothing_is_none() -> None:
    assert availability((), 0, 20.0) == 0.0
    assert availability(((0.0, 3),), 3, 0.0) == 0.0
