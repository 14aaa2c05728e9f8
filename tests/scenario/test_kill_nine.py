"""A kill -9 of any process at any moment of a running instance: no acknowledged result is lost or doubled.

STANDFAST_KILLS is how many kills (20), STANDFAST_SEED which ones; a failing seed is replayed by

    STANDFAST_SEED=... pytest tests/scenario/test_kill_nine.py
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.instances import Up, free_ports, nothing_lives, small_config
from integration.processes import wait_until
from scenario.recording import Recorder
from standfast.app.verify import verify_evidence
from standfast.kernel.verdict import Verdict
from standfast.services.adapters import procfs
from standfast.services.model import Identity

KILLS = int(os.environ.get("STANDFAST_KILLS", "20"))
SEED = int(os.environ.get("STANDFAST_SEED", str(random.SystemRandom().randrange(10**6))))

#: Executors of the real program that speak to the API through the recorder.
EXECUTOR = """
[[services]]
name = "executor-{number}"
command = [
  "{{python}}", "-m", "standfast.cli", "executor", "--name", "executor-{number}",
  "--url", "http://127.0.0.1:{port}", "--token-file", "{data_dir}/executors/token",
  "--config", "{{blueprint}}", "--data-dir", "{data_dir}",
]
restart = {{ backoff_s = 0.2, cap_s = 1.0 }}
stop_timeout_s = 15
"""

#: How often each kind of process is chosen; ``all`` is everything of the instance at once.
WEIGHTS = {"main": 7, "executor": 4, "fork server": 2, "episode": 4, "miner": 3, "shim": 3, "all": 2}


class Network:
    """An instance under attack, started again whenever it is gone."""

    def __init__(self, folder: Path, recorder_port: int, api_port: int) -> None:
        data_dir = folder / ".standfast"
        executors = "".join(EXECUTOR.format(number=n, port=recorder_port, data_dir=data_dir) for n in (1, 2))
        small_config(
            folder,
            policies=("generalist", "random", "flaky"),
            executors=0,
            episodes=12,
            interval_s=0.0,
            more=executors,
        )
        self.folder = folder
        self._api_port = api_port
        self.up = self.start()

    def start(self) -> Up:
        """Start the instance anew, as a person would."""
        self.up = Up(self.folder, "--port", str(self._api_port))
        return self.up

    def roles(self) -> dict[str, list[Identity]]:
        """Return every living process of the instance by what it is."""
        found: dict[str, list[Identity]] = {role: [] for role in WEIGHTS}
        main = procfs.identify(self.up.popen.pid)
        if main is not None and procfs.is_alive(main):
            found["main"].append(main)
        for identity in self.up.members():
            found[_role(identity)].append(identity)
        found["all"] = [identity for role in list(found) for identity in found[role]]
        return {role: identities for role, identities in found.items() if identities}

    def kill_some(self, dice: random.Random) -> str:
        """Kill one process of a kind that is there, or all of them; return what it was."""
        roles = self.roles()
        names = sorted(roles)
        role = dice.choices(names, [WEIGHTS[name] for name in names])[0]
        victims = roles[role] if role == "all" else [dice.choice(roles[role])]
        landed = [victim for victim in victims if procfs.send(victim, signal.SIGKILL)]
        if self.up.popen.pid in [victim.pid for victim in landed]:
            self.up.popen.wait(10)
        wait_until(lambda: not any(procfs.is_alive(victim) for victim in landed), what=f"{role} is dead")
        return role if landed else "nobody: it had just ended by itself"


def _role(identity: Identity) -> str:
    """Return what a process of the instance is, by its mark and its parent's; a host counts as a shim."""
    name = _service_of(identity.pid)
    if not name.startswith("executor"):
        return "miner" if name else "shim"
    depth, stat = 0, procfs.read_stat(identity.pid)
    # Bounded by the depth of an executor's tree: itself, its fork server, an episode.
    while stat is not None and depth < 2 and _service_of(stat.parent) == name:
        depth, stat = depth + 1, procfs.read_stat(stat.parent)
    return ("executor", "fork server", "episode")[depth]


def _service_of(pid: int) -> str:
    """Return which service a process belongs to, by its mark: INSTANCE/SERVICE/LIFE/; of shims none."""
    return procfs.mark_of(pid).rsplit("/", 3)[-3] if procfs.mark_of(pid).count("/") >= 2 else ""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[tuple[Network, Recorder]]:
    api_port, recorder_port = free_ports(2)
    with Recorder(api_port, recorder_port) as recorder:
        under_attack = Network(tmp_path, recorder_port, api_port)
        try:
            yield under_attack, recorder
        finally:
            under_attack.up.clean_up()


