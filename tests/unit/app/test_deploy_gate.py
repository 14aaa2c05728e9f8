"""When a deployment is refused, with which blockers and steps, and when it may go (A000-4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from standfast.app.config import parse_config
from standfast.app.deploy_gate import Answer, Asked, asked_of, judge, next_steps
from standfast.app.instance import Run
from standfast.app.presence import ProcessSeen
from standfast.app.stack_look import StackSeen
from standfast.kernel.errors import ConfigError, TransientError
from standfast.kernel.verdict import Verdict
from standfast.services.model import Identity, Need, ServiceSpec, ServiceState, ServiceView

RUN = Run(
    instance="i", name="generation", process=Identity("boot", 41, 7), started_at="2026-01-01T00:00:00Z",
    version="0.1.0", config="f", blueprint="b", started_from="c",
)  # fmt: skip
MINER = ServiceSpec("miner", ("miner",))
REGISTERED = Asked(Need("the hotkey is registered", ("check",), "btcli subnets register"), MINER, "miner")


def view(name: str, **more: Any) -> dict[str, Any]:
    well = {"state": "ready", "reason": "Answers", "stable_for_s": 600.0}
    return ServiceView(name, ServiceState.READY, "").as_dict() | well | more


def seen(*views: dict[str, Any], trouble: str = "") -> StackSeen:
    return StackSeen(
        Path("data"), datetime(2026, 1, 1, tzinfo=UTC), 100.0, "boot", run=RUN,
        main=ProcessSeen("supervisor", 41, "S"), age_s=3600.0,
        answer={"services": list(views) or [view("miner")], "trouble": trouble},
    )  # fmt: skip


def test_a000_4_go_only_where_everything_is_ready_stable_and_every_check_holds() -> None:
    gate = judge(seen(), [Answer(REGISTERED, 0, "uid 7")])
    assert gate.is_open
    assert {finding.verdict for finding in gate.findings} == {Verdict.PASS}


HELD = view(
    "miner", state="held", reason="PermanentRegistration", message="not registered on netuid 17",
    remedy="btcli subnets register --netuid 17", since="2026-01-01T00:00:03Z", evidence=["rule registration"],
)  # fmt: skip
BLOCKERS = [
    ("held", seen(HELD), [], "PermanentRegistration", "btcli subnets register --netuid 17"),
    ("need not met", seen(), [Answer(REGISTERED, 1, "no uid")], "NotSo", "btcli subnets register"),
    ("need without answer", seen(), [Answer(REGISTERED, None, "gave no answer")], "NoAnswer", "btcli"),
    ("young", seen(view("miner", stable_for_s=1.0)), [], "NotStableYet", "wait 2 s"),
    ("restarted", seen(view("miner", restarts_in_window=2)), [], "RestartedLately", "explain miner"),
    ("starting", seen(view("miner", state="starting", reason="Refused")), [], "Refused", "standfast explain"),
    ("not ready", seen(view("miner", state="not_ready", reason="WrongStatus")), [], "WrongStatus", "logs"),
    ("records cannot be written", seen(trouble="no room"), [], "HistoryUnwritten", "df -h"),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "answers", "reason", "step"), [row[1:] for row in BLOCKERS],
                         ids=[row[0] for row in BLOCKERS])  # fmt: skip
def test_a000_4_a_blocker_keeps_it_closed_and_names_the_step(
    stack: StackSeen, answers: list[Answer], reason: str, step: str
) -> None:
    gate = judge(stack, answers)
    assert not gate.is_open
    assert [one.reason for one in gate.objections] == [reason]
    steps = next_steps(gate)
    assert step in steps[0]
    assert steps[-1] == "standfast gate deploy"


def test_i1_a_supervisor_that_hangs_or_is_gone_never_opens_it() -> None:
    silent = TransientError("no answer within 3 s", code="SupervisorSilent")
    hung = replace(seen(), answer=None, error=silent)
    for dark in (hung, replace(hung, age_s=1.0), replace(hung, run=None, main=None)):
        gate = judge(dark, [Answer(REGISTERED, 0, "")])
        assert not gate.is_open
        assert gate.objections[0].check == "supervisor"


def test_i1_nothing_at_all_is_no_reason_to_go() -> None:
    nothing = replace(seen(), answer={"services": [], "trouble": ""})
    gate = judge(nothing, [])
    assert not gate.is_open
    assert [one.reason for one in gate.objections] == ["NothingToLookAt"]


def test_a_configuration_that_cannot_be_read_closes_it() -> None:
    gate = judge(seen(), [], trouble=ConfigError("standfast.toml is not TOML", fix="mend it"))
    assert [one.check for one in gate.objections] == ["configuration"]


def test_steps_come_in_the_order_of_clearing_and_once() -> None:
    gate = judge(
        seen(
            view("api", state="waiting", reason="DependencyNotReady", waits_for=["db"], depends_on=["db"]),
            view("db", state="held", reason="Permanent", remedy="mend the db"),
        ),
        [Answer(REGISTERED, 1, ""), Answer(REGISTERED._replace(subject=""), 1, "")],
    )
    assert next_steps(gate) == ("mend the db", "btcli subnets register", "standfast gate deploy")


def test_what_is_not_required_is_shown_and_blocks_nothing() -> None:
    gate = judge(seen(view("miner"), view("extra", state="held", is_required=False)), [])
    assert gate.is_open
    assert [one.subject for one in gate.findings if one.verdict is Verdict.SKIPPED] == ["extra"]


TEXT = """
[[services]]
name = "miner"
command = ["miner"]
needs = [{ name = "registered", command = ["{python}", "{blueprint}/registered.py"], fix = "register" }]
[[services]]
name = "extra"
required = false
command = ["extra"]
needs = [{ name = "other", command = ["true"] }]
[[gate.checks]]
name = "the wallet is there"
command = ["{python}", "{blueprint}/wallet.py"]
fix = "make one"
"""


def test_needs_of_required_services_and_checks_are_asked_in_their_order() -> None:
    config = parse_config(TEXT)
    found = asked_of(config)
    assert [(one.subject, one.need.name) for one in found] == [
        ("miner", "registered"), ("", "the wallet is there"),
    ]  # fmt: skip
    assert found[1].need.command[1] == f"{config.folder}/wallet.py"
    assert found[1].spec.cwd == config.folder
    assert asked_of(None) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[gate.checks]]\nname = "a"\ncommand = []\n', "command is empty"),
        ('[[gate.checks]]\nname = "a"\ncommand = ["{port}"]\n', "{port} stands for nothing"),
        (
            '[[gate.checks]]\nname = "a"\ncommand = ["x"]\n[[gate.checks]]\nname = "a"\ncommand = ["y"]\n',
            "is used 2 times",
        ),
        ("[gate]\ncheck = []\n", "gate.check"),
    ],
)
def test_a_check_that_cannot_work_is_refused_before_anything_starts(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert says in str(caught.value)
