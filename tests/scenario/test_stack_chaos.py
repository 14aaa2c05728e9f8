"""Crashes of services, of their shims and of the supervisor, five hundred: no zombie, no orphan, none twice.

STANDFAST_CRASHES is how many (500), STANDFAST_SEED which ones; a failing seed is replayed by

    STANDFAST_SEED=... pytest tests/scenario/test_stack_chaos.py
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

import pytest

from integration.processes import shell
from integration.supervisors import StackProcess
from standfast.services.adapters import procfs
from standfast.services.adapters.control import ask
from standfast.services.adapters.recall import SHIM_NAME
from standfast.services.model import Budgets, Dependency, Identity, Readiness, RestartPolicy, ServiceSpec

CRASHES = int(os.environ.get("STANDFAST_CRASHES", "500"))
SEED = int(os.environ.get("STANDFAST_SEED", str(random.SystemRandom().randrange(10**6))))
#: These may be restarted so often and no more, whoever supervises them.
LIMITED, BUDGET = ("s18", "s19"), 6
LONGEST_S = 150.0

WEIGHTS = {"service": 80, "shim": 10, "host": 5, "supervisor": 10}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT)


def declared(folder: Path) -> list[ServiceSpec]:
    """Return twenty services: some with children of their own, some that need others."""
    specs = []
    for number in range(20):
        name = f"s{number:02}"
        rest = "sleep 600 & setsid sleep 600 & wait" if number % 3 == 0 else "exec sleep 600"
        budget = BUDGET if name in LIMITED else 1_000_000
        needs = (Dependency(f"s{number - 10:02}"),) if 10 <= number < 15 else ()
        specs.append(
            shell(
                name,
                f"echo run >> runs-{name}; touch up-{name}; {rest}",
                folder,
                ready=Readiness(file=f"up-{name}"),
                restart=RestartPolicy(backoff_s=0.01, cap_s=0.05, budget=budget),
                depends_on=needs,
            )
        )
    return specs


class Chaos:
    """A stack under attack, whose supervisor is started again whenever it is gone."""

    def __init__(self, folder: Path) -> None:
        self.dice = random.Random(SEED)
        self.stack = StackProcess(folder)
        self.stack.declare(*declared(folder), budgets=Budgets(group=10**6, host=10**6))
        self.landed = Counter[str]()
        self.stack.start()

    def strike(self) -> None:
        """Crash something, several services at once now and then, and count what landed."""
        kind = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind == "supervisor":
            self.stack.kill()
            self.landed[kind] += 1
            # Half of the time something else dies before anybody supervises again.
            victims = self._ready_lives() if self.dice.random() < 0.5 else []
            self._hit("service", [child for child, _ in victims[:3]])
            self.stack.start()
        elif kind == "host":
            self._hit(kind, [i for i in self._shims() if procfs.name_of(i.pid) != SHIM_NAME])
        else:
            found = self._ready_lives()
            chosen = self.dice.sample(found, min(len(found), self.dice.randint(1, 6)))
            self._hit(kind, [life[kind == "shim"] for life in chosen])

    def _hit(self, kind: str, targets: list[Identity]) -> None:
        for target in targets:
            number = signal.SIGKILL if kind != "service" else self.dice.choice(SIGNALS)
            self.landed[kind] += procfs.send(target, number)

    def _ready_lives(self) -> list[tuple[Identity, Identity]]:
        """Return process and shim of each service that is ready: what never was is held for good reason."""
        assert self.stack.popen is not None
        if self.stack.popen.poll() is None:
            names = [name for name, view in self.stack.views().items() if view["state"] == "ready"]
        else:
            names = [spec.name for spec in declared(self.stack.folder)]
        lives = [self.stack.life(name) for name in names if self._has_record(name)]
        return [(life.child, life.shim) for life in lives if life.exit is None]

    def _has_record(self, name: str) -> bool:
        return (self.stack.data_dir / "lives" / name / "life.json").exists()

    def _shims(self) -> list[Identity]:
        return [one for one in self.stack.members() if "//" in procfs.mark_of(one.pid)]

    def strangers(self) -> list[str]:
        """Return what belongs to no life that is on record, and zombies of ours."""
        found = []
        shims = {self.stack.life(name).shim.pid for name in self.stack.pids()}
        assert self.stack.popen is not None
        for member in self.stack.members():
            mark = procfs.mark_of(member.pid)
            if "//" not in mark and not _is_below(member.pid, shims):
                found.append(f"orphan {member.pid} {mark}")
            if "//" in mark and procfs.name_of(member.pid) == SHIM_NAME and member.pid not in shims:
                found.append(f"shim {member.pid} of no life")
        ours = {member.pid for member in self.stack.members()} | {self.stack.popen.pid, os.getpid()}
        found += [f"zombie {s.pid}" for s in procfs.processes() if s.letter == "Z" and s.parent in ours]
        return found


def _is_below(pid: int, shims: set[int]) -> bool:
    stat = procfs.read_stat(pid)
    # Bounded by the depth of a service's tree.
    for _ in range(5):
        if stat is None or stat.parent in shims:
            return True  # One that has just ended is nobody's orphan.
        stat = procfs.read_stat(stat.parent)
    return False


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    under_attack = Chaos(tmp_path)
    try:
        yield under_attack
    finally:
        under_attack.stack.clean_up()


def runs(folder: Path, name: str) -> int:
    return len((folder / f"runs-{name}").read_text().split())


@pytest.mark.timeout(300)
def test_five_hundred_crashes_leave_no_zombie_no_orphan_and_spend_no_more_than_the_budgets(
    chaos: Chaos, tmp_path: Path
) -> None:
    say(f"\nSTANDFAST_SEED={SEED}, {CRASHES} crashes")
    chaos.stack.until_all("ready")
    started = time.monotonic()
    while sum(chaos.landed.values()) < CRASHES:
        chaos.strike()
        time.sleep(chaos.dice.uniform(0.0, 0.05))
        assert time.monotonic() - started < LONGEST_S, f"only {dict(chaos.landed)}"
    took_s = time.monotonic() - started
    for name in LIMITED:
        # An end in the very moment in which its supervisor is killed may be counted by nobody.
        assert runs(tmp_path, name) <= BUDGET + chaos.landed["supervisor"]
    others = [name for name in chaos.stack.views() if name not in LIMITED]
    chaos.stack.until_all("ready", others)
    ask(chaos.stack.data_dir, "release", names=list(LIMITED), who="the test")
    chaos.stack.until_all("ready")
    deadline = time.monotonic() + 10.0
    while (strangers := chaos.strangers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert strangers == [], "nothing is left that belongs to no life"
    assert len(chaos.stack.pids()) == 20
    starts = sum(runs(tmp_path, name) for name in chaos.stack.views())
    say(f"landed {dict(chaos.landed)} in {took_s:.0f} s, {starts} starts")
    assert chaos.landed["supervisor"] > 0 or CRASHES < 100
    assert chaos.stack.stop() == 0, chaos.stack.log()[-2_000:]
    assert "Traceback" not in chaos.stack.log()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
