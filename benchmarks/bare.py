"""The bare SQL that our leasing is measured against: the best plain queue we can write by hand.

It has what any queue needs (attempt counter, unguessable token, expiry, fenced completion, result), one table
and two statements a batch. It has no subjects, slots, attempt history, late reports, or answer per item.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import apsw
import psycopg

from standfast.facts.database.postgres import array_literal

BATCH = 100
RESULT = '{"success":true,"score":1.0}'
SPEC = '{"env":"abc","seed":1}'
_TTL_S = 60

_TABLE = """CREATE TABLE job (id {big} PRIMARY KEY, subject TEXT NOT NULL, spec TEXT NOT NULL,
  state {small} NOT NULL, ord {big} NOT NULL, attempts {small} NOT NULL, token TEXT, holder TEXT,
  expires_at {big}, result TEXT)"""
_INDEXES = (
    "CREATE INDEX job_pending ON job (ord) WHERE state = 0",
    "CREATE INDEX job_leased ON job (expires_at) WHERE state = 1",
)


def rows(jobs: int, subjects: int) -> list[tuple[Any, ...]]:
    """Return jobs in the order in which they will be claimed, as our own driver stores them."""
    orders = sorted(int.from_bytes(os.urandom(7), "big") for _ in range(jobs))
    return [(number, str(number % subjects), SPEC, order) for number, order in enumerate(orders)]


class BareSqlite:
    """apsw, WAL, synchronous=FULL: the settings of our own store."""

    def __init__(self, path: Path, jobs: int, subjects: int) -> None:
        self._db = apsw.Connection(str(path))
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute(_TABLE.format(big="INTEGER", small="INTEGER") + " STRICT")
        for index in _INDEXES:
            self._db.execute(index)
        with self._db:
            self._db.executemany(
                "INSERT INTO job VALUES (?, ?, ?, 0, ?, 0, NULL, NULL, NULL, NULL)", rows(jobs, subjects)
            )

    def claim(self, count: int) -> list[tuple[Any, ...]]:
        """Lease up to ``count`` jobs."""
        self._db.execute("BEGIN IMMEDIATE")
        taken = self._db.execute(
            "UPDATE job SET state = 1, attempts = attempts + 1, token = lower(hex(randomblob(16))),"
            " holder = 'e', expires_at = ?"
            " WHERE id IN (SELECT id FROM job WHERE state = 0 ORDER BY ord LIMIT ?)"
            " RETURNING id, token, spec",
            (int(time.time()) + _TTL_S, count),
        ).fetchall()
        self._db.execute("COMMIT")
        return taken

    def complete(self, taken: list[tuple[Any, ...]]) -> None:
        """Store results under their tokens."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "UPDATE job SET state = 2, result = ? WHERE id = ? AND token = ? AND state = 1",
            [(RESULT, row, token) for row, token, _ in taken],
        )
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


class BarePostgres:
    """psycopg 3, one connection, synchronous_commit=on; each statement is its own transaction."""

    def __init__(self, url: str, jobs: int, subjects: int) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        self._db.execute((_TABLE.format(big="BIGINT", small="SMALLINT") + " WITH (fillfactor = 70)").encode())
        for index in _INDEXES:
            self._db.execute(index.encode())
        with (
            self._db.transaction(),
            self._db.cursor() as cursor,
            cursor.copy("COPY job (id, subject, spec, state, ord, attempts) FROM STDIN") as copy,
        ):
            for number, subject, spec, order in rows(jobs, subjects):
                copy.write_row((number, subject, spec, 0, order, 0))
        self._db.execute("VACUUM ANALYZE job")

    def claim(self, count: int) -> list[tuple[Any, ...]]:
        """Lease up to ``count`` jobs."""
        return self._db.execute(
            "UPDATE job SET state = 1, attempts = attempts + 1, token = gen_random_uuid()::text,"
            " holder = 'e', expires_at = %s"
            " WHERE id IN (SELECT id FROM job WHERE state = 0 ORDER BY ord LIMIT %s"
            " FOR UPDATE SKIP LOCKED) RETURNING id, token, spec",
            (int(time.time()) + _TTL_S, count),
        ).fetchall()

    def complete(self, taken: list[tuple[Any, ...]]) -> None:
        """Store results under their tokens."""
        rows, tokens, _ = zip(*taken, strict=True)
        self._db.execute(
            "UPDATE job j SET state = 2, result = x.result"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS x (id, token, result)"
            " WHERE j.id = x.id AND j.token = x.token AND j.state = 1",
            (array_literal(rows), array_literal(tokens), array_literal([RESULT] * len(taken))),
        )

    def close(self) -> None:
        """Let the connection go."""
        self._db.close()
