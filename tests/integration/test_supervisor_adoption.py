"""A supervisor that is killed touches nothing; the next one takes back what runs, and what ended since."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.instances import free_ports
from integration.processes import SERVER, lives, pid_in, script, server, shell, wait_until
from integration.supervisors import StackProcess, kill_now
from standfast.services.adapters import procfs
from standfast.services.adapters.lives import FILE_NAME, LIVES_NAME
from standfast.services.model import (
    Condition,
    Dependency,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)

Make = Callable[..., StackProcess]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Make]:
    made: list[StackProcess] = []

    def make(*specs: ServiceSpec, data_dir: Path | None = None) -> StackProcess:
        made.append(StackProcess(tmp_path, *specs, data_dir=data_dir))
        return made[-1].start()

    yield make
    for one in made:
        one.clean_up()


def counted(name: str, folder: Path, text: str = "", **more: Any) -> ServiceSpec:
    """Return a service that writes down each of its starts, and is ready when it says so in a file."""
    begin = f"echo run >> runs-{name}; touch up-{name}; {text}"
    return shell(name, f"{begin} exec sleep 600", folder, **({"ready": Readiness(file=f"up-{name}")} | more))


def runs(folder: Path, name: str) -> int:
    return len((folder / f"runs-{name}").read_text().split())


def test_twenty_services_outlive_their_supervisor_and_none_is_started_twice(
    tmp_path: Path, stack: Make
) -> None:
    plain = [f"s{number:02}" for number in range(14)]
    never = RestartPolicy(when=RestartWhen.NEVER)
    waits = "while ! test -e {0}-now; do sleep 0.05; done;"
    specs = [counted(name, tmp_path) for name in plain]
    specs += [
        counted("ends", tmp_path, f"{waits.format('ends')} exit 42;", restart=never),
        counted("late", tmp_path, waits.format("late") + "touch later;", ready=Readiness(file="later")),
        counted("dies", tmp_path),
        counted("frozen", tmp_path),
        counted("unminded", tmp_path),
        counted("notified", tmp_path),
    ]
    assert len(specs) == 20
    one = stack(*specs)
    one.until_all("ready", [name for name in one.views() if name != "late"])
    before = one.pids()
    one.kill()
    time.sleep(0.3)
    assert all(lives(pid) for pid in before.values()), "a supervisor's death touches nothing"

    (tmp_path / "ends-now").touch()
    (tmp_path / "late-now").touch()
    kill_now(before["dies"], one.life("unminded").shim.pid)
    os.kill(before["frozen"], signal.SIGSTOP)
    wait_until(lambda: not lives(before["ends"]))
    wait_until((tmp_path / "later").exists)

    one.start()
    one.until_all("ready", [*plain, "late", "dies", "unminded", "notified"])
    views = one.views()
    kept = [*plain, "late", "frozen", "notified"]
    assert {name: views[name]["pid"] for name in kept} == {name: before[name] for name in kept}
    assert all(views[name]["is_adopted"] for name in kept)
    assert {views[name]["starts"] for name in views if name != "ends"} == {1}
    assert {views[name]["restarts"] for name in views} == {0}
    assert (views["ends"]["state"], views["ends"]["starts"]) == ("held", 0)
    assert views["ends"]["last_exit"].startswith("exit code 42 after")
    assert views["dies"]["last_exit"].startswith("killed by SIGKILL (9)")
    assert "nobody saw" in views["unminded"]["last_exit"]
    assert (views["frozen"]["state"], views["frozen"]["reason"]) == ("not_ready", "ProcessStopped")
    assert {name: runs(tmp_path, name) for name in views} == dict.fromkeys(views, 1) | {
        "dies": 2,
        "unminded": 2,
    }
    assert not lives(before["unminded"]), "what no shim minds is ended, not run twice"
    os.kill(before["frozen"], signal.SIGCONT)
    one.until("frozen", "ready")
    assert one.stop() == 0


def test_a_held_and_a_completed_service_stay_so_for_the_next_supervisor(tmp_path: Path, stack: Make) -> None:
    crash = shell("crash", "echo run >> runs-crash; echo boom; exit 3", tmp_path)
    task = shell("task", "echo run >> runs-task", tmp_path, kind="task")
    after = counted("after", tmp_path, depends_on=(Dependency("task", Condition.COMPLETED),))
    one = stack(crash, task, after)
    one.until("crash", "held")
    one.until("task", "completed")
    pid = one.until("after", "ready")["pid"]
    one.kill()
    one.start()
    assert one.until("after", "ready")["pid"] == pid
    assert one.until("task", "completed")["starts"] == 0
    view = one.until("crash", "held")
    assert (view["reason"], view["starts"]) == ("SameFailure", 0)
    assert (runs(tmp_path, "crash"), runs(tmp_path, "task")) == (3, 1)
    # In order, all of it is over: the next start is a new one.
    assert one.stop() == 0
    one.start()
    one.until("task", "completed")
    assert runs(tmp_path, "task") == 2


BYE = """
import os, signal, sys, time
def leave(*_):
    open('bye', 'w').write('bye'); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open('up-bye', 'w').write('up')
