"""The rules of naming an end: evidence before wording, and never a guess as a certainty."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from standfast.services.failures.decide import classify
from standfast.services.failures.model import (
    ACTIONS,
    FIXES,
    Action,
    Classified,
    Evidence,
    FailureClass,
)
from standfast.services.failures.peers import peer
from standfast.services.failures.rules import rules_with
from standfast.services.model import ExitStatus

C = FailureClass
KILLED = ExitStatus(137)
NOT_REGISTERED = (
    "RuntimeError: Wallet Wallet (Name: 'owner', Hotkey: 'rig7', Path: '~/.keys/') "
    "not registered on netuid 23."
)
OOM_LINES = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/svc/api,"
    "task_memcg=/svc/api,task=python3,pid=4711,uid=1000",
    "Memory cgroup out of memory: Killed process 4711 (python3) total-vm:900000kB, anon-rss:250000kB",
)


def named(*lines: str, code: int | None = 1, **known: Any) -> Classified:
    status = None if code is None else ExitStatus(code)
    return classify(Evidence(**{"status": status, "lines": lines, **known}), rules_with())


def test_r4_137_alone_is_never_memory() -> None:
    for lines in ((), ("Killed",), ("MemoryError",), ("java.lang.OutOfMemoryError: Java heap space",)):
        found = named(*lines, code=137)
        assert (found.cls, found.is_sure) == (C.AMBIGUOUS_137, False), lines
    assert named("MemoryError", status=ExitStatus(0, signal.SIGKILL)).cls is C.AMBIGUOUS_137


def test_r4_a_flag_that_says_no_is_no_evidence() -> None:
    assert named('{"OOMKilled":false,"ExitCode":137}', code=137).cls is C.AMBIGUOUS_137


def test_r4_somebody_elses_kill_is_no_evidence() -> None:
    found = named(status=KILLED, kernel_lines=OOM_LINES, pids=frozenset({99}), cgroup="/svc/other")
    assert found.cls is C.AMBIGUOUS_137
    # A name is shared by many: without the signal it says nothing.
    named_alike = named("boom", kernel_lines=OOM_LINES, command=("/usr/bin/python3", "api.py"))
    assert named_alike.cls is not C.RESOURCE_OOM


@pytest.mark.parametrize(
    "known",
    [
        {"oom_kills": 1},
        {"is_oom_flagged": True},
        {"kernel_lines": OOM_LINES},
        {"kernel_lines": OOM_LINES, "pids": frozenset({4711})},
        {"kernel_lines": OOM_LINES, "pids": frozenset({12}), "cgroup": "/svc/api"},
        {"lines": OOM_LINES},
    ],
)
def test_r4_counter_kernel_or_runtime_make_it_memory(known: dict[str, Any]) -> None:
    found = named(**{"status": KILLED, **known})
    assert (found.cls, found.is_sure) == (C.RESOURCE_OOM, True)


def test_r4_a_child_that_was_killed_ends_its_parent_with_1() -> None:
    found = named("worker is gone", oom_kills=1)
    assert found.cls is C.RESOURCE_OOM
    assert any("had started" in fact for fact in found.evidence)
    # In a group that others share, the counter may be theirs.
    assert named("worker is gone", oom_kills=1, is_cgroup_shared=True).cls is C.UNKNOWN
    assert named(status=KILLED, oom_kills=1, is_cgroup_shared=True).cls is C.RESOURCE_OOM


def test_r4_an_orderly_end_is_no_kill() -> None:
    assert named("bye", code=0, kernel_lines=OOM_LINES).cls is C.UNKNOWN


def test_who_asked_for_the_stop_is_heard_first() -> None:
    found = named(NOT_REGISTERED, asked_by="standfast down", oom_kills=3)
    assert (found.cls, found.action) == (C.REQUESTED_STOP, Action.NO_RESTART)
    assert "standfast down" in found.evidence[1]


@pytest.mark.parametrize("code", [130, 143, 129, 131])
def test_a_stop_signal_is_a_stop_whatever_was_said_before(code: int) -> None:
    unseen = named("ERROR: upstream timed out", code=code)
    assert (unseen.cls, unseen.action) == (C.REQUESTED_STOP, Action.NO_RESTART)
    # Nobody here asked: a service that shall run is started again.
    outside = named("ERROR: upstream timed out", code=code, asked_by="")
    assert (outside.cls, outside.action) == (C.REQUESTED_STOP, Action.BACKOFF)


def test_a000_3_a_missing_registration_is_permanent_after_one_start() -> None:
    found = named(
        "Traceback (most recent call last):", '  raise RuntimeError("...")', NOT_REGISTERED, ready_s=0.0
    )
    assert (found.cls, found.action) == (C.PERMANENT_REGISTRATION, Action.HOLD_UNTIL_TRUE)
    assert found.is_permanent
    assert found.fix == "btcli subnets register --netuid 23 --wallet.name owner --wallet.hotkey rig7"


def test_a000_2_equal_ends_are_held_without_any_name() -> None:
    once = named("something odd", ready_s=0.0, repeats=1)
    assert (once.cls, once.action) == (C.UNKNOWN, Action.BACKOFF_LIMITED)
    thrice = named("something odd", ready_s=0.0, repeats=3)
    assert (thrice.cls, thrice.action, thrice.is_sure) == (C.UNKNOWN, Action.HOLD, False)
    assert named("something odd", ready_s=9.0, repeats=3).action is Action.BACKOFF_LIMITED


def test_a_guess_holds_nothing() -> None:
    found = named("the blueprint was not found")
    assert found.cls is C.PERMANENT_CONFIG
    assert not found.is_sure
    assert not found.is_permanent
    assert found.action is Action.BACKOFF_LIMITED
    assert any("guess" in fact for fact in found.evidence)


def test_a_life_that_was_ready_weakens_what_could_never_have_worked() -> None:
    line = "FileNotFoundError: [Errno 2] No such file or directory: '/srv/relay/q.json'"
    never, served = named(line, ready_s=0.0), named(line, ready_s=3600.0)
    assert never.is_permanent
    assert not served.is_permanent
    assert served.confidence < never.confidence
    assert named(NOT_REGISTERED, ready_s=3600.0).is_permanent, "a registration can be lost"


def test_what_is_tried_again_or_harmless_is_weaker_than_what_ended_it() -> None:
    lines = (
        "WARNING: No module named 'turbo', falling back to the slow path",
        "INFO: connection refused, retrying in 2 s (attempt 1/5)",
        "ValueError: invalid log level: LOUD",
    )
    assert named(*lines).rule == "configuration.value"


def test_the_later_of_two_equal_lines_is_nearer_to_the_end() -> None:
    refused, full = "write failed: no space left on device", "accept: too many open files"
    assert named(refused, *["tick"] * 60, full).cls is C.RESOURCE_FD
    assert named(full, *["tick"] * 60, refused).cls is C.RESOURCE_DISK


def test_what_was_said_long_before_the_end_is_a_guess() -> None:
    lines = ("FileNotFoundError: no such file: '/srv/relay/extra.json'", *["tick"] * 60)
    assert named(*lines[:1], *lines[1:5]).is_sure
    assert not named(*lines).is_sure


def test_frames_hide_no_error() -> None:
    frames = [f"    at com.acme.Relay$Inner.call(Relay.java:{n})" for n in range(2_000)]
    assert named("java.net.BindException: Address already in use", *frames[:900]).cls is C.PORT_CONFLICT
    python = [f'  File "/srv/permission denied/x{n}.py", line {n}, in run' for n in range(300)]
    assert named("MemoryError", *python).cls is C.RESOURCE_OOM


def test_silence_while_a_dependency_is_down_is_the_dependencys() -> None:
    late = named("asyncio.exceptions.TimeoutError: no answer", ready_s=5.0, dependencies_down=("db",))
    assert (late.cls, late.is_sure, late.action) == (C.DEPENDENCY_NOT_READY, True, Action.PARK)


REFUSED = "ERROR connect to 127.0.0.1:5432: Connection refused"


def test_a_refused_connection_is_a_dependency_only_where_it_is_one() -> None:
    unknown = named(REFUSED)
    assert (unknown.cls, unknown.action) == (C.DEPENDENCY_NOT_READY, Action.PARK)
    declared = named(REFUSED, dependency_addresses=("localhost:5432",), dependencies_down=("db",))
    assert (declared.cls, declared.action) == (C.DEPENDENCY_NOT_READY, Action.PARK)
    other = named(REFUSED, dependency_addresses=("localhost:6379",))
    assert (other.cls, other.action) == (C.TRANSIENT_NETWORK, Action.BACKOFF)
    none = named(REFUSED, dependency_addresses=())
    assert none.cls is C.TRANSIENT_NETWORK
    far = named("ERROR connect to api.partner.example:443: Connection refused")
    assert far.cls is C.TRANSIENT_NETWORK


def test_a_far_end_may_be_on_the_lines_below() -> None:
    lines = ("Error: connect ECONNREFUSED", "  address: '10.3.0.9',", "  port: 7233")
    assert named(*lines, dependency_addresses=("10.3.0.9:7233",)).cls is C.DEPENDENCY_NOT_READY
    assert named(*lines, dependency_addresses=("10.3.0.9:7234",)).cls is C.TRANSIENT_NETWORK


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("dial tcp 10.0.0.3:6379: connect: connection refused", "10.0.0.3:6379"),
        ("connection to server at 'db' (172.18.0.4), port 5432 failed: refused", "db:5432"),
        ("HTTPConnectionPool(host='mlflow', port=5000): Max retries exceeded", "mlflow:5000"),
        ("Connect call failed ('127.0.0.1', 5432)", "127.0.0.1:5432"),
        ("amqp://guest:secret@mq:5672/ refused", "mq:5672"),
        ("listen EADDRINUSE :::5000", "5000"),
        ("server.py:42: it broke at 10:30:12 on 2026-01-02T03:04", ""),
        ("connect to [::1]:50051: refused", "[::1]:50051"),
    ],
)
def test_the_far_end_is_read_from_a_line(line: str, address: str) -> None:
    assert peer((line,)).address == address


def test_a_declared_dependency_that_was_down_is_blamed_before_a_guess_is() -> None:
    found = named("RuntimeError: it went wrong", ready_s=0.0, dependencies_down=("db", "queue"))
    assert found.cls is C.DEPENDENCY_NOT_READY
    assert not found.is_sure
    assert any("db, queue" in fact for fact in found.evidence)
    sure = named("ModuleNotFoundError: No module named 'x1'", ready_s=0.0, dependencies_down=("db",))
    assert sure.cls is C.PERMANENT_CONFIG, "what is sure is not explained away"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (0, C.UNKNOWN), (1, C.UNKNOWN), (2, C.PERMANENT_CONFIG), (64, C.PERMANENT_CONFIG),
        (66, C.PERMANENT_CONFIG), (69, C.TRANSIENT_NETWORK), (75, C.TRANSIENT_NETWORK),
        (77, C.PERMANENT_AUTH), (78, C.PERMANENT_CONFIG), (125, C.UNKNOWN), (126, C.PERMANENT_CONFIG),
        (127, C.PERMANENT_CONFIG), (132, C.PERMANENT_CONFIG), (134, C.CODE_BUG), (135, C.RESOURCE_SHM),
        (136, C.CODE_BUG), (139, C.CODE_BUG), (153, C.RESOURCE_DISK), (159, C.PERMANENT_CONFIG),
        (255, C.UNKNOWN),
    ],
)  # fmt: skip
def test_a_status_without_a_word(code: int, wanted: FailureClass) -> None:
    found = named(code=code)
    assert found.cls is wanted
    assert found.evidence
    assert found.fix


def test_a_signal_and_its_shell_code_are_the_same() -> None:
    for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGBUS):
        assert named(status=ExitStatus(0, number)).cls is named(code=128 + number).cls


def test_lines_name_what_a_shared_code_does_not() -> None:
    assert named("CUDA error: an illegal memory access was encountered", code=134).sub == "gpu_fault"
    assert named("FATAL ERROR: JavaScript heap out of memory", code=134).cls is C.RESOURCE_OOM
    assert named("docker: manifest unknown", code=125).sub == "image_tag"
    assert named("no space left on device", code=125).cls is C.RESOURCE_DISK


XID = "NVRM: Xid (PCI:0000:41:00): 79, pid={pid}, name=python3, GPU has fallen off the bus."


def test_a_kernel_line_about_a_device_needs_to_be_about_this_service() -> None:
    boom = ("RuntimeError: CUDA error: unknown error",)
    mine = named(*boom, kernel_lines=(XID.format(pid=7),), pids=frozenset({7}))
    assert (mine.cls, mine.action, mine.is_sure) == (C.HARDWARE, Action.DRAIN, True)
    other = named(*boom, kernel_lines=(XID.format(pid=8),), pids=frozenset({7}))
    assert other.cls is not C.HARDWARE
    nobody = XID.format(pid="'<unknown>'")
    assert named(*boom, kernel_lines=(nobody,), pids=frozenset({7})).cls is C.HARDWARE
    database = named("FATAL: out of patience", kernel_lines=(nobody,), pids=frozenset({7}))
    assert database.cls is not C.HARDWARE, "it uses no GPU"


def test_a_name_from_the_text_becomes_no_part_of_a_command() -> None:
    found = named("sh: 1: $(reboot): not found", code=127)
    assert "reboot" not in found.fix
    dashed = named("bash: --version: command not found", code=127)
    assert "--version" not in dashed.fix


def test_every_class_has_an_action_and_a_fix() -> None:
    assert set(ACTIONS) == set(FIXES) == set(FailureClass)


def test_no_evidence_at_all_is_unknown() -> None:
    found = classify(Evidence(), ())
    assert (found.cls, found.confidence < 0.3, bool(found.fix)) == (C.UNKNOWN, True, True)
