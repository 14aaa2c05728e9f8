"""Limits that bite: memory and processors, a full disk, a large environment, a command that cannot run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.processes import PYTHON, Stand, eventually, lives, program, script, shell, wait_until
from integration.supervisors import StackProcess, kill_now
from standfast.services.adapters import cgroups
from standfast.services.adapters.lives import LIVES_NAME
from standfast.services.model import Limits, Need, Readiness, ServiceSpec

MB = 1_000_000
Make = Callable[..., StackProcess]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Make]:
    made: list[StackProcess] = []

    def make(*specs: ServiceSpec, data_dir: Path | None = None) -> StackProcess:
        made.append(StackProcess(tmp_path, *specs, data_dir=data_dir))
        return made[-1]

    yield make
    for one in made:
        one.clean_up()


def need_groups(limits: Limits) -> None:
    made = cgroups.make(limits, f"standfast-test-{os.getpid()}")
    for folder in made.folders:
        Path(folder).rmdir()
    if not made.folders:
        pytest.skip(f"this machine lets us make no control group: {made.why_not}")


GREEDY = """
import os, sys, time
open('up', 'w').write('up')
kept = []
while True:
    kept.append(bytearray(8_000_000))
"""


def test_r4_a_memory_limit_is_kept_by_the_kernel_and_its_counter_is_the_evidence(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=64 * MB)
    need_groups(limits)
    stand = Stand(tmp_path, script(tmp_path, GREEDY, limits=limits))

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"), within_s=20.0)
        view = stand.view("svc")
        assert view["cls"] == "resource_oom"
        assert any("oom_kill" in fact or "kernel killed" in fact for fact in view["evidence"]), view[
            "evidence"
        ]
        assert view["last_exit"].startswith("killed by SIGKILL (9)")
        assert view["starts"] == 3

    stand.run(body)
    assert list(Path("/sys/fs/cgroup").glob("**/standfast-svc-*")) == [], "every group is removed"


def test_r4_a_child_that_the_kernel_killed_is_seen_behind_an_ordinary_exit(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=64 * MB)
    need_groups(limits)
    program(tmp_path, "greedy.py", GREEDY)
    text = f"{PYTHON} -S greedy.py; echo 'the worker is gone'; exit 1"
    stand = Stand(tmp_path, shell("svc", text, tmp_path, limits=limits))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["last_exit"], within_s=20.0)
        assert stand.view("svc")["last_exit"].startswith("exit code 1 after")
        assert stand.view("svc")["cls"] == "resource_oom"

    stand.run(body)


def test_a_processor_limit_is_set_for_everything_of_the_life_and_removed_with_it(tmp_path: Path) -> None:
    limits = Limits(cpus=0.5)
    need_groups(limits)
    stand = Stand(tmp_path, shell("svc", "sleep 600 & wait", tmp_path, limits=limits))
    groups: list[Path] = []

    async def body() -> None:
        await eventually(stand.is_in("svc", "ready"))
        groups.extend(Path("/sys/fs/cgroup").glob("**/standfast-svc-*"))
        assert len(groups) == 1
        quota = groups[0] / "cpu.cfs_quota_us"
        told = quota.read_text() if quota.exists() else (groups[0] / "cpu.max").read_text().split()[0]
        assert int(told) == 50_000
        assert len((groups[0] / "cgroup.procs").read_text().split()) == 2, "the shell and its child"

    stand.run(body)
    assert not groups[0].exists()


GROWS = """
import time
open('up', 'w').write('up')
kept = []
while True:
    kept.append(bytearray(2_000_000))
    for one in kept: one[::4096] = b'x' * len(one[::4096])
    time.sleep(0.02)
"""


def test_without_a_control_group_memory_is_watched(tmp_path: Path, stack: Make) -> None:
    """In a mount namespace whose /sys/fs/cgroup is empty, no group can be made."""
    hide = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", hide, "-", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no mount namespace can be made here")
    one = stack(script(tmp_path, GROWS, ready=Readiness(file="up"), limits=Limits(memory_bytes=60 * MB)))
    one.before = ("unshare", "-m", "sh", "-c", hide, "-")
    one.start()
    wait_until(lambda: one.view("svc")["last_exit"], within_s=20.0)
    wait_until(lambda: one.view("svc")["cls"] == "resource_oom")
    assert any("memory limit:" in fact for fact in one.view("svc")["evidence"])
    assert one.stop() == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Yield a folder on a file system of ``size``."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], capture_output=True, check=False
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 65_536)
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    return ballast


#: Writes without end and says, outside of the disk, that it still goes on.
WRITER = """
import os, time
count = 0
while True:
    try: os.write(1, b'line ' * 1000 + b'\\n')
    except OSError: pass
    count += 1
    open('beat', 'w').write(str(count))
    time.sleep(0.02)
