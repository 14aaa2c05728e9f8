"""What must happen to tasks though nobody asks: the lease clock, reaping, slots, and who leads.

Only the leader does it. Leadership is a term that grows with each change; a standby takes over when the
leader's beat has not moved for a while by the standby's own monotonic clock, so no two clocks are ever
compared (the way of Kubernetes' client-go leader election).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from standfast.facts.database import Tx
from standfast.kernel.errors import StaleTokenError
from standfast.tasks import decide
from standfast.tasks.driver import TaskDriver
from standfast.tasks.model import TaskPolicy
from standfast.tasks.slots import SlotPolicy, SlotsChanged, adjust_slots
from standfast.tasks.store import Control


@dataclass(frozen=True, slots=True)
class Upkept:
    """What one round of upkeep did, for logs and tests."""

    reaped: int
    died: int
    adjusted: int


def keep(tx: Tx, driver: TaskDriver, elapsed_s: float) -> Upkept:
    """Advance the lease clock, reap expired leases, end pauses, adjust slots."""
    cap_s = driver.policy.lease_ttl_s / 4
    now_ms = decide.advance_clock_ms(driver.store.control(tx).now_ms, elapsed_s, cap_s=cap_s)
    tx.rows(driver.store.sql["set_now"], {"now_ms": now_ms})
    return Upkept(_reap(tx, driver, now_ms), _end_pauses(tx, driver, now_ms), _adjust(tx, driver, now_ms))


def _reap(tx: Tx, driver: TaskDriver, now_ms: int) -> int:
    # Leases are bounded by subjects times slots, so looking at all of them is cheap.
    over = [t for t in driver.store.leased(tx) if t.expires_at_ms <= now_ms]
    return driver.expire(tx, over, now_ms)


def _end_pauses(tx: Tx, driver: TaskDriver, now_ms: int) -> int:
    over = tx.rows(driver.store.sql["paused_over"], {"now_ms": now_ms})
    return len(tx.each(driver.store.sql["kill"], over))


def _adjust(tx: Tx, driver: TaskDriver, now_ms: int) -> int:
    """Judge each subject by what it did since it was last judged, and start its next window."""
    _add_up_samples(tx, driver)
    policy, adjusted = _slot_policy(driver.policy), 0
    for row in driver.store.subjects(tx):
        since_s = (now_ms - row.adjusted_ms) / 1000 if row.adjusted_ms else None
        decided = adjust_slots(
            row.slots,
            samples=row.samples,
            success_rate=row.clean / row.samples if row.samples else 0.0,
            since_last_s=since_s,
            policy=policy,
        )
        # A window that confirmed the slots is over too: old samples must not outweigh a change for ever.
        is_judged = row.samples >= policy.min_samples and (since_s is None or since_s >= policy.interval_s)
        if is_judged or isinstance(decided, SlotsChanged):
            row_now = {"name": row.name, "slots": decided.slots, "now_ms": now_ms}
            tx.rows(driver.store.sql["set_slots"], row_now)
            adjusted += isinstance(decided, SlotsChanged)
    return adjusted


def _add_up_samples(tx: Tx, driver: TaskDriver) -> None:
    totals: dict[str, list[int]] = {}
    for (body,) in tx.rows(driver.store.sql["take_samples"]):
        for subject, (samples, clean) in json.loads(body).items():
            total = totals.setdefault(subject, [0, 0])
            total[0] += samples
            total[1] += clean
    tx.each(driver.store.sql["sampled"], [(name, *total) for name, total in sorted(totals.items())])


def _slot_policy(policy: TaskPolicy) -> SlotPolicy:
    return SlotPolicy(
        default=policy.slots_initial,
        minimum=policy.slots_min,
        maximum=policy.slots_max,
        interval_s=policy.slots_interval_s,
        min_samples=policy.slots_min_samples,
    )


class Leadership:
    """One process's view of who leads.

    * ``is_mine`` is True only after this process wrote its own name with a new term.
    * ``floor`` is a term that is known from outside (a publication made by an earlier store); a store that
      never had a leader starts above it, so that a new store can succeed a lost one.
    * ``hold`` fails with StaleTokenError as soon as another term exists; the caller then stops leading.
    """

    def __init__(self, driver: TaskDriver, name: str, *, takeover_s: float) -> None:
        self._driver = driver
        self._name = name
        self._takeover_s = takeover_s
        self.floor = 0
        self._seen: tuple[int, int] = (-1, -1)
        self._seen_at = 0.0
        self.term = 0

    @property
    def is_mine(self) -> bool:
        """Whether this process believes that it leads; ``hold`` is what proves it."""
        return self.term > 0

    def campaign(self, tx: Tx, monotonic: float) -> bool:
        """Take the lead when nobody has it or the leader's beat stood still; return whether we lead."""
        if self.is_mine:
            return True
        control = self._driver.store.control(tx)
        if (control.term, control.beat) != self._seen:
            self._seen, self._seen_at = (control.term, control.beat), monotonic
        is_free = not control.leader
        is_silent = monotonic - self._seen_at >= self._takeover_s
        if is_free or is_silent:
            self._take(tx, control)
        return self.is_mine

    def _take(self, tx: Tx, control: Control) -> None:
        floor = self.floor if control.term == 0 else 0
        row = {"leader": self._name, "term": control.term, "beat": control.beat, "floor": floor}
        won = tx.rows(self._driver.store.sql["lead"], row)
        self.term = int(won[0][0]) if won else 0

    def hold(self, tx: Tx) -> int:
        """Prove, in this transaction, that we still lead, and return the term.

        The row is written, so a second leader's transaction waits for this one or fails it.
        """
        beaten = self.is_mine and tx.rows(
            self._driver.store.sql["beat"], {"leader": self._name, "term": self.term}
        )
        if not beaten:
            self.term = 0
            raise StaleTokenError("another scheduler leads now", fix="nothing: this one stands by")
        return self.term

    def resign(self, tx: Tx) -> None:
        """Let the lead go, so that a standby need not wait."""
        if self.is_mine:
            tx.rows(self._driver.store.sql["resign"], {"leader": self._name, "term": self.term})
            self.term = 0
