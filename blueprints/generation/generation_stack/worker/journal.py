"""Keeps the tasks of the worker on disk: what was accepted is there after kill -9 and power loss.

1. A task is accepted when its row is on disk, and done when its result and then its row are.
2. A state is changed only from the state that was read: of two hands on one task the second does nothing.
3. A row that says running at the start is of a life that ended: it is queued again, with that on record.
4. Closed and acknowledged tasks are forgotten in order, but never in the counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generation_stack.program.clock import Clock, Moment
from generation_stack.worker.rules import Attempt, Outcome
from generation_stack.worker.task import State, Task

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    request TEXT NOT NULL,
    origin TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    accepted_s REAL NOT NULL, accepted_wall_s REAL NOT NULL,
    deadline_s REAL NOT NULL, deadline_wall_s REAL NOT NULL,
    due_s REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    reason TEXT NOT NULL DEFAULT '',
    attempts TEXT NOT NULL DEFAULT '[]',
    sha256 TEXT NOT NULL DEFAULT '', result_bytes INTEGER NOT NULL DEFAULT 0,
    gaussians INTEGER NOT NULL DEFAULT 0, filled REAL NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_open ON tasks (due_s) WHERE state = 'queued';
CREATE TABLE IF NOT EXISTS forgotten (state TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
"""
_COLUMNS = (
    "id, request, origin, boot_id, accepted_s, accepted_wall_s, deadline_s, deadline_wall_s, due_s, state, "
    "reason, attempts, sha256, result_bytes, gaussians, filled, acknowledged"
)
#: Closed tasks that are kept to be looked at.
KEPT = 500
#: Attempts that are kept of one task.
_KEPT_ATTEMPTS = 1_000
#: A task that was in hand so often when the worker ended may be why it ended.
_MOST_INTERRUPTIONS = 5


class JournalInUseError(Exception):
    """Another worker has the journal."""


class ConflictError(Exception):
    """The same id was used for another task before."""


