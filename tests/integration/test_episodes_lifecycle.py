"""Executors and fork servers that die, stop or hang: nothing survives, nothing is scored (I6, R5, R6)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bad_environments import FOLDER, bad_catalogue, notes
from bad_subjects import is_slow, serving
from episode_lab import QUICK, Lab, episode, eventually, is_dead, is_gone, lab_in
from standfast.evaluation.episode import EpisodeRunner, classify
from standfast.evaluation.model import EpisodeReport, Fault, OutcomeClass
from standfast.kernel.errors import ConfigError

TESTS = Path(__file__).resolve().parent.parent

#: An executor that starts a hanging episode and waits; it finds its subject's address in argv.
EXECUTOR = """
import asyncio, sys
from bad_environments import bad_catalogue
from episode_lab import episode
from standfast.evaluation.episode import EpisodeRunner

async def main():
    runner = EpisodeRunner(bad_catalogue(), concurrency=1, preload=())
    await runner.start()
    print(runner._forks._process.pid, flush=True)
    await runner.run(episode("bad/spawns-and-hangs", sys.argv[1]))

asyncio.run(main())
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as opened:
        yield opened


def server_pid(runner: EpisodeRunner) -> int:
    process = runner._forks._process
    assert process is not None
    return int(process.pid)


async def one_pid(runner: EpisodeRunner) -> int:
    while not runner.pids:
        await asyncio.sleep(0.005)
    return runner.pids[0]


def test_r5_nothing_survives_an_executor_that_is_killed(tmp_path: Path) -> None:
    async def run() -> tuple[int, list[int]]:
        async with serving() as subject:
            environment = {**os.environ, FOLDER: str(tmp_path), "PYTHONPATH": str(TESTS)}
            executor = await asyncio.create_subprocess_exec(
                sys.executable, "-c", EXECUTOR, subject.url, stdout=subprocess.PIPE, env=environment
            )
            assert executor.stdout is not None
            server = int(await executor.stdout.readline())
            while len(notes(tmp_path, "bad/spawns-and-hangs")) < 2:
                await asyncio.sleep(0.02)
            executor.kill()
            await executor.wait()
            return server, [int(pid) for pid in notes(tmp_path, "bad/spawns-and-hangs")]

    server, (own, child) = asyncio.run(run())
    for name, pid in (("fork server", server), ("episode", own), ("its child", child)):
        assert eventually(lambda pid=pid: is_dead(pid), within_s=2), f"the {name} survived"


def test_i6_a_killed_fork_server_kills_its_episodes_and_is_replaced(lab: Lab) -> None:
    async def run() -> tuple[EpisodeReport, int, EpisodeReport]:
        async with serving() as subject:
            running = asyncio.create_task(lab.runner.run(episode("bad/spins", subject.url)))
            pid = await one_pid(lab.runner)
            os.kill(server_pid(lab.runner), signal.SIGKILL)
            report = await running
            return report, pid, await lab.runner.run(episode("bad/none", subject.url))

    report, pid, following = lab.call(run())
    assert (report.error_code, report.fault) == ("ForkServerLost", Fault.INFRASTRUCTURE)
    assert eventually(lambda: is_dead(pid), within_s=1)
    assert classify(following) is OutcomeClass.WON


def test_i6_a_fork_server_that_is_stuck_is_given_up(lab: Lab) -> None:
    limits = replace(QUICK, timeout_s=1.0, subject_budget_s=1.0)

    async def run() -> tuple[EpisodeReport, int, EpisodeReport]:
        async with serving() as subject:
            running = asyncio.create_task(lab.runner.run(episode("bad/spins", subject.url, limits)))
            pid = await one_pid(lab.runner)
            os.kill(server_pid(lab.runner), signal.SIGSTOP)
            report = await running
            return report, pid, await lab.runner.run(episode("bad/none", subject.url))

    report, pid, following = lab.call(run())
    assert (report.error_code, report.fault) == ("ForkServerLost", Fault.INFRASTRUCTURE)
    assert eventually(lambda: is_dead(pid), within_s=1)
    assert report.duration_s < 8
    assert classify(following) is OutcomeClass.WON


def test_i6_a_subject_is_not_charged_for_a_time_in_which_its_episode_was_stopped(lab: Lab) -> None:
    async def run() -> tuple[EpisodeReport, int]:
        async with serving(is_slow(0.2)) as subject:
            running = asyncio.create_task(lab.runner.run(episode("bad/none", subject.url)))
            pid = await one_pid(lab.runner)
            while not subject.acts:
                await asyncio.sleep(0.005)
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.0)
            os.kill(pid, signal.SIGCONT)
            return await running, subject.acts

    report, acts = lab.call(run())
    assert acts == 1, "the episode was not stopped in its first step"
    assert (report.error_code, report.fault) == ("ExecutorStarved", Fault.INFRASTRUCTURE), report.error


def test_close_kills_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    async def run() -> tuple[EpisodeReport, EpisodeReport, int, int, float]:
        runner = EpisodeRunner(bad_catalogue(), concurrency=2, preload=())
        async with serving() as subject:
            running = asyncio.create_task(runner.run(episode("bad/spins", subject.url)))
            pid = await one_pid(runner)
            server = server_pid(runner)
            asked_at = time.monotonic()
            await runner.close()
            took_s = time.monotonic() - asked_at
            assert is_gone(pid)
            assert is_gone(server)
            late = await runner.run(episode("bad/none", subject.url))
            return await running, late, pid, server, took_s

    os.environ[FOLDER] = str(tmp_path)
    try:
        report, late, _, _, took_s = asyncio.run(run())
    finally:
        del os.environ[FOLDER]
    assert took_s < 2
    for ended in (report, late):
        assert (ended.error_code, ended.fault) == ("ExecutorStopped", Fault.INFRASTRUCTURE)


def test_i6_a_fork_server_that_cannot_start_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    async def run() -> EpisodeReport:
        runner = EpisodeRunner(bad_catalogue(), concurrency=1, preload=())
        try:
            return await runner.run(episode("bad/none", "http://127.0.0.1:1"))
        finally:
            await runner.close()

    report = asyncio.run(run())
    assert (report.error_code, report.fault) == ("ForkServerLost", Fault.INFRASTRUCTURE)
    assert "/nonexistent/python" in report.error


def test_a_module_that_cannot_be_preloaded_does_not_stop_the_others(tmp_path: Path) -> None:
    async def run() -> EpisodeReport:
        runner = EpisodeRunner(bad_catalogue(), concurrency=1, preload=("no_such_module",))
        async with serving() as subject, runner:
            return await runner.run(episode("bad/none", subject.url))

    assert asyncio.run(run()).success


def test_an_episode_stands_where_it_cannot_leave_files(lab: Lab) -> None:
    folder = Path(f"/proc/{server_pid(lab.runner)}/cwd")
    with pytest.raises(OSError, match="litter"):
        (folder / "litter").write_text("x")


def test_a_runner_without_places_is_refused() -> None:
    with pytest.raises(ConfigError):
        EpisodeRunner(bad_catalogue(), concurrency=0)
