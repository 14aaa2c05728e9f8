"""Publishes complete rounds: read back, judge, prepare, send, read back, record; level-triggered.

A crash between any two steps is healed by the next look: what was prepared is sent again under the same
epoch with the same bytes, and the publisher answers that it is already there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from standfast.app.plane import ControlPlane, publication_policy
from standfast.evaluation.model import RoundState
from standfast.evaluation.rounds import RoundRow
from standfast.facts.database import Tx
from standfast.kernel.errors import RefusedError, StandfastError, TransientError
from standfast.publication.decide import judge
from standfast.publication.document import document_of, is_repeat
from standfast.publication.model import Candidate, Evidence, Published, Unreadable, Withhold
from standfast.publication.ports import Publisher, StaleLeaderError
from standfast.publication.store import PublicationRow
from standfast.tasks.upkeep import Leadership


@dataclass(frozen=True, slots=True)
class Settled:
    """How one round's publication ended just now."""

    round_number: int
    state: RoundState
    reason: str = ""


class Publishing:
    """Moves complete rounds to published or withheld, one at a time, oldest first."""

    def __init__(self, plane: ControlPlane, publisher: Publisher | None, leadership: Leadership) -> None:
        self._plane = plane
        self._publisher = publisher
        self._leadership = leadership

    async def look(self) -> Settled | None:
        """Settle the oldest complete round, or return None when nothing is owed.

        Raises TransientError when the publisher cannot be reached now: the round stays complete and is
        tried again. StaleTokenError means that somebody else leads.
        """
        plane = self._plane
        row = await plane.database.read(self._oldest)
        if row is None or row.result is None:
            return None
        if row.result["outcome"] == "hold":
            return await self._withhold(row, "NobodyQualified", row.result["reason"])
        if self._publisher is None:
            return await self._withhold(row, "NoPublisher", "publication kind is none")
        held = await self._held(self._publisher)
        prepared = await plane.database.read(lambda tx: plane.publications.of_round(tx, row.number))
        if prepared is not None and isinstance(held, Published) and is_repeat(prepared.document, held):
            # It was sent before a crash: whatever the gate would say now, it is out.
            return await plane.database.write(lambda tx: self._record(tx, row, prepared))
        decided = await plane.database.write(lambda tx: self._decide(tx, row, held, prepared))
        if isinstance(decided, Withhold):
            reason = "; ".join(f"{o.reason}: {o.message}" for o in decided.objections)
            epoch = prepared.epoch if prepared is not None else 0
            return await self._withhold(row, decided.objections[0].reason.value, reason, epoch=epoch)
        return await self._send(self._publisher, row, decided)

    def _oldest(self, tx: Tx) -> RoundRow | None:
        numbers = self._plane.rounds.complete(tx)
        return self._plane.rounds.get(tx, numbers[0]) if numbers else None

    async def _held(self, publisher: Publisher) -> Published | Unreadable | None:
        try:
            return await publisher.read_back()
        except TransientError:
            raise  # Asking again may help; nothing is decided now.
        except StandfastError as error:
            return Unreadable(str(error))

    def _decide(
        self, tx: Tx, row: RoundRow, held: Published | Unreadable | None, prepared: PublicationRow | None
    ) -> PublicationRow | Withhold:
        plane = self._plane
        term = self._leadership.hold(tx)
        held_epoch = held.epoch if isinstance(held, Published) else 0
        own_epoch = plane.publications.next_epoch(tx, 0) - 1
        if prepared is None and 0 < own_epoch < held_epoch:
            # Numbers go on above it, but somebody else publishes where we do, and that must be findable.
            body = {"held_epoch": held_epoch, "own_epoch": own_epoch}
            plane.facts.append(tx, "publication.foreign", str(row.number), body)
        epoch = prepared.epoch if prepared is not None else plane.publications.next_epoch(tx, held_epoch)
        candidate = _candidate(row, epoch, term)
        decided = judge(
            candidate, evidence=self._evidence(tx, row), policy=publication_policy(plane.config), last=held,
            leader_term=term, now=plane.clock.wall(),
        )  # fmt: skip
        if isinstance(decided, Withhold):
            return decided
        if prepared is None:
            plane.publications.prepare(tx, row.number, document_of(decided.candidate))
            prepared = plane.publications.of_round(tx, row.number)
            assert prepared is not None, "it was written in this transaction"
        return prepared

    def _evidence(self, tx: Tx, row: RoundRow) -> Evidence:
        counts = self._plane.rounds.counts(tx, row)
        assert row.result is not None
        return Evidence(
            expected=counts.total,
            scored=counts.succeeded,
            subject_shares=row.result["shares"],
            sha256=row.evidence_sha256,
        )

    async def _send(self, publisher: Publisher, row: RoundRow, prepared: PublicationRow) -> Settled:
        plane = self._plane
        # Prove the lead once more, as late as possible: between deciding and sending we may have slept.
        await plane.database.write(self._leadership.hold)
        try:
            await publisher.publish(prepared.document)
        except StaleLeaderError:
            raise
        except RefusedError as error:
            return await self._withhold(row, error.code, str(error), epoch=prepared.epoch)
        return await plane.database.write(lambda tx: self._record(tx, row, prepared))

    def _record(self, tx: Tx, row: RoundRow, prepared: PublicationRow) -> Settled:
        plane = self._plane
        self._leadership.hold(tx)
        if plane.publications.settle(tx, prepared.epoch, "published"):
            plane.rounds.settle(tx, row.number, RoundState.PUBLISHED, row.code, row.reason)
            body = {
                "epoch": prepared.epoch,
                "sha256": prepared.sha256,
                "evidence_sha256": row.evidence_sha256,
            }
            plane.facts.append(tx, "round.published", str(row.number), body)
        return Settled(row.number, RoundState.PUBLISHED)

    async def _withhold(self, row: RoundRow, code: str, reason: str, *, epoch: int = 0) -> Settled:
        plane = self._plane

        def work(tx: Tx) -> None:
            self._leadership.hold(tx)
            if epoch:
                plane.publications.settle(tx, epoch, "withheld", reason)
            if plane.rounds.settle(tx, row.number, RoundState.WITHHELD, code, reason):
                plane.facts.append(tx, "round.withheld", str(row.number), {"code": code, "reason": reason})

        await plane.database.write(work)
        return Settled(row.number, RoundState.WITHHELD, reason)


def _candidate(row: RoundRow, epoch: int, term: int) -> Candidate:
    assert row.result is not None
    carrying = {uid: weight for uid, weight in row.result["weights"].items() if weight > 0}
    hotkeys = {subject.name: subject.hotkey for subject in row.plan.subjects}
    return Candidate(
        epoch=epoch,
        round_id=row.plan.batch,
        weights=carrying,
        u16={uid: row.result["u16"][uid] for uid in carrying},
        hotkeys={uid: hotkeys[uid] for uid in carrying if uid in hotkeys},
        evidence_sha256=row.evidence_sha256,
        leader_term=term,
        computed_at=datetime.fromisoformat(row.ended_at),
    )
