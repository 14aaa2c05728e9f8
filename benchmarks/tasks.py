"""Leasing: claim and complete in batches beside the bare SQL and beside other queues, in one process and run.

1. Ours and the bare SQL take turns (A B A B ...) on the same disk or server and durability; the median of the
   ratios of each turn is what counts, since machines drift.
2. Enqueuing is not timed. Ours goes through the whole driver: fair slots per subject, attempt history, an
   answer per item.
3. ``--quick`` runs a tenth of the work, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import bare, peers

from postgres_server import PostgresServer, running_postgres
from standfast.facts.database import Database, Migrations, migrate
from standfast.facts.database.postgres import PostgresDatabase
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.kernel.ids import stable_id
from standfast.tasks.driver import Claim, TaskDriver
from standfast.tasks.model import Answer, NewTask, Report, TaskPolicy
from standfast.tasks.store import TaskStore

TURNS = 3
CLAIMS = 50


class Queue(Protocol):
    """What is measured."""

    def claim(self, count: int) -> list[Any]: ...
    def complete(self, taken: list[Any]) -> None: ...
    def close(self) -> None: ...


class Ours:
    """The task driver on a database of its own."""

    def __init__(self, database: Database, jobs: int, subjects: int) -> None:
        self.database = database
        clock = SystemClock()
        migrate(
            database, [Migrations.of(f"standfast.{c}", database.dialect) for c in ("facts", "tasks")], clock
        )
        policy = TaskPolicy(slots_initial=10)
        self.driver = TaskDriver(TaskStore(database.dialect), policy, clock, SystemEntropy())
        for first in range(0, jobs, 50_000):
            numbers = range(first, min(first + 50_000, jobs))
            database.write_now(
                lambda tx, numbers=numbers: self.driver.add(tx, [self._task(n, subjects) for n in numbers])
            )

    def _task(self, number: int, subjects: int) -> NewTask:
        spec, order = {"env": "abc", "seed": 1}, self.driver.draw_order()
        return NewTask(
            stable_id("b", str(number)), "b", str(number % subjects), "lane", str(number), spec, order
        )

    def claim(self, count: int) -> list[Any]:
        claim = Claim("e", "i", count, {})
        return self.database.write_now(lambda tx: self.driver.claim(tx, claim)).leases

    def complete(self, taken: list[Any]) -> None:
        reports = [Report(lease.task_id, lease.token, True, True, "won", bare.RESULT) for lease in taken]
        answers = self.database.write_now(lambda tx: self.driver.submit(tx, "e", reports))
        assert all(answer.answer is Answer.ACCEPTED for answer in answers)

    def close(self) -> None:
        self.database.close()


def rate(queue: Queue, jobs: int) -> float:
    """Return jobs per second of claiming and completing all of them in batches."""
    start, done = time.perf_counter(), 0
    while taken := queue.claim(bare.BATCH):
        queue.complete(taken)
        done += len(taken)
    assert done == jobs, f"{done} of {jobs}"
    elapsed = time.perf_counter() - start
    queue.close()
    return jobs / elapsed


def compare(ours: Callable[[], Queue], plain: Callable[[], Queue], jobs: int) -> dict[str, float]:
    """Take turns and return the medians and the median ratio."""
    pairs = [(rate(ours(), jobs), rate(plain(), jobs)) for _ in range(TURNS)]
    return {
        "ours_per_s": statistics.median(a for a, _ in pairs),
        "bare_per_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def claim_ms(queue: Queue, count: int = 10) -> float:
    """Return the median time of claiming ``count``; what was claimed is completed in between, untimed."""
    times = []
    for _ in range(CLAIMS):
        start = time.perf_counter()
        taken = queue.claim(count)
        times.append((time.perf_counter() - start) * 1000)
        assert len(taken) == count
        queue.complete(taken)
    queue.close()
    return statistics.median(times)


class Bench:
    """One run; ``scale`` below 1 does less."""

    def __init__(self, folder: Path, postgres: PostgresServer, scale: float) -> None:
        self._folder, self._postgres, self._scale = folder, postgres, scale
        self._number = 0

    def _path(self) -> Path:
        self._number += 1
        return self._folder / f"{self._number}.db"

    def ours(self, kind: str, jobs: int, subjects: int) -> Ours:
        if kind == "sqlite":
            return Ours(SqliteDatabase(self._path()), jobs, subjects)
        url = self._postgres.make_database()
        made = Ours(PostgresDatabase(url), jobs, subjects)
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        return made

    def plain(self, kind: str, jobs: int, subjects: int) -> Queue:
        if kind == "sqlite":
            return bare.BareSqlite(self._path(), jobs, subjects)
        return bare.BarePostgres(self._postgres.make_database(), jobs, subjects)

    def batches(self) -> list[dict[str, Any]]:
        jobs = int(20_000 * self._scale)
        found = []
        for kind in ("sqlite", "postgres"):
            for subjects in (64, 256):
                say(f"batches of {bare.BATCH}: {kind}, {subjects} subjects")
                figures = compare(
                    lambda k=kind, s=subjects: self.ours(k, jobs, s),
                    lambda k=kind, s=subjects: self.plain(k, jobs, s),
                    jobs,
                )
                found.append({"store": kind, "subjects": subjects, **figures})
        return found

    def growth(self) -> list[dict[str, Any]]:
        found = []
        for kind in ("sqlite", "postgres"):
            times = {}
            for pending in (10_000, int(1_000_000 * self._scale)):
                say(f"claim 10 of {pending} pending: {kind}")
                times[pending] = claim_ms(self.ours(kind, pending, 256))
            few, many = times.values()
            found.append(
                {"store": kind, "pending": list(times), "claim_ms": [few, many], "ratio": many / few}
            )
        return found

    def peers(self) -> list[dict[str, Any]]:
        jobs = int(3_000 * self._scale)
        say("peers: huey, procrastinate, pgqueuer")
        figures = (
            peers.huey_sqlite(self._folder, jobs),
            peers.procrastinate_postgres(self._postgres.make_database(), jobs),
            peers.pgqueuer_postgres(self._postgres.make_database(), jobs),
        )
        return [{"name": f.name, "jobs_per_s": f.jobs_per_s, "promises": f.promises} for f in figures]


def say(text: str) -> None:
    sys.stderr.write(f"{text} ...\n")


def report(result: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = [f"claim + complete in batches of {bare.BATCH}, jobs/s, one process, median of {TURNS} turns"]
    lines.append("  (target: at least half the rate of the bare SQL)")
    for r in result["batches"]:
        figures = f"ours {r['ours_per_s']:>8.0f}   bare SQL {r['bare_per_s']:>8.0f}   ratio {r['ratio']:.2f}"
        lines.append(f"  {r['store']:<9} {r['subjects']:>4} subjects   {figures}")
    lines.append(f"claim 10 with few and many pending, ms, median of {CLAIMS} (target: ratio at most 2)")
    for r in result["growth"]:
        (few, many), (few_ms, many_ms) = r["pending"], r["claim_ms"]
        figures = f"{few:>9}: {few_ms:.2f}   {many:>9}: {many_ms:.2f}   ratio {r['ratio']:.2f}"
        lines.append(f"  {r['store']:<9} {figures}")
    lines.append("other queues, no-op jobs claimed and completed, jobs/s, same machine and durability")
    lines += [f"  {r['name']:<36} {r['jobs_per_s']:>8.0f}   {r['promises']}" for r in result["peers"]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=ROOT))
    try:
        with running_postgres() as postgres:
            bench = Bench(folder, postgres, 0.1 if options.quick else 1.0)
            result = {"batches": bench.batches(), "growth": bench.growth(), "peers": bench.peers()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
