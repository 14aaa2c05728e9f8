"""Promises of reporting: what counts, counts once and is durable; all else is answered and does no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from standfast.facts.database import Tx
from standfast.kernel.errors import StandfastError
from standfast.tasks.model import Answer, Counts, ItemAnswer, Lease, Report
from standfast.testing.expect import all_well, at_once, raising
from standfast.testing.task_contract.world import World, Worlds, broke, won

_TEN = 10


class ReportContract(Worlds):
    """The promises of reporting: fencing (I3), once only (I4), duplicates."""

    def test_i2_what_was_accepted_is_what_a_fresh_connection_sees(self) -> None:
        """Result, class and holder of exactly these attempts."""
        with self.world() as world:
            world.add(5)
            leases = world.claim(3)
            assert world.answers(*map(won, leases)) == ["accepted"] * 3
            assert world.done() == {lease.task_id for lease in leases}
            assert world.counts() == Counts(succeeded=3, waiting=2)
            attempt = world.view(leases[0].task_id)["history"][0]
            assert (attempt["state"], attempt["holder"], attempt["outcome_class"]) == ("result", "e1", "won")
            assert attempt["outcome"] == {"score": 1.0}

    def test_i3_a_superseded_token_is_refused_also_from_the_same_executor(self) -> None:
        """It is recorded as late and not counted; the lease that is current can still be reported."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (old,) = world.claim()
            world.lose(old)
            (new,) = world.claim()
            assert new.token > old.token
            assert world.answers(won(old, score=0.5)) == ["stale"]
            assert world.late(task_id) == ["stale"]
            assert world.counts() == Counts(running=1)
            assert world.answers(won(new)) == ["accepted"]
            assert world.answers(won(old, score=0.5)) == ["stale"]
            assert world.view(task_id)["history"][-1]["outcome"] == {"score": 1.0}
            assert world.counts() == Counts(succeeded=1)

    def test_i3_a_lease_that_is_over_is_refused_though_nobody_reaped_it(self) -> None:
        """Whether the reaper looked must not decide; the task is tried again."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (lease,) = world.claim()
            world.write(lambda tx: tx.rows("UPDATE control SET now_ms = now_ms + 40000"))
            assert world.answers(won(lease)) == ["expired"]
            assert world.late(task_id) == ["expired"]
            assert world.counts() == Counts(running=1)
            world.lose(lease)
            assert world.claim()[0].attempt == 2

    def test_i3_a_lease_lasts_to_its_last_millisecond(self) -> None:
        """Just before its end it is accepted."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            world.write(lambda tx: tx.rows("UPDATE control SET now_ms = now_ms + 39999"))
            assert world.answers(won(lease)) == ["accepted"]

    def test_i3_a_reaped_lease_is_refused_before_anybody_else_has_it(self) -> None:
        """The task waits, and its late result does not count."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (lease,) = world.claim()
            world.lose(lease)
            assert world.answers(won(lease), broke(lease)) == ["expired", "expired"]
            assert world.late(task_id) == ["expired", "expired"]
            assert world.counts() == Counts(waiting=1)

    def test_a_late_report_that_is_sent_again_is_recorded_once(self) -> None:
        """Resending is no way to fill the store."""
        with self.world() as world:
            (task_id,) = world.add(1)
            (lease,) = world.claim()
            world.lose(lease)
            for _ in range(3):
                assert world.answers(won(lease), won(lease)) == ["expired", "expired"]
            assert world.late(task_id) == ["expired"]

    def test_i3_another_holder_cannot_report_a_lease(self) -> None:
        """Nor spoil it for the one who has it."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            assert world.answers(won(lease, score=0.0), holder="e2") == ["stale"]
            assert world.late(lease.task_id) == []
            assert world.answers(won(lease)) == ["accepted"]
            assert world.answers(won(lease), holder="e2") == ["stale"]

    def test_a_token_that_was_never_granted_for_the_task_is_invalid(self) -> None:
        """One from the future, one of another task, none at all."""
        with self.world() as world:
            first, second = world.add(2)
            one, two = world.claim()
            swapped = won(one)._replace(token=two.token)
            assert world.answers(swapped, won(one)._replace(token=two.token + 5)) == ["invalid", "invalid"]
            for token in (0, -1, 2**62 + 1, 2**80):
                assert world.answers(won(one)._replace(token=token)) == ["invalid"]
            assert world.counts() == Counts(running=2)
            assert world.late(first) == world.late(second) == []
            assert world.answers(won(one), won(two)) == ["accepted", "accepted"]

    def test_a_task_that_does_not_exist_is_unknown(self) -> None:
        """Whatever stands in its place, and whoever's token comes with it."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            for task_id in ("7" * 16, "", "x", "f" * 16, "0" * 5_000, "0" * 16, "\0", "٠" * 16):
                for token in (lease.token, lease.token + 9):
                    report = won(lease)._replace(task_id=task_id, token=token)
                    assert world.answers(report) == ["unknown"], task_id
            assert world.answers(won(lease)) == ["accepted"]

    def test_k3_an_identical_resend_is_a_duplicate_and_different_content_is_stale(self) -> None:
        """The first one stays, for results and for failures."""
        with self.world() as world:
            first, second = world.add(2)
            one, two = world.claim()
            assert world.answers(won(one), broke(two)) == ["accepted", "accepted"]
            for _ in range(2):
                assert world.answers(won(one), broke(two)) == ["duplicate", "duplicate"]
                assert world.answers(won(one, score=0.0), won(two)) == ["stale", "stale"]
                assert world.answers(broke(one)) == ["stale"]
            assert world.view(first)["history"][0]["outcome"] == {"score": 1.0}
            assert world.counts() == Counts(succeeded=1, waiting=1)
            world.lose()
            world.claim()
            assert world.answers(won(one), broke(two)) == ["duplicate", "duplicate"]
            assert world.late(second) == []

    def test_k3_the_same_lease_twice_in_a_batch_counts_once(self) -> None:
        """By its first report; the answers keep their order."""
        with self.world() as world:
            world.add(2)
            one, two = world.claim()
            reports = [won(one), won(one), won(two), won(one, score=0.5), won(two), won(one)]
            found = world.submit(reports)
            assert [item.answer for item in found] == [
                "accepted", "duplicate", "accepted", "stale", "duplicate", "duplicate",
            ]  # fmt: skip
            assert [item.task_id for item in found] == [report.task_id for report in reports]
            assert world.counts() == Counts(succeeded=2)

    def test_a_batch_that_says_two_things_of_a_lease_is_taken_at_its_first_word(self) -> None:
        """A failure before a result is a failure, a result before a failure is a result."""
        with self.world() as world:
            world.add(2)
            one, two = world.claim()
            reports = [broke(one), won(one), won(two), broke(two), broke(one)]
            assert world.answers(*reports) == ["accepted", "stale", "accepted", "stale", "duplicate"]
            assert world.counts() == Counts(succeeded=1, waiting=1)

    def test_i4_the_same_report_from_several_connections_counts_once(self) -> None:
        """A resend that overtakes its original is answered like any other."""
        with self.world() as world:
            world.add(6)
            leases = world.claim()
            outcomes = all_well(at_once([lambda: world.answers(*map(won, leases))] * 5))
            for place in range(len(leases)):
                assert sorted(answers[place] for answers in outcomes) == ["accepted"] + ["duplicate"] * 4
            assert world.counts() == Counts(succeeded=6)

    def test_i4_different_reports_from_several_connections_count_once(self) -> None:
        """One of them wins each lease; the others are stale, and what counts is the winner's."""
        with self.world() as world:
            world.add(6)
            leases = world.claim()

            def work(score: float) -> list[Answer]:
                return world.answers(*(won(lease, score=score) for lease in leases))

            outcomes = all_well(at_once([lambda n=n: work(n / 8) for n in range(5)]))  # type: ignore[misc]
            for place, lease in enumerate(leases):
                assert sorted(answers[place] for answers in outcomes) == ["accepted"] + ["stale"] * 4
                winner = next(n for n, answers in enumerate(outcomes) if answers[place] == "accepted")
                assert world.view(lease.task_id)["history"][0]["outcome"] == {"score": winner / 8}

    def test_i4_results_that_meet_the_reaper_are_counted_or_refused_never_both(self) -> None:
        """What was accepted stays done; what was refused is tried again."""
        with self.world() as world:
            world.add(6)
            leases = world.claim()
            answers: list[ItemAnswer] = []

            def report() -> None:
                for lease in leases:
                    answers.extend(world.submit([won(lease)]))

            def reap() -> None:
                for _ in range(3):
                    world.write(lambda tx: tx.rows("UPDATE control SET now_ms = now_ms + 20000"))
                    world.write(
                        lambda tx: world.driver.expire(
                            tx, world.driver.store.leased(tx), world.driver.store.control(tx).now_ms
                        )
                    )

            all_well(at_once([report, reap]))
            accepted = {item.task_id for item in answers if item.answer == "accepted"}
            assert world.done() == accepted
            assert world.counts() == Counts(succeeded=len(accepted), waiting=6 - len(accepted))

    def test_k2_a_failure_of_our_own_is_tried_again_and_then_paused(self) -> None:
        """Never more than the limit, and what each attempt said stays on record."""
        with self.world() as world:
            (task_id,) = world.add(1)
            for number in (1, 2, 3):
                (lease,) = world.claim()
                assert lease.attempt == number
                assert world.answers(broke(lease)) == ["accepted"]
                assert world.counts().succeeded == 0
                world.tick(9.0)
            assert world.counts() == Counts(paused=1)
            history = world.view(task_id)["history"]
            assert [(row["state"], row["error_code"]) for row in history] == [("failed", "Broken")] * 3


