"""Appends facts inside the caller's transaction and reads them back; rows are never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.database.ports import Dialect
from standfast.facts.model import GENESIS, Broken, Fact, Intact, fact_hash, verify
from standfast.kernel.canonical import canonical_json
from standfast.kernel.clock import Clock, iso

_PAGE = 1_000
_BEFORE_ALL = -(2**63)  # A row that was slipped in before the first one is looked at too.


class FactStore:
    """The facts of one database.

    * A fact is written in the transaction of what it tells, or neither is.
    * Appends are serialised, so that two writers cannot both follow the same row.
    """

    def __init__(self, dialect: Dialect, clock: Clock) -> None:
        self._sql: Queries = load_queries("standfast.facts", dialect)
        self._clock = clock

    def append(self, tx: Tx, kind: str, subject: str, body: Mapping[str, Any]) -> Fact:
        """Append one fact and return it; ValueError or TypeError for a body that is not JSON."""
        # As it will be read back: a key that is a number is a word in JSON, and sorts as one.
        body = json.loads(canonical_json(body))
        seq, previous = self._head(tx, "head_for_update")
        at = iso(self._clock.wall())
        seq += 1
        row_hash = fact_hash(seq, at, kind, subject, (body, previous))
        fact = Fact(seq, at, kind, subject, body, previous, row_hash)
        tx.rows(
            self._sql["append"],
            {
                "seq": seq, "at": at, "kind": kind, "subject": subject,
                "body": canonical_json(body), "previous": previous, "hash": row_hash,
            },
        )  # fmt: skip
        tx.rows(self._sql["set_head"], {"seq": seq, "hash": row_hash})
        return fact

    def page(
        self, tx: Tx, *, after: int = 0, limit: int = 100, kind: str = "", newest: bool = False
    ) -> list[Fact]:
        """Return up to ``limit`` facts after number ``after``, or the newest ones, oldest first."""
        query = "newest" if newest else "page"
        rows = tx.rows(self._sql[query], {"after": after, "limit": limit, "kind": kind})
        facts = [fact for row in rows if isinstance(fact := _fact(row), Fact)]
        return facts[::-1] if newest else facts

    def verify(self, tx: Tx) -> Intact | Broken:
        """Walk the whole chain and name the first broken row."""
        seq, head = self._head(tx, "head")
        return verify(self._all(tx), head_seq=seq, head=head)

    def _head(self, tx: Tx, query: str) -> tuple[int, str]:
        rows = tx.rows(self._sql[query])
        return (int(rows[0][0]), rows[0][1]) if rows else (0, GENESIS)

    def _all(self, tx: Tx) -> Iterator[Fact | Broken]:
        after = _BEFORE_ALL
        # Each page starts after the last one's last number, so the walk ends at the last row.
        while rows := tx.rows(self._sql["page"], {"after": after, "limit": _PAGE, "kind": ""}):
            yield from (_fact(row) for row in rows)
            after = rows[-1][0]


def _fact(row: tuple[Any, ...]) -> Fact | Broken:
    seq, at, kind, subject, body, previous, row_hash = row
    try:
        parsed = json.loads(body)
        is_canonical = canonical_json(parsed) == body
    except (ValueError, RecursionError):
        return Broken(int(seq), "its body is not JSON")
    if not is_canonical:
        return Broken(int(seq), "its body is not written as facts are")
    return Fact(int(seq), at, kind, subject, parsed, previous, row_hash)
