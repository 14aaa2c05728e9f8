"""Answers a batch of reports: each by the rules, all that count in one write, none at another's cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from standfast.facts.database import Tx
from standfast.facts.database.errors import StatementError
from standfast.kernel.canonical import canonical_json
from standfast.tasks import decide
from standfast.tasks.attempts import name_of
from standfast.tasks.model import (
    Answer,
    AttemptState,
    Ending,
    Event,
    ItemAnswer,
    Prior,
    Report,
    TaskState,
    Tracking,
)
from standfast.tasks.store import Move, TaskStore

FOREVER_MS = 2**62
_NOTHING = (None, None)
_DONE = decide.TRANSITIONS[TaskState.LEASED, Event.RESULT].value
_RESULT, _FAILED = AttemptState.RESULT.value, AttemptState.FAILED.value


class Late(NamedTuple):
    """A report that came when its lease was over."""

    token: int
    sha256: str
    holder: str
    answer: str
    outcome: str
    at: str


class Item(NamedTuple):
    """One report of a batch and its place in it."""

    place: int
    report: Report


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
        items = list(map(Item, range(len(reports)), reports))
        if objections := decide.objections(reports):
            items = [item for item in items if item.place not in objections]
            for place, objection in objections.items():
                self._answers[place] = ItemAnswer(reports[place].task_id, Answer.INVALID, objection)
        self._settle(tx, items)
        return [self._answers[place] for place in range(len(reports))]

    def _settle(self, tx: Tx, items: list[Item]) -> None:
        if not items:
            return
        try:
            with tx.savepoint():
                answers = self._finish(tx, items)
        except StatementError as error:
            if len(items) == 1:
                place, report = items[0]
                self._answers[place] = ItemAnswer(report.task_id, Answer.INVALID, error.why or error.what)
                return
            middle = len(items) // 2  # Halving ends: each call has fewer items, down to one.
            self._settle(tx, items[:middle])
            self._settle(tx, items[middle:])
            return
        self._answers.update(answers)

    def _finish(self, tx: Tx, items: list[Item]) -> dict[int, ItemAnswer]:
        """Store the results whose lease holds, which is nearly all of them, and judge the others singly."""
        first: dict[int, Item] = {}
        for item in items:
            first.setdefault(item.report.token, item)
        results = [item.report for item in first.values() if item.report.is_result]
        subjects = self._store.leases.finish(tx, results, self._holder, self._at) if results else {}
        answers: dict[int, ItemAnswer] = {}
        samples: dict[str, list[int]] = {}
        rest = []
        for item in items:
            place, report = item
            subject = subjects.get(report.token)
            if subject is not None and first[report.token] is item:
                answers[place] = ItemAnswer(report.task_id, Answer.ACCEPTED)
                sample = samples.setdefault(subject, [0, 0])
                sample[0] += 1
                sample[1] += report.is_clean
            else:
                rest.append(item)
        self._sample(tx, samples)
        if rest:
            answers.update(self._judge(tx, rest))
        return answers

    def _sample(self, tx: Tx, samples: Mapping[str, list[int]]) -> None:
        """Write down (results, clean ones) by subject, for the leader to add up."""
        if samples:
            tx.rows(self._store.sql["add_sample"], {"body": json.dumps(samples)})

    def _judge(self, tx: Tx, items: list[Item]) -> dict[int, ItemAnswer]:
        now_ms, known = self._store.reported(tx, [item.report.token for item in items])
        existing = self._existing(tx, items, known)
        answers: dict[int, ItemAnswer] = {}
        counted: dict[int, tuple[Tracking, Report]] = {}
        late: list[Late] = []
        for place, report in items:
            name = name_of(report.task_id)
            prior, current = known.get(report.token, _NOTHING)
            if prior is None or current is None or prior.name != name:
                settled = decide.unmatched(report, is_task=name in existing)
            else:
                if earlier := counted.get(report.token):
                    # An earlier item of this batch was accepted for this lease.
                    prior = decide.reported(prior, earlier[1])
                settled = decide.settle(current, prior, report, holder=self._holder, now_ms=now_ms)
                if settled.answer is Answer.ACCEPTED:
                    counted[report.token] = (current, report)
            if settled.is_late:
                late.append(self._late(report, settled.answer))
            answers[place] = ItemAnswer(report.task_id, settled.answer, settled.message)
        tx.each(self._store.sql["late"], late)
        if beaten := self._write(tx, counted, now_ms):
            # Somebody ended these leases between the look and the write. A token that has lost its lease
            # never gets it back, so the second look settles them.
            answers.update(self._judge(tx, [item for item in items if item.report.token in beaten]))
        return answers

    def _existing(
        self, tx: Tx, items: list[Item], known: Mapping[int, tuple[Prior, Tracking]]
    ) -> set[int | None]:
        odd = set()
        for _, report in items:
            name, found = name_of(report.task_id), known.get(report.token)
            if name is not None and (found is None or found[0].name != name):
                odd.add(name)
        return set(self._store.existing(tx, sorted(odd)))

    def _late(self, report: Report, answer: Answer) -> Late:
        identity = sha256(canonical_json(report[2:]).encode()).hexdigest()
        return Late(report.token, identity, self._holder, answer.value, report.outcome, self._at)

    def _write(self, tx: Tx, counted: Mapping[int, tuple[Tracking, Report]], now_ms: int) -> set[int]:
        """End the attempts that count, and return the tokens of those that somebody else ended before."""
        if not counted:
            return set()
        endings = [self._ending(current, report, now_ms) for current, report in counted.values()]
        written = self._store.leases.conclude(tx, endings, self._at, after_ms=now_ms, until_ms=FOREVER_MS)
        samples: dict[str, list[int]] = {}
        for token in written:
            current, report = counted[token]
            if report.is_result:  # A failure of our own says nothing about the subject (I6).
                sample = samples.setdefault(current.subject, [0, 0])
                sample[0] += 1
                sample[1] += report.is_clean
        self._sample(tx, samples)
        return counted.keys() - written

    def _ending(self, current: Tracking, report: Report, now_ms: int) -> Ending:
        if report.is_result:
            return Ending(current.row, current.token, _DONE, 0, 0, 0, current.attempts, _RESULT, *report[4:])
        event = decide.after_failure(current.attempts, self._max_attempts)
        return Ending(*self._places.next_place(current, event, now_ms), _FAILED, *report[4:])
