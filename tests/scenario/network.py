"""A whole control plane in virtual time: the real drivers on a real store, a clock and dice of our own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from standfast.app.config import load_config
from standfast.app.plane import ControlPlane
from standfast.app.reports import Invalid, to_report
from standfast.app.scheduler import Scheduler
from standfast.facts.database import Database
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.tasks.driver import Claim
from standfast.tasks.model import ItemAnswer, Lease

ENVIRONMENTS = ("classic/cartpole", "classic/pendulum", "mujoco/reacher", "classic/acrobot")

TOML = """
[evaluation]
interval_s = 5.0
deadline_s = 120.0
{evaluation}
[evaluation.limits]
timeout_s = 5.0
[tasks]
lease_ttl_s = 20.0
heartbeat_s = 5.0
paused_ttl_s = 30.0
{tasks}
{environments}
{subjects}
"""


@dataclass
class VirtualClock:
    """Monotonic time that moves only when told to; the wall clock may jump by itself."""

    now_s: float = 1000.0
    wall_offset_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s + self.wall_offset_s)


@dataclass
class SeededEntropy:
    """Bytes that the seed decides."""

    seed: int
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def toml(
    *, uids: int = 3, environments: int = 2, episodes: int = 4, evaluation: str = "", tasks: str = ""
) -> str:
    """Return a configuration with that many subjects and environments."""
    return TOML.format(
        evaluation=evaluation,
        tasks=tasks,
        environments="".join(
            f'[[evaluation.environments]]\nid = "{name}"\nepisodes = {episodes}\n'
            for name in ENVIRONMENTS[:environments]
        ),
        subjects="".join(
            f'[[subjects]]\nuid = {n}\nhotkey = "hk{n}"\nendpoint = "http://127.0.0.1:{9000 + n}"\n'
            f"committed_block = {100 + n}\n"
            for n in range(uids)
        ),
    )


Play = Callable[[Lease], dict[str, Any] | None]


def won(lease: Lease) -> dict[str, Any]:
    """Say that the episode was won."""
    return said(lease, success=True, score=1.0)


def lost(lease: Lease) -> dict[str, Any]:
    """Say that the episode was lost."""
    return said(lease, success=False)


def broke(lease: Lease) -> dict[str, Any]:
    """Say that our own infrastructure broke."""
    return said(lease, success=False, error="the simulator died", error_code="Killed", fault="infrastructure")


def said(lease: Lease, **fields: Any) -> dict[str, Any]:
    """Return the item that an executor would submit for ``lease``."""
    return {"task_id": lease.task_id, "token": lease.token, "score": 0.0, **fields}


class Network:
    """One instance; ``play`` decides how each episode goes (None: the executor says nothing)."""

    def __init__(self, folder: Path, text: str, *, seed: int = 1, database: Database | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "standfast.toml"
        path.write_text(text, encoding="utf-8")
        self.clock = VirtualClock()
        self.entropy = SeededEntropy(seed)
        self.config = load_config(path)
        self.database = database or SqliteDatabase(":memory:")
        self.plane = ControlPlane.on(self.database, self.config, self.clock, self.entropy)
        self.scheduler = Scheduler(self.plane, "scheduler-1")

    def write(self, work: Callable[..., Any]) -> Any:
        return self.database.write_now(work)

    async def tick(self, seconds: float = 0.5) -> None:
        """Let time pass and the scheduler look once, publishing included."""
        self.clock.now_s += seconds
        await self.scheduler.tick()
        while await self.scheduler._publish():
            pass

    def claim(self, executor: str = "e1", count: int = 8) -> list[Lease]:
        grant = self.write(lambda tx: self.plane.tasks.claim(tx, Claim(executor, "i1", count, {})))
        return grant.leases

    def submit(self, items: list[dict[str, Any]], executor: str = "e1") -> list[ItemAnswer]:
        reports = [to_report(item) for item in items]
        assert not any(isinstance(report, Invalid) for report in reports), reports
        return self.write(lambda tx: self.plane.tasks.submit(tx, executor, reports))

    async def play(self, how: Play, *, turns: int = 400, until: Callable[[], bool] | None = None) -> None:
        """Claim, play and submit until ``until`` holds; fails when it does not within ``turns``."""
        for _ in range(turns):
            await self.tick()
            if until is not None and until():
                return
            leases = self.claim()
            items = [item for lease in leases if (item := how(lease)) is not None]
            if items:
                self.submit(items)
        assert until is None, f"not reached within {turns} turns"

    def rounds(self) -> list[Any]:
        """Return all rounds, newest first."""
        return self.database.read_now(lambda tx: self.plane.rounds.newest(tx, 50))

    def states(self) -> dict[int, str]:
        return {row.number: row.state.value for row in self.rounds()}
