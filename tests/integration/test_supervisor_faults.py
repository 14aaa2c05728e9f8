"""The supervisor against real processes that die, hang, hide, fork and flood; every fault is seen to land."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from integration.processes import QUICK, SERVER, Stand, eventually, lives, pid_in, program, script, server
from standfast.services.adapters import procfs
from standfast.services.model import ServiceSpec


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_service_becomes_ready_and_stops_when_asked(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        assert lives(stand.view("web")["pid"])
        assert stand.view("web")["restarts"] == 0

    assert stand.run(body) < 2.0
    assert stand.state("web") == "stopped"


def test_a_kill_nine_is_named_and_followed_by_a_new_life(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        first = stand.view("web")["pid"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not lives(first))
        await eventually(lambda: stand.state("web") == "ready" and stand.view("web")["pid"] != first)
        view = stand.view("web")
        assert view["restarts"] == 1
        assert view["last_exit"].startswith("killed by SIGKILL (9) after ")

    stand.run(body)


def test_a_stopped_service_says_so_and_how_to_continue_it(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        pid = stand.view("web")["pid"]
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: (stat := procfs.read_stat(pid)) is not None and stat.letter == "T")
        assert await eventually(stand.is_in("web", "not_ready"), within_s=10.0) < 10.0
        view = stand.view("web")
        assert view["message"] == "process is stopped (T)"
        assert view["remedy"] == f"kill -CONT {pid}"
        assert view["process_state"] == "T"
        os.kill(pid, signal.SIGCONT)
        await eventually(stand.is_in("web", "ready"))
        assert stand.view("web")["restarts"] == 0

    stand.run(body)


def test_a_stopped_child_of_a_service_is_named_too(tmp_path: Path) -> None:
    text = """
import os, time
if os.fork() == 0:
    os.setsid()
    open('child', 'w').write(str(os.getpid()))
time.sleep(600)
"""
    stand = Stand(tmp_path, script(tmp_path, text))

    async def body() -> None:
        await eventually(stand.is_in("svc", "ready"))
        child = pid_in(tmp_path / "child")
        os.kill(child, signal.SIGSTOP)
        await eventually(lambda: (stat := procfs.read_stat(child)) is not None and stat.letter == "T")
        await eventually(stand.is_in("svc", "not_ready"))
        assert stand.view("svc")["remedy"] == f"kill -CONT {child}"
        os.kill(child, signal.SIGCONT)
        await eventually(stand.is_in("svc", "ready"))

    stand.run(body)


def test_a_stopped_service_is_stopped_cleanly_all_the_same(tmp_path: Path) -> None:
    said = tmp_path / "said"
    text = f"""
import signal, sys, time
def leave(*_):
    open({str(said)!r}, 'w').write('bye'); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open('up', 'w').write('1')
while True: time.sleep(0.1)
"""
    stand = Stand(tmp_path, script(tmp_path, text))

    async def body() -> None:
        await eventually(lambda: pid_in(tmp_path / "up"))
        pid = stand.view("svc")["pid"]
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: (stat := procfs.read_stat(pid)) is not None and stat.letter == "T")

    assert stand.run(body) < 1.5
    assert said.read_text() == "bye"


def test_a_service_that_hangs_is_not_ready_within_ten_seconds(tmp_path: Path, port: int) -> None:
    text = SERVER.replace(
        "def do_GET(self):", "def do_GET(self):\n        while __import__('os').path.exists('hang'): pass"
    )
    stand = Stand(tmp_path, server(tmp_path, port, text=text))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        (tmp_path / "hang").touch()
        await eventually(stand.is_in("web", "not_ready"), within_s=10.0)
        assert stand.view("web")["reason"] == "NoAnswer"
        assert stand.view("web")["remedy"]
        (tmp_path / "hang").unlink()
        await eventually(stand.is_in("web", "ready"))

    stand.run(body)


def test_a_wrong_status_is_not_ready(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        (tmp_path / "status").write_text("503")
        await eventually(stand.is_in("web", "not_ready"))
        assert "answered 503" in stand.view("web")["message"]

    stand.run(body)


def test_a_program_that_does_not_exist_is_held_and_tried_when_it_appears(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    stand = Stand(tmp_path, ServiceSpec("tool", (str(tool),), restart=QUICK))

    async def body() -> None:
        await eventually(stand.is_in("tool", "held"))
        view = stand.view("tool")
        assert (view["reason"], view["starts"]) == ("ProgramMissing", 0)
        assert str(tool) in view["message"]
        tool.write_text("#!/bin/sh\nexec sleep 60\n")
        tool.chmod(0o755)
        await eventually(stand.is_in("tool", "ready"))

    stand.run(body)


def test_an_interpreter_that_does_not_exist_is_held_after_one_start(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)
    stand = Stand(tmp_path, ServiceSpec("tool", (str(tool),), restart=QUICK))

    async def body() -> None:
        await eventually(stand.is_in("tool", "held"))
        view = stand.view("tool")
        assert (view["reason"], view["starts"]) == ("PermanentConfig", 1)
        assert "cannot run" in view["last_error"]

    stand.run(body)


def test_a_folder_that_does_not_exist_is_held(tmp_path: Path) -> None:
    stand = Stand(tmp_path, ServiceSpec("svc", ("sleep", "60"), cwd=tmp_path / "none", restart=QUICK))

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"))
        assert stand.view("svc")["reason"] == "FolderMissing"

    stand.run(body)


def test_i8_the_same_failure_is_held_after_three_starts_until_its_program_changes(tmp_path: Path) -> None:
    spec = script(tmp_path, "import os, sys\nsys.exit(f'not registered, pid {os.getpid()}')\n")
    stand = Stand(tmp_path, spec)

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"))
        view = stand.view("svc")
        assert (view["reason"], view["starts"]) == ("SameFailure", 3)
        assert "not registered" in view["message"]
        program(tmp_path, "svc.py", "import time\ntime.sleep(60)\n")
        await eventually(stand.is_in("svc", "ready"))
        assert stand.view("svc")["starts"] == 4

    stand.run(body)


def test_a_port_in_use_is_held_names_the_holder_and_clears_by_itself(tmp_path: Path, port: int) -> None:
    holder = socket.create_server(("127.0.0.1", port))
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "held"))
        view = stand.view("web")
        assert (view["reason"], view["starts"]) == ("PortInUse", 0)
        assert f"pid {os.getpid()}" in view["message"]
        holder.close()
        await eventually(stand.is_in("web", "ready"))

    stand.run(body)


def test_a_service_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    text = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('up', 'w').write('1')
while True: time.sleep(0.1)
"""
    stand = Stand(tmp_path, script(tmp_path, text, stop_timeout_s=0.6))

    async def body() -> None:
        await eventually(lambda: pid_in(tmp_path / "up"))

    assert 0.6 <= stand.run(body) < 2.0


