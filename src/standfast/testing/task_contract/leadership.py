"""Promises of leadership: one at a time, taken over only after silence, proven at every use."""

from __future__ import annotations

from standfast.kernel.errors import StaleTokenError
from standfast.tasks.upkeep import Leadership
from standfast.testing.expect import all_well, at_once, raising
from standfast.testing.task_contract.world import World, Worlds

_TAKEOVER_S = 10.0


class LeadershipContract(Worlds):
    """The promises of ``Leadership``."""

    def test_the_first_candidate_leads_at_once(self) -> None:
        """Nobody else does, and holding proves it."""
        with self.world() as world:
            a, b = self._candidate(world, "a"), self._candidate(world, "b")
            assert self._campaign(world, a, 0.0)
            assert not self._campaign(world, b, 0.0)
            assert world.write(a.hold) == a.term == 1
            assert (a.is_mine, b.is_mine) == (True, False)

    def test_a_leader_whose_beat_moves_is_not_replaced(self) -> None:
        """However long the other waits by its own clock."""
        with self.world() as world:
            a, b = self._candidate(world, "a"), self._candidate(world, "b")
            self._campaign(world, a, 0.0)
            for second in range(0, 1_000, 9):
                assert not self._campaign(world, b, float(second))
                world.write(a.hold)

    def test_a_silent_leader_is_replaced_after_the_time_by_the_others_own_clock(self) -> None:
        """Not before; the clocks of the two are never compared."""
        with self.world() as world:
            a, b = self._candidate(world, "a"), self._candidate(world, "b")
            self._campaign(world, a, 1e9)
            assert not self._campaign(world, b, 500.0)
            assert not self._campaign(world, b, 509.9)
            assert self._campaign(world, b, 510.0)
            assert b.term == 2

    def test_i7_the_old_leader_finds_out_at_its_next_step(self) -> None:
        """Its hold raises, what it wrote with it is undone, and it stands by."""
        with self.world() as world:
            a, b = self._leader_that_was_replaced(world)
            with raising(StaleTokenError):
                world.write(lambda tx: [tx.rows("UPDATE control SET is_draining = 1"), a.hold(tx)])
            assert not world.read(world.driver.store.control).is_draining
            assert not a.is_mine
            with raising(StaleTokenError):
                world.write(a.hold)
            assert world.write(b.hold) == 2
            assert not self._campaign(world, a, 2_000.0)
            assert world.read(world.driver.store.control).leader == "b"

    def test_the_lead_can_come_back_after_silence(self) -> None:
        """With a term of its own."""
        with self.world() as world:
            a, b = self._leader_that_was_replaced(world)
            with raising(StaleTokenError):
                world.write(a.hold)
            assert not self._campaign(world, a, 2_000.0)
            assert self._campaign(world, a, 2_010.0)
            assert (a.term, world.write(a.hold)) == (3, 3)
            with raising(StaleTokenError):
                world.write(b.hold)

    def test_a_leader_that_resigns_is_replaced_at_once(self) -> None:
        """It does not lead any more, also if it does not know."""
        with self.world() as world:
            a, b = self._candidate(world, "a"), self._candidate(world, "b")
            self._campaign(world, a, 0.0)
            world.write(a.resign)
            with raising(StaleTokenError):
                world.write(a.hold)
            assert self._campaign(world, b, 0.0)
            world.write(a.resign)
            assert world.write(b.hold) == 2

    def test_of_candidates_that_meet_one_leads(self) -> None:
        """Each in a thread of its own, on an empty store and again after silence."""
        with self.world() as world:
            some = [self._candidate(world, f"c{n}") for n in range(6)]
            for now in (0.0, 100.0):
                for one in some:
                    one.term = 0
                led = all_well(at_once([lambda c=c, t=now: self._campaign(world, c, t) for c in some]))  # type: ignore[misc]
                assert led.count(True) == 1
                leader = some[led.index(True)]
                world.write(leader.hold)
                for one in some:
                    assert self._campaign(world, one, now) == (one is leader)

    def test_a_campaign_that_is_rolled_back_leads_nobody(self) -> None:
        """What the candidate believes is refuted by the first hold."""
        with self.world() as world:
            a, b = self._candidate(world, "a"), self._candidate(world, "b")
            with raising(ValueError):
                world.write(lambda tx: [a.campaign(tx, 0.0), int("x")])
            with raising(StaleTokenError):
                world.write(a.hold)
            assert self._campaign(world, b, 0.0)

    def test_i7_a_new_store_leads_above_the_term_of_the_lost_one(self) -> None:
        """Else its publications would look stale; a store that had leaders goes on counting."""
        with self.world() as world:
            a = self._candidate(world, "a")
            a.floor = 41
            assert self._campaign(world, a, 0.0)
            assert a.term == 42
            world.write(a.resign)
            b = self._candidate(world, "b")
            b.floor = 7
            assert self._campaign(world, b, 0.0)
            assert b.term == 43

    def _leader_that_was_replaced(self, world: World) -> tuple[Leadership, Leadership]:
        a, b = self._candidate(world, "a"), self._candidate(world, "b")
        assert self._campaign(world, a, 0.0)
        assert not self._campaign(world, b, 0.0)
        assert self._campaign(world, b, 10.0)
        return a, b

    @staticmethod
    def _candidate(world: World, name: str) -> Leadership:
        return Leadership(world.another_driver(), name, takeover_s=_TAKEOVER_S)

    @staticmethod
    def _campaign(world: World, candidate: Leadership, now: float) -> bool:
        return world.write(lambda tx: candidate.campaign(tx, now))