"""


def beat(folder: Path) -> int:
    path = folder / "beat"
    text = path.read_text() if path.exists() else ""
    return int(text) if text.isdigit() else 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, "6m") as folder:
        yield folder


def test_a_full_disk_blocks_nobody_is_said_and_loses_no_exit(tmp_path: Path, disk: Path, stack: Make) -> None:
    exits = "while ! test -e {0}; do sleep 0.05; done; exit 42"
    specs = [
        script(tmp_path, WRITER, name="writer", ready=Readiness(file="beat")),
        shell("web", "touch up-web; exec sleep 600", tmp_path, ready=Readiness(file="up-web")),
        shell("ends", f"touch up-ends; {exits.format('now')}", tmp_path, ready=Readiness(file="up-ends")),
    ]
    one = stack(*specs, data_dir=disk / "data").start()
    one.until_all("ready")
    ballast = fill(disk)
    before, beats = one.pids(), beat(tmp_path)
    # A death while nothing can be written: noticed, followed, and said.
    kill_now(before["web"])
    wait_until(lambda: one.view("web")["state"] == "ready" and one.view("web")["starts"] == 2)
    wait_until(lambda: one.listed()["trouble"], what="the store says that it cannot write")
    wait_until(lambda: beat(tmp_path) > beats, what="a full disk blocks no writer")
    # The supervisor dies too, then a service; its shim keeps the exit until there is room.
    one.kill()
    (tmp_path / "now").touch()
    wait_until(lambda: not lives(before["ends"]))
    time.sleep(0.3)
    ballast.unlink()
    wait_until(lambda: one.life("ends").exit is not None, what="the exit is written down")
    one.start()
    wait_until(lambda: one.view("ends")["last_exit"].startswith("exit code 42"))
    assert one.view("writer")["pid"] == before["writer"]
    wait_until(lambda: not one.listed()["trouble"])
    assert one.stop() == 0


def test_lives_that_could_never_be_written_down_are_taken_back_on_a_full_disk(
    tmp_path: Path, disk: Path, stack: Make
) -> None:
    need = Need("go", ("/bin/sh", "-c", "test -e go"), interval_s=0.1)
    web = shell(
        "web", "touch up-web; exec sleep 600", tmp_path, ready=Readiness(file="up-web"), needs=(need,)
    )
    one = stack(web, data_dir=disk / "data").start()
    one.until("web", "held")
    fill(disk)
    (tmp_path / "go").touch()
    pid = one.until("web", "ready")["pid"]
    with pytest.raises(AssertionError, match="no record"):
        one.life("web")
    one.kill()
    one.start()
    assert one.until("web", "ready")["pid"] == pid
    assert one.listed()["trouble"]
    assert one.stop() == 0


def test_a_store_on_a_read_only_disk_keeps_nobody_from_supervising(tmp_path: Path, disk: Path) -> None:
    from standfast.kernel.clock import SystemClock
    from standfast.services.history import History

    History(disk / "services.db", SystemClock(), boot_id="b").close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    history = History(disk / "services.db", SystemClock(), boot_id="b")
    assert "read-only" in history.trouble.lower()
    history.hold("web", "ann", "")
    assert history.held_by("web") is not None
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    wait_until(lambda: not history.trouble)
    history.close()


def test_an_environment_of_a_hundred_kilobytes_reaches_the_service(tmp_path: Path) -> None:
    large = {f"LARGE_{number}": "x" * 10_000 for number in range(10)} | {"ODD": "\N{SNOWMAN}\n'\""}
    text = """
import os, time
open('env', 'w').write(str(sum(len(v) for k, v in os.environ.items() if 'LARGE' in k)))
open('odd', 'w').write(os.environ['ODD'])
time.sleep(600)
"""
    stand = Stand(tmp_path, script(tmp_path, text, env=large, ready=Readiness(file="odd")))

    async def body() -> None:
        await eventually(stand.is_in("svc", "ready"))

    stand.run(body)
    assert (tmp_path / "env").read_text() == "100000"
    assert (tmp_path / "odd").read_text() == large["ODD"]


def test_an_environment_that_the_kernel_refuses_is_held_and_says_why(tmp_path: Path) -> None:
    stand = Stand(tmp_path, shell("svc", "sleep 600", tmp_path, env={"HUGE": "x" * 3_000_000}))

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"))
        assert "too long" in stand.view("svc")["last_error"] + stand.view("svc")["message"]

    stand.run(body)


def test_a_file_that_is_no_program_is_held_after_one_start(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF" + bytes(200))
    tool.chmod(0o755)
    stand = Stand(tmp_path, ServiceSpec("tool", (str(tool),)))

    async def body() -> None:
        await eventually(stand.is_in("tool", "held"))
        view = stand.view("tool")
        assert view["starts"] == 1
        assert view["last_exit"].startswith("exit code 126")
        assert "cannot run" in view["last_error"]

    stand.run(body)


def test_a_folder_of_lives_that_cannot_be_made_is_said_and_tried_again(tmp_path: Path) -> None:
    lives_dir = tmp_path / "data" / LIVES_NAME
    lives_dir.mkdir(parents=True)
    (lives_dir / "svc").write_text("a file where a folder should be")
    stand = Stand(tmp_path, shell("svc", "touch up; exec sleep 600", tmp_path, ready=Readiness(file="up")))

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"))
        assert stand.view("svc")["reason"] == "StartFailed"
        (lives_dir / "svc").unlink()
        await eventually(stand.is_in("svc", "ready"))
        assert stand.view("svc")["starts"] == 1

    stand.run(body)


def test_a_log_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "data" / "logs" / "svc.log").mkdir(parents=True)
    stand = Stand(tmp_path, shell("svc", "exec sleep 600", tmp_path))

    async def body() -> None:
        assert await eventually(stand.is_in("svc", "held")) < 5.0
        assert (stand.view("svc")["reason"], stand.view("svc")["starts"]) == ("StartFailed", 0)
        assert "directory" in stand.view("svc")["message"].lower()

    stand.run(body)
