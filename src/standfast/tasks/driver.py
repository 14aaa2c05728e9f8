"""Claims, reports, heartbeats and releases: read, decide, write, in one transaction each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from standfast.facts.database import Tx
from standfast.facts.database.errors import StatementError
from standfast.kernel.canonical import canonical_json
from standfast.kernel.clock import Clock, Entropy, iso
from standfast.tasks import decide
from standfast.tasks.model import (
    Answer,
    AttemptState,
    Event,
    ItemAnswer,
    Lease,
    NewTask,
    Prior,
    Report,
    TaskPolicy,
    TaskState,
    Tracking,
)
from standfast.tasks.store import Control, Move, Picked, TaskStore, name_of

_PASSES = 3
_ORDER_BITS = 62


class Claim(NamedTuple):
    """Who asks for work: ``limit`` tasks at most, for the executor ``holder`` in its life ``instance``."""

    holder: str
    instance: str
    limit: int
    info: Mapping[str, Any]


class Grant(NamedTuple):
    """What a claim got, and why it got nothing where it got nothing."""

    leases: list[Lease]
    reason: str = ""


class TaskDriver:
    """The working side of tasks."""

    def __init__(self, store: TaskStore, policy: TaskPolicy, clock: Clock, entropy: Entropy) -> None:
        self.store = store
        self.policy = policy
        self._clock = clock
        self._entropy = entropy

    def add(self, tx: Tx, tasks: Sequence[NewTask]) -> None:
        """Add work; what is there already, by id or by (batch, key), is left as it is."""
        at, sql = self.wall_iso(), self.store.sql
        for subject in sorted({task.subject for task in tasks}):
            tx.rows(sql["add_subject"], {"name": subject, "slots": self.policy.slots_initial})
        # Stored in the order of the claims to come: neighbours are then claimed together.
        ordered = sorted(tasks, key=lambda task: task.order)
        names = [int(task.task_id, 16) for task in ordered]
        rows = [
            (name, t.batch, t.subject, t.lane, t.key, canonical_json(t.spec), at)
            for name, t in zip(names, ordered, strict=True)
        ]
        tx.each(sql["add_task"], rows)
        tx.each(sql["add_tracking"], [(n, t.subject, t.order) for n, t in zip(names, ordered, strict=True)])

    def claim(self, tx: Tx, claim: Claim) -> Grant:
        """Lease up to ``claim.limit`` waiting tasks, least served subjects first, within their slots."""
        control = self._see(tx, claim)
        if control.is_draining:
            return Grant([], "draining: an operator stopped new claims (standfast task drain --off)")
        if tx.rows(self.store.sql["executor"], {"name": claim.holder})[0][1]:
            return Grant([], f"{claim.holder} is cordoned")
        self.store.serialise_claims(tx)
        chosen = self._choose(tx, claim.limit, control.now_ms)
        leases = self._grant(tx, chosen, claim.holder, control.now_ms)
        return Grant(leases, "" if leases else "no task is waiting")

    def _see(self, tx: Tx, claim: Claim) -> Control:
        control = self.store.control(tx)
        tx.rows(
            self.store.sql["see_executor"],
            {
                "name": claim.holder, "instance": claim.instance, "at": self.wall_iso(),
                "now_ms": control.now_ms, "info": canonical_json(claim.info),
            },
        )  # fmt: skip
        return control

    def _choose(self, tx: Tx, count: int, now_ms: int) -> list[Picked]:
        slots, running = self.store.claimable(tx), self.store.running(tx)
        free = {name: n for name in self._shuffled(slots) if (n := slots[name] - running.get(name, 0)) > 0}
        chosen: dict[str, list[Picked]] = {}
        # A subject with less work than its share leaves room for others; a few passes fill it, and
        # what they miss is claimed by the next request.
        for _ in range(_PASSES):
            quotas = decide.share(free, running, count)
            changed = {name: n for name, n in quotas.items() if len(chosen.get(name, ())) < n}
            if not changed:
                break
            chosen.update(self.store.pick(tx, changed, now_ms))
            for name, wanted in changed.items():
                if len(chosen[name]) < wanted:
                    free[name] = len(chosen[name])
            if sum(map(len, chosen.values())) >= count:
                break
        return [picked for several in chosen.values() for picked in several][:count]

    def _shuffled(self, names: Mapping[str, int]) -> list[str]:
        # Equal subjects must not be served in the order of their names for ever.
        draws = self._entropy.token_bytes(4 * len(names))
        keyed = zip((draws[i : i + 4] for i in range(0, len(draws), 4)), names, strict=True)
        return [name for _, name in sorted(keyed)]

    def _grant(self, tx: Tx, chosen: list[Picked], holder: str, now_ms: int) -> list[Lease]:
        ttl_s, at = self.policy.lease_ttl_s, self.wall_iso()
        expires_at, token = now_ms + int(ttl_s * 1000), self.store.last_token(tx)
        leases, grants, attempts = [], [], []
        for picked, name in zip(chosen, self._attempt_ids(len(chosen)), strict=True):
            token += 1
            grants.append((picked.row, token, holder, expires_at))
            attempts.append((token, picked.row, picked.token, name, holder, at))
            task_id = f"{picked.name:016x}"
            number = picked.attempts + 1
            leases.append(
                Lease(task_id, name, token, number, picked.batch, picked.subject, picked.spec, ttl_s)
            )
        tx.each(self.store.sql["grant"], grants)
        tx.each(self.store.sql["start_attempt"], attempts)
        return leases

    def _attempt_ids(self, count: int) -> list[str]:
        # Version 4 UUIDs, written out here because uuid.UUID costs more than the SQL beside it.
        drawn = self._entropy.token_bytes(16 * count).hex()
        return [
            f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
            for h in (drawn[i : i + 32] for i in range(0, len(drawn), 32))
        ]

    def submit(self, tx: Tx, holder: str, reports: Sequence[Report]) -> list[ItemAnswer]:
        """Answer every report; what is answered ACCEPTED is written, and one bad item costs no other.

        The batch is written at once; when the database refuses it, it is halved until the refused items
        stand alone (a savepoint per item costs 25 times as much on PostgreSQL).
        """
        earlier = decide.first_answers(reports)
        first = [index for index, twin in enumerate(earlier) if twin is None]
        answers: list[ItemAnswer | None] = [None] * len(reports)
        hashes = [report_hash(report) for report in reports]
        self._settle(tx, holder, [(index, reports[index], hashes[index]) for index in first], answers)
        for index, twin in enumerate(earlier):
            if twin is not None:
                is_same = hashes[index] == hashes[twin]
                kind = Answer.DUPLICATE if is_same else Answer.STALE
                answers[index] = ItemAnswer(
                    reports[index].task_id, kind, f"item {twin} of this batch has this lease"
                )
        return [answer for answer in answers if answer is not None]

    def _settle(
        self, tx: Tx, holder: str, items: list[tuple[int, Report, str]], answers: list[ItemAnswer | None]
    ) -> None:
        if not items:
            return
        try:
            with tx.savepoint():
                settled = self._settle_once(tx, holder, items)
        except StatementError as error:
            if len(items) == 1:
                index, report, _ = items[0]
                answers[index] = ItemAnswer(report.task_id, Answer.INVALID, error.why or error.what)
                return
            middle = len(items) // 2  # Halving ends: each call has fewer items, down to one.
            self._settle(tx, holder, items[:middle], answers)
            self._settle(tx, holder, items[middle:], answers)
            return
        for (index, _, _), answer in zip(items, settled, strict=True):
            answers[index] = answer

    def _settle_once(self, tx: Tx, holder: str, items: list[tuple[int, Report, str]]) -> list[ItemAnswer]:
        now_ms = self.store.control(tx).now_ms
        known = self.store.reported(tx, [report.token for _, report, _ in items])
        pairs: list[tuple[Tracking | None, Report, str, decide.Settled]] = []
        for _, report, sha256 in items:
            prior, current = known.get(report.token, (None, None))
            name = name_of(report.task_id)
            if prior is None or prior.name != name:
                prior, current = None, self.store.named(tx, report.task_id)
            settled = decide.settle(current, prior, report, sha256, holder=holder, now_ms=now_ms)
            pairs.append((current, report, sha256, settled))
        self._write(tx, holder, now_ms, pairs)
        return [ItemAnswer(report.task_id, s.answer, s.message) for _, report, _, s in pairs]

    def _write(
        self,
        tx: Tx,
        holder: str,
        now_ms: int,
        pairs: list[tuple[Tracking | None, Report, str, decide.Settled]],
    ) -> None:
        at, sql = self.wall_iso(), self.store.sql
        ended, finished, moves, late = [], [], [], []
        samples: dict[str, list[int]] = {}
        for current, report, sha256, settled in pairs:
            if settled.is_late:
                late.append((report.token, sha256, holder, settled.answer.value, report.outcome, at))
            if current is None or settled.answer is not Answer.ACCEPTED:
                continue
            state = AttemptState.RESULT if report.is_result else AttemptState.FAILED
            ended.append(
                (report.token, state.value, at, report.outcome_class, report.outcome, sha256,
                 report.error_code, report.error)
            )  # fmt: skip
            if report.is_result:
                finished.append((current.row, report.token, TaskState.DONE.value))
            else:
                event = decide.after_failure(current.attempts, self.policy.max_attempts)
                moves.append(self.next_place(current, event, now_ms))
            sample = samples.setdefault(current.subject, [0, 0])
            sample[0] += 1
            sample[1] += report.is_clean
        tx.each(sql["end_attempt"], ended)
        tx.each(sql["finish"], finished)
        tx.each(sql["move"], moves)
        tx.each(sql["late"], late)
        tx.each(sql["sampled"], [(name, total, clean) for name, (total, clean) in sorted(samples.items())])

    def next_place(self, current: Tracking, event: Event, now_ms: int) -> Move:
        """Return where a leased task goes after a failure, an expiry or a release."""
        state = decide.TRANSITIONS[TaskState(current.state), event]
        attempts = current.attempts
        not_before_ms = expires_at_ms = 0
        if event is Event.FAIL_RETRY:
            unit = int.from_bytes(self._entropy.token_bytes(4), "big") / 2**32
            not_before_ms = now_ms + decide.retry_delay_ms(attempts, self.policy, unit=unit)
        elif event is Event.FAIL_LIMIT:
            expires_at_ms = now_ms + int(self.policy.paused_ttl_s * 1000)
        elif event is Event.RELEASE:
            attempts = max(0, attempts - 1)  # Work that was given back untouched was not tried.
        return Move(
            current.row, current.token, state.value, self.draw_order(), not_before_ms, expires_at_ms, attempts
        )

    def attempt_counts(self, tx: Tx, batch: str) -> list[tuple[str, str, int]]:
        """Return how the attempts of a batch ended: (state, error code, number)."""
        rows = tx.rows(self.store.sql["attempt_counts"], {"batch": batch})
        return [(AttemptState(state).name.lower(), code, int(number)) for state, code, number in rows]

    def wall_iso(self) -> str:
        """Return the wall-clock instant, for people."""
        return iso(self._clock.wall())

    def draw_order(self) -> int:
        """Return a random place in the order of claims, so that retries cannot be foreseen either."""
        return int.from_bytes(self._entropy.token_bytes(8), "big") >> (64 - _ORDER_BITS)

    def heartbeat(self, tx: Tx, claim: Claim, held: Sequence[tuple[str, int]]) -> list[str]:
        """Extend the leases that ``held`` (task, token) names and return the tasks that are lost."""
        control = self._see(tx, claim)
        known = self.store.reported(tx, [token for _, token in held])
        live = {
            token: current.row
            for token, (prior, current) in known.items()
            if _is_held(prior, current, claim.holder) and current.expires_at_ms > control.now_ms
        }
        expires_at = control.now_ms + int(self.policy.lease_ttl_s * 1000)
        tx.each(self.store.sql["extend"], [(row, token, expires_at) for token, row in live.items()])
        return [task_id for task_id, token in held if token not in live]

    def release(self, tx: Tx, holder: str, held: Sequence[tuple[str, int]] | None, reason: str) -> int:
        """Give leases back without counting an attempt: the named ones, or all of ``holder``."""
        mine = self.store.leased(tx, holder)
        if held is not None:
            tokens = {token for _, token in held}
            mine = [t for t in mine if t.token in tokens]
        return self._take_back(tx, mine, AttemptState.RELEASED, ("Released", reason))

    def register(self, tx: Tx, claim: Claim) -> int:
        """Note an executor's new life; what its earlier life still holds goes back to the queue.

        The attempt stays counted: the earlier life may have died of it.
        """
        before = tx.rows(self.store.sql["executor"], {"name": claim.holder})
        self._see(tx, claim)
        if not before or before[0][0] == claim.instance:
            return 0
        return self.lose(tx, self.store.leased(tx, claim.holder), "ExecutorRestarted")

    def lose(self, tx: Tx, lost: Sequence[Tracking], code: str) -> int:
        """Take leases away from holders that are gone; each attempt stays counted."""
        return self._take_back(tx, lost, AttemptState.EXPIRED, (code, "the holder is gone"))

    def _take_back(
        self, tx: Tx, leased: Sequence[Tracking], state: AttemptState, why: tuple[str, str]
    ) -> int:
        # Locked and read again: a report may have been accepted between the look and now.
        locked = self.store.tracked(tx, [t.row for t in leased])
        still = [
            now for t in leased
            if (now := locked[t.row]).token == t.token and now.state == TaskState.LEASED
        ]  # fmt: skip
        now_ms, at = self.store.control(tx).now_ms, self.wall_iso()
        limit = self.policy.max_attempts
        moves = [
            self.next_place(
                t,
                Event.RELEASE if state is AttemptState.RELEASED else decide.after_failure(t.attempts, limit),
                now_ms,
            )
            for t in still
        ]
        self.store.move(tx, moves)
        self.store.close_attempts(tx, [(t.token, state.value, at, *why) for t in still])
        return len(still)


def report_hash(report: Report) -> str:
    """Return the identity of what a report says, by which a resend is known."""
    said = (
        f"{report.is_result:d}\n{report.outcome_class}\n{report.error_code}\n{report.error}\n{report.outcome}"
    )
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def _is_held(prior: Prior, current: Tracking, holder: str) -> bool:
    is_running = prior.state == AttemptState.RUNNING and current.state == TaskState.LEASED
    return is_running and prior.holder == holder == current.holder