@pytest.mark.timeout(420)
def test_a_kill_nine_of_any_process_at_any_moment_loses_and_doubles_nothing(
    network: tuple[Network, Recorder],
) -> None:
    under_attack, recorder = network
    dice, killed = random.Random(SEED), Counter[str]()
    say(f"\nSTANDFAST_SEED={SEED}, {KILLS} kills")
    started = time.monotonic()
    under_attack.up.until_up()
    wait_until(lambda: recorder.acknowledged, within_s=60.0, what="the first acknowledged result")
    while sum(killed.values()) < KILLS:
        wait_for_a_moment(dice, recorder)
        role = under_attack.kill_some(dice)
        if role in WEIGHTS:
            killed[role] += 1
        if under_attack.up.popen.poll() is not None:
            assert under_attack.up.popen.returncode == -signal.SIGKILL, under_attack.up.text()
            under_attack.start()
        assert time.monotonic() - started < 300.0, f"only {killed} in five minutes"
    say(f"killed {dict(killed)} in {time.monotonic() - started:.0f} s, answers {dict(recorder.statuses)}")
    assert killed["main"] + killed["all"] > 0 or KILLS < 10
    goes_on(under_attack, recorder)
    everything_acknowledged_counts_once(under_attack.up, recorder)
    every_round_is_sound(under_attack.up)
    assert under_attack.up.stop() == 0, under_attack.up.text()
    assert nothing_lives(under_attack.up)


def wait_for_a_moment(dice: random.Random, recorder: Recorder) -> None:
    """Wait for any moment, half of the time for one in which results come in."""
    if dice.random() < 0.5:
        wanted = len(recorder.acknowledged) + dice.randint(1, 25)
        wait_until(lambda: len(recorder.acknowledged) >= wanted, within_s=60.0, what="more results")
        time.sleep(dice.uniform(0.0, 0.2))
    else:
        time.sleep(dice.uniform(0.1, 3.0))


def goes_on(network: Network, recorder: Recorder) -> None:
    """After the last kill the instance finishes rounds again by itself, within seconds."""
    network.up.until_up()
    before = len(over(network.up))
    wait_until(lambda: len(over(network.up)) >= before + 2, within_s=90.0, what="two more rounds")
    assert len(recorder.acknowledged) > 5 * KILLS, "too few results for the test to mean anything"


def over(up: Up) -> list[dict[str, Any]]:
    """Return the rounds that have ended."""
    rounds: list[dict[str, Any]] = up.ask("/rounds?limit=100")["rounds"]
    return [row for row in rounds if row["state"] != "open"]


def everything_acknowledged_counts_once(up: Up, recorder: Recorder) -> None:
    """Every result that was ever acknowledged is stored as it was sent, under its own token, once."""
    twice = [key for key, times in recorder.accepted_times.items() if times > 1]
    assert twice == [], "accepted more than once"
    for (task_id, token), item in list(recorder.acknowledged.items()):
        task = up.ask(f"/tasks/{task_id}")
        by_token = {attempt["token"]: attempt for attempt in task["history"]}
        assert token in by_token, f"attempt {token} of task {task_id} is lost"
        attempt = by_token[token]
        is_result = item["fault"] != "infrastructure"
        assert attempt["state"] == ("result" if is_result else "failed"), (item, attempt)
        for name in ("success", "score", "total_reward", "steps", "error_code"):
            assert attempt["outcome"][name] == item[name], (name, item, attempt)
        results = [a for a in task["history"] if a["state"] == "result"]
        assert len(results) == (task["state"] == "done"), task
        if is_result:
            assert (task["state"], task["token"]) == ("done", token), task


def every_round_is_sound(up: Up) -> None:
    """Each episode of a round counts at most once, its evidence recomputes, and the facts are unbroken."""
    rounds = over(up)
    assert [row for row in rounds if row["state"] == "failed"] == []
    for row in rounds:
        counts = row["counts"]
        assert counts["total"] == row["expected"]
        assert counts["total"] == sum(counts[k] for k in ("succeeded", "failed", "running", "pending"))
        bundle = up.ask(f"/rounds/{row['round']}/evidence")
        episodes = [(e["subject"], e["environment"], e["key"]) for e in bundle["evidence"]["episodes"]]
        assert len(episodes) == len(set(episodes)) == row["expected"]
        findings = verify_evidence(bundle)
        assert [f for f in findings if f.verdict > Verdict.PASS] == []
    verified = up.ask("/facts/verify")
    assert verified["is_intact"], verified
    say(f"{len(rounds)} rounds sound, facts {verified}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
