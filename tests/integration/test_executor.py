"""A real executor process against a real API: nothing finished is lost, nothing is run twice in vain (K6)."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api_lab import config_of, plane_of, serving
from broken_servers import BEHAVIOURS, black_hole, broken, unused_port
from standfast.app.plane import ControlPlane

PROGRAM = Path(__file__).resolve().parent.parent / "executor_program.py"


class Started:
    """One executor process of a test."""

    def __init__(self, folder: Path, url: str, token: str, **options: Any) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        words = [sys.executable, str(PROGRAM), "--url", url, "--token", token, "--spool", str(self.spool)]
        lifeline = options.pop("lifeline_fd", None)
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        if lifeline is not None:
            words += ["--lifeline-fd", str(lifeline)]
        self.errors = (folder / "stderr").open("ab")
        self.process = subprocess.Popen(
            words, stderr=self.errors, stdout=self.errors, pass_fds=[lifeline] if lifeline is not None else []
        )

    @property
    def spooled(self) -> int:
        return len(list(self.spool.glob("*.report")))

    def diary(self, word: str) -> list[Any]:
        path = self.folder / "diary"
        lines = path.read_text().splitlines() if path.exists() else []
        return [rest for said, *rest in map(json.loads, lines) if said == word]

    def log(self) -> str:
        return (self.folder / "stderr").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self, within_s: float = 20.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)


@contextlib.contextmanager
def executor(folder: Path, url: str, token: str, **options: Any) -> Iterator[Started]:
    folder.mkdir(parents=True, exist_ok=True)
    started = Started(folder, url, token, **options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.kill()
        started.errors.close()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    opened = plane_of(config_of(tmp_path / "instance", subjects=2, episodes=20, ttl_s=20.0))
    yield opened
    opened.close()


def until(holds: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def counts(plane: ControlPlane) -> dict[str, int]:
    """Return the counts of the newest round, and how often its attempts ended in which state."""

    def look(tx: Any) -> dict[str, int]:
        newest = plane.rounds.newest(tx, 1)
        if not newest:
            return {"total": 0, "succeeded": 0, "running": 0}
        attempts: dict[str, int] = {}
        for state, _, number in plane.tasks.attempt_counts(tx, newest[0].plan.batch):
            attempts[state] = attempts.get(state, 0) + number
        return {
            **plane.rounds.counts(tx, newest[0]).as_dict(),
            **{f"attempts_{k}": v for k, v in attempts.items()},
        }

    return plane.database.read_now(look)


def test_k6_every_episode_is_run_once_and_counted_once(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served:
        token = served.tokens["execute"]
        with (
            executor(tmp_path / "a", served.url, token, name="e1") as one,
            executor(tmp_path / "b", served.url, token, name="e2") as two,
        ):
            until(lambda: counts(plane)["total"] > 0 and counts(plane)["succeeded"] == 40, "all done")
            assert counts(plane)["attempts_result"] == 40
            assert len(one.diary("finished")) + len(two.diary("finished")) == 40
            assert (one.end(), two.end()) == (0, 0)
            assert (one.spooled, two.spooled) == (0, 0)
    assert token not in one.log() + two.log()


def test_k6_results_finished_while_the_api_is_gone_outlive_a_killed_executor(
    tmp_path: Path, plane: ControlPlane
) -> None:
    port = unused_port()
    with serving(plane, with_scheduler=True, port=port) as served:
        url, token = served.url, served.tokens["execute"]
        one = Started(make(tmp_path / "a"), url, token, seconds=2.0)
        until(lambda: counts(plane)["running"] == 4, "leases are held")
    try:
        until(lambda: one.spooled == 4, "four reports on disk while nobody answers")
    finally:
        one.kill()
        one.errors.close()
    assert counts(plane)["succeeded"] == 0
    with (
        serving(plane, with_scheduler=True, port=port) as served,
        executor(tmp_path / "a", url, served.tokens["execute"], seconds=60.0) as two,
    ):
        until(lambda: two.spooled == 0, "the new life delivers what the old one left")
        until(lambda: counts(plane)["succeeded"] == 4, "they count")
        assert len(one.diary("finished")) == 4
        until(lambda: counts(plane)["running"] == 4, "only then new work is taken")
        seen = counts(plane)
    assert (seen["attempts_result"], seen.get("attempts_expired", 0)) == (4, 0), seen


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_k6_an_executor_outlives_an_api_that_comes_and_goes(tmp_path: Path, plane: ControlPlane) -> None:
    port = unused_port()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            with serving(plane, with_scheduler=True, port=port) as served:
                if not stack._exit_callbacks:  # type: ignore[attr-defined]
                    one = stack.enter_context(
                        executor(tmp_path / "a", served.url, served.tokens["execute"], seconds=0.2)
                    )
                    token = served.tokens["execute"]
                else:
                    keep_token(plane, token)
                before = counts(plane)["succeeded"]
                until(lambda before=before: counts(plane)["succeeded"] > before, "work goes on")  # type: ignore[misc]
            time.sleep(0.5)
        with serving(plane, with_scheduler=True, port=port):
            keep_token(plane, token)
            until(lambda: counts(plane)["succeeded"] == 40, "all done", 40)
            assert len(one.diary("finished")) == 40
            assert counts(plane)["attempts_result"] == 40
            assert one.end() == 0


def keep_token(plane: ControlPlane, token: str) -> None:
    """Give the test's token its old value back: each ``serving`` makes new ones."""
    from standfast.app.tokens import token_sha256

    row = {"sha": token_sha256(token)}
    statement = "UPDATE api_token SET sha256 = :sha WHERE name = 'test-execute'"
    plane.database.write_now(lambda tx: tx.rows(statement, row))


