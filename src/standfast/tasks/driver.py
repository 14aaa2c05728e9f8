"""Claims, reports, heartbeats and releases: read, decide, write, in one transaction each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from standfast.facts.database import Tx
from standfast.kernel.canonical import canonical_json
from standfast.kernel.clock import Clock, Entropy, iso
from standfast.tasks import decide
from standfast.tasks.attempts import attempt_name, attempt_tails, name_of
from standfast.tasks.model import (
    AttemptState,
    Ending,
    Event,
    Granted,
    ItemAnswer,
    Lease,
    Look,
    NewTask,
    Report,
    TaskPolicy,
    TaskState,
    Tracking,
    Waiting,
)
from standfast.tasks.settlement import FOREVER_MS, Settlement
from standfast.tasks.store import Move, TaskStore

_ORDER_BITS = 62
# How much longer than the claim the first stretch of the line is that it looks at, and the longest one.
_SPARE, _LONGEST_STRETCH = 16, 10_000


class Claim(NamedTuple):
    """Who asks for work: ``limit`` tasks at most, for the executor ``holder`` in its life ``instance``.

    ``lanes`` names the only lanes that are wanted; none means all.
    """

    holder: str
    instance: str
    limit: int
    info: Mapping[str, Any]
    lanes: tuple[str, ...] = ()


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
        """Add work, except to a batch that is over.

        What is there already, by id or by (batch, key), is left as it is.
        """
        if not tasks:
            return
        self.store.serialise_claims(tx)  # A batch must not be closed in the middle of this.
        at, sql = self.wall_iso(), self.store.sql
        subjects = sorted({task.subject for task in tasks})
        tx.each(sql["add_subject"], [(subject, self.policy.slots_initial) for subject in subjects])
        # Stored in the order of the claims to come: neighbours are then claimed together.
        ordered = sorted(tasks, key=lambda task: task.order)
        names = [int(task.task_id, 16) for task in ordered]
        rows = [
            (name, t.batch, t.subject, t.lane, t.key, canonical_json(t.spec), at)
            for name, t in zip(names, ordered, strict=True)
        ]
        tx.each(sql["add_task"], rows)
        tx.each(sql["add_tracking"], [(name, t.order) for name, t in zip(names, ordered, strict=True)])

    def claim(self, tx: Tx, claim: Claim) -> Grant:
        """Lease up to ``claim.limit`` waiting tasks, least served subjects first, within their slots."""
        look = self.store.leases.enter(tx, self._card(claim))
        if look.is_draining:
            return Grant([], "draining: an operator stopped new claims (standfast task drain --off)")
        if look.is_cordoned:
            return Grant([], f"{claim.holder} is cordoned")
        if not look.free:
            return Grant([], "no subject has a free slot")
        chosen = self._choose(tx, claim, look)
        if not chosen:
            return Grant([], "no task is waiting")
        return Grant(self._grant(tx, claim.holder, look, chosen))

    def _card(self, claim: Claim) -> dict[str, str]:
        return {
            "name": claim.holder, "instance": claim.instance, "at": self.wall_iso(),
            "info": canonical_json(claim.info),
        }  # fmt: skip

    def _choose(self, tx: Tx, claim: Claim, look: Look) -> list[Waiting]:
        """Return what to lease, in order; what the line has to be looked past is set aside on the way."""
        free, running, lanes = look.free, look.running, claim.lanes
        count = min(claim.limit, sum(free.values()))
        ceilings = decide.ceilings(free, running, count)
        seen = self._aside(tx, look, ceilings, lanes)
        size, last = count + _SPARE, None
        # Each turn takes a longer stretch of the line than the one before, up to the longest.
        while size <= _LONGEST_STRETCH:
            stretch = self.store.line(tx, size, after=last, lanes=lanes)
            seen = sorted([*seen, *stretch], key=_order) if seen else stretch
            chosen, passed = decide.choose(seen, ceilings, count)
            if len(chosen) == count:
                return chosen
            if len(stretch) < size:
                break
            self.store.set_aside(tx, set(stretch).intersection(passed))
            size, last = size * 4, stretch[-1]
        # Fewer were found than asked for: now what is there is known, and is shared by what is there.
        known = {one.row: one for one in [*seen, *self._aside(tx, look, free, lanes)]}
        return decide.choose_exactly(sorted(known.values(), key=_order), free, running, count)

    def _aside(self, tx: Tx, look: Look, most: Mapping[str, int], lanes: tuple[str, ...]) -> list[Waiting]:
        if not (look.is_any_aside and most):
            return []
        return self.store.aside(tx, list(most), max(most.values()), now_ms=look.now_ms, lanes=lanes)

    def _grant(self, tx: Tx, holder: str, look: Look, chosen: Sequence[Waiting]) -> list[Lease]:
        ttl_s = self.policy.lease_ttl_s
        granted: list[Granted] = []
        leases: list[Lease] = []
        tails = attempt_tails(self._entropy.token_bytes(10 * len(chosen)))
        for token, (tail, one) in enumerate(zip(tails, chosen, strict=True), look.last_token + 1):
            row, subject, previous, attempts, _, name, batch, spec = one
            attempt_id = attempt_name(token, tail)
            granted.append((row, token, previous, attempt_id))
            leases.append(Lease(f"{name:016x}", attempt_id, token, attempts + 1, batch, subject, spec, ttl_s))
        expires_at_ms = look.now_ms + int(ttl_s * 1000)
        self.store.leases.grant(tx, granted, holder, at=self.wall_iso(), expires_at_ms=expires_at_ms)
        return leases

    def submit(self, tx: Tx, holder: str, reports: Sequence[Report]) -> list[ItemAnswer]:
        """Answer every report, in order; what is ACCEPTED is written, and one bad item costs no other."""
        at, limit = self.wall_iso(), self.policy.max_attempts
        return Settlement(self.store, self, limit, holder=holder, at=at).answer(tx, reports)

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
        order = self.draw_order() if state is TaskState.PENDING else 0
        return Move(current.row, current.token, state.value, order, not_before_ms, expires_at_ms, attempts)

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
        tx.rows(self.store.sql["see_executor"], self._card(claim))
        now_ms = self.store.control(tx).now_ms
        named = [(name_of(task_id), token) for task_id, token in held]
        asked = [(name, token) for name, token in named if name is not None]
        expires_at_ms = now_ms + int(self.policy.lease_ttl_s * 1000)
        live = self.store.leases.extend(tx, asked, claim.holder, now_ms=now_ms, expires_at_ms=expires_at_ms)
        return [task_id for (task_id, _), lease in zip(held, named, strict=True) if lease not in live]

    def release(self, tx: Tx, holder: str, held: Sequence[tuple[str, int]] | None, reason: str) -> int:
        """Give leases back without counting an attempt: the named ones, or all of ``holder``.

        A lease that is over is lost, not given back: its attempt stays counted.
        """
        mine = self.store.leased(tx, holder)
        if held is not None:
            tokens = {token for _, token in held}
            mine = [t for t in mine if t.token in tokens]
        now_ms = self.store.control(tx).now_ms
        self.expire(tx, [t for t in mine if t.expires_at_ms <= now_ms], now_ms)
        endings = [
            self._taken_back(t, Event.RELEASE, AttemptState.RELEASED, ("Released", reason), now_ms)
            for t in mine
            if t.expires_at_ms > now_ms
        ]
        released = self.store.leases.conclude(
            tx, endings, self.wall_iso(), after_ms=now_ms, until_ms=FOREVER_MS
        )
        return len(released)

    def register(self, tx: Tx, claim: Claim) -> int:
        """Note an executor's new life; what its earlier life still holds goes back to the queue.

        The attempt stays counted: the earlier life may have died of it. Only this call changes which life is
        the current one: a call of an earlier life that was only slow must not.
        """
        before = tx.rows(self.store.sql["executor"], {"name": claim.holder})
        tx.rows(self.store.sql["see_executor"], self._card(claim))
        if not before or before[0][0] == claim.instance:
            return 0
        tx.rows(self.store.sql["register_executor"], {"name": claim.holder, "instance": claim.instance})
        mine, now_ms = self.store.leased(tx, claim.holder), self.store.control(tx).now_ms
        return self._lose(tx, mine, "ExecutorRestarted", now_ms, until_ms=FOREVER_MS)

    def expire(self, tx: Tx, leased: Sequence[Tracking], now_ms: int) -> int:
        """Take away those of ``leased`` that are over at ``now_ms`` and return how many; an attempt each."""
        return self._lose(tx, leased, "LeaseExpired", now_ms, until_ms=now_ms)

    def _lose(self, tx: Tx, leased: Sequence[Tracking], code: str, now_ms: int, *, until_ms: int) -> int:
        limit = self.policy.max_attempts
        endings = [
            self._taken_back(
                t, decide.after_failure(t.attempts, limit), AttemptState.EXPIRED,
                (code, "the holder is gone"), now_ms,
            )
            for t in leased
        ]  # fmt: skip
        lost = self.store.leases.conclude(tx, endings, self.wall_iso(), after_ms=-1, until_ms=until_ms)
        return len(lost)

    def _taken_back(
        self, current: Tracking, event: Event, state: AttemptState, why: tuple[str, str], now_ms: int
    ) -> Ending:
        return Ending(*self.next_place(current, event, now_ms), state.value, None, None, *why)


def _order(waiting: Waiting) -> tuple[int, int]:
    return waiting.order, waiting.row
