"""Promises to operators: requeue, ending a batch, forgetting it, views, disjoint counts."""

from __future__ import annotations

from collections.abc import Callable

from standfast.kernel.errors import ConflictError, NotFoundError
from standfast.tasks import operate
from standfast.tasks.model import Counts, Lease
from standfast.testing.expect import all_well, at_once, raising
from standfast.testing.task_contract.world import World, Worlds, broke, won


class OperationContract(Worlds):
    """The promises of what operators and rounds do to tasks."""

    def test_requeue_gives_fresh_attempts_to_what_is_not_over(self) -> None:
        """Waiting, leased, paused or dead: it waits again, without backoff, and its history stays."""
        for name, bring in _BRING.items():
            with self.world() as world:
                (task_id,) = world.add(1)
                bring(world)
                assert world.state(task_id) == name
                tried = len(world.view(task_id)["history"])
                world.write(lambda tx, task_id=task_id: operate.requeue(tx, world.driver, task_id))  # type: ignore[misc]
                assert world.state(task_id) == "pending", name
                (lease,) = world.claim()
                assert lease.attempt == 1, name
                assert len(world.view(task_id)["history"]) == tried + 1, name
                assert world.answers(won(lease)) == ["accepted"], name

    def test_i3_requeueing_what_runs_takes_its_lease_away(self) -> None:
        """The result that it brings home later is recorded as late."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (lease,) = world.claim()
            world.write(lambda tx: operate.requeue(tx, world.driver, task_id))
            assert world.beat(lease) == [task_id]
            assert world.answers(won(lease)) == ["expired"]
            assert world.late(task_id) == ["expired"]
            attempt = world.view(task_id)["history"][0]
            assert (attempt["state"], attempt["error_code"]) == ("released", "Requeued")

    def test_requeue_refuses_what_is_final_or_unknown(self) -> None:
        """A counted result is never run again; nor is what was cancelled."""
        with self.world() as world:
            (done,) = world.add(1)
            world.answers(*map(won, world.claim()))
            (cancelled,) = world.add(1, batch="c")
            world.close("c")
            for task_id in (done, cancelled):
                with raising(ConflictError):
                    world.write(lambda tx, task_id=task_id: operate.requeue(tx, world.driver, task_id))  # type: ignore[misc]
            for nothing in ("1" * 16, "x", ""):
                with raising(NotFoundError):
                    world.write(lambda tx, nothing=nothing: operate.requeue(tx, world.driver, nothing))  # type: ignore[misc]
            assert (world.state(done), world.state(cancelled)) == ("done", "cancelled")

    def test_k5_ending_a_batch_cancels_all_that_is_open_for_good(self) -> None:
        """Waiting, in backoff, leased and paused; what is done or dead stays; nothing is served again."""
        with self.world() as world:
            world.add(1)
            _die(world)
            world.add(1)
            _pause(world)
            world.add(4)
            done, running, failing, again = world.claim(4)
            world.answers(won(done), broke(failing))
            world.write(lambda tx: world.driver.release(tx, "e1", [(again.task_id, again.token)], "x"))
            other = world.add(1, batch="other")
            assert world.counts() == Counts(succeeded=1, running=1, waiting=2, paused=1, dead=1)
            assert world.close() == 4
            assert world.close() == 0
            assert world.counts() == Counts(succeeded=1, cancelled=4, dead=1)
            world.tick(500.0)
            assert [lease.task_id for lease in world.claim()] == other
            assert world.beat(running) == [running.task_id]
            assert world.answers(won(running), won(done)) == ["expired", "duplicate"]
            assert world.late(running.task_id) == ["expired"]
            assert world.counts() == Counts(succeeded=1, cancelled=4, dead=1)
            assert world.view(running.task_id)["attempts"] == 1

    def test_k5_nothing_of_a_batch_that_is_over_is_requeued(self) -> None:
        """Not even what died in it."""
        with self.world() as world:
            (task_id,) = world.add(1)
            _die(world)
            world.close()
            with raising(ConflictError):
                world.write(lambda tx: operate.requeue(tx, world.driver, task_id))
            assert world.claim() == []

    def test_k5_claims_and_results_that_meet_the_end_of_a_batch(self) -> None:
        """Whoever is first: afterwards nothing runs, and every accepted result is counted."""
        with self.world() as world:
            world.add(60, subjects=tuple(f"s{n}" for n in range(10)))

            def work(holder: str) -> set[str]:
                accepted = set()
                for _ in range(10):
                    reports = [won(lease) for lease in world.claim(3, holder=holder)]
                    answers = world.submit(reports, holder=holder)
                    accepted |= {item.task_id for item in answers if item.answer == "accepted"}
                return accepted

            works: list[Callable[[], set[str]]] = [lambda n=n: work(f"e{n}") for n in range(3)]  # type: ignore[misc]
            accepted = set().union(*all_well(at_once([*works, lambda: {str(world.close())}])))
            counts = world.counts()
            assert counts.running == counts.pending == 0
            assert counts.succeeded + counts.cancelled == 60
            assert world.done() == {name for name in accepted if len(name) == 16}

    def test_forgetting_a_batch_leaves_the_others_alone(self) -> None:
        """Its tasks, attempts and late reports are gone; a report for them is about nothing."""
        with self.world() as world:
            world.add(2)
            one, two = world.claim()
            world.lose(one, two)
            world.answers(won(one))
            world.add(1, batch="other")
            (other,) = [lease for lease in world.claim() if lease.batch == "other"]
            world.close()
            world.write(lambda tx: operate.forget(tx, world.driver, "b"))
            assert world.counts() == Counts()
            assert world.answers(won(one), won(two)) == ["unknown", "unknown"]
            assert world.answers(won(other)) == ["accepted"]
            with raising(NotFoundError):
                world.view(one.task_id)

    def test_i5_counts_are_disjoint_by_batch_and_by_subject(self) -> None:
        """Total is the sum of its parts, in every state at once."""
        with self.world() as world:
            world.add(1, subjects=("a",))
            _die(world)
            world.add(1, subjects=("b",))
            _pause(world)
            world.add(6, subjects=("a", "b"))
            leases = world.claim(3)
            world.answers(won(leases[0]))
            by_subject = world.read(lambda tx: world.driver.store.counts_by_subject(tx, "b"))
            whole = world.counts()
            assert whole == Counts(succeeded=1, running=2, waiting=3, paused=1, dead=1)
            assert whole.total == 8 == whole.succeeded + whole.failed + whole.running + whole.pending
            for name in whole.as_dict():
                assert whole.as_dict()[name] == sum(part.as_dict()[name] for part in by_subject.values())

    def test_tasks_are_listed_by_state_and_subject(self) -> None:
        """Up to the limit, by key."""
        with self.world() as world:
            ids = world.add(6, subjects=("a", "b"))
            (lease,) = world.claim(1)

            def listed(**only: str | int) -> list[str]:
                rows = world.read(lambda tx: operate.task_list(tx, world.driver, "b", **only))  # type: ignore[arg-type]
                return [row["task_id"] for row in rows]

            assert listed() == ids
            assert listed(limit=2) == ids[:2]
            assert listed(subject="b") == ids[1::2]
            assert listed(state="leased") == [lease.task_id]
            assert listed(state="pending", subject=lease.subject, limit=1) != [lease.task_id]

    def test_there_is_no_pausing_of_what_does_not_exist(self) -> None:
        """A typing error is told, not obeyed."""
        with self.world() as world:
            with raising(NotFoundError):
                world.write(lambda tx: operate.pause_subject(tx, world.driver, "nobody", is_paused=True))
            with raising(NotFoundError):
                world.cordon("nobody", is_cordoned=True)
            with raising(NotFoundError):
                world.view("nothing")


def _lease(world: World) -> None:
    world.claim()


def _pause(world: World) -> None:
    """Use up the attempts of the one task that waits."""
    for _ in range(world.policy.max_attempts):
        leases: list[Lease] = world.claim()
        assert len(leases) == 1
        world.answers(broke(leases[0]))
        world.tick(9.0)


def _die(world: World) -> None:
    _pause(world)
    world.tick(100.0)


_BRING: dict[str, Callable[[World], None]] = {
    "pending": lambda _: None,
    "leased": _lease,
    "paused": _pause,
    "dead": _die,
}
