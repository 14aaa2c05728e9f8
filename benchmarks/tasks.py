"""Leasing: claim and complete in batches beside the bare SQL and beside other queues, in one process and run.

1. Ours and the bare SQL take turns batch by batch (A B A B ...) on the same disk or server and durability, so
   that what else the machine does slows both. A ratio is of their whole times, checkpoints and all.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import bare, peers

from postgres_server import PostgresServer, running_postgres
from standfast.facts.database import Database, Migrations, Tx, migrate
from standfast.facts.database.postgres import PostgresDatabase
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.kernel.ids import stable_id
from standfast.tasks.driver import Claim, TaskDriver
from standfast.tasks.model import Answer, NewTask, Report, TaskPolicy
from standfast.tasks.store import TaskStore

TURNS = 3
CLAIMS = 50
SUBJECTS = 256

# A million tasks would take a minute to send; these are made where they are stored, in order of their claims.
_TASKS = """INSERT INTO task (name, batch, subject, lane, key, spec, created_at) {numbers}
SELECT n * 7919 % 1000003 * 4000000007, 'f', CAST(n * 31 % {subjects} AS TEXT), 'lane', CAST(n AS TEXT),
  '{spec}', ''
FROM {source} ORDER BY n"""
_TRACKING = "INSERT INTO tracking (id, subject, state, ord) SELECT id, subject, 0, id * 4000000007 FROM task"
_RECURSIVE = "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < {jobs})"


class Queue(Protocol):
    """What is measured."""

    def claim(self, count: int) -> list[Any]: ...
    def complete(self, taken: list[Any]) -> None: ...
    def close(self) -> None: ...


class Ours:
    """The task driver on a database of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        clock = SystemClock()
        migrate(
            database, [Migrations.of(f"standfast.{c}", database.dialect) for c in ("facts", "tasks")], clock
        )
        policy = TaskPolicy(slots_initial=10)
        self.driver = TaskDriver(TaskStore(database.dialect), policy, clock, SystemEntropy())

    def add(self, jobs: int, subjects: int) -> None:
        tasks = [self._task(number, subjects) for number in range(jobs)]
        self.database.write_now(lambda tx: self.driver.add(tx, tasks))

    def fill(self, jobs: int) -> None:
        self.database.write_now(self._fill(jobs))

    def _fill(self, jobs: int) -> Callable[[Tx], None]:
        is_sqlite = self.database.dialect == "sqlite"
        numbers = _RECURSIVE.format(jobs=jobs) if is_sqlite else ""
        source = "x" if is_sqlite else f"generate_series(1::bigint, {jobs}) AS x (n)"
        names = [(str(number), self.driver.policy.slots_initial) for number in range(SUBJECTS)]

        def work(tx: Tx) -> None:
            tx.each(self.driver.store.sql["add_subject"], names)
            tx.rows(_TASKS.format(numbers=numbers, subjects=SUBJECTS, spec=bare.SPEC, source=source))
            tx.rows(_TRACKING)

        return work

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


def compare(ours: Queue, plain: Queue, jobs: int) -> tuple[float, float]:
    """Claim and complete all jobs of both, in turns, and return how long each took."""
    spent = [0.0, 0.0]
    for _ in range(0, jobs, bare.BATCH):
        for place, queue in enumerate((ours, plain)):
            start = time.perf_counter()
            taken = queue.claim(bare.BATCH)
            queue.complete(taken)
            spent[place] += time.perf_counter() - start
            assert len(taken) == bare.BATCH, f"{len(taken)} claimed"
    for queue in (ours, plain):
        assert not queue.claim(1)
        queue.close()
    return spent[0], spent[1]


def claim_ms(queues: Sequence[Queue], count: int = 10) -> list[float]:
    """Return the median time of claiming ``count`` of each, in turns; completing it is not timed."""
    times: list[list[float]] = [[] for _ in queues]
    for _ in range(CLAIMS):
        for queue, spent in zip(queues, times, strict=True):
            start = time.perf_counter()
            taken = queue.claim(count)
            spent.append((time.perf_counter() - start) * 1000)
            assert len(taken) == count
            queue.complete(taken)
    for queue in queues:
        queue.close()
    return [statistics.median(spent) for spent in times]


class Bench:
    """One run; ``scale`` below 1 does less."""

    def __init__(self, folder: Path, postgres: PostgresServer, scale: float) -> None:
        self._folder, self._postgres, self._scale = folder, postgres, scale
        self._number = 0

    def _path(self) -> Path:
        self._number += 1
        return self._folder / f"{self._number}.db"

    def ours(self, kind: str, add: Callable[[Ours], None]) -> Ours:
        if kind == "sqlite":
            made = Ours(SqliteDatabase(self._path()))
            add(made)
            return made
        url = self._postgres.make_database()
        made = Ours(PostgresDatabase(url))
        add(made)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")  # As every server does by itself before long.
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
                turns = [self._turn(kind, jobs, subjects) for _ in range(TURNS)]
                found.append(
                    {
                        "store": kind,
                        "subjects": subjects,
                        "ours_per_s": statistics.median(jobs / a for a, _ in turns),
                        "bare_per_s": statistics.median(jobs / b for _, b in turns),
                        "ratio": statistics.median(b / a for a, b in turns),
                    }
                )
        return found

    def _turn(self, kind: str, jobs: int, subjects: int) -> tuple[float, float]:
        ours = self.ours(kind, lambda made: made.add(jobs, subjects))
        return compare(ours, self.plain(kind, jobs, subjects), jobs)

    def growth(self) -> list[dict[str, Any]]:
        sizes = (int(10_000 * self._scale), int(1_000_000 * self._scale))
        found = []
        for kind in ("sqlite", "postgres"):
            say(f"claim 10 of {sizes[0]} and of {sizes[1]} pending: {kind}")
            few, many = claim_ms([self.ours(kind, lambda made, n=size: made.fill(n)) for size in sizes])  # type: ignore[misc]
            found.append({"store": kind, "pending": sizes, "claim_ms": [few, many], "ratio": many / few})
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
