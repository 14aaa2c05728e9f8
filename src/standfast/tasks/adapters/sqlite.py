"""Claims and reports on SQLite: a statement costs little there, a touched page much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from standfast.facts.database import Queries, Tx
from standfast.tasks.model import Ending, Granted, Look, Report


class SqliteLeases:
    """``LeaseTable`` where writers stand in line anyway."""

    def __init__(self, sql: Queries) -> None:
        self._sql = sql

    def serialise(self, tx: Tx) -> None:
        """Do nothing: whoever writes is alone."""

    def enter(self, tx: Tx, executor: Mapping[str, str]) -> Look:
        """Note that an executor asks, if that is not known already, and look; whoever writes is alone."""
        glance = tx.rows(self._sql["glance"], executor)
        # A write for every call of an executor with nothing to do would be an fsync for every call.
        if not glance:
            tx.rows(self._sql["see_executor"], executor)
            glance = tx.rows(self._sql["glance"], executor)
        now_ms, *flags, last_token = glance[0]
        is_draining, is_cordoned, is_any_aside = map(bool, flags)
        running: dict[str, int] = dict(tx.rows(self._sql["running"]))
        slots = tx.rows(self._sql["slots"])
        free = {name: left for name, n in slots if (left := n - running.get(name, 0)) > 0}
        return Look(now_ms, is_draining, is_cordoned, is_any_aside, last_token, free, running)

    def grant(self, tx: Tx, granted: Sequence[Granted], holder: str, *, at: str, expires_at_ms: int) -> None:
        """Lease tasks and start their attempts."""
        tx.each(self._sql["grant"], [(row, token, holder, expires_at_ms) for row, token, _, _ in granted])
        tx.each(
            self._sql["start_attempt"],
            [(token, row, previous, attempt_id, holder, at) for row, token, previous, attempt_id in granted],
        )

    def finish(self, tx: Tx, results: Sequence[Report], holder: str, at: str) -> dict[int, str]:
        """End the attempts of those ``results`` whose lease ``holder`` has and is not over."""
        row = {"tokens": tx.array([report.token for report in results]), "holder": holder}
        held = {token: rest for token, *rest in tx.rows(self._sql["held"], row)}
        rows, attempts, subjects = [], [], {}
        for task_id, token, _, _, outcome_class, outcome, error_code, error in results:
            if token in held:
                name, row_id, subject = held[token]
                if f"{name:016x}" == task_id:
                    rows.append((row_id,))
                    attempts.append((token, at, outcome_class, outcome, error_code, error))
                    subjects[token] = subject
        # Whoever writes is alone, so what is held now still is at the write.
        tx.each(self._sql["finish"], rows)
        tx.each(self._sql["accept"], attempts)
        return subjects

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