@pytest.mark.parametrize(
    "name", ["refuses", "black hole", "silent", "drips body", "500 html", "200 html", "503"]
)
def test_k6_an_executor_survives_a_broken_api_keeps_its_spool_and_ends_when_told(
    tmp_path: Path, name: str
) -> None:
    with contextlib.ExitStack() as stack:
        if name == "refuses":
            url = f"http://127.0.0.1:{unused_port()}"
        elif name == "black hole":
            url = stack.enter_context(black_hole())
        else:
            url = stack.enter_context(broken(BEHAVIOURS[name][0]))
        folder = make(tmp_path / "a")
        leave_report(folder / "spool")
        one = stack.enter_context(executor(folder, url, "sf_" + "x" * 43))
        until(lambda: "executor_failing" in one.log(), "it says that it fails")
        time.sleep(0.5)
        assert one.process.poll() is None
        started = time.monotonic()
        assert one.end() == 0
        assert time.monotonic() - started < 5.0
        assert one.spooled == 1
        assert "sf_xxx" not in one.log()


def leave_report(folder: Path) -> None:
    from standfast.app.spool import Spool

    spool = Spool(folder)
    spool.append({"task_id": "0" * 16, "token": 1, "success": True})
    spool.close()


@pytest.mark.parametrize("name", ["401", "403"])
def test_k6_a_refused_token_ends_the_start_with_exit_4_and_keeps_the_spool(tmp_path: Path, name: str) -> None:
    for has_spool in (False, True):
        folder = make(tmp_path / str(has_spool))
        if has_spool:
            leave_report(folder / "spool")
        with broken(BEHAVIOURS[name][0]) as url, executor(folder, url, "sf_" + "x" * 43) as one:
            assert one.process.wait(15) == 4
            assert one.spooled == int(has_spool)


