"""Environments that hang, die, raise or return nonsense, in real processes (K2, K4, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bad_subjects import GOOD, serving
from episode_lab import QUICK, Lab, episode, eventually, is_dead, is_gone, lab_in, timed
from standfast.evaluation.episode import classify
from standfast.evaluation.episode.child import Job
from standfast.evaluation.episode.rules import SubjectNetworks
from standfast.evaluation.episode.subject import CallLimits, SubjectAddress
from standfast.evaluation.model import EpisodeReport, Fault, OutcomeClass

#: Long enough that a tenth of it is more than a busy machine needs to deliver a signal.
TIMEOUT_S = 2.0
HANGING = replace(QUICK, timeout_s=TIMEOUT_S, subject_budget_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_in(tmp_path_factory.mktemp("notes")) as opened:
        yield opened


async def against_good(lab: Lab, environment: str) -> EpisodeReport:
    async with serving() as subject:
        return await lab.runner.run(episode(environment, subject.url))


def test_a_good_episode_is_won_and_counted(lab: Lab) -> None:
    report = lab.call(against_good(lab, "bad/none"))
    assert classify(report) is OutcomeClass.WON
    assert (report.steps, report.total_reward, report.score) == (5, 5.0, 1.0)
    assert 0 < report.subject_s < report.duration_s


def test_an_environment_that_never_ends_is_ended_and_lost(lab: Lab) -> None:
    report = lab.call(against_good(lab, "bad/never-over"))
    assert classify(report) is OutcomeClass.LOST
    assert report.steps == 20


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ("bad/killed", "EpisodeKilled", "SIGKILL"),
        ("bad/segfault", "EpisodeKilled", "SIGSEGV"),
        ("bad/aborts", "EpisodeKilled", "SIGABRT"),
        ("bad/exits", "EpisodeExited", "status 0"),
        ("bad/exits-3", "EpisodeExited", "status 3"),
        ("bad/raises", "EnvironmentRaised", "ValueError: the physics exploded in two lines at bad_env"),
        ("bad/raises-exit", "EnvironmentRaised", "SystemExit"),
        ("bad/raises-interrupt", "EnvironmentRaised", "KeyboardInterrupt"),
        ("bad/raises-when-made", "EnvironmentRaised", "no such scene second line [31m"),
        ("bad/nan", "EnvironmentNotFinite", "observation"),
        ("bad/nan-at-reset", "EnvironmentNotFinite", "observation"),
        ("bad/infinite", "EnvironmentNotFinite", "observation"),
        ("bad/nan-reward", "EnvironmentNotFinite", "reward"),
        ("bad/overflow", "EnvironmentNotFinite", "reward"),
        ("bad/short", "EnvironmentMalformed", "1 numbers, not 2"),
        ("bad/text", "EnvironmentMalformed", "list of 2"),
        ("bad/flags", "EnvironmentMalformed", "booleans"),
        ("bad/scribbles", "EpisodeGarbled", "checksum"),
    ],
)
def test_i6_what_an_environment_does_is_never_scored(
    lab: Lab, environment: str, code: str, words: str
) -> None:
    report = lab.call(against_good(lab, environment))
    assert lab.notes(environment), "the fault did not happen"
    assert report.error_code == code
    assert words in report.error
    assert report.fault is Fault.INFRASTRUCTURE
    assert classify(report) is OutcomeClass.INFRA_ERROR


@pytest.mark.parametrize("environment", ["bad/hangs-at-close", "bad/dies-at-close"])
def test_a_trouble_after_the_report_changes_nothing(lab: Lab, environment: str) -> None:
    report = lab.call(against_good(lab, environment))
    assert lab.notes(environment), "the fault did not happen"
    assert classify(report) is OutcomeClass.WON
    assert report.duration_s < 6


def test_an_environment_that_is_not_there_is_ours(lab: Lab) -> None:
    report = lab.call(against_good(lab, "bad/missing"))
    assert (report.error_code, report.fault) == ("EnvironmentMissing", Fault.INFRASTRUCTURE)
    report = lab.call(against_good(lab, "bad/nonne"))
    assert (report.error_code, report.fault) == ("EnvironmentUnknown", Fault.INFRASTRUCTURE)
    assert "bad/none" in report.error


def test_an_impossible_episode_is_ours(lab: Lab) -> None:
    spec = episode("bad/none", "http://127.0.0.1:1")
    no_time = replace(spec, limits=replace(QUICK, timeout_s=0.0))
    for wrong in (replace(spec, seed=-1), replace(spec, variant=10_000), no_time):
        report = lab.call(lab.runner.run(wrong))
        assert (report.error_code, report.fault) == ("SpecInvalid", Fault.INFRASTRUCTURE)


def test_k4_a_hanging_environment_ends_in_time_and_is_really_gone(lab: Lab) -> None:
    names = ["bad/spins", "bad/ignores-signals", "bad/blocks-in-c", "bad/hangs-when-made"]

    async def run_all() -> list[tuple[EpisodeReport, float]]:
        async with serving() as subject:
            specs = [episode(name, subject.url, HANGING) for name in names]
            return await asyncio.gather(*(timed(lab.runner, spec) for spec in specs))

    for name, (report, took_s) in zip(names, lab.call(run_all()), strict=True):
        (pid,) = lab.notes(name)
        assert is_gone(int(pid)), f"{name} still runs"
        assert (report.error_code, report.fault) == ("Timeout", Fault.INFRASTRUCTURE), report
        assert TIMEOUT_S <= took_s <= TIMEOUT_S * 1.1, f"{name} took {took_s:.3f} s"
        assert abs(report.duration_s - took_s) < 0.1
        assert classify(report) is OutcomeClass.INFRA_ERROR
    assert lab.runner.pids == ()


def test_k4_what_a_hanging_environment_has_started_is_gone_too(lab: Lab) -> None:
    limits = replace(HANGING, timeout_s=1.0, subject_budget_s=1.0, reset_s=0.9)

    async def run() -> EpisodeReport:
        async with serving() as subject:
            return await lab.runner.run(episode("bad/spawns-and-hangs", subject.url, limits))

    assert lab.call(run()).error_code == "Timeout"
    own, child = map(int, lab.notes("bad/spawns-and-hangs"))
    assert is_gone(own)
    assert eventually(lambda: is_dead(child), within_s=1)


def test_what_an_episode_leaves_behind_is_killed_when_none_runs(lab: Lab) -> None:
    report = lab.call(against_good(lab, "bad/leaves-a-daemon"))
    assert classify(report) is OutcomeClass.WON
    daemons = [int(pid) for pid in lab.notes("bad/leaves-a-daemon")]
    assert len(daemons) == 5
    assert eventually(lambda: all(is_gone(pid) for pid in daemons), within_s=2)


def test_k4_the_time_limit_is_not_forwarded_to_the_environment(lab: Lab) -> None:
    report = lab.call(against_good(lab, "bad/tells-its-arguments"))
    assert classify(report) is OutcomeClass.WON
    assert lab.notes("bad/tells-its-arguments") == ["seed,variant"]
    entry = next(iter(lab.runner._catalogue))
    address = SubjectAddress("http://x", SubjectNetworks.ANY)
    job = Job(entry, 1, 2, address, CallLimits(1, 1, 1, 1)).as_dict()
    assert "timeout" not in str(job)


def test_no_more_episodes_run_at_once_than_allowed(lab: Lab) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(lab.runner.pids))
            await asyncio.sleep(0.005)

    async def run_all() -> list[EpisodeReport]:
        async with serving(GOOD) as subject:
            watcher = asyncio.create_task(watch())
            reports = await asyncio.gather(
                *(lab.runner.run(episode("bad/slow", subject.url)) for _ in range(10))
            )
            watcher.cancel()
            return reports

    reports = lab.call(run_all())
    assert [classify(report) for report in reports] == [OutcomeClass.WON] * 10
    assert most == 4


def test_the_event_loop_never_waits_for_an_episode(lab: Lab) -> None:
    widest = 0.0

    async def tick() -> None:
        nonlocal widest
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            await asyncio.sleep(0.01)
            widest = max(widest, loop.time() - asked_at - 0.01)

    async def run_all() -> None:
        async with serving() as subject:
            ticker = asyncio.create_task(tick())
            limits = replace(HANGING, timeout_s=1.0, subject_budget_s=1.0, reset_s=0.9)
            await asyncio.gather(
                lab.runner.run(episode("bad/blocks-in-c", subject.url, limits)),
                *(lab.runner.run(episode("bad/killed", subject.url)) for _ in range(3)),
            )
            ticker.cancel()

    lab.call(run_all())
    assert widest < 0.25


def test_a_cancelled_episode_is_killed_before_the_caller_goes_on(lab: Lab) -> None:
    async def cancel_one() -> bool:
        async with serving() as subject:
            running = asyncio.create_task(lab.runner.run(episode("bad/spins", subject.url)))
            while not lab.runner.pids:
                await asyncio.sleep(0.01)
            (pid,) = lab.runner.pids
            await asyncio.sleep(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return is_gone(pid)

    assert lab.call(cancel_one())
    assert lab.runner.pids == ()