while True: time.sleep(0.05)
"""


def test_only_what_was_declared_otherwise_is_restarted_and_what_is_declared_no_more_ends(
    tmp_path: Path, stack: Make
) -> None:
    bye = script(tmp_path, BYE, name="bye", ready=Readiness(file="up-bye"))
    one = stack(counted("same", tmp_path), counted("other", tmp_path), bye)
    one.until_all("ready")
    before = one.pids()
    one.kill()
    one.declare(
        counted("same", tmp_path, restart=RestartPolicy(cap_s=7.0)),
        counted("other", tmp_path, env={"A": "1"}),
    )
    one.start()
    wait_until(lambda: one.view("other")["pid"] not in (None, before["other"]))
    one.until_all("ready")
    assert one.pids()["same"] == before["same"]
    assert (one.view("same")["starts"], one.view("other")["starts"]) == (1, 2)
    wait_until(lambda: not lives(before["bye"]))
    assert (tmp_path / "bye").read_text() == "bye"
    assert set(one.views()) == {"same", "other"}


def test_what_was_told_once_is_remembered_when_it_cannot_be_seen_any_more(
    tmp_path: Path, stack: Make
) -> None:
    wordy = shell("wordy", "echo serving; exec sleep 600", tmp_path, ready=Readiness(log="^serving$"))
    one = stack(wordy, counted("filed", tmp_path))
    one.until_all("ready")
    before = one.pids()
    one.kill()
    os.truncate(tmp_path / "data" / "logs" / "wordy.log", 0)
    (tmp_path / "up-filed").unlink()
    one.start()
    one.until_all("ready")
    assert one.pids() == before


def test_a_second_supervisor_beside_it_is_refused_and_changes_nothing(tmp_path: Path, stack: Make) -> None:
    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    assert one.spawn().wait(30) == 6
    assert "another supervisor" in one.log()
    assert one.until("svc", "ready")["pid"] == pid
    # The hints of shims still reach the first one.
    kill_now(pid)
    wait_until(lambda: one.view("svc")["starts"] == 2)


def rewrite(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


SPOILT: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"\x00\xff{not json"),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "of another boot": lambda path: rewrite(path, boot="another"),
    "with no number": lambda path: rewrite(path, shim=["x", None]),
    "with a number that is none": lambda path: rewrite(path, shim=[2**70, 1], child=[-5, float("inf")]),
    "of another name": lambda path: rewrite(path, name="../../elsewhere"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_life_whose_record_is_spoilt_is_taken_back_all_the_same(
    tmp_path: Path, stack: Make, how: str
) -> None:
    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    one.kill()
    SPOILT[how](tmp_path / "data" / LIVES_NAME / "svc" / FILE_NAME)
    one.start()
    assert one.until("svc", "ready")["pid"] == pid
    assert runs(tmp_path, "svc") == 1
    assert one.stop() == 0


def test_a_number_that_was_given_out_again_is_somebody_elses(tmp_path: Path, stack: Make) -> None:
    one = stack(counted("svc", tmp_path))
    one.until("svc", "ready")
    life = one.life("svc")
    one.kill()
    kill_now(life.shim.pid, life.child.pid)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        ticks = procfs.identify(stranger.pid)
        assert ticks is not None
        path = tmp_path / "data" / LIVES_NAME / "svc" / FILE_NAME
        theirs = [stranger.pid, ticks.start_ticks - 1]
        rewrite(path, shim=theirs, child=theirs, exit=None, gone=False)
        one.start()
        wait_until(lambda: runs(tmp_path, "svc") == 2)
        one.until("svc", "ready")
        assert one.stop() == 0
        assert stranger.poll() is None, "a stranger got a signal"
        stranger.kill()


def test_after_a_reboot_everything_is_started_once_and_nothing_was_restarted(
    tmp_path: Path, stack: Make
) -> None:
    one = stack(counted("svc", tmp_path), counted("was-done", tmp_path))
    one.until_all("ready")
    lives_ = [one.life(name) for name in ("svc", "was-done")]
    one.kill()
    kill_now(*(pid for life in lives_ for pid in (life.shim.pid, life.child.pid)))
    for life in lives_:
        rewrite(tmp_path / "data" / LIVES_NAME / life.name / FILE_NAME, boot="before the reboot")
    one.start()
    one.until_all("ready")
    assert {view["restarts"] for view in one.views().values()} == {0}
    assert "nobody saw" in one.view("svc")["last_exit"]
    assert runs(tmp_path, "svc") == 2


def test_a_shim_that_is_killed_leaves_nothing_and_its_service_is_started_again(
    tmp_path: Path, stack: Make
) -> None:
    text = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open('hidden', 'w').write(str(os.getpid()))
else:
    open('up-deep', 'w').write('up')
while True: time.sleep(0.1)
"""
    one = stack(script(tmp_path, text, name="deep", ready=Readiness(file="up-deep")))
    before = one.until("deep", "ready")["pid"]
    wait_until(lambda: pid_in(tmp_path / "hidden"))
    hidden = pid_in(tmp_path / "hidden")
    kill_now(one.life("deep").shim.pid)
    wait_until(lambda: not lives(before) and not lives(hidden))
    wait_until(lambda: one.view("deep")["starts"] == 2)
    assert "nobody saw" in one.view("deep")["last_exit"]
    assert one.stop() == 0


