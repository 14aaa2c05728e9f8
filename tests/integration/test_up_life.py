"""A real ``standfast up``: it runs rounds, ends in order whenever it is told to, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.instances import Up, command, free_ports, json_of, nothing_lives, small_config
from integration.processes import lives, pid_in, wait_until
from standfast.app.config import load_config
from standfast.app.instance import read_run
from standfast.app.plane import ControlPlane
from standfast.app.reporters import LineReporter
from standfast.app.up import run_up
from standfast.facts.model import Broken
from standfast.services.adapters.lives import LIVES_NAME, all_lives

SEED = int(os.environ.get("STANDFAST_SEED", "20"))

STUBBORN = """
[[services]]
name = "stubborn"
command = ["{{python}}", "stubborn.py"]
stop_timeout_s = {stop_s}
"""

STUBBORN_PROGRAM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open('hidden', 'w').write(str(os.getpid()))
while True: time.sleep(0.1)
"""

Start = Callable[..., Up]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Up] = []

    def begin(folder: Path, *arguments: str, told: int = -1) -> Up:
        started.append(Up(folder, *arguments, told=told))
        return started[-1]

    yield begin
    for up in started:
        up.clean_up()


def stubborn_config(folder: Path, *, stop_s: int = 30) -> Path:
    small_config(folder, more=STUBBORN.format(stop_s=stop_s))
    (folder / "stubborn.py").write_text(STUBBORN_PROGRAM)
    return folder


def published(up: Up) -> bool:
    return " published: the weights of round " in up.text()


def settled(up: Up) -> bool:
    """Whether a round has gone all the way; one in which everybody only guesses is withheld."""
    return published(up) or " withheld: " in up.text()


def cut_short(up: Up) -> int:
    """Stop it in two steps, as one does who will not wait; return the exit code."""
    up.signal(signal.SIGINT)
    up.until_told("stopping")
    up.signal(signal.SIGINT)
    return up.ended()


def store_is_sound(folder: Path) -> int:
    """Open the store as the next start would; return the number of facts that were verified."""
    plane = ControlPlane.open(load_config(folder))
    try:
        verified = plane.database.read_now(plane.facts.verify)
        assert not isinstance(verified, Broken), verified
        return verified.count
    finally:
        plane.close()


def test_up_publishes_and_down_ends_all_of_it(tmp_path: Path, start: Start) -> None:
    up = start(small_config(tmp_path, policies=("generalist", "random")))
    run = up.until_up()
    wait_until(lambda: published(up), within_s=40.0)
    assert (up.data_dir / "token").stat().st_mode & 0o777 == 0o600
    assert (up.data_dir / "executors" / "token").stat().st_mode & 0o777 == 0o600
    wait_until(lambda: {c.name for c in up.run().children} >= {"miner-1", "executor-1"})
    assert json_of(command(tmp_path, "status", "--json"))["data"]["verdict"] == "PASS"
    down = command(tmp_path, "down")
    assert down.returncode == 0, down.stderr
    assert up.ended(within_s=5.0) == 0
    assert nothing_lives(up)
    assert read_run(up.data_dir) is None
    assert not lives(run.process.pid)
    assert store_is_sound(tmp_path) > 2


def test_down_where_nothing_runs_is_no_failure(tmp_path: Path) -> None:
    assert command(small_config(tmp_path), "down").returncode == 0


@pytest.mark.parametrize("number", range(5))
def test_a_ctrl_c_at_any_moment_ends_everything_and_loses_nothing(
    tmp_path: Path, start: Start, number: int
) -> None:
    wait_s = random.Random(f"{SEED}/{number}").uniform(0.3, 7.0)
    sys.stdout.write(f"seed {SEED}, try {number}: SIGINT after {wait_s:.2f} s\n")
    up = start(small_config(tmp_path))
    time.sleep(wait_s)
    assert up.popen.poll() is None, up.text()
    has_begun = "preflight" in up.text()
    # As a terminal does it: everything in the foreground gets it.
    os.killpg(up.popen.pid, signal.SIGINT)
    code = up.ended(within_s=25.0)
    # In the first moments Python itself is still starting, and a Ctrl-C is its own.
    assert code in ((0,) if has_begun else (0, 130, -signal.SIGINT, 1)), up.text()
    assert nothing_lives(up)
    if has_begun:
        assert read_run(up.data_dir) is None
    store_is_sound(tmp_path)


def test_a_second_ctrl_c_is_faster(tmp_path: Path, start: Start) -> None:
    up = start(stubborn_config(tmp_path))
    wait_until(lambda: pid_in(tmp_path / "hidden"), within_s=40.0)
    up.signal(signal.SIGINT)
    up.until_told("stopping")
    time.sleep(1.0)
    assert up.popen.poll() is None, "the stubborn one has 30 s"
    asked = time.monotonic()
    up.signal(signal.SIGINT)
    assert up.ended() == 130
    assert time.monotonic() - asked < 10.0
    assert nothing_lives(up)


def test_a_second_up_is_refused_and_names_the_first(tmp_path: Path, start: Start) -> None:
    first = start(small_config(tmp_path))
    run = first.until_up()
    second = start(tmp_path)
    assert second.ended() == 6
    assert f"process {run.process.pid}" in second.text()
    assert first.popen.poll() is None
    assert first.ask("/status")["name"] == "small"
    assert first.stop() == 0