class BatchContract(Worlds):
    """K3: one bad item of ten costs none of the other nine, wherever it stands."""

    def test_k3_nul_in_a_text(self) -> None:
        """Refused alike by every store."""
        nul = "a\0b"
        self._each_position(lambda report: report._replace(outcome=nul), Answer.INVALID)
        self._each_position(lambda report: report._replace(outcome_class=nul), Answer.INVALID)
        self._each_position(lambda report: report._replace(error_code=nul), Answer.INVALID)
        self._each_position(lambda report: report._replace(error=nul), Answer.INVALID)

    def test_k3_a_lone_surrogate(self) -> None:
        """Text that is no Unicode cannot be stored."""
        self._each_position(lambda report: report._replace(error="\ud800"), Answer.INVALID)

    def test_k3_text_without_an_end(self) -> None:
        """A megabyte is not an outcome."""
        self._each_position(lambda report: report._replace(outcome="x" * 1_000_000), Answer.INVALID)

    def test_k3_an_id_of_5000_characters(self) -> None:
        """There is no such task."""
        self._each_position(lambda report: report._replace(task_id="a" * 5_000), Answer.UNKNOWN)

    def test_k3_an_unknown_id(self) -> None:
        """There is no such task."""
        self._each_position(lambda report: report._replace(task_id="1" * 16), Answer.UNKNOWN)

    def test_k3_a_token_beyond_every_number(self) -> None:
        """It was never granted."""
        self._each_position(lambda report: report._replace(token=2**70), Answer.INVALID)

    def test_k3_a_duplicate_in_the_batch(self) -> None:
        """The item says again what its neighbour said; the neighbour's counts."""
        with self.world() as world:
            for position in range(_TEN):
                leases = self._ten_leases(world, position)
                neighbour = (position + 1) % _TEN
                reports = [won(lease) for lease in leases]
                reports[position] = reports[neighbour]
                found = world.answers(*reports)
                assert found.pop(max(position, neighbour)) == "duplicate"
                self._nine(world, found, leases, without=position)

    def test_k3_an_item_of_another_owner(self) -> None:
        """It is refused and can still be reported by its owner."""
        with self.world() as world:
            for position in range(_TEN):
                leases = self._ten_leases(world, position, other_at=position)
                found = world.answers(*map(won, leases))
                assert found.pop(position) == "stale"
                assert world.answers(won(leases[position]), holder="other") == ["accepted"]
                assert found == ["accepted"] * (_TEN - 1)
                assert world.done(leases[0].batch) == {lease.task_id for lease in leases}

    def test_k3_an_item_that_the_database_refuses(self) -> None:
        """A real trigger raises for one task; once it is gone, the same report is accepted."""
        with self.world() as world:
            for position in range(_TEN):
                leases = self._ten_leases(world, position)
                _poison(world)
                reports = [won(lease) for lease in leases]
                reports[position] = reports[position]._replace(error="poison")
                found = world.answers(*reports)
                assert found.pop(position) == "invalid"
                assert world.answers(reports[position]) == ["invalid"]
                good = [lease for lease in leases if lease is not leases[position]]
                assert world.done(leases[0].batch) == {lease.task_id for lease in good}
                _cure(world)
                assert world.answers(*reports) == [
                    "accepted" if place == position else "duplicate" for place in range(_TEN)
                ]

    def test_k3_several_items_that_the_database_refuses(self) -> None:
        """Each is found, and only they; also when none is left."""
        for bad in ({0, 9}, {3, 4, 5}, set(range(_TEN))):
            with self.world() as world:
                leases = self._ten_leases(world, 0)
                _poison(world)
                reports = [
                    won(lease)._replace(error="poison" if place in bad else "")
                    for place, lease in enumerate(leases)
                ]
                found = world.answers(*reports)
                assert {place for place, answer in enumerate(found) if answer == "invalid"} == bad
                assert world.done("b0") == {lease.task_id for n, lease in enumerate(leases) if n not in bad}

    def test_k3_what_follows_a_refused_item_for_the_same_lease_is_judged_by_itself(self) -> None:
        """The first was never accepted, so the second is no duplicate of it."""
        with self.world() as world:
            world.add(1)
            (lease,) = world.claim()
            _poison(world)
            bad = won(lease)._replace(error="poison")
            assert world.answers(bad, won(lease), won(lease)) == ["invalid", "accepted", "duplicate"]
            nul = won(lease)._replace(error="\0")
            assert world.answers(nul, won(lease)) == ["invalid", "duplicate"]

    def test_k3_a_store_that_fails_in_the_middle_accepted_nothing(self) -> None:
        """An error that is not the item's leaves no half of a batch behind."""
        with self.world() as world:
            leases = self._ten_leases(world, 0)

            def work(tx: Tx) -> None:
                world.driver.submit(tx, "e1", [won(lease) for lease in leases])
                raise StandfastError("the disk is gone")

            with raising(StandfastError):
                world.write(work)
            assert world.done("b0") == set()
            assert world.answers(*map(won, leases)) == ["accepted"] * _TEN

    def test_an_empty_batch_has_no_answers(self) -> None:
        """Nothing is nothing."""
        with self.world() as world:
            assert world.submit([]) == []

    def test_a_batch_of_five_hundred_is_answered_item_by_item(self) -> None:
        """The largest batch that the API takes, half of it nonsense."""
        with self.world() as world:
            leases = self._ten_leases(world, 0)
            reports = [
                won(leases[n % _TEN])._replace(token=leases[n % _TEN].token + n % 2) for n in range(500)
            ]
            found = world.answers(*reports)
            assert found.count(Answer.ACCEPTED) == 5
            assert len(found) == 500

    def _each_position(self, spoil: Callable[[Report], Report], expected: Answer) -> None:
        with self.world() as world:
            for position in range(_TEN):
                leases = self._ten_leases(world, position)
                reports = [won(lease) for lease in leases]
                reports[position] = spoil(reports[position])
                found = world.answers(*reports)
                assert found.pop(position) == expected
                self._nine(world, found, leases, without=position)

    @staticmethod
    def _ten_leases(world: World, number: int, *, other_at: int = -1) -> list[Lease]:
        world.add(_TEN, subjects=("a", "b"), batch=f"b{number}")
        leases = []
        for place in range(_TEN):
            leases += world.claim(1, holder="other" if place == other_at else "e1")
        return leases

    @staticmethod
    def _nine(world: World, found: list[Answer], leases: list[Lease], *, without: int) -> None:
        """Check that nine were accepted, that exactly they are there, and that a resend says so."""
        batch = leases[0].batch
        assert found == ["accepted"] * (_TEN - 1)
        good = [lease for place, lease in enumerate(leases) if place != without]
        assert world.done(batch) == {lease.task_id for lease in good}
        assert world.counts(batch) == Counts(succeeded=_TEN - 1, running=1)
        assert world.answers(*map(won, good)) == ["duplicate"] * (_TEN - 1)
        assert world.close(batch) == 1


_POISON: Mapping[str, tuple[str, ...]] = {
    "sqlite": (
        "CREATE TRIGGER poison BEFORE UPDATE ON attempt WHEN NEW.error = 'poison' BEGIN "
        "SELECT RAISE(ABORT, 'poisoned'); END",
    ),
    "postgres": (
        "CREATE OR REPLACE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.error = 'poison' THEN RAISE EXCEPTION 'poisoned'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER poison BEFORE UPDATE ON attempt FOR EACH ROW EXECUTE FUNCTION poison()",
    ),
}
_CURE: Mapping[str, str] = {"sqlite": "DROP TRIGGER poison", "postgres": "DROP TRIGGER poison ON attempt"}


def _poison(world: World) -> None:
    """Make the database itself refuse every attempt whose error is "poison"."""
    world.write(lambda tx: [tx.rows(statement) for statement in _POISON[tx.dialect]])


def _cure(world: World) -> None:
    world.write(lambda tx: tx.rows(_CURE[tx.dialect]))
