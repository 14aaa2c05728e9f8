"""Kernel log and oom_kill counters: from records, from commands, and from a real kill for memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from standfast.services.adapters.evidence import (
    Cgroup,
    KernelLog,
    Unread,
    cgroup_of,
    is_shared,
    oom_kills,
    parse_oom_kill,
)
from standfast.services.failures.decide import classify
from standfast.services.failures.kernel_log import OomKill, is_about, parse_record
from standfast.services.failures.kernel_log import oom_kills as kills_in
from standfast.services.failures.model import Evidence, FailureClass
from standfast.services.failures.rules import rules_with
from standfast.services.model import ExitStatus

SUMMARY = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c1,mems_allowed=0-1,oom_memcg=/lab/api,"
    "task_memcg=/lab/api/w1,task=python3,pid=4711,uid=0"
)
KILLED = (
    "Memory cgroup out of memory: Killed process 4711 (python3) total-vm:900000kB, anon-rss:250000kB, "
    "file-rss:1000kB, shmem-rss:0kB, UID:0 pgtables:600kB oom_score_adj:0"
)


def refuses(command: Sequence[str]) -> str:
    raise FileNotFoundError(2, "No such file or directory", command[0])


def record(at_s: float, text: str, sequence: int = 1) -> str:
    return f"4,{sequence},{int(at_s * 1e6)},-;{text}\n SUBSYSTEM=mem\n"


def test_what_cannot_be_read_is_unread_and_says_why(tmp_path: Path) -> None:
    found = KernelLog(tmp_path / "absent", run=refuses).since(0.0)
    assert isinstance(found, Unread)
    assert "absent: No such file" in found.why
    assert "dmesg" in found.why
    assert "journalctl" in found.why


def test_a_command_that_is_not_allowed_says_so(tmp_path: Path) -> None:
    def denies(command: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(1, list(command), stderr=b"dmesg: Operation not permitted\n")

    found = KernelLog(tmp_path / "absent", run=denies).since(0.0)
    assert isinstance(found, Unread)
    assert "Operation not permitted" in found.why


def test_a_process_that_is_gone_has_no_group(tmp_path: Path) -> None:
    found = cgroup_of(1, proc=tmp_path)
    assert isinstance(found, Unread)
    missing = oom_kills(Cgroup("/x", tmp_path))
    assert isinstance(missing, Unread)
    assert "memory.events" in missing.why
    assert isinstance(is_shared(Cgroup("/x", tmp_path), frozenset()), Unread)


def test_records_are_read_on_and_only_since_a_time(tmp_path: Path) -> None:
    now_s = time.monotonic()
    path = tmp_path / "kmsg"
    path.write_text(record(now_s - 5_000, "old") + record(now_s, "first", 2) + "garbage\n7,x,y,-;no\n")
    log = KernelLog(path)
    assert log.since(now_s) == ("first",)
    with path.open("a") as stream:
        stream.write(record(now_s + 1, "second", 3))
    assert log.since(now_s) == ("first", "second")
    assert log.since(0.0) == ("old", "first", "second")
    log.close()


def test_where_the_device_is_closed_to_us_commands_are_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def prints(command: Sequence[str]) -> str:
        asked.append(command[0])
        if command[0] == "dmesg":
            raise PermissionError(1, "Operation not permitted")
        now_s = time.monotonic()
        return f"[{now_s:12.6f}] lab1 kernel: {KILLED}\n-- no entry --\n[    0.000001] lab1 kernel: boot\n"

    assert KernelLog(tmp_path / "absent", run=prints).since(time.monotonic()) == (KILLED,)
    assert asked == ["dmesg", "journalctl"]


def test_a_pair_of_lines_is_one_kill() -> None:
    (kill,) = kills_in(("noise", SUMMARY, KILLED))
    assert kill == OomKill(
        4711, "python3", "CONSTRAINT_MEMCG", "/lab/api", "/lab/api/w1", (250_000 + 1_000) * 1024
    )
    assert "cgroup /lab/api" in kill.text
    old = "Out of memory: Kill process 12 (mysqld) score 900 or sacrifice child"
    assert kills_in((old,)) == (OomKill(12, "mysqld"),)


@pytest.mark.parametrize(
    ("pids", "cgroup", "name", "wanted"),
    [
        (frozenset(), "", "", True),
        (frozenset({4711}), "", "", True),
        (frozenset({4712}), "", "python3", False),
        (frozenset({1}), "/lab/api", "", True),
        (frozenset({1}), "api/w1", "", True),
        (frozenset({1}), "/lab/ap", "", False),
        (frozenset({1}), "/", "", False),
        (frozenset(), "", "python3", True),
        (frozenset(), "", "node", False),
    ],
)
def test_a_kill_is_of_a_service_by_pid_or_group(
    pids: frozenset[int], cgroup: str, name: str, wanted: bool
) -> None:
    (kill,) = kills_in((KILLED, SUMMARY))
    by_name = OomKill(kill.pid, kill.name)
    about = by_name if name else kill
    assert is_about(about, pids=pids, cgroup=cgroup, name=name) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("", None),
        ("oom_kill x\n", None),
    ],
)
def test_both_kinds_of_counters_are_read(text: str, wanted: int | None) -> None:
    assert parse_oom_kill(text) == wanted


def test_groups_of_both_kinds_are_found(tmp_path: Path) -> None:
    one, two = tmp_path / "v1", tmp_path / "v2"
    for folder in (
        one / "svc/a",
        two / "b",
        tmp_path / "proc/7",
        tmp_path / "proc/8",
        tmp_path / "proc/self",
    ):
        folder.mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        f"30 1 0:1 / {one} rw - cgroup cgroup rw,memory\n"
        f"31 1 0:2 /kube {two} rw - cgroup2 cgroup2 rw\nodd line\n"
    )
    (tmp_path / "proc/7/cgroup").write_text("4:cpu:/x\n3:memory:/svc/a\n0::/z\n")
    (tmp_path / "proc/8/cgroup").write_text("0::/kube/b\n")
    assert cgroup_of(7, proc=tmp_path / "proc") == Cgroup("/svc/a", one / "svc/a")
    assert cgroup_of(8, proc=tmp_path / "proc") == Cgroup("/kube/b", two / "b")


def test_a_record_that_is_none_is_none() -> None:
    assert parse_record("") is None
    assert parse_record("4,x,1,-;a") is None
    assert parse_record("no semicolon") is None
    found = parse_record("30,12,34000000,c;text;with;semicolons")
    assert found is not None
    assert (found.at_s, found.level, found.text) == (34.0, 6, "text;with;semicolons")


@pytest.fixture
def small_group() -> Iterator[Cgroup]:
    """Make a real control group with 24 MB; skip, by reason, where that may not be done."""
    own = cgroup_of(os.getpid())
    if isinstance(own, Unread):
        pytest.skip(f"no control group of memory: {own.why}")
    folder = own.folder / f"sf-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    try:
        name = "memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes"
        try:
            (folder / name).write_text(str(24_000_000))
        except OSError as error:
            pytest.skip(f"no limit may be set here: {error}")
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):
                (folder / swap).write_text("0" if swap == "memory.swap.max" else str(24_000_000))
        yield Cgroup(f"{own.path.rstrip('/')}/{folder.name}", folder)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


EATER = """
import sys
sys.stdin.readline()
block = []
while True:
    block.append(bytearray(1_000_000))
    for at in range(0, 1_000_000, 4096):
        block[-1][at] = 1
