"""Claims and reports on SQLite: a statement costs little there, a touched page much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from standfast.facts.database import Queries, Tx
from standfast.tasks.attempts import attempt_name
from standfast.tasks.model import Ending, Lease, Terms, Waiting


class SqliteLeases:
    """``LeaseTable`` where writers stand in line anyway."""

    def __init__(self, sql: Queries) -> None:
        self._sql = sql

    def serialise(self, tx: Tx) -> None:
        """Do nothing: whoever writes is alone."""

    def enter(self, tx: Tx, executor: Mapping[str, str]) -> None:
        """Note that an executor asks; whoever writes is alone."""
        tx.rows(self._sql["see_executor"], executor)

    def grant(self, tx: Tx, chosen: Sequence[Waiting], terms: Terms) -> list[Lease]:
        """Lease the chosen tasks."""
        rows = {"rows": tx.array([waiting.row for waiting in chosen])}
        specs = {row[0]: row for row in tx.rows(self._sql["specs"], rows)}
        last = int(tx.rows(self._sql["last_token"])[0][0])
        holder, at, ttl_s, expires_at_ms, tails = terms
        grants, started, leases = [], [], []
        for token, tail, (row, subject, previous, attempts, _) in zip(
            range(last + 1, last + 1 + len(chosen)), tails, chosen, strict=False
        ):
            attempt_id = attempt_name(token, tail)
            _, name, batch, spec = specs[row]
            grants.append((row, token, holder, expires_at_ms))
            started.append((token, row, previous, attempt_id, holder, at))
            leases.append(
                Lease(f"{name:016x}", attempt_id, token, attempts + 1, batch, subject, spec, ttl_s)
            )
        tx.each(self._sql["grant"], grants)
        tx.each(self._sql["start_attempt"], started)
        return leases

    def conclude(
        self, tx: Tx, endings: Sequence[Ending], at: str, *, after_ms: int, until_ms: int
    ) -> set[int]:
        """End attempts whose lease runs out after ``after_ms``, at ``until_ms`` at the latest."""
        if not endings:
            return set()
        # Whoever writes is alone, so what holds now still holds at the write.
        row = {"rows": tx.array([e.row for e in endings]), "after_ms": after_ms, "until_ms": until_ms}
        holding = set(tx.rows(self._sql["holding"], row))
        ended = [e for e in endings if e[:2] in holding]
        tx.each(self._sql["move"], [e[:7] for e in ended])
        tx.each(self._sql["end_attempt"], [(e[1], e[7], at, *e[8:]) for e in ended])
        return {e.token for e in ended}

    def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], holder: str, *, now_ms: int, expires_at_ms: int
    ) -> set[tuple[int, int]]:
        """Give the leases of ``holder`` that are not over until ``expires_at_ms``."""
        rows = [(name, token, expires_at_ms, holder, now_ms) for name, token in held]
        return {(name, token) for name, token in tx.each(self._sql["extend"], rows)}