def test_a_removed_socket_loses_no_end_and_is_made_again(tmp_path: Path, stack: Make) -> None:
    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    (tmp_path / "data" / LIVES_NAME / "supervisor.sock").unlink()
    kill_now(pid)
    wait_until(lambda: one.view("svc")["starts"] == 2 and one.view("svc")["state"] == "ready")
    wait_until((tmp_path / "data" / LIVES_NAME / "supervisor.sock").exists)


def host_of(one: StackProcess) -> int:
    assert one.popen is not None
    return next(
        i.pid
        for i in one.members()
        if (s := procfs.read_stat(i.pid)) is not None and s.parent == one.popen.pid
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_shim_host_that_is_killed_or_stopped_keeps_nobody_waiting(
    tmp_path: Path, stack: Make, number: int
) -> None:
    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    first = host_of(one)
    os.kill(first, number)
    kill_now(pid)
    wait_until(lambda: one.view("svc")["state"] == "ready" and one.view("svc")["pid"] != pid, within_s=25.0)
    assert (host_of(one) == first) is (number == signal.SIGSTOP), "one that was stopped is continued"
    wait_until(lambda: number == signal.SIGSTOP or not procfs.read_stat(first), what="the old host is buried")
    assert one.stop() == 0


def test_what_belongs_to_no_life_is_ended_before_anything_begins(tmp_path: Path, stack: Make) -> None:
    port = free_ports(1)[0]
    deaf = "import signal\nfor n in (signal.SIGTERM, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)\n"
    one = stack(server(tmp_path, port, text=deaf + SERVER))
    one.until("web", "ready")
    life = one.life("web")
    one.kill()
    # The shim dies, its child does not care, and no record is left: the port would be taken for ever.
    kill_now(life.shim.pid)
    assert lives(life.child.pid)
    (tmp_path / "data" / LIVES_NAME / "web" / FILE_NAME).unlink()
    one.start()
    assert not lives(life.child.pid)
    view = one.until("web", "ready")
    assert view["pid"] != life.child.pid
    assert "PortInUse" not in one.log()


def test_a_store_that_is_gone_or_damaged_keeps_nobody_from_being_taken_back(
    tmp_path: Path, stack: Make
) -> None:
    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    one.kill()
    for path in (tmp_path / "data").glob("services.db*"):
        path.unlink()
    one.start()
    assert one.until("svc", "ready")["pid"] == pid
    assert one.listed()["trouble"] == ""
    one.kill()
    for path in (tmp_path / "data").glob("services.db-*"):
        path.unlink()  # From its log alone SQLite would mend it.
    (tmp_path / "data" / "services.db").write_bytes(b"no database at all" * 1_000)
    one.start()
    assert one.until("svc", "ready")["pid"] == pid
    assert "damaged" in one.listed()["trouble"]
    assert one.stop() == 0


def test_a_very_long_path_of_the_data_directory_works(tmp_path: Path, stack: Make) -> None:
    data_dir = tmp_path / ("long-" * 20) / ("longer-" * 15) / "data"
    assert len(str(data_dir)) > 200
    ready = Readiness(notify=True)
    text = "import os, socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    text += "s.sendto(b'READY=1', chr(0) + os.environ['NOTIFY_SOCKET'][1:])\ntime.sleep(600)\n"
    one = stack(script(tmp_path, text, ready=ready), data_dir=data_dir)
    pid = one.until("svc", "ready")["pid"]
    one.kill()
    one.start()
    assert one.until("svc", "ready")["pid"] == pid
    kill_now(pid)
    wait_until(lambda: one.view("svc")["state"] == "ready" and one.view("svc")["starts"] == 2)
    assert one.stop() == 0


def test_left_on_purpose_everything_goes_on(tmp_path: Path, stack: Make) -> None:
    from standfast.services.adapters.control import ask

    one = stack(counted("svc", tmp_path))
    pid = one.until("svc", "ready")["pid"]
    assert one.popen is not None
    ask(one.data_dir, "leave")
    assert one.popen.wait(20) == 0
    assert lives(pid)
    assert one.start().until("svc", "ready")["pid"] == pid
    assert one.stop() == 0
