"""Answers a batch of reports: each by the rules, all that count in one write, none at another's cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from standfast.facts.database import Tx
from standfast.facts.database.errors import StatementError
from standfast.tasks import decide
from standfast.tasks.model import (
    Answer,
    AttemptState,
    Ending,
    Event,
    ItemAnswer,
    Prior,
    Report,
    Tracking,
)
from standfast.tasks.store import Move, TaskStore, name_of

FOREVER_MS = 2**62


class Late(NamedTuple):
    """A report that came when its lease was over."""

    token: int
    sha256: str
    holder: str
    answer: str
    outcome: str
    at: str


class Item(NamedTuple):
    """One report of a batch: its place in it, and the identity of what it says."""

    place: int
    report: Report
    sha256: str


class Places(Protocol):
    """Says where a task goes."""

    def next_place(self, current: Tracking, event: Event, now_ms: int) -> Move:
        """Return where a leased task goes after ``event``."""
        ...


class Settlement:
    """The answers to one batch of one holder.

    * An item that no store could keep is INVALID before anything is looked at.
    * The rest is written at once; when the database refuses it, it is halved until the refused items stand
      alone (a savepoint per item costs 25 times as much on PostgreSQL).
    """

    def __init__(self, store: TaskStore, places: Places, max_attempts: int, *, holder: str, at: str) -> None:
        self._store = store
        self._places = places
        self._max_attempts = max_attempts
        self._holder = holder
        self._at = at
        self._answers: dict[int, ItemAnswer] = {}

    def answer(self, tx: Tx, reports: Sequence[Report]) -> list[ItemAnswer]:
        """Return the answers in the order of the reports."""
        items = []
        for index, report in enumerate(reports):
            if objection := decide.objection(report):
                self._answers[index] = ItemAnswer(report.task_id, Answer.INVALID, objection)
            else:
                items.append(Item(index, report, report_hash(report)))
        self._settle(tx, items)
        return [self._answers[index] for index in range(len(reports))]

    def _settle(self, tx: Tx, items: list[Item]) -> None:
        if not items:
            return
        try:
            with tx.savepoint():
                answers = self._settle_once(tx, items)
        except StatementError as error:
            if len(items) == 1:
                place, report, _ = items[0]
                self._answers[place] = ItemAnswer(report.task_id, Answer.INVALID, error.why or error.what)
                return
            middle = len(items) // 2  # Halving ends: each call has fewer items, down to one.
            self._settle(tx, items[:middle])
            self._settle(tx, items[middle:])
            return
        self._answers.update(answers)

    def _settle_once(self, tx: Tx, items: list[Item]) -> dict[int, ItemAnswer]:
        now_ms, known = self._store.reported(tx, [item.report.token for item in items])
        existing = self._existing(tx, items, known)
        answers: dict[int, ItemAnswer] = {}
        counted: dict[int, tuple[Tracking, Item]] = {}
        late: list[Late] = []
        for item in items:
            place, report, sha256 = item
            prior, current = known.get(report.token, (None, None))
            name = name_of(report.task_id)
            if prior is None or current is None or prior.name != name:
                settled = decide.unmatched(report, is_task=name in existing)
            else:
                settled = decide.settle(current, prior, report, sha256, holder=self._holder, now_ms=now_ms)
                if settled.answer is Answer.ACCEPTED:
                    counted[report.token] = (current, item)
                    # What comes after it in this batch for the same lease meets it as already accepted.
                    known[report.token] = (prior._replace(sha256=sha256), current)
            if settled.is_late:
                late.append(
                    Late(report.token, sha256, self._holder, settled.answer, report.outcome, self._at)
                )
            answers[place] = ItemAnswer(report.task_id, settled.answer, settled.message)
        tx.each(self._store.sql["late"], late)
        if beaten := self._write(tx, counted, now_ms):
            # Somebody ended these leases between the look and the write. A token that has lost its lease
            # never gets it back, so the second look settles them.
            answers.update(self._settle_once(tx, [item for item in items if item.report.token in beaten]))
        return answers

    def _late(self, item: Item, answer: Answer) -> Late:
        _, report, sha256 = item
        return Late(report.token, sha256, self._holder, answer.value, report.outcome, self._at)

    def _existing(
        self, tx: Tx, items: list[Item], known: Mapping[int, tuple[Prior, Tracking]]
    ) -> set[int | None]:
        named = [(name_of(report.task_id), known.get(report.token)) for _, report, _ in items]
        odd = {name for name, found in named if name is not None and (not found or found[0].name != name)}
        return set(self._store.existing(tx, sorted(odd)))

    def _write(self, tx: Tx, counted: Mapping[int, tuple[Tracking, Item]], now_ms: int) -> set[int]:
        """End the attempts that count, and return the tokens of those that somebody else ended before."""
        if not counted:
            return set()
        endings = [self._ending(current, item, now_ms) for current, item in counted.values()]
        written = self._store.leases.conclude(tx, endings, self._at, after_ms=now_ms, until_ms=FOREVER_MS)
        samples: dict[str, list[int]] = {}
        for token in written:
            current, (_, report, _) = counted[token]
            if report.is_result:  # A failure of our own says nothing about the subject (I6).
                sample = samples.setdefault(current.subject, [0, 0])
                sample[0] += 1
                sample[1] += report.is_clean
        if samples:
            tx.rows(self._store.sql["add_sample"], {"body": json.dumps(samples)})
        return counted.keys() - written

    def _ending(self, current: Tracking, item: Item, now_ms: int) -> Ending:
        _, report, sha256 = item
        event = decide.after_report(report, current.attempts, self._max_attempts)
        state = AttemptState.RESULT if report.is_result else AttemptState.FAILED
        return Ending(
            *self._places.next_place(current, event, now_ms),
            state.value, report.outcome_class, report.outcome, sha256, report.error_code, report.error,
        )  # fmt: skip


def report_hash(report: Report) -> str:
    """Return the identity of what a report says, by which a resend is known."""
    said = (
        f"{report.is_result:d}\n{report.outcome_class}\n{report.error_code}\n{report.error}\n{report.outcome}"
    )
    return hashlib.sha256(said.encode()).hexdigest()
