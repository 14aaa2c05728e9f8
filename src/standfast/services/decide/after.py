"""What follows the end of a life that nobody asked for.

1. How long a process lived says nothing about whether starting it again helps: a program that imports for
   2.2 s and then refuses its configuration fails as surely as one that fails in 0.1 s. What counts is
   that it never became ready and ended the same way as before.
2. After K equal ends without ever being ready the service is held (I8). A held service is tried again on
   a slow schedule, or when one of its inputs has changed. This needs no name for the failure.
3. A failure that was surely recognised as permanent is held after its first start, and only a changed
   input, a condition that became true or a person starts it again. Names do no more than that.
4. An end while a declared dependency was not ready is not this service's own: it parks and counts nothing.
   Neither is one that nobody saw.
5. Waits fall back only after a life that was ready for a while, so that "up for a second" resets nothing.
   Whatever each end looked like, more restarts than the budget hold it: the service's own, then its
   group's, then the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from standfast.kernel.backoff import Backoff
from standfast.services.model import (
    UNSEEN,
    Budgets,
    Done,
    End,
    Held,
    Parked,
    Restart,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
    Spent,
)

#: Waits between the slow tries of a held service; the last one repeats. Each is drawn out by 5 to 15 %, so
#: that many held services do not try together: in ten hours that makes at most 40 tries (A000-2).
SLOW_TRIES_S = (60.0, 300.0, 900.0)
_DRAWN_OUT, _DRAWN_UNIT = 1.05, 0.1
#: Never ready in so many times K lives, each with another end: as hopeless as the same end K times.
_VARIED_FACTOR = 3
#: So many ends of lives that worked for a while are followed at once; from then on waits grow.
_ACCIDENTS, _WORKED_S = 3, 1.0
_NEVER_S = float("inf")
NOTHING_SPENT, USUAL_BUDGETS = Spent(), Budgets()

#: Exit codes that mean "do not try again": the shim's and shells' 126 and 127, and sysexits(3).
PERMANENT_CODES: Mapping[int, str] = {
    64: "it was started with wrong arguments (EX_USAGE)",
    66: "an input that it needs is missing (EX_NOINPUT)",
    77: "it lacks a permission (EX_NOPERM)",
    78: "its configuration is wrong (EX_CONFIG)",
    126: "the program cannot be executed",
    127: "the program, or an interpreter or library that it needs, was not found",
}
#: Actions of recognised failures that need a state of the machine to clear, looked at on a short schedule.
_UNTIL_CLEAR = frozenset({"hold_until_clear", "cordon", "drain"})
_CLEAR_S = 60.0
#: Equal ends before a failure of this class is held, where that differs from the policy.
_TRIES_OF_CLASS: Mapping[str, int] = {"resource_gpu_oom": 2}


def after_exit(
    spec: ServiceSpec,
    history: Sequence[End],
    *,
    unit: float,
    spent: Spent = NOTHING_SPENT,
    budgets: Budgets = USUAL_BUDGETS,
) -> Restart | Held | Parked | Done:
    """Decide what follows the last of ``history``, an end that nobody asked for.

    ``unit`` in [0, 1) is drawn by the caller and spreads the waits; ``spent`` counts the restarts of the
    budget's window.
    """
    last, policy = history[-1], spec.restart
    is_good = last.status.code == 0 and not last.status.signal_number and not last.left_behind
    if is_good and (spec.is_task or policy.when is not RestartWhen.ALWAYS):
        return Done()
    if last.down:
        return Parked(last.down)
    if policy.when is RestartWhen.NEVER:
        return Held(
            "NotRestarted", f"{_said(last)}; it is declared to be started once", _release(spec), _NEVER_S
        )
    own = [end for end in history if not end.down]
    seen = [end for end in own if end.status != UNSEEN]
    held = None if last.was_ready or last.status == UNSEEN else _hopeless(spec, seen, unit)
    held = held or _over_budget(spec, spent, budgets)
    if held is not None:
        return held
    ends = _ends_since_stable(policy, own)
    if last.was_ready and (ends <= 1 or (ends <= _ACCIDENTS and last.ready_s >= _WORKED_S)):
        # It worked; its first ends are taken for accidents, and every second without it is a loss.
        return Restart(0.0)
    backoff = Backoff(base_s=policy.backoff_s, cap_s=policy.cap_s)
    return Restart(backoff.wait_s(ends, unit=unit))


def _hopeless(spec: ServiceSpec, history: Sequence[End], unit: float) -> Held | None:
    last, policy = history[-1], spec.restart
    recognised = _recognised(spec, last)
    if recognised is not None:
        return recognised
    same = _trailing(history, lambda end: fingerprint(end) == fingerprint(last))
    limit = min(policy.max_fast_failures, _TRIES_OF_CLASS.get(last.cls, policy.max_fast_failures))
    if same >= limit:
        short = "without ever being ready" if spec.ready.is_probed else "soon after its start"
        message = f"ended {same} times in the same way {short}: {_said(last)}"
        return Held("SameFailure", message, _cure(spec, last), _slow_s(last, same - limit, unit))
    never_ready = _trailing(history, lambda end: not end.was_ready)
    vain = never_ready - _VARIED_FACTOR * policy.max_fast_failures
    if vain >= 0:
        message = f"was started {never_ready} times and never became ready, last: {_said(last)}"
        return Held("NeverReady", message, _cure(spec, last), _slow_s(last, vain, unit))
    return None


def _recognised(spec: ServiceSpec, last: End) -> Held | None:
    """Return the hold of an end that speaks for itself after one start."""
    is_exit = not last.status.signal_number
    if last.status.code == 0 and is_exit and last.left_behind:
        return Held(
            "ForkedAway",
            f"it ended with exit code 0 and left {last.left_behind} processes running in the background, "
            "which were ended",
            "make it stay in the foreground (an option such as --foreground or --no-daemon)",
            _NEVER_S,
        )
    if last.is_permanent:
        name = "".join(word.capitalize() for word in last.cls.split("_"))
        return Held(name, _said(last), _cure(spec, last), _NEVER_S)
    if is_exit and last.status.code in PERMANENT_CODES:
        meaning = PERMANENT_CODES[last.status.code]
        message = f"{last.status.text}, {meaning}{_line(last)}"
        return Held("Permanent", message, _cure(spec, last), _NEVER_S)
    if last.action in _UNTIL_CLEAR:
        name = "".join(word.capitalize() for word in last.cls.split("_"))
        return Held(name, _said(last), _cure(spec, last), _CLEAR_S)
    return None


def _slow_s(last: End, vain: int, unit: float) -> float:
    """Return the wait after ``vain`` slow tries; for a network it does not grow."""
    slow_s = SLOW_TRIES_S[min(max(vain, 0), len(SLOW_TRIES_S) - 1)]
    slow_s = SLOW_TRIES_S[0] if last.action == "backoff" else slow_s
    return slow_s * (_DRAWN_OUT + _DRAWN_UNIT * unit)


def _over_budget(spec: ServiceSpec, spent: Spent, budgets: Budgets) -> Held | None:
    policy = spec.restart
    window = f"within {policy.budget_window_s:g} s"
    for count, most, whose in (
        (spent.service, policy.budget, "its budget"),
        (spent.group, budgets.group, f"the budget of its group {spec.group}"),
        (spent.host, budgets.host, "the budget of this host"),
    ):
        if count >= most:
            message = f"{count} restarts {window} spent {whose} of {most}"
            return Held("BudgetSpent", message, _release(spec), SLOW_TRIES_S[-1])
    return None


def counts_as_restart(spec: ServiceSpec, end: End) -> bool:
    """Whether an end is one that a restart followed: no task that was completed, nothing that only waits."""
    return not end.down and not (spec.is_task and end.status.code == 0 and not end.status.signal_number)


def held_by_person(name: str, who: str, why: str) -> Held:
    """Return the hold that a person has put on a service; only a release ends it."""
    message = f"held by {who}{f': {why}' if why else ''}"
    return Held("HeldByPerson", message, f"standfast release {name}", _NEVER_S)


def fingerprint(end: End) -> tuple[int, int, bool, str]:
    """Return what makes two ends the same: status, phase, and what was said without what varies."""
    return end.status.code, end.status.signal_number, end.was_ready, end.print_


def _said(end: End) -> str:
    # A class without an action is a guess, and is not put into a reason.
    known = f" ({end.cls})" if end.cls and end.action else ""
    ended_by = f"ended by {end.asked_by}; " if end.asked_by else ""
    return f"{ended_by}{end.status.text}{known}{_line(end)}"


def _line(end: End) -> str:
    return f": {end.last_line}" if end.last_line else ""


def _cure(spec: ServiceSpec, end: End) -> str:
    again = "it is started again when its program or a file that it names changes, or by: "
    first = f"{end.fix}; then " if end.fix else "cure what its log says; "
    return f"{first}{again}{_release(spec)}"


def _release(spec: ServiceSpec) -> str:
    return f"standfast release {spec.name}"


def _ends_since_stable(policy: RestartPolicy, history: Sequence[End]) -> int:
    """Return how many ends follow the last stable life, that life's own end included."""
    count = 0
    for end in reversed(history):
        count += 1
        if end.ready_s >= policy.stable_s:
            break
    return count


def _trailing(history: Sequence[End], holds: Callable[[End], bool]) -> int:
    count = 0
    for end in reversed(history):
        if not holds(end):
            break
        count += 1
    return count
