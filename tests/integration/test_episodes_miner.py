"""The blueprint's miner as a real process, played by real episodes of the built-in environments (K19)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from blueprint_programs import blueprint_file
from episode_lab import eventually
from standfast.evaluation.environments import Catalogue
from standfast.evaluation.episode import EpisodeRunner, classify
from standfast.evaluation.model import EpisodeLimits, EpisodeReport, EpisodeSpec, Fault, OutcomeClass

LIMITS = EpisodeLimits(timeout_s=30.0, reset_s=5.0, act_s=1.0, subject_budget_s=20.0)


@dataclass(slots=True)
class Miner:
    process: subprocess.Popen[bytes]
    url: str

    def get(self, path: str) -> dict[str, object]:
        with urllib.request.urlopen(self.url + path, timeout=2) as reply:
            return dict(json.load(reply))

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the miner ended"
        try:
            return self.get("/health")["status"] == "healthy"
        except OSError:
            return False

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(self.url + path, data=body, timeout=2) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@contextlib.contextmanager
def mining(policy: str) -> Iterator[Miner]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(blueprint_file("evaluation/miner.py")), "--policy", policy, "--seed", "1"]
    with subprocess.Popen([*command, "--port", str(port)]) as process:
        miner = Miner(process, f"http://127.0.0.1:{port}")
        try:
            assert eventually(miner.is_ready, within_s=20)
            yield miner
        finally:
            process.kill()


def play(url: str, environments: tuple[str, ...], *, episodes: int) -> list[EpisodeReport]:
    specs = [EpisodeSpec(name, 50 + k, 31 * k, url, LIMITS) for name in environments for k in range(episodes)]

    async def run() -> list[EpisodeReport]:
        async with EpisodeRunner(Catalogue(), concurrency=2) as runner:
            return list(await asyncio.gather(*(runner.run(spec) for spec in specs)))

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _engines() -> None:
    pytest.importorskip("mujoco")


def test_k19_the_generalist_wins_in_every_environment() -> None:
    with mining("generalist") as miner:
        reports = play(miner.url, Catalogue().ids, episodes=3)
        assert miner.get("/health")["episodes"] == len(reports)
    assert not [report for report in reports if report.fault]
    assert Counter(map(classify, reports))[OutcomeClass.WON] >= 0.9 * len(reports)


def test_k19_guessing_loses_without_an_error() -> None:
    with mining("random") as miner:
        reports = play(miner.url, ("classic/cartpole", "mujoco/inverted-pendulum"), episodes=3)
    assert [classify(report) for report in reports] == [OutcomeClass.LOST] * 6


def test_k2_what_flaky_does_is_charged_to_flaky() -> None:
    with mining("flaky") as miner:
        reports = play(miner.url, ("mujoco/reacher",), episodes=12)
    codes = Counter(report.error_code for report in reports)
    assert set(codes) == {"", "SubjectTimeout", "SubjectStatus"}
    assert {report.fault for report in reports} == {None, Fault.SUBJECT}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_miner_leaves_cleanly(number: signal.Signals) -> None:
    with mining("generalist") as miner:
        asked_at = time.monotonic()
        miner.process.send_signal(number)
        assert miner.process.wait(10) == 0
        assert time.monotonic() - asked_at < 5


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/reset", b"no json"),
        ("/reset", b"[]"),
        ("/reset", b'{"task_config": {}}'),
        ("/reset", b'{"task_config": {"env_id": "x"}, "action_space": {"kind": "?"}}'),
        ("/act", b'{"obs": {"proprio": {"state": [0]}}, "episode_id": "unknown"}'),
        ("/act", b"{}"),
    ],
)
def test_a_miner_answers_a_wrong_request_with_400_and_a_reason(shared: Miner, path: str, body: bytes) -> None:
    status, reply = shared.post(path, body)
    assert status == 400
    assert reply["error"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Miner]:
    with mining("generalist") as miner:
        yield miner
