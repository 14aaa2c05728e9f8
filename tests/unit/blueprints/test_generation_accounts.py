"""What worker and validator keep on disk: nothing is lost, counted twice, or changed by a late hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from generation_stack.program.clock import Clock
from generation_stack.program.fields import BadFieldsError
from generation_stack.validator import rules as validating
from generation_stack.validator.ledger import KEPT as LEDGER_KEPT
from generation_stack.validator.ledger import Ledger
from generation_stack.validator.rules import Feedback, Terms, given_up
from generation_stack.worker import task as tasks
from generation_stack.worker.journal import KEPT, ConflictError, Journal, JournalInUseError
from generation_stack.worker.rules import Attempt, Outcome
from generation_stack.worker.task import State, Task

LOST = Attempt(Outcome.LOST, "reset", 1.0, 2.0)
FACTS = {"sha256": "ab", "result_bytes": 3, "gaussians": 1, "filled": 0.5}


class StillClock(Clock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 1_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def asked(id_: str, clock: Clock, *, deadline_s: float = 60.0, prompt: str = "a ball") -> Task:
    return tasks.read({"id": id_, "prompt": prompt, "deadline_s": deadline_s}, now=clock.now())


class Lives:
    """The lives of one worker: each opens the journal that the one before it has left."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self._journal: Journal | None = None

    def begin(self) -> Journal:
        """End the life before as kill -9 does: nothing is written any more. Begin another."""
        self.end()
        self._journal = Journal(self.folder, self._clock)
        return self._journal

    def end(self) -> None:
        if self._journal is not None:
            self._journal.close()


@pytest.fixture
def lives(tmp_path: Path, clock: StillClock) -> Iterator[Lives]:
    made = Lives(tmp_path, clock)
    yield made
    made.end()


@pytest.fixture
def ledger(tmp_path: Path, clock: StillClock) -> Iterator[Ledger]:
    made = Ledger(tmp_path, clock)
    made.key_of("m", "key")
    yield made
    made.close()


