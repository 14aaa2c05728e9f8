"""What follows an end that nobody asked for: holds, waits, budgets; on literals and in virtual time."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.services.decide.after import (
    PERMANENT_CODES,
    SLOW_TRIES_S,
    after_exit,
    fingerprint,
)
from standfast.services.decide.readiness import SETTLE_S, proven_s
from standfast.services.failures.decide import classify
from standfast.services.failures.model import Evidence
from standfast.services.failures.rules import builtin
from standfast.services.failures.text import error_line, normalise
from standfast.services.model import (
    UNSEEN,
    Budgets,
    Done,
    End,
    ExitStatus,
    Held,
    Parked,
    Readiness,
    Restart,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
    Spent,
)

POLICY = RestartPolicy(backoff_s=0.5, cap_s=8.0, max_fast_failures=3, stable_s=60.0)
PROBED = Readiness(http="http://127.0.0.1:1/health")
SPEC = ServiceSpec("web", ("web",), ready=PROBED, restart=POLICY)
TASK = dataclasses.replace(SPEC, kind="task")
TEN_HOURS_S = 36_000.0
UNREGISTERED = (
    "RuntimeError: Wallet 5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX not registered on netuid 17"
)


def end(*, code: int = 1, by: int = 0, lived: float = 2.2, ready: float = 0.0, line: str = "boom") -> End:
    return End(ExitStatus(code, by), lived_s=lived, ready_s=ready, last_line=line, print_=normalise(line))


def follow(history: list[End], *, unit: float = 0.5, spec: ServiceSpec = SPEC) -> object:
    return after_exit(spec, history, unit=unit)


def held_after(history: list[End], *, unit: float = 0.5, spec: ServiceSpec = SPEC) -> Held:
    decision = after_exit(spec, history, unit=unit)
    assert isinstance(decision, Held), decision
    return decision


@pytest.mark.parametrize("lived", [0.2, 1.2, 2.2, 11.0])
def test_a000_2_the_same_failure_is_held_after_three_starts_however_long_each_lived(lived: float) -> None:
    history = [end(lived=lived)]
    assert isinstance(follow(history), Restart)
    history.append(end(lived=lived))
    assert isinstance(follow(history), Restart)
    history.append(end(lived=lived))
    held = held_after(history)
    assert held.reason == "SameFailure"
    assert "3 times" in held.message
    assert "boom" in held.message
    assert "standfast release web" in held.remedy


class Replay:
    """One service that fails in the same way for ever, in virtual time."""

    def __init__(self, spec: ServiceSpec, lived_s: float, *, seed: int, text: str = "boom") -> None:
        self.spec, self.lived_s, self.text = spec, lived_s, text
        self.dice = random.Random(seed)
        self.fast = self.slow = 0

    def run(self, *, named: bool = False) -> None:
        """Do what the driver does until ten hours are over."""
        now_s, history, was_held = 0.0, [], False
        while now_s < TEN_HOURS_S:
            self.slow += was_held
            self.fast += not was_held
            now_s += self.lived_s
            one = end(lived=self.lived_s, line=f"{self.dice.random()}: {self.text}")
            # Without a probe it is called ready as soon as it has settled.
            ready_s = 0.0 if self.spec.ready.is_probed else max(0.0, self.lived_s - SETTLE_S)
            one = dataclasses.replace(one, ready_s=proven_s(self.spec, ready_s), at_s=now_s)
            history.append(_named(one) if named else one)
            since_s = now_s - self.spec.restart.budget_window_s
            spent = Spent(sum(1 for one in history if one.at_s > since_s))
            decision = after_exit(self.spec, history[-64:], unit=self.dice.random(), spent=spent)
            assert isinstance(decision, Restart | Held)
            was_held = isinstance(decision, Held)
            now_s += decision.retry_s if isinstance(decision, Held) else decision.delay_s


def _named(one: End) -> End:
    known = classify(Evidence(status=one.status, lines=(one.last_line,), ready_s=0.0), builtin())
    return dataclasses.replace(one, cls=str(known.cls), action=str(known.action), fix=known.fix,
                               is_permanent=known.is_permanent, evidence=known.evidence)  # fmt: skip


@pytest.mark.parametrize("lived", [0.2, 1.2, 2.16, 2.2, 11.0])
@pytest.mark.parametrize("ready", [PROBED, Readiness()], ids=["probed", "unprobed"])
def test_a000_2_ten_hours_of_what_made_16660_restarts(lived: float, ready: Readiness) -> None:
    miner = ServiceSpec("miner", ("miner",), ready=ready)
    for seed in range(5):
        replay = Replay(miner, lived, seed=seed)
        replay.run()
        assert replay.fast <= 3
        assert 30 <= replay.slow <= 40


def test_a000_2_a000_3_a_named_permanent_class_starts_once_in_ten_hours() -> None:
    replay = Replay(ServiceSpec("miner", ("miner",)), 2.16, seed=1, text=UNREGISTERED)
    replay.run(named=True)
    assert (replay.fast, replay.slow) == (1, 0)


def test_a000_3_the_hold_names_the_class_and_what_clears_it() -> None:
    held = held_after([_named(end(line=UNREGISTERED))])
    assert held.reason == "PermanentRegistration"
    assert "not registered" in held.message
    assert held.retry_s == float("inf")
    assert held.remedy


def test_a000_2_texts_that_differ_each_time_are_slowed_down_too() -> None:
    words = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lamda",
        "mu",
    ]
    waits = [
        held_after([end(line=word) for word in words[:count]], unit=0.0).retry_s for count in (9, 10, 11, 12)
    ]
    assert waits == [pytest.approx(wait_s * 1.05) for wait_s in (*SLOW_TRIES_S, SLOW_TRIES_S[-1])]


def test_the_same_failure_is_recognised_through_numbers_addresses_and_paths() -> None:
    a = end(line="2026-01-02 03:04:05 pid 71: cannot open /tmp/a1/x.conf at 0xdeadbeef")
    b = end(line="2026-01-02 03:05:09 pid 80: cannot open /tmp/b2/y.conf at 0xcafebabe")
    assert fingerprint(a) == fingerprint(b)
    assert fingerprint(a) != fingerprint(end(line="something else"))
    assert fingerprint(a) != fingerprint(end(code=2, line=a.last_line))
    assert fingerprint(end(code=0, by=9)) != fingerprint(end(code=0))


def test_the_line_that_names_the_error_is_what_counts() -> None:
    said = ("Traceback (most recent call last):", "ValueError: bad wallet", "shutting down, pid 7")
    assert "ValueError" in error_line(said)


def test_ends_that_all_differ_are_held_later() -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
    history = [end(line=word) for word in words]
    assert held_after(history).reason == "NeverReady"
    assert isinstance(follow(history[:-1]), Restart)


def test_the_slow_schedule_is_slower_with_every_vain_try() -> None:
    waits = [held_after([end()] * count, unit=0.0).retry_s for count in range(3, 8)]
    slow = [wait_s * 1.05 for wait_s in SLOW_TRIES_S]
    assert waits == pytest.approx([*slow, slow[-1], slow[-1]])


def test_a_network_that_fails_is_waited_for_without_losing_patience() -> None:
    lost = dataclasses.replace(end(line="name resolution failed"), cls="transient_network", action="backoff")
    assert held_after([lost] * 9, unit=0.0).retry_s == pytest.approx(SLOW_TRIES_S[0] * 1.05)


def test_a_service_that_was_ready_is_never_held_for_a_failure() -> None:
    for count in range(1, 40):
        assert isinstance(follow([end(ready=1.0)] * count), Restart)


def test_the_first_end_after_a_stable_life_is_followed_at_once() -> None:
    assert follow([end(by=9, ready=3_600.0)], unit=0.9) == Restart(0.0)


def test_being_up_for_a_second_resets_no_wait() -> None:
    waits = []
    for count in range(1, 11):
        decision = follow([end(ready=1.0, lived=1.5)] * count, unit=1.0)
        assert isinstance(decision, Restart)
        waits.append(decision.delay_s)
    # The first accidents are followed at once; from then on each wait is twice the one before.
    assert waits == [0.0, 0.0, 0.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_a_stable_life_resets_the_wait() -> None:
    assert follow([end(ready=1.0)] * 10 + [end(ready=61.0)], unit=1.0) == Restart(0.0)


@pytest.mark.parametrize("code", sorted(PERMANENT_CODES))
def test_a_permanent_exit_code_starts_once(code: int) -> None:
    assert PERMANENT_CODES[code] in held_after([end(code=code)]).message


def test_a_signal_with_the_number_of_a_permanent_code_is_no_exit_code() -> None:
    assert isinstance(follow([end(code=0, by=9)]), Restart)


def test_forking_away_is_named_and_not_repeated() -> None:
    away = End(ExitStatus(0), lived_s=0.1, ready_s=0.0, left_behind=2)
    held = held_after([away])
    assert held.reason == "ForkedAway"
    assert "foreground" in held.remedy


def test_ending_with_zero_is_unexpected_for_a_service() -> None:
    assert isinstance(follow([end(code=0, line="")]), Restart)
    assert isinstance(follow([end(code=0, line="")] * 3), Held)


def test_a_task_that_ends_with_zero_is_done_and_one_that_fails_is_tried_three_times() -> None:
    assert follow([end(code=0)], spec=TASK) == Done()
    assert isinstance(follow([end(code=1)], spec=TASK), Restart)
    assert held_after([end(code=1)] * 3, spec=TASK).reason == "SameFailure"


def _with(when: RestartWhen) -> ServiceSpec:
    return dataclasses.replace(SPEC, restart=dataclasses.replace(POLICY, when=when))


def test_on_failure_ends_well_with_zero_only() -> None:
    on_failure = _with(RestartWhen.ON_FAILURE)
    assert follow([end(code=0)], spec=on_failure) == Done()
    assert isinstance(follow([end(code=1)], spec=on_failure), Restart)
    assert isinstance(follow([end(code=0, by=9)], spec=on_failure), Restart)


def test_never_is_never() -> None:
    never = _with(RestartWhen.NEVER)
    assert follow([end(code=0)], spec=never) == Done()
    for one in (end(code=1), end(by=9, ready=900.0)):
        held = held_after([one], spec=never)
        assert (held.reason, held.retry_s) == ("NotRestarted", float("inf"))


def test_an_end_while_a_dependency_was_down_parks_and_counts_nothing() -> None:
    blocked = dataclasses.replace(end(), down=("db",))
    assert follow([blocked] * 30) == Parked(("db",))
    assert isinstance(follow([*[blocked] * 30, end()]), Restart)
    # The own ends before and after are one row.
    assert isinstance(follow([end(), end(), *[blocked] * 5, end()]), Held)


@pytest.mark.parametrize(
    ("spent", "whose"),
    [(Spent(service=20), "its budget"), (Spent(group=6), "its group"), (Spent(host=9), "this host")],
)
def test_a_budget_that_is_spent_holds_whatever_the_ends_look_like(spent: Spent, whose: str) -> None:
    decision = after_exit(SPEC, [end(ready=900.0)], unit=0.5, spent=spent, budgets=Budgets(group=6, host=9))
    assert isinstance(decision, Held)
    assert decision.reason == "BudgetSpent"
    assert whose in decision.message
    under = Spent(*(max(0, count - 1) for count in spent))
    again = after_exit(SPEC, [end(ready=900.0)], unit=0.5, spent=under, budgets=Budgets(group=6, host=9))
    assert isinstance(again, Restart)


def test_gpu_memory_is_tried_twice_and_a_full_disk_once() -> None:
    gpu = dataclasses.replace(end(), cls="resource_gpu_oom", action="backoff_limited")
    assert isinstance(follow([gpu]), Restart)
    assert isinstance(follow([gpu, gpu]), Held)
    disk = dataclasses.replace(end(), cls="resource_disk", action="hold_until_clear")
    assert held_after([disk]).reason == "ResourceDisk"
    assert held_after([disk]).retry_s < SLOW_TRIES_S[1]


def test_an_end_that_nobody_saw_says_nothing_about_the_service() -> None:
    lost = dataclasses.replace(end(line="its shim was killed"), status=UNSEEN)
    for count in (1, 3, 9):
        assert isinstance(follow([lost] * count), Restart)
    assert isinstance(follow([end(), end(), lost]), Restart)
    assert isinstance(follow([end(), end(), lost, end()]), Held)


ENDS = st.builds(
    end,
    code=st.integers(0, 255),
    by=st.sampled_from([0, 6, 9, 11, 15]),
    lived=st.floats(0, 1e6),
    ready=st.sampled_from([0.0, 0.5, 61.0]),
    line=st.text(max_size=40),
)


@given(st.lists(ENDS, min_size=1, max_size=64), st.floats(0, 1, exclude_max=True))
def test_whatever_happened_the_answer_is_bounded_and_says_why(history: list[End], unit: float) -> None:
    decision = after_exit(SPEC, history, unit=unit)
    if isinstance(decision, Restart):
        assert 0.0 <= decision.delay_s <= POLICY.cap_s
    else:
        assert isinstance(decision, Held)
        assert decision.retry_s == float("inf") or 60.0 <= decision.retry_s <= 900.0 * 1.15 + 1e-6
        assert decision.message
        assert "standfast release web" in decision.remedy or "foreground" in decision.remedy


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ExitStatus(3), "exit code 3"),
        (ExitStatus(0, 9), "killed by SIGKILL (9)"),
        (ExitStatus(0, 11), "killed by SIGSEGV (11)"),
        (ExitStatus(0, 40), "killed by signal (40)"),
        (UNSEEN, "an end that nobody saw"),
    ],
)
def test_an_end_is_told_in_words(status: ExitStatus, text: str) -> None:
    assert status.text == text