def test_a_hurry_cuts_the_wait_short(tmp_path: Path) -> None:
    text = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('up', 'w').write('1')
while True: time.sleep(0.1)
"""
    stand = Stand(tmp_path, script(tmp_path, text, stop_timeout_s=30.0))

    async def body() -> None:
        await eventually(lambda: pid_in(tmp_path / "up"))
        stand.supervisor.hurry()

    assert stand.run(body) < 2.0


GRANDCHILDREN = """
import os, signal, sys, time
def child(name, session):
    if os.fork() == 0:
        if session: os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(name, 'w').write(str(os.getpid()))
        while True: time.sleep(0.1)
child('in_group', False)
child('in_session', True)
"""


def test_grandchildren_that_ignore_sigterm_or_hide_in_a_session_are_gone_after_a_stop(tmp_path: Path) -> None:
    stand = Stand(tmp_path, script(tmp_path, GRANDCHILDREN + "time.sleep(600)\n", stop_timeout_s=0.5))
    pids: list[int] = []

    async def body() -> None:
        for name in ("in_group", "in_session"):
            await eventually(lambda name=name: pid_in(tmp_path / name))
            pids.append(pid_in(tmp_path / name))
        assert all(lives(pid) for pid in pids)

    stand.run(body)
    assert not any(lives(pid) for pid in pids)


def test_grandchildren_do_not_outlive_the_life_that_made_them(tmp_path: Path) -> None:
    text = GRANDCHILDREN + "time.sleep(2.5)\nsys.exit(9)\n"
    stand = Stand(tmp_path, script(tmp_path, text))

    async def body() -> None:
        await eventually(lambda: pid_in(tmp_path / "in_session") and pid_in(tmp_path / "in_group"))
        pids = [pid_in(tmp_path / "in_session"), pid_in(tmp_path / "in_group")]
        assert all(lives(pid) for pid in pids)
        await eventually(lambda: stand.view("svc")["starts"] >= 2)
        assert not any(lives(pid) for pid in pids)

    stand.run(body)


def test_a_service_that_forks_away_is_held_and_says_how_to_keep_it(tmp_path: Path) -> None:
    stand = Stand(tmp_path, script(tmp_path, GRANDCHILDREN + "time.sleep(0.3)\nos._exit(0)\n"))

    async def body() -> None:
        await eventually(stand.is_in("svc", "held"))
        view = stand.view("svc")
        assert (view["reason"], view["starts"]) == ("ForkedAway", 1)
        assert "foreground" in view["remedy"]
        assert not lives(pid_in(tmp_path / "in_session"))

    stand.run(body)


def test_a_flooded_log_is_bounded_and_said(tmp_path: Path) -> None:
    text = "import os\nline = b'f' * 65535 + b'\\n'\nfor _ in range(600): os.write(1, line)\n"
    stand = Stand(tmp_path, script(tmp_path, text + "import time\ntime.sleep(600)\n"))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["log_dropped_bytes"] > 0)
        assert stand.state("svc") in ("starting", "ready")

    stand.run(body)
    assert sum(path.stat().st_size for path in (tmp_path / "data" / "logs").iterdir()) < 12_000_000


def test_an_early_stop_leaves_nothing(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        await eventually(stand.left)

    stand.run(body)


def test_ten_kills_leave_no_zombie_and_no_second_copy(tmp_path: Path, port: int) -> None:
    stand = Stand(tmp_path, server(tmp_path, port))

    async def body() -> None:
        for number in range(10):
            await eventually(lambda: stand.view("web")["pid"])
            pid = stand.view("web")["pid"]
            os.kill(pid, signal.SIGKILL)
            await eventually(
                lambda pid=pid, number=number: not lives(pid) and stand.view("web")["starts"] == number + 2
            )
            await eventually(stand.is_in("web", "ready"))
            assert len([p for p in stand.left() if "/web/" in procfs.mark_of(p)]) == 1

    stand.run(body)
