"""Preflight's judgements on samples written by hand: what closes the gate, with which remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from standfast.checks import (
    BUILTIN,
    ClockSample,
    ConfigSample,
    EnvironmentSample,
    FolderSample,
    PackageSample,
    PortSample,
    ProcessSample,
    Samples,
    StoreSample,
    Unread,
    preflight,
)
from standfast.checks.model import Trouble
from standfast.kernel.verdict import Finding, Verdict

GOOD = Samples(
    config=ConfigSample("standfast.toml", subjects=5, environments=4),
    process=ProcessSample(python=(3, 11, 4), open_files=1_024, open_files_hard=4_096, needed_files=300),
    packages=(PackageSample("apsw", ">=3", "3.50", True),),
    environments=(EnvironmentSample("mujoco/reacher", ""),),
    folder=FolderSample("data", "", 10**10, 10**6),
    store=StoreSample("standfast.db", facts=7),
    ports=(PortSample("the API", "127.0.0.1", 8321),),
    clock=ClockSample(2026, 0.05, 0.05),
)
TROUBLE = Trouble("StoreLocked", "the store is in use by process 7", "stop the other one")


def objections(samples: Samples) -> list[Finding]:
    return list(preflight(samples).objections)


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"config": ConfigSample("f", trouble=Trouble("NotToml", "no TOML", "mend it"))}, "NotToml", "mend"),
        ({"process": ProcessSample((3, 10, 9), 1_024, 4_096, 300)}, "TooOld", "install Python 3.11"),
        ({"process": ProcessSample((3, 12, 0), 256, 4_096, 300)}, "TooFew", "ulimit -n 300"),
        ({"process": ProcessSample((3, 12, 0), 256, 256, 300)}, "TooFew", "as root"),
        ({"packages": (PackageSample("apsw", ">=3", "", False),)}, "Missing", "requirements.lock"),
        ({"environments": (EnvironmentSample("x/y", "no module mujoco"),)}, "CannotBeMade", "pip install"),
        ({"environments": (EnvironmentSample("x/y", "boom", "repair it"),)}, "CannotBeMade", "repair it"),
        ({"folder": FolderSample("d", "d: Permission denied", 10**10, 9_999)}, "NotWritable", "ls -ld d"),
        ({"folder": FolderSample("d", "", 10**6, 9_999)}, "NoRoom", "df -h d"),
        ({"folder": FolderSample("d", "", 10**10, 3)}, "NoInodes", "df -i d"),
        (
            {"store": StoreSample("s", broken_fact="fact 3: no hash")},
            "ChainBroken",
            "copy",
        ),
        (
            {"ports": (PortSample("the API", "::1", 80, error="Permission denied"),)},
            "CannotListen",
            "api.host",
        ),
        (
            {"ports": (PortSample("service a", "127.0.0.1", 80, "in use", "pid 3 (nginx)"),)},
            "PortInUse",
            "stop that program",
        ),
        ({"clock": ClockSample(1970, 0.05, 0.05)}, "NeverSet", "timedatectl"),
        ({"clock": ClockSample(2026, 3_600.0, 0.05)}, "Jumps", "timedatectl"),
        ({"clock": ClockSample(2026, -3_600.0, 0.05)}, "Jumps", "timedatectl"),
        ({"clock": ClockSample(2026, 0.0, 0.0)}, "Stands", "doctor"),
    ],
)
def test_each_fault_closes_the_gate_with_its_remedy(
    change: dict[str, object], reason: str, remedy: str
) -> None:
    found = objections(replace(GOOD, **change))  # type: ignore[arg-type]
    assert [(f.verdict, f.reason) for f in found] == [(Verdict.FAIL, reason)]
    assert remedy in found[0].remedy
    assert found[0].message


def test_a_store_that_does_not_open_says_why_and_leaves_its_facts_unknown() -> None:
    found = objections(replace(GOOD, store=StoreSample("s", trouble=TROUBLE)))
    assert [(f.check, f.verdict, f.reason) for f in found] == [
        ("store", Verdict.FAIL, "StoreLocked"),
        ("facts", Verdict.UNKNOWN, "NotRead"),
    ]


@pytest.mark.parametrize("name", Samples.__dataclass_fields__)
def test_i1_a_sample_that_is_missing_is_unknown_and_closes_the_gate(name: str) -> None:
    gate = preflight(replace(GOOD, **{name: Unread("the probe did not come back")}))  # type: ignore[arg-type]
    assert not gate.is_open
    assert {f.verdict for f in gate.objections} == {Verdict.UNKNOWN}
    assert all("did not come back" in f.message for f in gate.objections)


def test_i1_no_checks_at_all_do_not_open_the_gate() -> None:
    assert not preflight(GOOD, checks=()).is_open


def test_no_requirement_at_all_is_unknown() -> None:
    assert objections(replace(GOOD, packages=()))[0].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"store": StoreSample("s", is_new=True)},
        {"store": StoreSample("s", facts=3, schema="tasks is at schema 1, this code needs 2")},
        {"environments": ()},
        {"ports": ()},
        {"folder": FolderSample("d", "", 10**10, -1)},
        {"ports": (PortSample("the API", "127.0.0.1", 0),)},
    ],
)
def test_what_is_fine_or_does_not_apply_leaves_the_gate_open(change: dict[str, object]) -> None:
    assert preflight(replace(GOOD, **change)).is_open  # type: ignore[arg-type]


def test_a_store_that_will_be_migrated_is_said() -> None:
    gate = preflight(replace(GOOD, store=StoreSample("s", schema="tasks is at schema 1")))
    assert any("migrated at the next start" in f.message for f in gate.findings)


def test_every_check_has_a_name_of_its_own() -> None:
    assert len({check.name for check in BUILTIN}) == len(BUILTIN)
