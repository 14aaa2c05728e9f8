"""The validator's account of every task it has issued, on disk; the counts are disjoint by construction.

A task is a row with one state, so issued = open + accepted + rejected + expired whatever happens. Closed
rows are forgotten in time, but never in the counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation_stack.program.clock import Clock, Moment
from generation_stack.validator.rules import Feedback, State

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    hotkey TEXT NOT NULL,
    request TEXT NOT NULL,
    boot_id TEXT NOT NULL, issued_s REAL NOT NULL, issued_wall_s REAL NOT NULL,
    deadline_after_s REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'rejected', 'expired')),
    score REAL NOT NULL DEFAULT 0, reasons TEXT NOT NULL DEFAULT '[]', cooldown_s REAL NOT NULL DEFAULT 0,
    sha256 TEXT NOT NULL DEFAULT '', took_s REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_open ON tasks (hotkey) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS accepted (sha256 TEXT PRIMARY KEY, task TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS miners (
    hotkey TEXT PRIMARY KEY, public_key TEXT NOT NULL,
    boot_id TEXT NOT NULL DEFAULT '', free_s REAL NOT NULL DEFAULT 0, free_wall_s REAL NOT NULL DEFAULT 0,
    scores REAL NOT NULL DEFAULT 0, early INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS forgotten (
    hotkey TEXT NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (hotkey, state)
) STRICT;
"""
#: Closed tasks, and results that would be recognised, that are kept.
KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Issued:
    """One task that was given out; times are the clock's seconds of this boot."""

    id: str
    hotkey: str
    request: dict[str, Any]
    issued_at: float
    deadline: float
    state: State
    score: float
    reasons: list[str]
    cooldown_s: float