"""


def test_r4_a_real_kill_for_memory_is_told_by_counter_and_kernel(small_group: Cgroup) -> None:
    before = oom_kills(small_group)
    assert before == 0
    begun_s = time.monotonic()
    eater = subprocess.Popen([sys.executable, "-c", EATER], stdin=subprocess.PIPE)
    try:
        (small_group.folder / "cgroup.procs").write_text(str(eater.pid))
        found = cgroup_of(eater.pid)
        assert isinstance(found, Cgroup)
        assert found.folder == small_group.folder
        assert is_shared(found, frozenset({eater.pid})) is False
        assert eater.stdin is not None
        eater.stdin.write(b"go\n")
        eater.stdin.close()
        assert eater.wait(60) == -signal.SIGKILL
    finally:
        eater.kill()
        eater.wait()
    after = oom_kills(small_group)
    assert not isinstance(after, Unread)
    assert after >= 1
    status = ExitStatus(128 + signal.SIGKILL, signal.SIGKILL)
    by_counter = classify(Evidence(status=status, oom_kills=after), rules_with())
    assert (by_counter.cls, by_counter.is_sure) == (FailureClass.RESOURCE_OOM, True)
    lines = KernelLog().since(begun_s)
    if isinstance(lines, Unread):
        pytest.skip(f"the counter told it; the kernel's log is closed to us: {lines.why}")
    mine = Evidence(status=status, kernel_lines=lines, pids=frozenset({eater.pid}), cgroup=small_group.path)
    by_kernel = classify(mine, rules_with())
    assert by_kernel.cls is FailureClass.RESOURCE_OOM
    assert any("limit of cgroup" in fact for fact in by_kernel.evidence), by_kernel
    other = Evidence(status=status, kernel_lines=lines, pids=frozenset({1}), cgroup="/sf-somebody-else")
    assert classify(other, rules_with()).cls is FailureClass.AMBIGUOUS_137


def test_r4_a_kill_by_somebody_leaves_no_such_trace() -> None:
    begun_s = time.monotonic()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    sleeper.kill()
    assert sleeper.wait(30) == -signal.SIGKILL
    lines = KernelLog().since(begun_s)
    seen = () if isinstance(lines, Unread) else lines
    status = ExitStatus(128 + signal.SIGKILL, signal.SIGKILL)
    found = classify(
        Evidence(status=status, kernel_lines=seen, pids=frozenset({sleeper.pid}), oom_kills=0), rules_with()
    )
    assert found.cls is FailureClass.AMBIGUOUS_137