def test_two_executors_of_one_name_on_one_disk_are_refused(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served:
        token = served.tokens["execute"]
        with executor(tmp_path / "a", served.url, token, seconds=30.0) as one:
            until(lambda: counts(plane)["running"] == 4, "it works")
            second = Started(tmp_path / "a", served.url, token)
            assert second.process.wait(15) == 6
            second.errors.close()
            assert f"process {one.process.pid}" in one.log()
            assert counts(plane)["running"] == 4


def test_k15_sigterm_drains_finishing_what_is_short(tmp_path: Path, plane: ControlPlane) -> None:
    with (
        serving(plane, with_scheduler=True) as served,
        executor(tmp_path / "a", served.url, served.tokens["execute"], seconds=1.0, drain_s=5.0) as one,
    ):
        until(lambda: counts(plane)["running"] == 4, "leases are held")
        assert one.end() == 0
        assert (counts(plane)["succeeded"], counts(plane)["running"]) == (4, 0)
        assert one.diary("cancelled") == []


def test_k15_sigterm_gives_back_what_is_long_without_counting_an_attempt(
    tmp_path: Path, plane: ControlPlane
) -> None:
    with (
        serving(plane, with_scheduler=True) as served,
        executor(tmp_path / "a", served.url, served.tokens["execute"], seconds=60.0, drain_s=0.3) as one,
    ):
        until(lambda: counts(plane)["running"] == 4, "leases are held")
        started = time.monotonic()
        assert one.end() == 0
        assert time.monotonic() - started < 5.0
        seen = counts(plane)
        assert (seen["running"], seen["attempts_released"]) == (0, 4)
        assert len(one.diary("cancelled")) == 4
        attempts = plane.database.read_now(lambda tx: tx.rows("SELECT max(attempts) FROM tracking"))
        assert attempts == [(0,)]


def test_a_lifeline_that_ends_drains_too(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served:
        reading, writing = os.pipe()
        options = {"seconds": 60.0, "drain_s": 0.3, "lifeline_fd": reading}
        with executor(tmp_path / "a", served.url, served.tokens["execute"], **options) as one:
            os.close(reading)
            until(lambda: counts(plane)["running"] == 4, "leases are held")
            os.close(writing)
            assert one.process.wait(15) == 0
            assert counts(plane)["running"] == 0


def test_k15_an_episode_whose_lease_is_taken_away_is_stopped(tmp_path: Path, plane: ControlPlane) -> None:
    with (
        serving(plane, with_scheduler=True) as served,
        served.client() as client,
        executor(tmp_path / "a", served.url, served.tokens["execute"], seconds=60.0) as one,
    ):
        until(lambda: counts(plane)["running"] == 4, "leases are held")
        client.post("/executors/e1/cordon").raise_for_status()
        task = client.get("/tasks", params={"state": "leased"}).json()["tasks"][0]
        client.post(f"/tasks/{task['task_id']}/requeue").raise_for_status()
        until(lambda: len(one.diary("cancelled")) == 1, "the episode is stopped", 5.0)
        info = client.get("/executors").json()["executors"][0]["info"]
        until(lambda: counts(plane)["running"] == 3, "the others go on")
        assert info["capacity"] == 4


def test_k15_heartbeats_keep_leases_alive_beyond_their_ttl(tmp_path: Path) -> None:
    config = config_of(tmp_path / "short", subjects=1, episodes=4, ttl_s=3.0, heartbeat_s=0.5, silent_s=2.0)
    plane = plane_of(config)
    with (
        serving(plane, with_scheduler=True) as served,
        executor(tmp_path / "a", served.url, served.tokens["execute"], seconds=8.0) as one,
    ):
        until(lambda: counts(plane)["total"] == 4 and counts(plane)["succeeded"] == 4, "done", 25)
        assert counts(plane) == {**counts(plane), "attempts_result": 4}
        assert "attempts_expired" not in counts(plane)
        assert one.diary("cancelled") == []
    plane.close()


def test_k15_a_stopped_executor_loses_its_leases_and_its_late_results_do_not_count(tmp_path: Path) -> None:
    config = config_of(tmp_path / "short", subjects=1, episodes=4, ttl_s=3.0, heartbeat_s=0.5, silent_s=2.0)
    plane = plane_of(config)
    with serving(plane, with_scheduler=True) as served, served.client() as client:
        token = served.tokens["execute"]
        with executor(tmp_path / "a", served.url, token, seconds=1.5) as one:
            until(lambda: counts(plane)["running"] == 4, "leases are held")
            one.process.send_signal(signal.SIGSTOP)
            until(lambda: counts(plane).get("attempts_expired", 0) == 4, "the leases run out", 15)
            with executor(tmp_path / "b", served.url, token, name="e2", seconds=0.1):
                until(lambda: counts(plane)["succeeded"] == 4, "another does the work")
                one.process.send_signal(signal.SIGCONT)
                until(
                    lambda: one.spooled == 0 and len(one.diary("finished")) == 4,
                    "its late results are answered",
                )
                time.sleep(1.0)
        done = client.get("/tasks", params={"state": "done", "round": "1"}).json()["tasks"]
        views = [client.get(f"/tasks/{task['task_id']}").json() for task in done]
    assert {task["holder"] for task in done} <= {"e2", None}
    assert [len([a for a in view["history"] if a["state"] == "result"]) for view in views] == [1, 1, 1, 1]
    plane.close()


def test_k6_a_full_disk_stops_new_work_says_so_and_loses_nothing(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served, served.client() as client:
        options = {"seconds": 0.3, "largest_file": 100}
        with executor(tmp_path / "a", served.url, served.tokens["execute"], **options) as one:
            until(lambda: counts(plane)["succeeded"] == 4, "what was finished is delivered from memory")
            until(lambda: "SpoolDiskFull" in said(client)["last_error"], "it says so", 10)
            time.sleep(1.0)
            assert counts(plane)["succeeded"] == 4, "no more work is taken"
            findings = client.get("/status").json()["findings"]
            assert any(
                f["reason"] == "ExecutorTroubled" and "SpoolDiskFull" in f["message"] for f in findings
            )
            _, hard = resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (10**9, hard))
            until(lambda: counts(plane)["succeeded"] > 4, "it goes on by itself")
            until(lambda: said(client)["last_error"] == "", "and says so", 10)


def said(client: Any) -> dict[str, Any]:
    return dict(client.get("/executors").json()["executors"][0]["info"])


def test_k2_a_subject_that_refuses_is_charged_while_we_are_well(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served:
        token = served.tokens["execute"]
        with executor(tmp_path / "e", served.url, token, blames=1) as started:
            until(lambda: counts(plane)["succeeded"] >= 5, "refusals are scored")
            assert started.end() == 0


def test_i6_a_subject_that_refuses_while_we_drain_is_not_charged(tmp_path: Path, plane: ControlPlane) -> None:
    with serving(plane, with_scheduler=True) as served:
        token = served.tokens["execute"]
        with executor(tmp_path / "e", served.url, token, blames=1, seconds=1.0, drain_s=5.0) as started:
            until(lambda: len(started.diary("started")) >= 4, "episodes run")
            assert started.end() == 0
            assert len(started.diary("finished")) >= 4, "they ended while the executor drained"
        assert counts(plane)["succeeded"] == 0
        assert counts(plane)["attempts_released"] >= 4
