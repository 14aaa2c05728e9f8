"""A small world for the promises of tasks: one store, one driver, a clock that moves only when told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from standfast.facts.database import Database, Migrations, Tx, migrate
from standfast.kernel.ids import stable_id
from standfast.tasks import operate, upkeep
from standfast.tasks.driver import Claim, Grant, TaskDriver
from standfast.tasks.model import Answer, Counts, ItemAnswer, Lease, NewTask, Report, TaskPolicy
from standfast.tasks.store import TaskStore
from standfast.testing.store_contract import DatabaseBench, StillClock

T = TypeVar("T")

#: Short limits in round numbers: a lease of 40 s, three attempts, a pause of 100 s.
POLICY = TaskPolicy(
    lease_ttl_s=40.0, max_attempts=3, retry_base_s=1.0, retry_cap_s=8.0, paused_ttl_s=100.0, slots_initial=6
)


class FixedEntropy:
    """The same bytes in every run, so that a failure can be replayed."""

    def __init__(self) -> None:
        self._source = random.Random(0)  # noqa: S311 - nothing here is secret

    def token_bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        return self._source.randbytes(count)


class World:
    """One store with tasks in it, and short words for what executors, operators and the leader do."""

    def __init__(self, bench: DatabaseBench, policy: TaskPolicy) -> None:
        self.bench = bench
        self.policy = policy
        self.clock = StillClock()
        self.entropy = FixedEntropy()
        self.driver = self.another_driver()
        self._eye: Database | None = None
        self._orders = itertools.count(1)

    def another_driver(self) -> TaskDriver:
        """Return a driver as another process would have it."""
        return TaskDriver(TaskStore(self.bench.database.dialect), self.policy, self.clock, self.entropy)

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a writing transaction."""
        return self.bench.database.write_now(work)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a connection that wrote nothing of what it sees."""
        self._eye = self._eye or self.bench.fresh()
        return self._eye.read_now(work)

    def add(self, count: int, *, subjects: Sequence[str] = ("s",), batch: str = "b") -> list[str]:
        """Add ``count`` tasks, to the subjects in turn and in the order of their claims; return their ids."""
        tasks = []
        for index in range(count):
            order = next(self._orders)
            key = f"{order:06}"
            subject = subjects[index % len(subjects)]
            task_id = stable_id(batch, key)
            tasks.append(NewTask(task_id, batch, subject, "lane", key, {"n": order}, order))
        self.write(lambda tx: self.driver.add(tx, tasks))
        return [task.task_id for task in tasks]

    def grant(self, count: int = 100, *, holder: str = "e1", instance: str = "i1") -> Grant:
        """Claim, and return the whole answer."""
        claim = Claim(holder, instance, count, {})
        return self.write(lambda tx: self.driver.claim(tx, claim))

    def claim(self, count: int = 100, *, holder: str = "e1", instance: str = "i1") -> list[Lease]:
        """Claim, and return the leases."""
        return self.grant(count, holder=holder, instance=instance).leases

    def submit(self, reports: Sequence[Report], *, holder: str = "e1") -> list[ItemAnswer]:
        """Report, and return the answers."""
        return self.write(lambda tx: self.driver.submit(tx, holder, reports))

    def answers(self, *reports: Report, holder: str = "e1") -> list[Answer]:
        """Report, and return the answers without their words."""
        return [item.answer for item in self.submit(reports, holder=holder)]

    def beat(self, *leases: Lease, holder: str = "e1", instance: str = "i1") -> list[str]:
        """Send a heartbeat for ``leases`` and return the tasks that are lost."""
        held = [(lease.task_id, lease.token) for lease in leases]
        return self.write(lambda tx: self.driver.heartbeat(tx, Claim(holder, instance, 0, {}), held))

    def tick(self, seconds: float) -> upkeep.Upkept:
        """Let the leader's upkeep see ``seconds`` go by, in steps that the lease clock accepts whole."""
        longest = self.policy.lease_ttl_s / 4
        total = upkeep.Upkept(0, 0, 0)
        left = seconds
        while left > 0 or seconds == 0:
            step = min(left, longest)
            kept = self.write(lambda tx, step=step: upkeep.keep(tx, self.driver, step))  # type: ignore[misc]
            total = upkeep.Upkept(
                total.reaped + kept.reaped, total.died + kept.died, total.adjusted + kept.adjusted
            )
            left -= step
            if not seconds:
                break
        return total

    def cordon(self, executor: str, *, is_cordoned: bool) -> None:
        """Stop or resume handing out work to an executor."""
        self.write(lambda tx: operate.cordon_executor(tx, self.driver, executor, is_cordoned=is_cordoned))

    def close(self, batch: str = "b") -> int:
        """End a batch and return how many tasks were cancelled."""
        return self.write(lambda tx: operate.close_batch(tx, self.driver, batch, "over"))

    def lose(self, *leases: Lease) -> None:
        """Let every lease run out and be reaped, and the backoff of its task pass."""
        self.tick(self.policy.lease_ttl_s + self.policy.retry_cap_s + 1)
        for lease in leases:
            assert self.view(lease.task_id)["state"] != "leased"

    def view(self, task_id: str) -> dict[str, Any]:
        """Return all that is known of a task."""
        return self.read(lambda tx: operate.task_view(tx, self.driver, task_id))

    def state(self, task_id: str) -> str:
        """Return the name of a task's state."""
        return str(self.view(task_id)["state"])

    def counts(self, batch: str = "b") -> Counts:
        """Return the counts of a batch."""
        return self.read(lambda tx: self.driver.store.counts(tx, batch))

    def done(self, batch: str = "b") -> set[str]:
        """Return the tasks of a batch whose result counts."""
        rows = self.read(lambda tx: tx.rows(self.driver.store.sql["batch_results"], {"batch": batch}))
        return {f"{row[0]:016x}" for row in rows if row[8] is not None}

    def late(self, task_id: str) -> list[str]:
        """Return the answers under which reports for a task were recorded as late."""
        return [report["answer"] for report in self.view(task_id)["late_reports"]]


def won(lease: Lease, *, score: float = 1.0) -> Report:
    """Return the report of a success; another ``score`` is other content."""
    return Report(lease.task_id, lease.token, True, True, "won", f'{{"score":{score}}}')


def broke(lease: Lease) -> Report:
    """Return the report of a failure of our own."""
    return Report(lease.task_id, lease.token, False, False, "infra_error", "{}", "Broken", "it broke")


class OnWorlds(Protocol):
    """What each part of the contract stands on."""

    def world(self, policy: TaskPolicy = POLICY) -> AbstractContextManager[World]:
        """Return a context that yields an empty world and clears it away."""
        ...


class Worlds:
    """Makes worlds of the benches of a subclass."""

    def bench(self) -> AbstractContextManager[DatabaseBench]:
        """Return a context that yields an empty bench and clears it away."""
        raise NotImplementedError

    @contextmanager
    def world(self, policy: TaskPolicy = POLICY) -> Iterator[World]:
        """Yield an empty world with the schema of tasks."""
        with self.bench() as bench:
            dialect = bench.database.dialect
            series = [Migrations.of(f"standfast.{name}", dialect) for name in ("facts", "tasks")]
            migrate(bench.database, series, StillClock())
            yield World(bench, policy)
