"""Whatever happens in whatever order: the store agrees with a model that one can check (I3, I4, I5, K15)."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from benches import FileBenches, MemoryBenches, PostgresBenches
from standfast.kernel.errors import ConflictError
from standfast.tasks import operate
from standfast.tasks.driver import Claim
from standfast.tasks.model import Counts, Lease, TaskPolicy
from standfast.testing.task_contract import World, broke, won
from standfast.testing.task_contract.world import Worlds

POLICY = TaskPolicy(
    lease_ttl_s=20.0, max_attempts=2, retry_base_s=1.0, retry_cap_s=4.0, paused_ttl_s=30.0, slots_initial=3
)
HOLDERS = st.sampled_from(["e1", "e2", "e3"])
SUBJECTS = ("a", "b", "c")


@dataclass
class Known:
    """What the model knows of one task."""

    subject: str
    batch: str
    state: str = "pending"
    token: int = 0
    holder: str = ""
    attempts: int = 0
    expires_ms: int = 0
    not_before_ms: int = 0
    said: dict[int, tuple[str, str]] = field(default_factory=dict)  # Token: holder, content that counted.


class TaskMachine(RuleBasedStateMachine):
    """Executors, an operator, a round and the leader, each doing what it may at any time."""

    worlds: Worlds

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.world: World = self._open.enter_context(self.worlds.world(POLICY))
        self.tasks: dict[str, Known] = {}
        self.leases: list[tuple[Lease, str]] = []
        self.instances: dict[str, int] = {}
        self.closed: set[str] = set()
        self.now_ms = 0
        self.last_token = 0

    def teardown(self) -> None:
        self._open.close()

    @initialize()
    def start(self) -> None:
        self.add(9, "b0")

    @precondition(lambda self: self._waiting() < 6)
    @rule(count=st.integers(1, 6), batch=st.sampled_from(["b0", "b1"]))
    def add(self, count: int, batch: str) -> None:
        ids = self.world.add(count, subjects=SUBJECTS, batch=batch)
        if batch not in self.closed:
            for place, task_id in enumerate(ids):
                self.tasks[task_id] = Known(SUBJECTS[place % len(SUBJECTS)], batch)

    @rule(holder=HOLDERS, limit=st.integers(0, 12))
    def claim(self, holder: str, limit: int) -> None:
        """Everything that may be given is given, up to the limit, and nothing else."""
        open_tasks = Counter(
            task.subject
            for task in self.tasks.values()
            if task.state == "pending" and task.not_before_ms <= self.now_ms
        )
        running = self._running()
        possible = sum(min(open_tasks[name], 3 - running[name]) for name in SUBJECTS)
        leases = self.world.claim(limit, holder=holder, instance=str(self.instances.get(holder, 0)))
        assert len(leases) == min(limit, possible)
        for lease in leases:
            task = self.tasks[lease.task_id]
            assert task.state == "pending"
            assert task.not_before_ms <= self.now_ms
            assert lease.token > self.last_token
            self.last_token = lease.token
            task.state, task.token, task.holder = "leased", lease.token, holder
            task.attempts += 1
            assert lease.attempt == task.attempts
            task.expires_ms = self.now_ms + 20_000
            self.leases.append((lease, holder))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), kind=st.sampled_from(["won", "lost", "broke"]), thief=st.integers(0, 5))
    def report(self, data: st.DataObject, kind: str, thief: int) -> None:
        """Any lease that ever was, by its holder or by another."""
        lease, holder = self._any_lease(data)
        self._report(lease, "thief" if thief == 5 else holder, kind)

    def _report(self, lease: Lease, sender: str, kind: str) -> None:
        said = broke(lease) if kind == "broke" else won(lease, score=float(kind == "won"))
        expected = self._expected(lease, sender, kind)
        assert self.world.answers(said, holder=sender) == [expected]
        if expected == "accepted":
            task = self.tasks[lease.task_id]
            task.said[lease.token] = (sender, kind)
            if kind == "broke":
                self._fail(lease.task_id)
            else:
                task.state = "done"

    @precondition(lambda self: self._running())
    @rule(data=st.data(), kind=st.sampled_from(["won", "lost", "broke", "broke"]))
    def work(self, data: st.DataObject, kind: str) -> None:
        """Report a lease that runs, as an executor does that has no trouble."""
        running = [name for name, task in self.tasks.items() if task.state == "leased"]
        task_id = data.draw(st.sampled_from(running))
        task = self.tasks[task_id]
        place = [(lease.task_id, lease.token) for lease, _ in self.leases].index((task_id, task.token))
        self._report(*self.leases[place], kind)

    def _any_lease(self, data: st.DataObject) -> tuple[Lease, str]:
        """Any lease that ever was, the youngest most likely."""
        return self.leases[-1 - min(data.draw(st.integers(0, 30)), len(self.leases) - 1)]

    def _expected(self, lease: Lease, sender: str, kind: str) -> str:
        task = self.tasks[lease.task_id]
        if sender == "thief":
            return "stale"
        if lease.token in task.said:
            return "duplicate" if task.said[lease.token][1] == kind else "stale"
        if task.token != lease.token:
            return "stale"
        is_held = task.state == "leased" and self.now_ms < task.expires_ms
        return "accepted" if is_held else "expired"

    def _fail(self, task_id: str) -> None:
        task = self.tasks[task_id]
        task.holder = ""
        if task.attempts >= POLICY.max_attempts:
            task.state, task.expires_ms = "paused", self.now_ms + 30_000
            return
        task.state = "pending"
        (task.not_before_ms,) = self._column("not_before", task_id)
        wait_ms = task.not_before_ms - self.now_ms
        assert 100 <= wait_ms <= 4_000

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        lease, holder = self._any_lease(data)
        task = self.tasks[lease.task_id]
        is_held = task.state == "leased" and task.token == lease.token and self.now_ms < task.expires_ms
        lost = self.world.beat(lease, holder=holder)
        assert lost == ([] if is_held else [lease.task_id])
        if is_held:
            task.expires_ms = self.now_ms + 20_000

    @rule(holder=HOLDERS)
    def release(self, holder: str) -> None:
        """Give everything back: what is over is lost, the rest is uncounted."""
        mine = [(name, task) for name, task in self.tasks.items() if self._holds(task, holder)]
        over = [name for name, task in mine if task.expires_ms <= self.now_ms]
        released = self.world.write(lambda tx: self.world.driver.release(tx, holder, None, "released"))
        assert released == len(mine) - len(over)
        for name, task in mine:
            if name in over:
                self._fail(name)
            else:
                task.state, task.holder, task.not_before_ms = "pending", "", 0
                task.attempts -= 1

    @rule(holder=HOLDERS)
    def restart(self, holder: str) -> None:
        """Start a new life, which loses what the old one held."""
        is_known = self.world.read(
            lambda tx: bool(tx.rows(self.world.driver.store.sql["executor"], {"name": holder}))
        )
        self.instances[holder] = self.instances.get(holder, 0) + 1
        mine = [name for name, task in self.tasks.items() if self._holds(task, holder)] if is_known else []
        claim = Claim(holder, str(self.instances[holder]), 0, {})
        assert self.world.write(lambda tx: self.world.driver.register(tx, claim)) == len(mine)
        for name in mine:
            self._fail(name)

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 21.0, 40.0]))
    def tick(self, seconds: float) -> None:
        left = seconds
        # The world lets the leader see it in steps of a quarter of a lease.
        while True:
            step = min(left, 5.0)
            self.world.tick(step)
            self.now_ms += int(step * 1000)
            self._reap()
            left -= step
            if left <= 0:
                break

    def _reap(self) -> None:
        over = [n for n, t in self.tasks.items() if t.state == "leased" and t.expires_ms <= self.now_ms]
        ended = [t for t in self.tasks.values() if t.state == "paused" and t.expires_ms <= self.now_ms]
        for name in over:
            self._fail(name)
        for task in ended:
            task.state = "dead"

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        task = self.tasks[task_id]
        is_allowed = task.batch not in self.closed and task.state in ("pending", "leased", "paused", "dead")
        try:
            self.world.write(lambda tx: operate.requeue(tx, self.world.driver, task_id))
        except ConflictError:
            assert not is_allowed
            return
        assert is_allowed
        task.state, task.holder, task.attempts, task.not_before_ms = "pending", "", 0, 0

    @precondition(lambda self: len(self.leases) > 20)
    @rule(batch=st.sampled_from(["b0", "b1"]))
    def close(self, batch: str) -> None:
        mine = [task for task in self.tasks.values() if task.batch == batch]
        open_tasks = [task for task in mine if task.state in ("pending", "leased", "paused")]
        assert self.world.close(batch) == len(open_tasks)
        self.closed.add(batch)
        for task in open_tasks:
            task.state = "cancelled"

    @invariant()
    def the_store_agrees(self) -> None:
        """Each task is in one state, the model's; what counted counts, once."""
        for batch in ("b0", "b1"):
            mine = {name: task for name, task in self.tasks.items() if task.batch == batch}
            states = Counter(task.state for task in mine.values())
            counts = self.world.counts(batch)
            assert counts == Counts(
                succeeded=states["done"], running=states["leased"], waiting=states["pending"],
                paused=states["paused"], dead=states["dead"], cancelled=states["cancelled"],
            )  # fmt: skip
            assert counts.total == len(mine)
            assert self.world.done(batch) == {name for name, task in mine.items() if task.state == "done"}
        assert all(number <= 3 for number in self._running().values())

    def _waiting(self) -> int:
        return sum(task.state == "pending" for task in self.tasks.values())

    def _running(self) -> Counter[str]:
        return Counter(task.subject for task in self.tasks.values() if task.state == "leased")

    @staticmethod
    def _holds(task: Known, holder: str) -> bool:
        return task.state == "leased" and task.holder == holder

    def _column(self, column: str, task_id: str) -> list[Any]:
        rows = self.world.read(
            lambda tx: tx.rows(
                f"SELECT {column} FROM tracking WHERE id = "
                f"(SELECT id FROM task WHERE name = {int(task_id, 16)})"
            )
        )
        return [row[0] for row in rows]


def _run(made: Worlds, *, examples: int, steps: int) -> None:
    class Machine(TaskMachine):
        worlds = made

    limits = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_machine(Machine, settings=limits)


class TestMemoryMachine(MemoryBenches, Worlds):
    def test_i5_every_reachable_state_is_a_partition(self) -> None:
        _run(self, examples=60, steps=40)


class TestSqliteMachine(FileBenches, Worlds):
    def test_i5_every_reachable_state_is_a_partition(self) -> None:
        _run(self, examples=5, steps=30)


class TestPostgresMachine(PostgresBenches, Worlds):
    def test_i5_every_reachable_state_is_a_partition(self) -> None:
        _run(self, examples=5, steps=30)