class Ledger:
    """The account of one validator."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._db = sqlite3.connect(folder / "ledger.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def key_of(self, hotkey: str, public_key: str) -> str:
        """Return the key that a hotkey has here; its first one is its own from then on."""
        self._db.execute(
            "INSERT OR IGNORE INTO miners (hotkey, public_key) VALUES (?, ?)", (hotkey, public_key)
        )
        found = self._db.execute("SELECT public_key FROM miners WHERE hotkey = ?", (hotkey,)).fetchone()
        return str(found[0])

    def issue(self, id_: str, hotkey: str, request: dict[str, Any], deadline_s: float) -> Issued:
        """Put a task on the account before it is given out."""
        now = self._clock.moment(self._clock.now())
        self._db.execute(
            "INSERT INTO tasks (id, hotkey, request, boot_id, issued_s, issued_wall_s, deadline_after_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (id_, hotkey, json.dumps(request), *now, deadline_s),
        )
        found = self.find(id_)
        assert found is not None
        return found

    def find(self, id_: str) -> Issued | None:
        """Return one task."""
        return next(self._select("id = ?", id_), None)

    def open_of(self, hotkey: str) -> list[Issued]:
        """Return the open tasks of a miner, the oldest first."""
        return list(self._select("hotkey = ? AND state = 'open'", hotkey))

    def settle(self, task: Issued, told: Feedback, sha256: str) -> bool:
        """Close an open task; return whether it was still open."""
        now = self._clock.now()
        with self._transaction():
            done = self._db.execute(
                "UPDATE tasks SET state = ?, score = ?, reasons = ?, cooldown_s = ?, sha256 = ?, took_s = ? "
                "WHERE id = ? AND state = 'open'",
                (
                    told.state, told.score, json.dumps(told.reasons), told.cooldown_s, sha256,
                    now - task.issued_at, task.id,
                ),
            )  # fmt: skip
            if done.rowcount != 1:
                return False
            self._wait(task.hotkey, now + told.cooldown_s)
            self._db.execute(
                "UPDATE miners SET scores = scores + ? WHERE hotkey = ?", (told.score, task.hotkey)
            )
            if told.state is State.ACCEPTED:
                self._db.execute("INSERT OR IGNORE INTO accepted VALUES (?, ?)", (sha256, task.id))
        return True

    def expire(self, cooldown_s: float) -> list[Issued]:
        """Close every open task whose deadline has come; return them."""
        now = self._clock.now()
        late = [task for task in self._select("state = 'open'") if task.deadline <= now]
        with self._transaction():
            for task in late:
                reasons = json.dumps(["expired: no result came within its time"])
                self._db.execute(
                    "UPDATE tasks SET state = 'expired', reasons = ? WHERE id = ? AND state = 'open'",
                    (reasons, task.id),
                )
                self._wait(task.hotkey, now + cooldown_s)
            self._forget()
        return late

    def _forget(self) -> None:
        old = self._db.execute(
            "SELECT number, hotkey, state FROM tasks WHERE state != 'open' ORDER BY number DESC "
            "LIMIT -1 OFFSET ?",
            (KEPT,),
        ).fetchall()
        for number, hotkey, state in old:
            self._db.execute(
                "INSERT INTO forgotten VALUES (?, ?, 1) "
                "ON CONFLICT (hotkey, state) DO UPDATE SET count = count + 1",
                (hotkey, state),
            )
            self._db.execute("DELETE FROM tasks WHERE number = ?", (number,))
        if old:
            self._db.execute(
                "DELETE FROM accepted WHERE rowid NOT IN "
                "(SELECT rowid FROM accepted ORDER BY rowid DESC LIMIT ?)",
                (KEPT * 10,),
            )

    def _wait(self, hotkey: str, until: float) -> None:
        moment = self._clock.moment(until)
        self._db.execute(
            "UPDATE miners SET boot_id = ?, free_s = ?, free_wall_s = ? WHERE hotkey = ?", (*moment, hotkey)
        )

    def free_in_s(self, hotkey: str) -> float:
        """Return how long a miner still has to wait; 0 = not at all."""
        row = self._db.execute(
            "SELECT boot_id, free_s, free_wall_s FROM miners WHERE hotkey = ?", (hotkey,)
        ).fetchone()
        if row is None or not row[0]:
            return 0.0
        return max(0.0, self._clock.read(Moment(*row)) - self._clock.now())

    def early(self, hotkey: str) -> None:
        """Note that a miner asked before its cooldown was over."""
        self._db.execute("UPDATE miners SET early = early + 1 WHERE hotkey = ?", (hotkey,))

    def task_with(self, sha256: str) -> str:
        """Return the task that a result was accepted for, or nothing."""
        row = self._db.execute("SELECT task FROM accepted WHERE sha256 = ?", (sha256,)).fetchone()
        return str(row[0]) if row else ""

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Return what every miner's account says: issued is the sum of the other four counts."""
        counts: dict[str, Counter[str]] = {}
        for table in (
            "SELECT hotkey, state, count(*) FROM tasks GROUP BY hotkey, state",
            "SELECT hotkey, state, count FROM forgotten",
        ):
            for hotkey, state, count in self._db.execute(table):
                counts.setdefault(hotkey, Counter())[state] += count
        found: dict[str, dict[str, Any]] = {}
        for hotkey, scores, early in self._db.execute("SELECT hotkey, scores, early FROM miners"):
            of = counts.get(hotkey, Counter())
            judged = of[State.ACCEPTED] + of[State.REJECTED]
            found[hotkey] = {
                "issued": of.total(),
                **{state: of[state] for state in State},
                "average_score": round(scores / judged, 4) if judged else None,
                "early_requests": early,
                "cooldown_s": round(self.free_in_s(hotkey), 3),
            }
        return found

    def recent(self, most: int) -> list[dict[str, Any]]:
        """Return the latest tasks, the newest first, without their pictures."""
        rows = self._db.execute(
            "SELECT id, hotkey, request, state, score, reasons, took_s FROM tasks "
            "ORDER BY number DESC LIMIT ?",
            (most,),
        )
        return [
            {
                "id": id_, "hotkey": hotkey, "asked": json.loads(request).get("prompt", "a picture"),
                "state": state, "score": score, "reasons": json.loads(reasons), "took_s": round(took_s, 3),
            }
            for id_, hotkey, request, state, score, reasons, took_s in rows
        ]  # fmt: skip

    def _select(self, where: str, *values: Any) -> Iterator[Issued]:
        # What is put into the statement is written in this file; values are bound.
        rows = self._db.execute(
            "SELECT id, hotkey, request, boot_id, issued_s, issued_wall_s, deadline_after_s, state, score, "  # noqa: S608
            f"reasons, cooldown_s FROM tasks WHERE {where} ORDER BY number",
            values,
        ).fetchall()
        for id_, hotkey, request, boot, at, wall, after, state, score, reasons, cooldown in rows:
            issued_at = self._clock.read(Moment(boot, at, wall))
            yield Issued(
                id_, hotkey, json.loads(request), issued_at, issued_at + after, State(state), score,
                json.loads(reasons), cooldown,
            )  # fmt: skip
