"""Promises of leases: heartbeats, expiry, giving back, restarts, the lease clock, and slots that adapt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from standfast.tasks import upkeep
from standfast.tasks.driver import Claim
from standfast.tasks.model import Counts, Lease
from standfast.testing.expect import all_well, at_once
from standfast.testing.task_contract.world import POLICY, World, Worlds, broke, won

_ADAPTIVE = replace(
    POLICY, slots_initial=4, slots_min=3, slots_max=6, slots_min_samples=4, slots_interval_s=10.0
)


class LeaseContract(Worlds):
    """The promises of leases."""

    def test_k15_a_heartbeat_extends_a_lease(self) -> None:
        """Ten times 91 s on a lease of 900 s: it completes, because somebody says that it works on it."""
        with self.world(replace(POLICY, lease_ttl_s=900.0)) as world:
            world.add(1)
            (lease,) = world.claim()
            for _ in range(10):
                world.tick(91.0)
                assert world.beat(lease) == []
            assert world.read(lambda tx: world.driver.store.control(tx).now_ms) == 910_000
            assert world.answers(won(lease)) == ["accepted"]

    def test_k15_without_a_heartbeat_the_same_lease_is_lost(self) -> None:
        """The other side of the same coin."""
        with self.world(replace(POLICY, lease_ttl_s=900.0)) as world:
            world.add(1)
            (lease,) = world.claim()
            world.tick(910.0)
            assert world.beat(lease) == [lease.task_id]
            assert world.answers(won(lease)) == ["expired"]

    def test_a_heartbeat_names_what_is_lost_and_extends_the_rest(self) -> None:
        """Over, superseded, another's, unknown, nonsense, and a task under another task's token."""
        with self.world() as world:
            world.add(2)
            old = world.claim(2)
            world.lose(*old)
            again = world.claim(2)
            world.add(3)
            (other,) = world.claim(1, holder="e2")
            mine, spare = world.claim(2)
            swapped = spare._replace(token=mine.token)
            odd = [mine._replace(task_id="x"), mine._replace(task_id="1" * 16)]
            world.tick(30.0)
            held = [mine, *old, other, swapped, *odd]
            lost = [lease.task_id for lease in [*old, other, swapped, *odd]]
            assert world.beat(*held) == lost
            world.tick(11.0)
            assert world.answers(won(mine), won(spare), won(again[0])) == ["accepted", "expired", "expired"]

    def test_a_heartbeat_does_not_revive_what_is_over(self) -> None:
        """Though nobody reaped it yet."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            world.write(lambda tx: tx.rows("UPDATE control SET now_ms = now_ms + 40000"))
            assert world.beat(lease) == [lease.task_id]
            assert world.answers(won(lease)) == ["expired"]

    def test_a_heartbeat_without_leases_is_a_sign_of_life(self) -> None:
        """An executor that has nothing to do is not silent."""
        with self.world() as world:
            assert world.beat() == []
            world.tick(20.0)
            (seen,) = world.read(world.driver.store.executors)
            assert seen.silent_s == 20.0
            world.beat()
            assert world.read(world.driver.store.executors)[0].silent_s == 0.0

    def test_k15_a_lost_lease_is_back_within_one_tick_of_its_end(self) -> None:
        """Not before, and its attempt is recorded as expired."""
        with self.world() as world:
            (task_id,) = world.add(1)
            world.claim()
            assert world.tick(39.5).reaped == 0
            assert world.tick(0.5).reaped == 1
            assert world.counts() == Counts(waiting=1)
            (attempt,) = world.view(task_id)["history"]
            assert (attempt["state"], attempt["error_code"]) == ("expired", "LeaseExpired")

    def test_k15_work_that_kills_its_worker_reaches_the_limit(self) -> None:
        """The attempt is counted at the claim: paused, holding no slot, and dead at the end of its pause."""
        with self.world(replace(POLICY, slots_initial=1, slots_min=1)) as world:
            (killer,) = world.add(1)
            for number in (1, 2, 3):
                (lease,) = world.claim()
                assert (lease.task_id, lease.attempt) == (killer, number)
                world.tick(40.0)
                world.tick(9.0)
            assert world.state(killer) == "paused"
            (other,) = world.add(1)
            (lease,) = world.claim()
            assert lease.task_id == other
            assert world.answers(won(lease)) == ["accepted"]
            world.tick(89.0)
            assert world.state(killer) == "paused"
            assert world.tick(2.0).died == 1
            assert world.state(killer) == "dead"
            assert world.counts() == Counts(succeeded=1, dead=1)
            assert world.claim() == []

    def test_releasing_counts_no_attempt(self) -> None:
        """The named leases go back at once; the others are kept."""
        with self.world() as world:
            world.add(3)
            one, two, three = world.claim()
            held = [(one.task_id, one.token), ("1" * 16, 999)]
            assert world.write(lambda tx: world.driver.release(tx, "e1", held, "shutting down")) == 1
            assert world.counts() == Counts(running=2, waiting=1)
            attempt = world.view(one.task_id)["history"][0]
            assert (attempt["state"], attempt["error"]) == ("released", "shutting down")
            assert world.answers(won(one)) == ["expired"]
            (again,) = world.claim()
            assert (again.task_id, again.attempt) == (one.task_id, 1)
            assert world.answers(won(two), won(three), won(again)) == ["accepted"] * 3

    def test_releasing_everything_leaves_others_alone(self) -> None:
        """And nobody can release what is not theirs."""
        with self.world() as world:
            world.add(4)
            mine = world.claim(2)
            (other,) = world.claim(1, holder="e2")
            held = [(other.task_id, other.token)]
            assert world.write(lambda tx: world.driver.release(tx, "e1", held, "x")) == 0
            assert world.write(lambda tx: world.driver.release(tx, "e1", None, "x")) == len(mine)
            assert world.answers(won(other), holder="e2") == ["accepted"]
            assert world.counts() == Counts(succeeded=1, waiting=3)

    def test_releasing_what_is_over_does_not_give_the_attempt_back(self) -> None:
        """A lease that ran out was tried, whoever noticed first."""
        with self.world() as world:
            (task_id,) = world.add(1)
            world.claim()
            world.write(lambda tx: tx.rows("UPDATE control SET now_ms = now_ms + 40000"))
            assert world.write(lambda tx: world.driver.release(tx, "e1", None, "x")) == 0
            assert world.view(task_id)["history"][0]["state"] == "expired"
            world.tick(9.0)
            assert world.claim()[0].attempt == 2

    def test_k15_an_executor_that_starts_anew_gives_back_what_it_held(self) -> None:
        """At once, with the attempt counted; the same life twice changes nothing."""
        with self.world() as world:
            world.add(3)
            assert self._register(world, "i1") == 0
            one, two = world.claim(2)
            world.claim(1, holder="e2")
            assert self._register(world, "i1") == 0
            assert world.beat(one, two) == []
            assert self._register(world, "i2") == 2
            assert self._register(world, "i2") == 0
            assert world.counts() == Counts(running=1, waiting=2)
            assert world.answers(won(one), won(two)) == ["expired", "expired"]
            world.tick(2.0)
            assert [lease.attempt for lease in world.claim(instance="i2")] == [2, 2]

    def test_an_earlier_life_that_was_only_slow_takes_nothing_from_the_new_one(self) -> None:
        """Its heartbeat and its claim do not make it the current one again."""
        with self.world() as world:
            world.add(3)
            self._register(world, "i1")
            self._register(world, "i2")
            (lease,) = world.claim(1, instance="i2")
            world.beat(instance="i1")
            world.claim(0, instance="i1")
            assert self._register(world, "i2") == 0
            assert world.answers(won(lease)) == ["accepted"]

    def test_a_lease_that_was_extended_meanwhile_is_not_reaped(self) -> None:
        """The reaper looked, the heartbeat came, the reaper acts: the heartbeat was told that it lives."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            seen = world.read(world.driver.store.leased)
            world.tick(39.0)
            assert world.beat(lease) == []
            world.tick(1.0)
            assert world.write(lambda tx: world.driver.expire(tx, seen, 40_000)) == 0
            assert world.answers(won(lease)) == ["accepted"]

    def test_a_result_that_came_meanwhile_is_not_taken_back(self) -> None:
        """The reaper looked, the result came, the reaper acts."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            seen = world.read(world.driver.store.leased)
            assert world.answers(won(lease)) == ["accepted"]
            assert world.write(lambda tx: world.driver.expire(tx, seen, 99_999_999)) == 0
            assert world.counts() == Counts(succeeded=1)

    def test_i14_jumps_of_the_wall_clock_change_nothing(self) -> None:
        """An hour forth, two back: leases live and end by the lease clock alone."""
        with self.world() as world:
            world.add(2)
            kept, lost = world.claim()
            for hours in (1, -2, 24 * 365, -24 * 365 * 2):
                world.clock.instant += timedelta(hours=hours)
                assert world.tick(0.0).reaped == 0
            world.tick(39.0)
            assert world.beat(kept) == []
            world.clock.instant -= timedelta(hours=5)
            assert world.tick(1.0).reaped == 1
            assert world.answers(won(kept), won(lost)) == ["accepted", "expired"]

    def test_i14_the_lease_clock_never_goes_back_and_never_leaps(self) -> None:
        """A control plane that was stopped for a day counts a quarter of a lease for it."""
        with self.world() as world:
            now = [self._keep(world, elapsed) for elapsed in (5.0, -3600.0, 0.0, 86_400.0, 1e12, 0.25)]
            assert now == [5_000, 5_000, 5_000, 15_000, 25_000, 25_250]

    def test_k15_slots_follow_the_success_rate_within_their_bounds(self) -> None:
        """Up while it is well, down while it is not, judged by windows and not by all of history."""
        with self.world(_ADAPTIVE) as world:
            world.add(200)
            assert [self._window(world, clean=True) for _ in range(3)] == [5, 6, 6]
            assert [self._window(world, clean=False) for _ in range(4)] == [5, 4, 3, 3]
            assert self._window(world, clean=True) == 4

    def test_k15_slots_are_not_changed_on_little_evidence_or_too_often(self) -> None:
        """Fewer samples than needed, or before the interval is over."""
        with self.world(_ADAPTIVE) as world:
            world.add(60)
            world.answers(*map(won, world.claim(3)))
            world.tick(11.0)
            assert self._slots(world) == 4
            world.answers(*map(won, world.claim(4)))
            world.tick(1.0)
            assert self._slots(world) == 5
            world.answers(*map(won, world.claim(5)))
            world.tick(9.0)
            assert self._slots(world) == 5
            world.tick(1.0)
            assert self._slots(world) == 6

    def test_i6_failures_of_our_own_narrow_nobodys_slots(self) -> None:
        """They say nothing about the subject."""
        with self.world(_ADAPTIVE) as world:
            world.add(40)
            for _ in range(4):
                world.answers(*map(broke, world.claim(4)))
                world.tick(11.0)
            assert self._slots(world) == 4
            assert world.read(world.driver.store.subjects)[0].samples == 0

    def test_samples_of_batches_that_meet_all_count(self) -> None:
        """None is lost between executors and the leader who adds them up."""
        policy = replace(POLICY, slots_initial=40, slots_max=40, slots_min_samples=1_000)
        with self.world(policy) as world:
            world.add(40)
            leases = world.claim()

            def report(part: list[Lease]) -> None:
                for lease in part:
                    world.answers(won(lease))

            def lead() -> None:
                for _ in range(10):
                    world.tick(0.0)

            works = [lambda part=leases[n::4]: report(part) for n in range(4)]
            all_well(at_once([*works, lead]))
            world.tick(0.0)
            (row,) = world.read(world.driver.store.subjects)
            assert (row.samples, row.clean) == (40, 40)

    @staticmethod
    def _register(world: World, instance: str) -> int:
        return world.write(lambda tx: world.driver.register(tx, Claim("e1", instance, 0, {})))

    @staticmethod
    def _keep(world: World, elapsed_s: float) -> int:
        world.write(lambda tx: upkeep.keep(tx, world.driver, elapsed_s))
        return world.read(lambda tx: world.driver.store.control(tx).now_ms)

    @staticmethod
    def _slots(world: World) -> int:
        return world.read(world.driver.store.subjects)[0].slots

    def _window(self, world: World, *, clean: bool) -> int:
        """Report four to six results, let the interval pass, and return the slots after it."""
        reports = [won(lease)._replace(is_clean=clean) for lease in world.claim()]
        assert len(reports) == self._slots(world)
        world.answers(*reports)
        if len(reports) < 4:
            world.answers(*[won(lease)._replace(is_clean=clean) for lease in world.claim()])
        world.tick(10.0)
        return self._slots(world)