def test_a000_8_what_was_in_hand_is_queued_again_with_that_on_record(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    for number in range(3):
        journal.add(asked(f"t{number}", clock))
    assert journal.begin("t1")
    journal = lives.begin()
    assert journal.recover() == 1
    task = journal.find("t1")
    assert task is not None
    assert (task.state, task.attempts[0].outcome) == (State.QUEUED, Outcome.INTERRUPTED)
    assert journal.counts() == {"queued": 3}


def test_a_task_that_the_worker_never_survives_is_given_up(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    journal.add(asked("poison", clock))
    for _ in range(5):
        assert journal.begin("poison")
        journal = lives.begin()
        journal.recover()
    task = journal.find("poison")
    assert task is not None
    assert task.state is State.FAILED
    assert "5 times" in task.reason


def test_a_state_is_changed_only_from_the_state_that_was_read(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    journal.add(asked("t", clock))
    assert not journal.complete("t", [], FACTS)
    assert journal.begin("t")
    assert not journal.begin("t")
    assert not journal.fail("t", State.QUEUED, [], "late")
    assert journal.retry("t", [LOST], clock.now() + 5.0, "reset")
    assert journal.next_due() is None
    clock.at += 5.0
    assert journal.begin("t")
    assert journal.complete("t", [LOST], FACTS)
    assert not journal.complete("t", [], FACTS)
    assert not journal.fail("t", State.RUNNING, [], "late")
    assert journal.counts() == {"done": 1}


def test_the_same_task_again_is_the_same_and_another_one_a_conflict(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    first = asked("t", clock)
    assert journal.add(first) is first
    assert journal.add(asked("t", clock)) is not first
    with pytest.raises(ConflictError):
        journal.add(asked("t", clock, prompt="another"))
    assert journal.counts() == {"queued": 1}


def test_two_workers_never_share_a_journal(lives: Lives, clock: StillClock) -> None:
    lives.begin()
    with pytest.raises(JournalInUseError, match="another --data"):
        Journal(lives.folder, clock)
    assert lives.begin().counts() == {}


def test_late_tasks_are_found_and_deadlines_survive_a_reboot(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    journal.add(asked("short", clock, deadline_s=10.0))
    journal.add(asked("long", clock, deadline_s=5_000.0))
    clock.at += 11.0
    assert [task.id for task in journal.late()] == ["short"]
    # After a reboot the clock begins anew; only the wall clock still knows.
    clock.boot_id, clock.at = "another boot", 3.0
    journal = lives.begin()
    journal.recover()
    long = journal.find("long")
    assert long is not None
    assert long.deadline == pytest.approx(3.0 + 5_000.0 - 0.0, abs=12.0)
    assert journal.next_due() is not None


def test_results_without_a_row_are_swept_and_rows_keep_theirs(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    journal.keep("cd", b"left by a life that ended here")
    journal.keep("ab", b"ply")
    (lives.folder / "results" / "ef.part").write_bytes(b"half")
    task = journal.add(asked("t", clock))
    journal.begin("t")
    journal.complete("t", [], FACTS)
    journal = lives.begin()
    journal.recover()
    assert [path.name for path in (lives.folder / "results").iterdir()] == ["ab.ply"]
    task = journal.find("t") or task
    assert journal.result(task) == b"ply"
    journal.acknowledge(task)
    assert journal.result(task) is None


def test_forgotten_tasks_stay_counted(lives: Lives, clock: StillClock) -> None:
    journal = lives.begin()
    # One transaction per task would be a second of fsync; what is tested is the counting.
    journal._db.execute("PRAGMA synchronous = OFF")
    for number in range(KEPT + 7):
        task = journal.add(asked(f"t{number}", clock))
        journal.begin(task.id)
        journal.fail(task.id, State.RUNNING, [LOST], "no")
        journal.acknowledge(task)
    assert journal.counts() == {"failed": KEPT + 7}
    assert len(journal.every()) == KEPT
    assert journal.unacknowledged() == []


ACCEPTED = Feedback(validating.State.ACCEPTED, 0.9, [], 3.0)


def account(ledger: Ledger, hotkey: str = "m") -> dict[str, int]:
    found = ledger.accounts()[hotkey]
    parts = {state: found[state] for state in validating.State}
    assert sum(parts.values()) == found["issued"], "the sets are disjoint and complete"
    return parts


def test_every_issued_task_is_in_exactly_one_set(ledger: Ledger, clock: StillClock) -> None:
    issued = [ledger.issue(f"t{number}", "m", {"prompt": "p"}, 10.0) for number in range(4)]
    assert ledger.settle(issued[0], ACCEPTED, "aa")
    assert ledger.settle(issued[1], given_up("no", Terms()), "")
    assert account(ledger) == {"open": 2, "accepted": 1, "rejected": 1, "expired": 0}
    clock.at += 10.0
    assert [task.id for task in ledger.expire(1.0)] == ["t2", "t3"]
    # Too late, or once more: nothing changes any more.
    assert not ledger.settle(issued[2], ACCEPTED, "bb")
    assert not ledger.settle(issued[0], given_up("no", Terms()), "")
    assert ledger.expire(1.0) == []
    assert account(ledger) == {"open": 0, "accepted": 1, "rejected": 1, "expired": 2}


def test_a_cooldown_follows_a_result_and_the_first_key_is_kept(ledger: Ledger, clock: StillClock) -> None:
    assert ledger.free_in_s("m") == 0.0
    assert ledger.key_of("new", "first") == "first"
    assert ledger.key_of("new", "second") == "first"
    task = ledger.issue("t", "m", {"prompt": "p"}, 10.0)
    ledger.settle(task, ACCEPTED, "aa")
    assert ledger.free_in_s("m") == pytest.approx(3.0)
    assert (ledger.task_with("aa"), ledger.task_with("bb")) == ("t", "")
    clock.at += 3.0
    assert ledger.free_in_s("m") == 0.0


def test_closed_tasks_are_forgotten_but_stay_counted(ledger: Ledger, clock: StillClock) -> None:
    ledger._db.execute("PRAGMA synchronous = OFF")
    for number in range(LEDGER_KEPT + 5):
        ledger.settle(ledger.issue(f"t{number}", "m", {}, 10.0), given_up("no", Terms()), "")
    ledger.expire(1.0)
    assert account(ledger) == {"open": 0, "accepted": 0, "rejected": LEDGER_KEPT + 5, "expired": 0}
    assert ledger.find("t0") is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "", "prompt": "p", "deadline_s": 5}, "id"),
        ({"id": "../x", "prompt": "p", "deadline_s": 5}, "id"),
        ({"id": ".hidden", "prompt": "p", "deadline_s": 5}, "id"),
        ({"id": "a", "deadline_s": 5}, "prompt"),
        ({"id": "a", "prompt": "p", "image": "i", "deadline_s": 5}, "prompt"),
        ({"id": "a", "prompt": "p"}, "deadline_s"),
        ({"id": "a", "prompt": "p", "deadline_s": -5}, "deadline_s"),
        ({"id": "a", "prompt": "p", "deadline_s": 5, "origin": ["x"]}, "origin"),
        ({"id": "a", "prompt": "p", "deadline_s": 5, "origin": {"x": "y" * 3_000}}, "origin"),
        ({"id": "a", "prompt": "p", "deadline_s": 5, "command": "rm"}, "command"),
    ],
)
def test_a_wrong_task_is_refused_with_its_field(body: dict[str, object], field: str) -> None:
    with pytest.raises(BadFieldsError) as refused:
        tasks.read(body, now=0.0)
    assert field in {problem["field"] for problem in refused.value.problems}
