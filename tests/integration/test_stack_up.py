"""``standfast up`` of a stack: --wait tells the truth, and a terminal is only a view."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.instances import Up, command, environment, json_of, nothing_lives
from integration.processes import lives, wait_until
from integration.stacks import Stack
from standfast.app.instance import read_run

Make = Callable[..., Stack]

HEAD = '[instance]\nname = "told"\n'


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Make]:
    made: list[Stack] = []

    def make(text: str, name: str = "stack") -> Stack:
        made.append(Stack(tmp_path / name, HEAD + text))
        return made[-1]

    yield make
    for one in made:
        one.clean_up()


def service(name: str, text: str, more: str = "") -> str:
    """Declare a service that runs ``text`` in a shell."""
    return f"""
[[services]]
name = "{name}"
command = ["/bin/sh", "-c", '''echo run >> runs-{name}; {text}''']
stop_timeout_s = 2
{more}
"""


def steady(name: str, more: str = "", begin: str = "") -> str:
    """Declare a service that is ready at once and stays so."""
    return service(
        name, f"{begin} touch up-{name}; exec sleep 600", f'ready = {{ file = "up-{name}" }}\n{more}'
    )


def runs(one: Stack, name: str) -> int:
    path = one.folder / f"runs-{name}"
    return len(path.read_text().split()) if path.exists() else 0


def waiting(one: Stack, limit_s: float = 60.0) -> subprocess.Popen[str]:
    """Start ``up --wait``, as from another terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "standfast.cli", "up", "--wait", "--wait-timeout", str(limit_s), "--json"],
        cwd=one.folder,
        env=environment(one.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_wait_returns_zero_only_after_everything_was_ready_for_its_window(stack: Make) -> None:
    one = stack(
        steady("db") + steady("web", 'depends_on = ["db"]') + service("extra", "exit 3", "required = false")
    )
    started = time.monotonic()
    done = one.run("up", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started >= 3.0
    data = json_of(done)["data"]
    assert (data["is_up"], data["why"]) == (True, [])
    views = one.views()
    assert all(views[name]["stable_for_s"] >= 3.0 for name in ("db", "web"))
    # Later, with restarts of long ago, it is up again at once.
    pid = views["web"]["pid"]
    assert one.run("restart", "web", "--only").returncode == 0
    wait_until(lambda: one.views()["web"]["pid"] not in (None, pid))
    assert one.data("up", "--wait")["exit_code"] == 0


@pytest.mark.timeout(180)
def test_a000_2_a_crash_loop_is_never_up_however_long_its_lives_are(stack: Make) -> None:
    made = [
        stack(service("loop", f"sleep {life_s}; echo boom; exit 1"), name=f"life-{life_s}")
        for life_s in (0.2, 1.2, 2.2)
    ]
    for one, popen in [(one, waiting(one)) for one in made]:
        told, said = popen.communicate(timeout=60)
        assert popen.returncode == 3, told + said
        assert "boom" in told
        view = one.views()["loop"]
        assert (view["state"], view["reason"]) == ("held", "SameFailure")
        assert runs(one, "loop") == 3


def test_what_restarted_on_the_way_is_not_called_up(stack: Make) -> None:
    one = stack(
        steady("db", "restart = { backoff_s = 0.1 }", begin="test -e again || { touch again; exit 3; };")
    )
    done = one.data("up", "--wait", "--wait-timeout", "30")
    assert (done["exit_code"], done["is_up"]) == (3, False)
    assert "db is ready now, and was restarted 1 times on the way: exit code 3" in done["why"][0]


def test_what_is_held_is_hopeless_at_once(stack: Make) -> None:
    need = """[[services.needs]]
name = "a licence"
command = ["/bin/sh", "-c", "test -e licence"]
interval_s = 0.3
"""
    one = stack(steady("held", need) + service("slow", "sleep 600", 'ready = { file = "never" }'))
    started = time.monotonic()
    done = one.data("up", "--wait", "--wait-timeout", "60")
    assert (done["exit_code"], time.monotonic() - started < 30.0) == (3, True)
    assert done["why"] == ["held is held: it needs a licence, which is not so"]
    (one.folder / "licence").touch()
    one.until("held", "ready")
    assert runs(one, "held") == 1


def test_what_takes_too_long_is_pending(stack: Make) -> None:
    one = stack(steady("db") + service("slow", "sleep 600", 'ready = { file = "never" }'))
    done = one.data("up", "--wait", "--wait-timeout", "2")
    assert done["exit_code"] == 8
    assert any(line.startswith("slow is starting") for line in done["why"])


def test_a_program_that_does_not_exist_is_told_at_once(stack: Make) -> None:
    one = stack('[[services]]\nname = "gone"\ncommand = ["/no/such/program"]\n')
    done = one.data("up", "--wait", "--wait-timeout", "60")
    assert done["exit_code"] == 3
    assert "/no/such/program was not found" in done["why"][0]


def test_a_stack_that_is_stopped_while_somebody_waits_is_not_up(stack: Make) -> None:
    one = stack(steady("db") + service("slow", "sleep 600", 'ready = { file = "never" }'))
    popen = waiting(one)
    wait_until(lambda: runs(one, "slow"), within_s=30.0)
    assert one.run("down").returncode == 0
    told, said = popen.communicate(timeout=30)
    assert popen.returncode == 3, said
    assert "stopped meanwhile" in told
    assert one.members() == []


def test_a_supervisor_that_is_killed_while_somebody_waits_is_replaced(stack: Make) -> None:
    text = "while ! test -e go; do sleep 0.1; done; touch ok; exec sleep 600"
    one = stack(steady("db") + service("slow", text, 'ready = { file = "ok" }'))
    popen = waiting(one)
    wait_until(lambda: runs(one, "slow") and runs(one, "db"), within_s=30.0)
    one.until("db", "ready")
    first, pid = one.supervisor(), one.views()["db"]["pid"]
    one.kill_supervisor()
    wait_until(lambda: one.supervisor() != first, within_s=30.0)
    (one.folder / "go").touch()
    told, said = popen.communicate(timeout=60)
    assert popen.returncode == 0, told + said
    assert (one.views()["db"]["pid"], runs(one, "db"), runs(one, "slow")) == (pid, 1, 1)


def test_a_second_up_declares_again_and_restarts_only_what_changed(stack: Make) -> None:
    one = stack(steady("db") + steady("web"))
    assert one.run("up", "--detach").returncode == 0
    for name in ("db", "web"):
        one.until(name, "ready")
    first, before = one.supervisor(), one.views()
    text = HEAD + steady("db") + steady("web", 'env = { A = "1" }') + steady("new")
    (one.folder / "standfast.toml").write_text(text)
    assert one.run("up", "--detach").returncode == 0
    one.until("new", "ready")
    wait_until(lambda: one.views()["web"]["pid"] not in (None, before["web"]["pid"]))
    assert one.supervisor() == first
    assert one.views()["db"]["pid"] == before["db"]["pid"]
    # What was written down for the next supervisor is the new declaration, too.
    one.kill_supervisor()
    assert one.run("up", "--detach").returncode == 0
    one.until("new", "ready")
    assert (runs(one, "db"), runs(one, "web"), runs(one, "new")) == (1, 2, 1)


COMPOSE = """
services:
  box:
    image: "busybox:1.36"
    command: ["sleep", "600"]
"""


def test_a_driver_that_comes_later_replaces_the_supervisor_and_touches_nothing(stack: Make) -> None:
    one = stack(steady("db"))
    assert one.run("up", "--detach").returncode == 0
    one.until("db", "ready")
    first, pid = one.supervisor(), one.views()["db"]["pid"]
    (one.folder / "docker-compose.yml").write_text(COMPOSE)
    (one.folder / "standfast.toml").write_text(
        HEAD + steady("db") + '[stack]\nfiles = ["docker-compose.yml"]\n'
    )
    done = one.run("up", "--detach")
    assert done.returncode == 0, done.stderr
    assert one.supervisor() != first
    one.until("db", "ready")
    assert (one.views()["db"]["pid"], runs(one, "db")) == (pid, 1)
    assert set(one.views()) == {"db", "box"}


def test_two_starts_at_once_are_one(stack: Make) -> None:
    one = stack(steady("db"))
    both = [waiting(one), waiting(one)]
    for popen in both:
        told, said = popen.communicate(timeout=60)
        assert popen.returncode == 0, told + said
    assert runs(one, "db") == 1


WRONG = {
    "a cycle": (
        steady("a", 'depends_on = ["b"]') + steady("b", 'depends_on = ["a"]'),
        ["a -> b -> a"],
    ),
    "an unknown name": (
        steady("postgres") + steady("web", 'depends_on = ["posgres"]'),
        ["posgres", "postgres"],
    ),
    "a name twice": (steady("web") + steady("web"), ["web", "2 times"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_stack_that_cannot_be_run_is_refused_by_name_and_nothing_starts(stack: Make, wrong: str) -> None:
    text, named = WRONG[wrong]
    one = stack(text)
    done = one.run("up", "--wait")
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(name in done.stderr for name in named), done.stderr
    assert one.members() == []
    assert not list(one.folder.glob("runs-*"))


def test_the_foreground_replaces_its_supervisor_and_ends_everything_at_ctrl_c(stack: Make) -> None:
    one = stack(steady("db") + steady("web", 'depends_on = ["db"]'))
    up = Up(one.folder)
    try:
        wait_until(lambda: runs(one, "web"), within_s=40.0)
        one.until("web", "ready")
        first, before = one.supervisor(), {name: view["pid"] for name, view in one.views().items()}
        one.kill_supervisor()
        up.until_told("the supervisor was killed; a new one took back what runs")
        assert one.supervisor() != first
        one.until("web", "ready")
        assert {name: view["pid"] for name, view in one.views().items()} == before
        up.signal(signal.SIGINT)
        assert up.ended() == 0
        assert not any(lives(pid) for pid in before.values())
        assert nothing_lives(up)
        assert read_run(one.data_dir) is None
    finally:
        up.clean_up()


def test_the_foreground_leaves_when_somebody_else_ends_the_stack(stack: Make) -> None:
    one = stack(steady("db"))
    up = Up(one.folder)
    try:
        wait_until(lambda: runs(one, "db"), within_s=40.0)
        one.until("db", "ready")
        assert one.run("down").returncode == 0
        assert up.ended() == 0
        assert "the stack was stopped" in up.text()
    finally:
        up.clean_up()


def test_wait_is_for_stacks(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text(HEAD + "[executor]\ncount = 1\n")
    done = command(tmp_path, "up", "--wait")
    assert done.returncode == 2
    assert "--detach and --wait are for stacks" in done.stderr
