"""Promises of adding and claiming: order, slots, fairness, switches, backoff, tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from standfast.kernel.ids import stable_id
from standfast.tasks import operate
from standfast.tasks.driver import Claim
from standfast.tasks.model import Counts, NewTask
from standfast.testing.expect import all_well, at_once, raising
from standfast.testing.task_contract.world import POLICY, Worlds, broke, won


class AddContract(Worlds):
    """The promises of adding work."""

    def test_k1_adding_again_changes_nothing(self) -> None:
        """A scheduler that died after adding adds again: nothing twice, nothing moved, nothing lost."""
        tasks = [NewTask(stable_id("b", str(n)), "b", "s", "lane", str(n), {"n": n}, n) for n in range(6)]
        with self.world() as world:
            world.write(lambda tx: world.driver.add(tx, tasks[:4]))
            leases = world.claim(2)
            world.answers(won(leases[0]))
            world.write(lambda tx: world.driver.add(tx, [*tasks, *tasks]))
            assert world.counts() == Counts(succeeded=1, running=1, waiting=4)

    def test_i4_one_batch_has_one_task_for_a_key(self) -> None:
        """Also under another id, in one call and in two; the first one stays."""
        first = NewTask("0" * 15 + "1", "b", "s", "lane", "k", {"n": 1}, 1)
        other = first._replace(task_id="0" * 15 + "2", spec={"n": 2}, order=2)
        with self.world() as world:
            world.write(lambda tx: world.driver.add(tx, [other, first]))
            world.write(lambda tx: world.driver.add(tx, [other]))
            assert world.counts().total == 1
            assert [lease.spec for lease in world.claim()] == ['{"n":1}']

    def test_one_id_is_one_task_whatever_is_added_under_it(self) -> None:
        """Its subject stays what it was, also in tracking."""
        first = NewTask("0" * 15 + "1", "b", "s1", "lane", "k1", {}, 1)
        with self.world() as world:
            world.write(
                lambda tx: world.driver.add(tx, [first, first._replace(subject="s2", key="k2", order=2)])
            )
            assert [lease.subject for lease in world.claim()] == ["s1"]
            assert world.counts().total == 1

    def test_k1_schedulers_that_add_at_once_add_once(self) -> None:
        """Two leaders may overlap for a moment; the work is added once."""
        tasks = [NewTask(stable_id("b", str(n)), "b", f"s{n % 3}", "lane", str(n), {}, n) for n in range(50)]
        with self.world() as world:
            all_well(at_once([lambda: world.write(lambda tx: world.driver.add(tx, tasks))] * 4))
            assert world.counts() == Counts(waiting=50)

    def test_k5_nothing_is_added_to_a_batch_that_is_over(self) -> None:
        """Others are not affected."""
        with self.world() as world:
            world.add(2)
            world.write(lambda tx: operate.close_batch(tx, world.driver, "b", "over"))
            world.add(3)
            world.add(1, batch="c")
            assert world.counts() == Counts(cancelled=2)
            assert len(world.claim()) == 1

    def test_adding_nothing_is_nothing(self) -> None:
        """No statement has to cope with an empty list."""
        with self.world() as world:
            world.write(lambda tx: world.driver.add(tx, []))
            assert world.counts() == Counts()


class ClaimContract(Worlds):
    """The promises of claiming."""

    def test_the_lowest_order_comes_first(self) -> None:
        """Whatever the order of adding, ids and keys."""
        tasks = [
            NewTask(stable_id(str(n)), "b", "s", "lane", str(n), {"n": n}, n * 7 % 31) for n in range(30)
        ]
        with self.world(replace(POLICY, slots_initial=30, slots_max=30)) as world:
            world.write(lambda tx: world.driver.add(tx, tasks))
            claimed = [lease.task_id for _ in range(30) for lease in world.claim(1)]
            assert claimed == [task.task_id for task in sorted(tasks, key=lambda task: task.order)]

    def test_a_lease_carries_what_is_needed_to_work(self) -> None:
        """Its task, its own attempt, its number, its time to live."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (lease,) = world.claim()
            assert (lease.task_id, lease.batch, lease.subject, lease.spec) == (task_id, "b", "s", '{"n":1}')
            assert (lease.attempt, lease.ttl_s) == (1, 40.0)
            assert world.view(task_id)["history"][0]["attempt_id"] == lease.attempt_id

    def test_a_claim_gives_no_more_than_asked_for(self) -> None:
        """Neither with many subjects nor with one, nor for nothing."""
        with self.world() as world:
            world.add(30, subjects=("a", "b", "c"))
            assert [len(world.claim(n)) for n in (0, 1, 4)] == [0, 1, 4]

    def test_a_claim_that_is_rolled_back_gave_nothing(self) -> None:
        """Its tasks wait as before, without an attempt."""
        with self.world() as world:
            world.add(2)
            with raising(ValueError):
                world.write(lambda tx: [world.driver.claim(tx, Claim("e1", "i1", 5, {})), int("x")])
            assert world.counts() == Counts(waiting=2)
            assert [lease.attempt for lease in world.claim()] == [1, 1]

    def test_k15_slots_hold_for_one_executor(self) -> None:
        """Each subject has its own; a result frees one."""
        with self.world() as world:
            world.add(40, subjects=("a", "b"))
            leases = world.claim()
            assert Counter(lease.subject for lease in leases) == {"a": 6, "b": 6}
            assert world.grant().reason == "no subject has a free slot"
            world.answers(won(leases[0]))
            assert [lease.subject for lease in world.claim()] == [leases[0].subject]

    def test_k15_slots_hold_for_many_executors_at_once(self) -> None:
        """Claims that meet never exceed a subject's slots, and never get one task twice."""
        with self.world() as world:
            world.add(90, subjects=("a", "b", "c"))

            def work(holder: str) -> list[str]:
                return [lease.task_id for _ in range(6) for lease in world.claim(2, holder=holder)]

            got = all_well(at_once([lambda n=n: work(f"e{n}") for n in range(8)]))  # type: ignore[misc]
            claimed = [task_id for some in got for task_id in some]
            assert len(claimed) == len(set(claimed)) == 18
            assert world.counts().running == 18
            running = world.read(lambda tx: Counter(t.subject for t in world.driver.store.leased(tx)))
            assert running == {"a": 6, "b": 6, "c": 6}

    def test_k15_slots_hold_while_results_and_losses_come_in(self) -> None:
        """Executors that work at once do all of it, each task once, never too much of a subject."""
        with self.world() as world:
            world.add(60, subjects=("a", "b"))
            most: Counter[str] = Counter()

            def work(holder: str) -> int:
                done = 0
                # Each turn finishes what it claimed; it ends when nothing is left to claim.
                while leases := world.claim(3, holder=holder):
                    running = world.bench.database.read_now(
                        lambda tx: Counter(t.subject for t in world.driver.store.leased(tx))
                    )
                    for subject, number in running.items():
                        most[subject] = max(most[subject], number)
                    answers = world.submit([won(lease) for lease in leases], holder=holder)
                    done += sum(answer.answer == "accepted" for answer in answers)
                return done

            done = all_well(at_once([lambda n=n: work(f"e{n}") for n in range(5)]))  # type: ignore[misc]
            assert sum(done) == 60 == world.counts().succeeded
            assert max(most.values()) <= 6

    def test_the_least_served_subject_comes_first(self) -> None:
        """A subject whose tasks take long does not get more workers than one that is quick."""
        with self.world() as world:
            world.add(20, subjects=("slow",))
            assert len(world.claim(4)) == 4
            world.add(20, subjects=("quick",))
            assert Counter(lease.subject for lease in world.claim(4)) == {"quick": 4}
            assert Counter(lease.subject for lease in world.claim(4)) == {"slow": 2, "quick": 2}

    def test_a_subject_with_little_work_leaves_room_for_others(self) -> None:
        """What it cannot use is not wasted in this very claim."""
        with self.world() as world:
            world.add(1, subjects=("few",))
            world.add(20, subjects=("many",))
            assert Counter(lease.subject for lease in world.claim(6)) == {"few": 1, "many": 5}

    def test_the_one_subject_with_work_is_found_among_many(self) -> None:
        """A claim of one does not depend on luck."""
        with self.world() as world:
            names = [f"s{n}" for n in range(60)]
            world.add(60, subjects=names)
            # Ends: each turn claims and finishes some of 60.
            while leases := world.claim():
                world.answers(*(won(lease) for lease in leases))
            for _ in range(5):
                world.add(1, subjects=("s41",))
                assert [lease.subject for lease in world.claim(1)] == ["s41"]

    def test_the_front_of_the_line_never_clogs(self) -> None:
        """Work that cannot run now, however much of it, is looked past, and served when it can run."""
        with self.world() as world:
            world.add(400, subjects=("busy", "paused"))
            first = world.claim(12)
            held = [lease for lease in first if lease.subject == "busy"]
            world.answers(*(won(lease) for lease in first if lease.subject == "paused"))
            world.write(lambda tx: operate.pause_subject(tx, world.driver, "paused", is_paused=True))
            others = world.add(30, subjects=("x", "y"))
            # Ends: each turn finishes some of thirty.
            while leases := world.claim(5):
                assert {lease.subject for lease in leases} <= {"x", "y"}
                assert world.answers(*map(won, leases)) == ["accepted"] * len(leases)
            assert world.done() >= set(others)
            assert world.answers(*map(won, held)) == ["accepted"] * 6
            again = world.claim()
            assert [lease.subject for lease in again] == ["busy"] * 6
            orders = [lease.spec for lease in again]
            assert orders == sorted(orders, key=lambda spec: int(spec[5:-1]))
            world.write(lambda tx: operate.pause_subject(tx, world.driver, "paused", is_paused=False))
            world.answers(*map(won, [*again, *world.claim(2)]))
            # Ends: each turn finishes some of what is left.
            while leases := world.claim(7):
                world.answers(*map(won, leases))
            assert world.counts().succeeded == 430

    def test_equal_subjects_are_served_in_the_order_of_their_tasks(self) -> None:
        """Not of their names, for ever."""
        with self.world(replace(POLICY, slots_initial=10)) as world:
            names = [f"s{n}" for n in range(10)]
            world.add(100, subjects=names)
            firsts = set()
            for _ in range(30):
                (lease,) = world.claim(1)
                firsts.add(lease.subject)
                world.answers(won(lease))
            assert len(firsts) > 1

    def test_a_cordoned_executor_gets_nothing_until_it_is_let_in_again(self) -> None:
        """It is told why, keeps what it has, and others go on."""
        with self.world() as world:
            world.add(9)
            (held,) = world.claim(1)
            world.cordon("e1", is_cordoned=True)
            assert world.grant().reason == "e1 is cordoned"
            assert world.beat(held) == []
            assert world.answers(won(held)) == ["accepted"]
            assert len(world.claim(1, holder="e2")) == 1
            world.cordon("e1", is_cordoned=False)
            assert len(world.claim(1)) == 1

    def test_draining_stops_claims_and_nothing_else(self) -> None:
        """What runs may finish; afterwards claims go on."""
        with self.world() as world:
            world.add(9)
            (held,) = world.claim(1)
            world.write(lambda tx: operate.set_draining(tx, world.driver, is_draining=True))
            refused = world.grant()
            assert not refused.leases
            assert refused.reason.startswith("draining")
            assert world.answers(won(held)) == ["accepted"]
            world.write(lambda tx: operate.set_draining(tx, world.driver, is_draining=False))
            assert len(world.claim(1)) == 1

    def test_a_paused_subject_is_not_served(self) -> None:
        """The others are; what it has running may finish."""
        with self.world() as world:
            world.add(8, subjects=("a", "b"))
            (held,) = [lease for lease in world.claim(2) if lease.subject == "a"]
            world.write(lambda tx: operate.pause_subject(tx, world.driver, "a", is_paused=True))
            assert {lease.subject for lease in world.claim()} == {"b"}
            assert world.answers(won(held)) == ["accepted"]
            assert world.claim() == []
            world.write(lambda tx: operate.pause_subject(tx, world.driver, "a", is_paused=False))
            assert {lease.subject for lease in world.claim()} == {"a"}

    def test_a_failed_task_waits_for_its_backoff(self) -> None:
        """It is not served before, others are; afterwards it is."""
        with self.world() as world:
            task_id, other = world.add(2)
            (lease,) = world.claim(1)
            assert world.answers(broke(lease)) == ["accepted"]
            assert [lease.task_id for lease in world.claim()] == [other]
            world.tick(1.0)  # At most a second after the first attempt.
            (again,) = world.claim()
            assert (again.task_id, again.attempt) == (task_id, 2)

    def test_i3_tokens_only_ever_grow(self) -> None:
        """Over subjects, holders and losses, and over the forgetting of whatever had them."""
        with self.world() as world:
            tokens: list[int] = []
            for turn in range(4):
                world.add(3, subjects=("a", "b"), batch=f"b{turn}")
                leases = world.claim(2) + world.claim(1, holder="e2")
                tokens += [lease.token for lease in leases]
                world.lose(*leases)
                world.write(lambda tx, turn=turn: operate.close_batch(tx, world.driver, f"b{turn}", "over"))  # type: ignore[misc]
                world.write(lambda tx, turn=turn: operate.forget(tx, world.driver, f"b{turn}"))  # type: ignore[misc]
            assert len(tokens) == 12
            assert tokens == sorted(set(tokens))

    def test_an_empty_store_has_nothing_to_give(self) -> None:
        """And says so."""
        with self.world() as world:
            assert not world.grant().leases
            world.add(1)
            world.claim()
            world.add(1, subjects=("other",))
            world.claim()
            assert world.grant().reason == "no task is waiting"
