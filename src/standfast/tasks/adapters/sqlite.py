"""Claims and reports on SQLite: a statement costs little there, a touched page much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from standfast.facts.database import Queries, Tx
from standfast.tasks.attempts import attempt_name
from standfast.tasks.model import Ending, Taken, Terms


class SqliteLeases:
    """``LeaseTable`` where writers stand in line anyway."""

    def __init__(self, sql: Queries) -> None:
        self._sql = sql

    def serialise(self, tx: Tx) -> None:
        """Do nothing: whoever writes is alone."""

    def enter(self, tx: Tx, executor: Mapping[str, str]) -> None:
        """Note that an executor asks; whoever writes is alone."""
        tx.rows(self._sql["see_executor"], executor)

    def take(self, tx: Tx, quotas: Mapping[str, int], terms: Terms) -> list[Taken]:
        """Lease up to its quota of each subject's waiting tasks."""
        by_count: dict[int, list[str]] = {}
        for subject, count in quotas.items():
            by_count.setdefault(count, []).append(subject)
        picked = []
        for count, subjects in by_count.items():
            row = {"subjects": tx.array(subjects), "count": count, "now_ms": terms.now_ms}
            if terms.lanes:
                picked += tx.rows(self._sql["pick_in_lanes"], {**row, "lanes": tx.array(terms.lanes)})
            else:
                picked += tx.rows(self._sql["pick"], row)
        if not picked:
            return []
        last = int(tx.rows(self._sql["last_token"])[0][0])
        grants, started, taken = [], [], []
        for token, tail, found in zip(
            range(last + 1, last + len(picked) + 1), terms.attempt_tails, picked, strict=False
        ):
            row_id, previous, attempts, name, batch, subject, spec = found
            attempt_id = attempt_name(token, tail)
            grants.append((row_id, token, terms.holder, terms.expires_at_ms))
            started.append((token, row_id, previous, attempt_id, terms.holder, terms.at))
            taken.append(Taken(name, attempt_id, token, attempts + 1, batch, subject, spec))
        tx.each(self._sql["grant"], grants)
        tx.each(self._sql["start_attempt"], started)
        return taken

    def conclude(
        self, tx: Tx, endings: Sequence[Ending], at: str, *, after_ms: int, until_ms: int
    ) -> set[int]:
        """End attempts whose lease runs out after ``after_ms``, at ``until_ms`` at the latest."""
        moved = tx.each(self._sql["conclude"], [(*e[:7], after_ms, until_ms) for e in endings])
        tokens = {row[0] for row in moved}
        tx.each(
            self._sql["end_attempt"],
            [(e.token, e.attempt_state, at, *e[8:]) for e in endings if e.token in tokens],
        )
        return tokens

    def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], holder: str, *, now_ms: int, expires_at_ms: int
    ) -> set[tuple[int, int]]:
        """Give the leases of ``holder`` that are not over until ``expires_at_ms``."""
        rows = [(name, token, expires_at_ms, holder, now_ms) for name, token in held]
        return {(name, token) for name, token in tx.each(self._sql["extend"], rows)}