def test_a_port_in_use_is_refused_and_names_who_has_it(tmp_path: Path, start: Start) -> None:
    small_config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        up = start(tmp_path, "--port", str(port))
        assert up.ended() == 5
    assert f"pid {os.getpid()}" in up.text()
    assert nothing_lives(up)


def pids(up: Up) -> dict[str, int]:
    """Return the process of each service of an instance that runs or was killed."""
    return {life.name: life.child.pid for life in all_lives(up.data_dir / LIVES_NAME)}


def test_after_a_kill_nine_everything_goes_on_and_the_next_up_takes_it_back(
    tmp_path: Path, start: Start
) -> None:
    # At the same address, or executors would be declared otherwise and be restarted in order.
    port = str(free_ports(1)[0])
    first = start(stubborn_config(tmp_path), "--port", port)
    wait_until(lambda: pid_in(tmp_path / "hidden"), within_s=40.0)
    wait_until(lambda: settled(first), within_s=40.0)
    before = pids(first)
    assert set(before) == {"miner-1", "executor-1", "stubborn"}
    first.popen.kill()
    assert first.popen.wait() == -signal.SIGKILL
    time.sleep(0.5)
    assert all(lives(pid) for pid in (*before.values(), pid_in(tmp_path / "hidden")))
    assert command(tmp_path, "status").returncode == 7
    second = start(tmp_path, "--port", port)
    second.until_told("was killed")
    second.until_up()
    wait_until(lambda: settled(second), within_s=40.0, what="rounds go on")
    assert pids(second) == before, "nothing was started twice, nothing ended"
    assert cut_short(second) == 130
    assert nothing_lives(second)
    assert not lives(pid_in(tmp_path / "hidden"))


def test_at_another_address_only_the_executors_begin_anew(tmp_path: Path, start: Start) -> None:
    first = start(small_config(tmp_path))
    wait_until(lambda: settled(first), within_s=40.0)
    before = pids(first)
    first.popen.kill()
    first.popen.wait()
    second = start(tmp_path)
    second.until_up()
    # The executor of the old address drains first.
    wait_until(lambda: not lives(before["executor-1"]), within_s=40.0)
    wait_until(lambda: pids(second).get("executor-1") not in (None, before["executor-1"]), within_s=20.0)
    assert pids(second)["miner-1"] == before["miner-1"]
    assert second.stop() == 0
    assert nothing_lives(second)


def test_down_after_a_kill_nine_ends_what_was_left(tmp_path: Path, start: Start) -> None:
    up = start(stubborn_config(tmp_path, stop_s=1))
    wait_until(lambda: pid_in(tmp_path / "hidden"), within_s=40.0)
    up.popen.kill()
    up.popen.wait()
    down = command(tmp_path, "down", "--json")
    assert (down.returncode, json_of(down)["data"]["ended"]) == (0, "was_gone"), down.stderr
    assert nothing_lives(up)
    assert read_run(up.data_dir) is None


def test_a_record_that_is_garbage_keeps_nobody_from_starting(tmp_path: Path, start: Start) -> None:
    small_config(tmp_path)
    (tmp_path / ".standfast").mkdir()
    (tmp_path / ".standfast" / "run.json").write_bytes(b'{"instance": \x00')
    up = start(tmp_path)
    up.until_up()
    assert "could not be read" in up.text()
    assert up.stop() == 0


def test_two_starts_at_once_are_one(tmp_path: Path, start: Start) -> None:
    both = [start(small_config(tmp_path)), start(tmp_path)]
    wait_until(lambda: any(up.popen.poll() is not None for up in both), within_s=40.0)
    loser, winner = sorted(both, key=lambda up: up.popen.poll() is None)
    assert loser.popen.returncode == 6, loser.text()
    winner.until_up()
    assert winner.stop() == 0


def test_a_terminal_that_goes_away_ends_it_in_order(tmp_path: Path, start: Start) -> None:
    up = start(small_config(tmp_path))
    up.until_up()
    up.signal(signal.SIGHUP)
    assert up.ended() == 0
    assert nothing_lives(up)


def test_a_reader_that_goes_away_does_not_end_it(tmp_path: Path, start: Start) -> None:
    reader, writer = os.pipe()
    up = start(small_config(tmp_path), told=writer)
    os.close(writer)
    os.close(reader)
    up.until_up()
    wait_until(lambda: up.ask("/rounds")["rounds"], within_s=20.0)
    assert up.stop() == 0
    assert nothing_lives(up)


async def dying_api(*_: Any, **__: Any) -> None:
    """Serve nothing, and end."""
    await asyncio.sleep(0.5)
    raise RuntimeError("the API has a bug")


def test_a_part_that_dies_ends_the_whole_with_seventy(tmp_path: Path) -> None:
    config = load_config(small_config(tmp_path))
    told = tmp_path / "told.txt"
    with told.open("w") as stream:
        code = asyncio.run(run_up(config, serve_api=dying_api, reporter=LineReporter(stream)))
    assert code == 70
    assert "api ended without having been asked to by RuntimeError" in told.read_text()
    assert "the API has a bug" in (config.data_dir / "logs" / "standfast.log").read_text()
