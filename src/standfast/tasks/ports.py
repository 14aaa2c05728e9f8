"""What claims and reports need from a store in as few statements as its dialect allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from standfast.facts.database import Tx
from standfast.tasks.model import Ending, Granted, Look, Report


class LeaseTable(Protocol):
    """The statements that every claim, report and heartbeat runs.

    * Claims decide one at a time: ``enter`` lets the next one in when this transaction ends.
    * Tokens grow with every grant, whatever was forgotten since.
    * ``finish``, ``conclude`` and ``extend`` write a row only while its token holds the lease, and name those
      they wrote: somebody else may have been faster since the rows were read.
    """

    def serialise(self, tx: Tx) -> None:
        """Wait until no other transaction claims, adds or closes; those that come wait for this one."""
        ...

    def enter(self, tx: Tx, executor: Mapping[str, str]) -> Look:
        """Note that an executor asks (name, instance, at, info), wait for this claim's turn, and look."""
        ...

    def grant(self, tx: Tx, granted: Sequence[Granted], holder: str, *, at: str, expires_at_ms: int) -> None:
        """Lease tasks that wait and were read under this claim's turn, and start their attempts."""
        ...

    def finish(self, tx: Tx, results: Sequence[Report], holder: str, at: str) -> dict[int, str]:
        """End the attempts of those ``results`` whose lease ``holder`` has and is not over.

        Their tasks are done. Return the subject of each by token. No two of ``results`` have one token.
        """
        ...

    def conclude(
        self, tx: Tx, endings: Sequence[Ending], at: str, *, after_ms: int, until_ms: int
    ) -> set[int]:
        """End attempts whose lease runs out after ``after_ms``, at ``until_ms`` at the latest.

        Return the tokens of those that were ended.
        """
        ...

    def extend(
        self, tx: Tx, held: Sequence[tuple[int, int]], holder: str, *, now_ms: int, expires_at_ms: int
    ) -> set[tuple[int, int]]:
        """Give the leases (name of the task, token) of ``holder`` that are not over until ``expires_at_ms``.

        Return those that were extended.
        """
        ...
