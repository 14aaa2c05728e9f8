"""The tables of tasks: reads rows into values and writes decisions, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.database.ports import Dialect
from standfast.tasks.adapters.postgres import PostgresLeases
from standfast.tasks.adapters.sqlite import SqliteLeases
from standfast.tasks.attempts import name_of
from standfast.tasks.model import Counts, ExecutorInfo, Prior, TaskState, Tracking, Waiting
from standfast.tasks.ports import LeaseTable

_BEFORE_ALL = -(2**63)


class Control(NamedTuple):
    """The one row that every process shares: lease clock, drain switch, and who leads."""

    now_ms: int
    is_draining: bool
    leader: str
    term: int
    beat: int


class SubjectRow(NamedTuple):
    """A subject's slots and what they are adjusted by since ``adjusted_ms``."""

    name: str
    slots: int
    samples: int
    clean: int
    adjusted_ms: int
    is_paused: bool


class Move(NamedTuple):
    """A task's next place: written only while its token is still ``token``."""

    row: int
    token: int
    state: int
    order: int
    not_before_ms: int
    expires_at_ms: int
    attempts: int


class TaskStore:
    """Statements over tasks, tracking, attempts, subjects and executors of one database."""

    def __init__(self, dialect: Dialect) -> None:
        self.sql: Queries = load_queries("standfast.tasks", dialect)
        self.dialect: Dialect = dialect
        self.leases: LeaseTable = SqliteLeases(self.sql) if dialect == "sqlite" else PostgresLeases(self.sql)

    def control(self, tx: Tx) -> Control:
        """Return the shared row."""
        now_ms, is_draining, leader, term, beat = tx.rows(self.sql["control"])[0]
        return Control(int(now_ms), bool(is_draining), leader, int(term), int(beat))

    def serialise_claims(self, tx: Tx) -> None:
        """Let one claim at a time decide, so that two cannot overshoot a subject's slots."""
        self.leases.serialise(tx)

    def line(
        self, tx: Tx, count: int, *, after: Waiting | None = None, lanes: Sequence[str] = ()
    ) -> list[Waiting]:
        """Return the first ``count`` tasks of the line (behind ``after``, only of ``lanes``, where given)."""
        row: dict[str, Any] = {
            "after_order": after.order if after else _BEFORE_ALL, "after_row": after.row if after else 0,
            "count": count,
        }  # fmt: skip
        if lanes:
            row["lanes"] = tx.array(lanes)
        return [
            Waiting._make(found) for found in tx.rows(self.sql["line_in_lanes" if lanes else "line"], row)
        ]

    def aside(
        self, tx: Tx, subjects: Sequence[str], count: int, *, now_ms: int, lanes: Sequence[str] = ()
    ) -> list[Waiting]:
        """Return the first ``count`` tasks of each subject that were set aside and need not wait longer."""
        row = {"subjects": tx.array(subjects), "count": count, "now_ms": now_ms}
        if lanes:
            row["lanes"] = tx.array(lanes)
        return [
            Waiting._make(found) for found in tx.rows(self.sql["aside_in_lanes" if lanes else "aside"], row)
        ]

    def set_aside(self, tx: Tx, passed: Collection[Waiting]) -> None:
        """Take tasks out of the line, to wait by subject."""
        tx.rows(self.sql["set_aside"], {"rows": tx.array(sorted(waiting.row for waiting in passed))})

    def pending(self, tx: Tx) -> int:
        """Return how many tasks wait; those of a batch that is over never do."""
        return int(tx.rows(self.sql["pending_count"])[0][0])

    def attempts_of(self, tx: Tx, tokens: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return the name of the attempt that has each of ``tokens``, and the id of its task."""
        rows = tx.rows(self.sql["attempts_of"], {"tokens": tx.array(tokens)}) if tokens else []
        return {token: (attempt_id, f"{name:016x}") for token, attempt_id, name in rows}

    def last_token(self, tx: Tx) -> int:
        """Return the highest token ever granted, also by attempts that are forgotten."""
        return int(tx.rows(self.sql["last_token"])[0][0])

    def named(self, tx: Tx, task_id: str) -> Tracking | None:
        """Return where the task of that name stands, its row locked; None where there is none."""
        name = name_of(task_id)
        found = tx.rows(self.sql["named"], {"name": name}) if name is not None else []
        return Tracking._make(found[0]) if found else None

    def reported(self, tx: Tx, tokens: Sequence[int]) -> tuple[int, dict[int, tuple[Prior, Tracking]]]:
        """Return the lease clock, and by token the attempt that had it and where its task stands now."""
        rows = tx.rows(self.sql["reported"], {"tokens": tx.array(tokens)})
        known = {
            row[1]: (Prior._make(row[2:9]), Tracking._make(row[9:])) for row in rows if row[2] is not None
        }
        return int(rows[0][0]), known

    def existing(self, tx: Tx, names: Sequence[int]) -> set[int]:
        """Return those of ``names`` that are the key of a task."""
        return (
            {row[0] for row in tx.rows(self.sql["existing"], {"names": tx.array(names)})} if names else set()
        )

    def leased(self, tx: Tx, holder: str = "") -> list[Tracking]:
        """Return every leased task, or those of ``holder``."""
        query = "held_by" if holder else "leased"
        return [
            Tracking._make(row) for row in tx.rows(self.sql[query], {"holder": holder} if holder else None)
        ]

    def move(self, tx: Tx, moves: Sequence[Move]) -> None:
        """Write the next places."""
        tx.each(self.sql["move"], moves)

    def close_attempts(self, tx: Tx, rows: Sequence[tuple[int, int, str, str, str]]) -> None:
        """End running attempts: (token, state, ended at, error code, error)."""
        tx.each(self.sql["close_attempt"], rows)

    def counts(self, tx: Tx, batch: str) -> Counts:
        """Return the disjoint counts of a batch."""
        return counts_of((state, n) for state, n in tx.rows(self.sql["batch_counts"], {"batch": batch}))

    def counts_by_subject(self, tx: Tx, batch: str) -> dict[str, Counts]:
        """Return the disjoint counts of a batch, by subject."""
        grouped: dict[str, list[tuple[int, int]]] = {}
        for subject, state, number in tx.rows(self.sql["batch_counts_by_subject"], {"batch": batch}):
            grouped.setdefault(subject, []).append((state, number))
        return {subject: counts_of(rows) for subject, rows in grouped.items()}

    def outcome_means(self, tx: Tx, batch: str, field: str) -> dict[tuple[str, str], tuple[int, float]]:
        """Return for each (subject, lane) how many results were accepted, and the mean of their ``field``."""
        rows = tx.rows(self.sql["outcome_means"], {"batch": batch, "field": field})
        return {(subject, lane): (int(number), float(mean or 0.0)) for subject, lane, number, mean in rows}

    def subjects(self, tx: Tx) -> list[SubjectRow]:
        """Return every subject with its slots and samples."""
        rows = tx.rows(self.sql["subjects"])
        return [
            SubjectRow(name, slots, samples, clean, adjusted_ms, bool(is_paused))
            for name, slots, samples, clean, adjusted_ms, is_paused in rows
        ]

    def executors(self, tx: Tx) -> list[ExecutorInfo]:
        """Return every executor that ever asked for work and was not forgotten."""
        now_ms = self.control(tx).now_ms
        return [
            ExecutorInfo(
                name=name, instance=instance, last_seen_at=at, silent_s=max(0, now_ms - seen_ms) / 1000,
                cordoned=bool(is_cordoned), running=int(running), info=json.loads(info),
            )
            for name, instance, at, seen_ms, is_cordoned, info, running in tx.rows(self.sql["executors"])
        ]  # fmt: skip


def counts_of(rows: Iterable[tuple[Any, Any]]) -> Counts:
    """Return Counts from (state, number) pairs."""
    by_state = {TaskState(int(state)): int(number) for state, number in rows}
    return Counts(
        succeeded=by_state.get(TaskState.DONE, 0),
        running=by_state.get(TaskState.LEASED, 0),
        waiting=by_state.get(TaskState.PENDING, 0),
        paused=by_state.get(TaskState.PAUSED, 0),
        dead=by_state.get(TaskState.DEAD, 0),
        cancelled=by_state.get(TaskState.CANCELLED, 0),
    )
