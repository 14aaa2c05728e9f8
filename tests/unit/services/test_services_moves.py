"""Where a service stands: the table of moves, and any order of what may happen, walked by hypothesis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from standfast.services.decide.after import after_exit
from standfast.services.decide.moves import TRANSITIONS, move
from standfast.services.model import (
    End,
    ExitStatus,
    Held,
    Parked,
    Restart,
    RestartPolicy,
    ServiceEvent,
    ServiceSpec,
    ServiceState,
    Spent,
)

_S, _E = ServiceState, ServiceEvent
RUNNING = frozenset({_S.STARTING, _S.READY, _S.NOT_READY})


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ServiceState, ServiceEvent)))
def test_every_pair_either_moves_or_is_refused(state: ServiceState, event: ServiceEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert move(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(AssertionError, match="no move"):
            move(state, event)


def test_stop_is_accepted_in_every_state_and_leads_to_stopped() -> None:
    for state in ServiceState:
        following = move(state, _E.STOP)
        if following is _S.STOPPING:
            following = move(following, _E.GONE)
        assert following is _S.STOPPED


def test_a_service_that_is_told_to_stop_is_never_called_ready_again() -> None:
    assert move(_S.STOPPING, _E.ANSWERED) is _S.STOPPING


def test_what_is_parked_was_not_running() -> None:
    assert not {state for state, event in TRANSITIONS if event is _E.PARK} & RUNNING


SPEC = ServiceSpec("web", ("web",), restart=RestartPolicy(backoff_s=0.5, cap_s=8.0, budget=12))
SLOWEST_S = 900.0 * 1.15 + 1e-6


class OneService(RuleBasedStateMachine):
    """One service in virtual time: starts, answers, ends of any kind, stops, releases, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.state = _S.STOPPED
        self.history: list[End] = []
        self.allowed_s = 0.0
        self.was_ready = False

    @precondition(lambda self: self.state not in RUNNING | {_S.STOPPING})
    @rule(wait_s=st.floats(0.0, 20.0))
    def start(self, wait_s: float) -> None:
        # Time goes on until the rules allow a start: what the driver does by sleeping.
        self.now_s = max(self.now_s + wait_s, self.allowed_s)
        self.state = move(self.state, _E.START)
        self.was_ready = False

    @precondition(lambda self: self.state in RUNNING)
    @rule()
    def answer(self) -> None:
        self.state = move(self.state, _E.ANSWERED)
        self.was_ready = True

    @precondition(lambda self: self.state in RUNNING)
    @rule()
    def be_late(self) -> None:
        self.state = move(self.state, _E.LATE)

    @precondition(lambda self: self.state in RUNNING)
    @rule(
        lived_s=st.sampled_from([0.05, 1.2, 2.2, 11.0, 90.0]),
        code=st.sampled_from([0, 1, 1, 1, 3]),
        line=st.sampled_from(["boom", "boom", "other"]),
        down=st.sampled_from([(), (), ("db",)]),
        unit=st.floats(0, 1, exclude_max=True),
    )
    def end(self, lived_s: float, code: int, line: str, down: tuple[str, ...], unit: float) -> None:
        """End it, and do what the rules say."""
        self.now_s += lived_s
        ready_s = lived_s if self.was_ready else 0.0
        one = End(ExitStatus(code), lived_s, ready_s, line, print_=line, down=down, at_s=self.now_s)
        self.history.append(one)
        since_s = self.now_s - SPEC.restart.budget_window_s
        spent = Spent(sum(1 for one in self.history if one.at_s > since_s and not one.down))
        decision = after_exit(SPEC, self.history[-64:], unit=unit, spent=spent)
        if isinstance(decision, Restart):
            self.state = move(self.state, _E.END_RETRY)
            self.allowed_s = self.now_s + decision.delay_s
            assert 0.0 <= decision.delay_s <= SPEC.restart.cap_s
            assert spent.service < SPEC.restart.budget, "a restart beyond the budget"
        elif isinstance(decision, Held):
            self.state = move(self.state, _E.END_HOLD)
            self.allowed_s = self.now_s + decision.retry_s
            assert 60.0 <= decision.retry_s <= SLOWEST_S
            assert decision.message
            assert decision.remedy
        else:
            assert isinstance(decision, Parked), "what is no task is never done"
            assert decision.down == down != ()
            self.state = move(move(self.state, _E.END_RETRY), _E.PARK)
            self.allowed_s = self.now_s

    @rule(times=st.integers(1, 4), unit=st.floats(0, 1, exclude_max=True))
    def fail_alike(self, times: int, unit: float) -> None:
        for _ in range(times):
            if self.state not in RUNNING | {_S.STOPPING}:
                self.start(0.0)
                self.end(2.2, 1, "boom", (), unit)
                self.equal_ends_that_were_never_ready_are_followed_by_a_slow_wait()

    @rule(times=st.integers(1, 14), unit=st.floats(0, 1, exclude_max=True))
    def serve_and_fall(self, times: int, unit: float) -> None:
        for _ in range(times):
            if self.state not in RUNNING | {_S.STOPPING}:
                self.start(0.0)
                self.answer()
                self.end(1.2, 1, "boom", (), unit)

    @precondition(lambda self: self.state in RUNNING)
    @rule(late=st.sampled_from([_E.ANSWERED, _E.LATE, _E.STOP]))
    def stop(self, late: ServiceEvent) -> None:
        """Tell it to stop, and let a probe come back that was on its way, or tell it again."""
        self.state = move(move(self.state, _E.STOP), late)
        assert self.state is _S.STOPPING

    @precondition(lambda self: self.state is _S.STOPPING)
    @rule()
    def be_gone(self) -> None:
        self.state = move(self.state, _E.GONE)

    @precondition(lambda self: self.state in (_S.HELD, _S.BACKOFF))
    @rule()
    def release(self) -> None:
        self.history.clear()
        self.allowed_s = self.now_s

    @invariant()
    def equal_ends_that_were_never_ready_are_followed_by_a_slow_wait(self) -> None:
        counted = [one for one in self.history if not one.down]
        last = counted[-SPEC.restart.max_fast_failures :]
        same = len({(one.status, one.print_) for one in last}) == 1
        if len(last) == SPEC.restart.max_fast_failures and same and not any(one.was_ready for one in last):
            latest = self.history[-1]
            if latest is last[-1] and self.state not in RUNNING | {_S.STOPPING, _S.STOPPED}:
                assert self.state is _S.HELD
                assert self.allowed_s - latest.at_s >= 60.0


TestOneService = OneService.TestCase
TestOneService.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