class Journal:
    """The tasks of one worker, in a folder of its own."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._results = folder / "results"
        self._results.mkdir(exist_ok=True)
        # The lock goes with the process, however that ends.
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise JournalInUseError(f"another worker uses {folder}: give this one another --data") from error
        self._db = sqlite3.connect(folder / "tasks.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Give the journal back."""
        self._db.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def recover(self) -> int:
        """Queue again what an earlier life was working on; return how many tasks those were."""
        now = self._clock.now()
        with self._transaction():
            cut = list(self._select("state = 'running'"))
            for task in cut:
                attempt = Attempt(Outcome.INTERRUPTED, "the worker ended in the middle of it", now, now)
                attempts = (*task.attempts, attempt)
                often = sum(1 for attempt in attempts if attempt.outcome is Outcome.INTERRUPTED)
                state = State.FAILED if often >= _MOST_INTERRUPTIONS else State.QUEUED
                self._db.execute(
                    "UPDATE tasks SET state = ?, due_s = ?, attempts = ?, reason = ? WHERE id = ?",
                    (
                        state,
                        now,
                        _written(attempts),
                        f"the worker ended {often} times while it had it",
                        task.id,
                    ),
                )
            # Times of another boot are times of another clock.
            for task in self._select("state = 'queued' AND boot_id != ?", self._clock.boot_id):
                self._write_times(task.id, task.accepted_at, task.deadline, now)
        self._sweep()
        return len(cut)

    def _sweep(self) -> None:
        """Remove results that no task has: a life may have ended between a result and its row."""
        kept = {row[0] for row in self._db.execute("SELECT sha256 FROM tasks WHERE state = 'done'")}
        for path in self._results.iterdir():
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def _write_times(self, id_: str, accepted_at: float, deadline: float, due_at: float) -> None:
        accepted, end = self._clock.moment(accepted_at), self._clock.moment(deadline)
        self._db.execute(
            "UPDATE tasks SET boot_id = ?, accepted_s = ?, accepted_wall_s = ?, deadline_s = ?, "
            "deadline_wall_s = ?, due_s = ? WHERE id = ?",
            (accepted.boot_id, accepted.boot_s, accepted.wall_s, end.boot_s, end.wall_s, due_at, id_),
        )

    def add(self, task: Task) -> Task:
        """Accept a task; the same task again is the same task. Raises ConflictError."""
        with self._transaction():
            known = self.find(task.id)
            if known is not None:
                if (known.request, known.origin) != (task.request, task.origin):
                    raise ConflictError(f"{task.id} was used for another task before")
                return known
            accepted, end = self._clock.moment(task.accepted_at), self._clock.moment(task.deadline)
            self._db.execute(
                "INSERT INTO tasks (id, request, origin, boot_id, accepted_s, accepted_wall_s, deadline_s, "
                "deadline_wall_s, due_s, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')",
                (
                    task.id, json.dumps(task.request), json.dumps(task.origin), accepted.boot_id,
                    accepted.boot_s, accepted.wall_s, end.boot_s, end.wall_s, task.due_at,
                ),
            )  # fmt: skip
        return task

    def find(self, id_: str) -> Task | None:
        """Return one task."""
        return next(iter(self._select("id = ?", id_)), None)

    def unacknowledged(self) -> list[Task]:
        """Return every task whose end nobody has acknowledged, the oldest first."""
        return list(self._select("acknowledged = 0"))

    def every(self) -> list[Task]:
        """Return every task that is still known, the oldest first."""
        return list(self._select("1"))

    def next_due(self) -> Task | None:
        """Return the queued task that has waited longest since it became due."""
        rows = self._select("state = 'queued' AND due_s <= ?", self._clock.now(), order="due_s, number")
        return next(iter(rows), None)

    def next_due_at(self) -> float | None:
        """Return when the next queued task becomes due."""
        found = self._db.execute("SELECT min(due_s) FROM tasks WHERE state = 'queued'").fetchone()[0]
        return None if found is None else float(found)

    def late(self) -> list[Task]:
        """Return the queued tasks whose deadline has come."""
        return list(self._select("state = 'queued' AND deadline_s <= ?", self._clock.now()))

    def begin(self, id_: str) -> bool:
        """Take a queued task in hand; return whether it was still there to be taken."""
        return self._change(id_, State.QUEUED, "state = 'running'")

    def retry(self, id_: str, attempts: list[Attempt], due_at: float, reason: str) -> bool:
        """Put a running task back."""
        return self._change(
            id_, State.RUNNING, "state = 'queued', attempts = ?, due_s = ?, reason = ?",
            _written(attempts), due_at, reason,
        )  # fmt: skip

    def fail(self, id_: str, was: State, attempts: list[Attempt], reason: str) -> bool:
        """Close a task without a result."""
        return self._change(
            id_, was, "state = 'failed', attempts = ?, reason = ?", _written(attempts), reason
        )

    def complete(self, id_: str, attempts: list[Attempt], facts: dict[str, Any]) -> bool:
        """Close a task whose result was kept before; ``facts`` are columns and their values."""
        columns = ", ".join(f"{name} = ?" for name in facts)
        return self._change(
            id_, State.RUNNING, f"state = 'done', reason = '', attempts = ?, {columns}",
            _written(attempts), *facts.values(),
        )  # fmt: skip

    def _change(self, id_: str, was: State, columns: str, *values: Any) -> bool:
        # What is put into the statement is written in this file; values are bound.
        done = self._db.execute(f"UPDATE tasks SET {columns} WHERE id = ? AND state = ?", (*values, id_, was))  # noqa: S608
        return done.rowcount == 1

    def keep(self, sha256: str, data: bytes) -> None:
        """Put a result on disk for good, whole or not at all."""
        path, part = self._results / f"{sha256}.ply", self._results / f"{sha256}.part"
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(self._results, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def result(self, task: Task) -> bytes | None:
        """Return the result of a task that is done; None where it was acknowledged and forgotten."""
        try:
            return (self._results / f"{task.sha256}.ply").read_bytes()
        except FileNotFoundError:
            return None

    def acknowledge(self, task: Task) -> None:
        """Forget the result of a closed task, and in time the task."""
        with self._transaction():
            self._db.execute("UPDATE tasks SET acknowledged = 1 WHERE id = ?", (task.id,))
            old = self._db.execute(
                "SELECT number, state FROM tasks WHERE acknowledged = 1 ORDER BY number DESC "
                "LIMIT -1 OFFSET ?",
                (KEPT,),
            ).fetchall()
            for number, state in old:
                self._db.execute(
                    "INSERT INTO forgotten VALUES (?, 1) ON CONFLICT (state) DO UPDATE SET count = count + 1",
                    (state,),
                )
                self._db.execute("DELETE FROM tasks WHERE number = ?", (number,))
        shared = self._db.execute(
            "SELECT 1 FROM tasks WHERE sha256 = ? AND acknowledged = 0 LIMIT 1", (task.sha256,)
        ).fetchone()
        if task.sha256 and shared is None:
            (self._results / f"{task.sha256}.ply").unlink(missing_ok=True)

    def unacknowledged_count(self) -> int:
        """Return how many closed tasks wait for somebody to take note."""
        where = "acknowledged = 0 AND state IN ('done', 'failed')"
        return int(self._db.execute(f"SELECT count(*) FROM tasks WHERE {where}").fetchone()[0])  # noqa: S608

    def counts(self) -> Counter[str]:
        """Return how many tasks are and were in each state; together they are all that were accepted."""
        counted: Counter[str] = Counter()
        for table in (
            "SELECT state, count(*) FROM tasks GROUP BY state",
            "SELECT state, count FROM forgotten",
        ):
            for state, count in self._db.execute(table):
                counted[state] += count
        return counted

    def _select(self, where: str, *values: Any, order: str = "number") -> Iterator[Task]:
        # What is put into the statement is written in this file; values are bound.
        statement = f"SELECT {_COLUMNS} FROM tasks WHERE {where} ORDER BY {order}"  # noqa: S608
        for row in self._db.execute(statement, values).fetchall():
            yield self._read(row)

    def _read(self, row: tuple[Any, ...]) -> Task:
        id_, request, origin, boot, accepted, accepted_wall, end, end_wall, due, state, *rest = row
        reason, attempts, sha256, size, gaussians, filled, is_acknowledged = rest
        accepted_at = self._clock.read(Moment(boot, accepted, accepted_wall))
        deadline = self._clock.read(Moment(boot, end, end_wall))
        return Task(
            id_, json.loads(request), json.loads(origin), accepted_at, deadline, State(state), due, reason,
            _attempts(attempts), sha256, size, gaussians, filled, bool(is_acknowledged),
        )  # fmt: skip


def _written(attempts: tuple[Attempt, ...] | list[Attempt]) -> str:
    return json.dumps([list(attempt) for attempt in attempts[-_KEPT_ATTEMPTS:]])


def _attempts(text: str) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(Outcome(outcome), reason, start, end) for outcome, reason, start, end in json.loads(text)
    )
