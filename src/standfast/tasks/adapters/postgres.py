"""Claims and reports on PostgreSQL: few statements, because each is a round trip.

Nothing is locked before it is written: the condition of the write is the check, and its answer is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from standfast.facts.database import Queries, Tx
from standfast.tasks.attempts import name_of
from standfast.tasks.model import Ending, Granted, Look, Report


class PostgresLeases:
    """``LeaseTable`` where others write at the same time."""

    def __init__(self, sql: Queries) -> None:
        self._sql = sql

    def serialise(self, tx: Tx) -> None:
        """Take the claim lock, which this transaction's end gives back."""
        tx.rows(self._sql["lock_claims"])

    def enter(self, tx: Tx, executor: Mapping[str, str]) -> Look:
        """Note that an executor asks, wait for the claim lock, and look: what is read after it is current."""
        tx.rows(self._sql["enter"], executor)
        rows = tx.rows(self._sql["look"], {"name": executor["name"]})
        # One row at least: the outer join gives one also where there is no subject.
        now_ms, is_draining, is_cordoned = rows[0][:3]
        is_any_aside, last_token = rows[0][6:8]
        free = {row[3]: row[4] for row in rows if row[3] is not None and row[4] > 0}
        running = {row[3]: row[5] for row in rows if row[3] is not None}
        flags = bool(is_draining), bool(is_cordoned), bool(is_any_aside)
        return Look(now_ms, *flags, last_token, free, running)

    def grant(self, tx: Tx, granted: Sequence[Granted], holder: str, *, at: str, expires_at_ms: int) -> None:
        """Lease tasks and start their attempts."""
        rows, tokens, previous, attempt_ids = zip(*granted, strict=True)
        tx.rows(
            self._sql["grant"],
            {
                "rows": tx.array(rows), "tokens": tx.array(tokens), "previous": tx.array(previous),
                "attempt_ids": tx.array(attempt_ids), "holder": holder, "at": at,
                "expires_at": expires_at_ms,
            },
        )  # fmt: skip

    def finish(self, tx: Tx, results: Sequence[Report], holder: str, at: str) -> dict[int, str]:
        """End the attempts of those ``results`` whose lease ``holder`` has and is not over."""
        # In the order of their tokens, so that two that meet take the locks in the same order.
        _, tokens, _, _, classes, outcomes, codes, errors = zip(*sorted(results, key=_token_of), strict=True)
        names = [name_of(report.task_id) for report in sorted(results, key=_token_of)]
        written = tx.rows(
            self._sql["finish"],
            {
                "tokens": tx.array(tokens), "names": tx.array(names), "classes": tx.array(classes),
                "outcomes": tx.array(outcomes), "codes": tx.array(codes), "errors": tx.array(errors),
                "holder": holder, "at": at,
            },
        )  # fmt: skip
        return dict(written)

    def conclude(
        self, tx: Tx, endings: Sequence[Ending], at: str, *, after_ms: int, until_ms: int
    ) -> set[int]:
        """End attempts whose lease runs out after ``after_ms``, at ``until_ms`` at the latest."""
        if not endings:
            return set()
        # In the order of their rows, so that two that meet take the locks in the same order.
        columns = [tx.array(column) for column in zip(*sorted(endings, key=_row_of), strict=True)]
        names = ("rows", "tokens", "states", "orders", "not_before", "expires_at", "attempts",
                 "attempt_states", "classes", "outcomes", "codes", "errors")  # fmt: skip
        row = dict(zip(names, columns, strict=True))
        written = tx.rows(
            self._sql["conclude"], {**row, "at": at, "after_ms": after_ms, "until_ms": until_ms}
        )
        return {token for (token,) in written}

    def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], holder: str, *, now_ms: int, expires_at_ms: int
    ) -> set[tuple[int, int]]:
        """Give the leases of ``holder`` that are not over until ``expires_at_ms``."""
        if not held:
            return set()
        names, tokens = zip(*sorted(held), strict=True)
        written = tx.rows(
            self._sql["extend"],
            {
                "names": tx.array(names), "tokens": tx.array(tokens), "holder": holder, "now_ms": now_ms,
                "expires_at": expires_at_ms,
            },
        )  # fmt: skip
        return {(name, token) for name, token in written}


def _row_of(ending: Ending) -> int:
    return ending.row


def _token_of(report: Report) -> int:
    return report.token
