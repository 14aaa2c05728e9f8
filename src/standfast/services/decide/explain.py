"""Why a service is not ready: its gates in order, each judged from values alone.

The order is the one in which a person has to clear them: what is not declared cannot be supervised, what
waits for another service is not cured by releasing it, what does not run cannot answer. Of a service that is
not ready at least one gate is closed, whatever was seen of it (I1).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from standfast.kernel.explanation import ExplainedGate, Explanation
from standfast.kernel.verdict import Verdict
from standfast.services.decide.order import roots, unmet
from standfast.services.decide.up import window_of
from standfast.services.failures.model import FailureClass
from standfast.services.model import STOPPED, Condition, Dependency, ServiceSpec, ServiceState
from standfast.services.records import LifeRecord, PersonHold

View = Mapping[str, Any]
#: Reasons of a hold that the supervisor came to by itself, after ends; any other is an obstacle.
HOLD_REASONS = frozenset(
    {
        "SameFailure", "NeverReady", "ForkedAway", "Permanent", "BudgetSpent", "NotRestarted",
        *("".join(word.capitalize() for word in cls.split("_")) for cls in FailureClass),
    }
)  # fmt: skip
_PERSON, _NEED = "HeldByPerson", "NeedUnmet"
_GOOD = ("ready", "completed")
#: Ends that are shown as evidence.
_SHOWN_ENDS = 3


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that one service is explained from.

    ``specs`` is what the supervisor was told to run, ``views`` how services stand (``ServiceView.as_dict``),
    which is fresh only where the supervisor answered (``is_fresh``). ``supervised`` is the gate that whoever
    looked at the supervisor made of it. ``declared_now`` says where the configuration declares the service as
    it is written now, ``elsewhere`` which other files do, ``runs_by`` how it is run from there; ``sources``
    names what was looked at.
    """

    name: str
    specs: Mapping[str, ServiceSpec]
    views: Mapping[str, View]
    supervised: ExplainedGate
    is_fresh: bool = True
    holds: Mapping[str, PersonHold] = field(default_factory=dict)
    lives: Sequence[LifeRecord] = ()
    declared_now: str = ""
    elsewhere: tuple[str, ...] = ()
    runs_by: str = ""
    sources: tuple[str, ...] = ()

    @property
    def spec(self) -> ServiceSpec:
        """The declaration of the service; there must be one."""
        return self.specs[self.name]

    @property
    def view(self) -> View:
        """How the service stands; empty where nothing was seen of it."""
        return self.views.get(self.name, {})

    @property
    def state(self) -> str:
        """Where the service stands, "" where nothing is known."""
        return str(self.view.get("state", ""))


def explain(known: Known) -> Explanation:
    """Return every gate of the service, in order."""
    if known.name not in known.specs:
        return Explanation("service", known.name, (undeclared(known),))
    gates = [_declared(known), known.supervised]
    for judge in _GATES:
        gates.append(judge(known, any(gate.is_closed for gate in gates)))
    return Explanation("service", known.name, tuple(gates))


def undeclared(known: Known) -> ExplainedGate:
    """Return the gate of a name that is not run, with where it is declared instead."""
    name, where = known.name, ", ".join(known.sources) or "this stack"
    if known.declared_now:
        return ExplainedGate(
            "declared", Verdict.FAIL,
            f"{name} is declared in {known.declared_now}, and what runs was started before that",
            "the supervisor was told to run it", remedy="standfast up --detach tells it",
        )  # fmt: skip
    if known.elsewhere:
        return ExplainedGate(
            "declared", Verdict.FAIL,
            f"{name} is not in {where}; it is defined in {' and in '.join(known.elsewhere)}",
            "declared in what is run", evidence=known.elsewhere,
            remedy=f"add {known.elsewhere[0].rpartition(':')[0]} to [stack] files, or run it from there: "
            f"{known.runs_by or 'standfast up'}",
        )  # fmt: skip
    near = difflib.get_close_matches(name, known.specs, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return ExplainedGate(
        "declared", Verdict.FAIL, f"{name} is not declared in {where}", "declared in what is run",
        remedy=f"{guess}the services are: {', '.join(sorted(known.specs)) or 'none'}",
    )  # fmt: skip


def _declared(known: Known) -> ExplainedGate:
    spec = known.spec
    where = f"{spec.file}:{spec.line}" if spec.line else spec.file or known.declared_now or "the stack"
    kind = "a task that runs once" if spec.is_task else "a daemon"
    needed = "required" if spec.is_required else "not required"
    return ExplainedGate("declared", Verdict.PASS, f"{where} declares it: {kind}, {needed}")


def _dependencies(known: Known, _: bool) -> ExplainedGate:
    spec = known.spec
    if not spec.depends_on:
        return ExplainedGate("dependencies", Verdict.SKIPPED, "it depends on nothing")
    expected = ", ".join(_wanted(one) for one in spec.depends_on)
    if not known.is_fresh:
        return ExplainedGate(
            "dependencies", Verdict.UNKNOWN, "nobody knows whether they are ready", expected,
            remedy=known.supervised.remedy or "standfast status",
        )  # fmt: skip
    states = _states(known.views)
    open_ = unmet(spec, states)
    if not open_ or known.state in _GOOD:
        now = ", ".join(f"{one.name} is {_word(known.views.get(one.name))}" for one in spec.depends_on)
        return ExplainedGate("dependencies", Verdict.PASS, now, expected)
    chains = [chain for chain in roots(known.name, known.specs, states) if len(chain) > 1]
    causes = tuple(dict.fromkeys(chain[-1] for chain in chains))
    views = [known.views.get(cause, {}) for cause in causes]
    said = [f"{cause} is {_word(view)}{_why(view)}" for cause, view in zip(causes, views, strict=True)]
    return ExplainedGate(
        "dependencies", Verdict.FAIL, f"it waits, because {'; and '.join(said)}", expected,
        since=min((str(view["since"]) for view in views if view.get("since")), default=""),
        evidence=tuple(" <- ".join(chain) for chain in chains),
        remedy="; ".join(
            str(view.get("remedy") or f"standfast explain {cause}")
            for cause, view in zip(causes, views, strict=True)
        ),
    )  # fmt: skip


def _person_hold(known: Known, _: bool) -> ExplainedGate:
    hold, view = known.holds.get(known.name), known.view
    if hold is None and not view.get("held_by"):
        return ExplainedGate("person's hold", Verdict.PASS, "nobody holds it")
    who = hold.who if hold else str(view["held_by"])
    why = f": {hold.why}" if hold and hold.why else ""
    return ExplainedGate(
        "person's hold", Verdict.FAIL, f"{who} holds it{why}", "nobody holds it",
        since=hold.since if hold else str(view.get("since", "")),
        evidence=("only a person takes a person's hold back",), remedy=f"standfast release {known.name}",
    )  # fmt: skip


def _machine_hold(known: Known, _: bool) -> ExplainedGate:
    view = known.view
    if known.state != "held" or view.get("reason") not in HOLD_REASONS:
        return ExplainedGate("machine's hold", Verdict.PASS, "the supervisor does not hold it")
    retry = view.get("retry_in_s")
    again = "and does not try again by itself" if retry is None else f"and tries again in {retry:.0f} s"
    cls = [f"class {view['cls']}"] if view.get("cls") else []
    return ExplainedGate(
        "machine's hold", Verdict.FAIL,
        f"the supervisor holds it ({view['reason']}), {again}: {view.get('message', '')}",
        "no end that makes another start pointless", since=str(view.get("since", "")),
        evidence=(*cls, *map(str, view.get("evidence", ())), *_ends(known)),
        remedy=str(view.get("remedy") or f"standfast release {known.name}"),
    )  # fmt: skip


def _needs(known: Known, is_closed: bool) -> ExplainedGate:
    needs, view = known.spec.needs, known.view
    if not needs:
        return ExplainedGate("needs", Verdict.SKIPPED, "it needs nothing from outside the stack")
    expected = ", ".join(need.name for need in needs)
    if known.state == "held" and view.get("reason") == _NEED:
        every = min(need.interval_s for need in needs)
        return ExplainedGate(
            "needs", Verdict.FAIL, str(view.get("message") or "one is not so"), expected,
            since=str(view.get("since", "")),
            evidence=(f"its check was run, and is run again every {every:g} s; no start was spent",),
            remedy=str(view.get("remedy") or f"make true: {expected}"),
        )  # fmt: skip
    return _passed_or_not(known, "needs", is_closed, "were so before its start", expected)


def _obstacle(known: Known, is_closed: bool) -> ExplainedGate:
    view, reason = known.view, str(known.view.get("reason", ""))
    expected = "program, folder and port are there for it"
    if known.state == "held" and reason not in HOLD_REASONS and reason not in (_PERSON, _NEED):
        return ExplainedGate(
            "obstacles", Verdict.FAIL, f"{reason}: {view.get('message', '')}", expected,
            since=str(view.get("since", "")),
            evidence=("looked at again every few seconds; no start was spent",),
            remedy=str(view.get("remedy") or "standfast status"),
        )  # fmt: skip
    return _passed_or_not(known, "obstacles", is_closed, "nothing was in the way of its start", expected)


def _process(known: Known, is_closed: bool) -> ExplainedGate:
    view, expected = known.view, "its process runs"
    pid, letter = view.get("pid"), str(view.get("process_state", ""))
    since = str(view.get("since", ""))
    if pid and letter in STOPPED:
        return ExplainedGate(
            "process", Verdict.FAIL, f"process {pid} is stopped by a signal ({letter})", expected,
            since=since, evidence=(f"its state in /proc is {letter}",), remedy=f"kill -CONT {pid}",
        )  # fmt: skip
    if pid:
        kept = "; an earlier supervisor began it" if view.get("is_adopted") else ""
        up = f"process {pid} ({letter}) runs for {view.get('uptime_s', 0.0):.0f} s{kept}"
        return ExplainedGate("process", Verdict.PASS, up, expected, evidence=_ends(known))
    if known.state == "completed":
        return ExplainedGate("process", Verdict.PASS, "it ended with exit code 0, as it was declared to")
    last = f"; the last life: {view['last_exit']}" if view.get("last_exit") else ""
    if is_closed:
        return ExplainedGate("process", Verdict.SKIPPED, f"nothing of it runs{last}", expected)
    soon = ", and is started again soon" if known.state == "backoff" else ""
    return ExplainedGate(
        "process", Verdict.FAIL, f"it does not run{soon}{_why(view)}", expected, since=since,
        evidence=_ends(known), remedy=str(view.get("remedy") or f"standfast logs {known.name}"),
    )  # fmt: skip


def _readiness(known: Known, is_closed: bool) -> ExplainedGate:
    spec, view = known.spec, known.view
    target = spec.ready.target if spec.ready.is_probed else "it runs for a moment; nothing else is asked"
    grace = f" within {view['grace_s']:.0f} s of its start" if view.get("grace_s") else ""
    expected = f"{target}{grace}" if spec.ready.is_probed else target
    if known.state in _GOOD:
        took = view.get("ready_after_s")
        after = f"; it took {took:.1f} s to become so" if took is not None else ""
        return ExplainedGate("readiness", Verdict.PASS, f"{view.get('message') or 'ready'}{after}", expected)
    if known.state in ("starting", "not_ready") and known.is_fresh:
        verdict = Verdict.UNKNOWN if known.state == "starting" else Verdict.FAIL
        usual = view.get("usual_ready_s")
        learnt = (f"it usually takes {usual:.1f} s",) if usual is not None else ()
        return ExplainedGate(
            "readiness", verdict, f"{view.get('reason', '')}: {view.get('message', '')}", expected,
            since=str(view.get("since", "")), evidence=learnt,
            remedy=str(view.get("remedy") or f"standfast logs {known.name}"),
        )  # fmt: skip
    if is_closed:
        return ExplainedGate("readiness", Verdict.SKIPPED, "not reached", expected)
    return ExplainedGate(
        "readiness", Verdict.UNKNOWN, f"nothing is known: {known.state or 'it was not seen'}", expected,
        remedy=f"standfast status; standfast logs {known.name}",
    )  # fmt: skip


def _stability(known: Known, is_closed: bool) -> ExplainedGate:
    view = known.view
    if known.state == "completed":
        return ExplainedGate("stability", Verdict.PASS, "it ended, and stays so")
    if known.state != "ready":
        return ExplainedGate("stability", Verdict.SKIPPED, "not reached")
    stable_s, window_s = float(view.get("stable_for_s", 0.0)), window_of(view)
    spent, policy = int(view.get("restarts_in_window", 0)), known.spec.restart
    restarts = (
        (f"{spent} restarts within {policy.budget_window_s:g} s, of at most {policy.budget}",)
        if spent
        else ()
    )
    expected = f"ready for {window_s:.0f} s without a restart"
    if stable_s >= window_s:
        observed = f"ready for {stable_s:.0f} s"
        return ExplainedGate("stability", Verdict.PASS, observed, expected, evidence=restarts)
    return ExplainedGate(
        "stability", Verdict.UNKNOWN, f"ready for {stable_s:.0f} s only", expected,
        evidence=(*restarts, *_ends(known)), remedy=f"ask again in {window_s - stable_s:.0f} s",
    )  # fmt: skip


_GATES: tuple[Callable[[Known, bool], ExplainedGate], ...] = (
    _dependencies, _person_hold, _machine_hold, _needs, _obstacle, _process, _readiness, _stability,
)  # fmt: skip


def _passed_or_not(known: Known, name: str, is_closed: bool, passed: str, expected: str) -> ExplainedGate:
    if known.view.get("pid") or known.state == "completed":
        return ExplainedGate(name, Verdict.PASS, passed, expected)
    observed = "not reached" if is_closed else "nothing speaks against it"
    return ExplainedGate(name, Verdict.SKIPPED, observed, expected)


def _states(views: Mapping[str, View]) -> dict[str, ServiceState]:
    known = {str(state) for state in ServiceState}
    return {name: ServiceState(view["state"]) for name, view in views.items() if view.get("state") in known}


def _wanted(one: Dependency) -> str:
    return f"{one.name} {'runs' if one.condition is Condition.STARTED else one.condition}"


def _word(view: View | None) -> str:
    return str((view or {}).get("state") or "not there").replace("_", " ")


def _why(view: View) -> str:
    said = view.get("message") or view.get("last_exit")
    return f": {said}" if said else ""


def _ends(known: Known) -> tuple[str, ...]:
    """Return the latest ends that nobody asked for, the latest first."""
    ended = [one for one in reversed(known.lives) if one.ended_at and one.cls != "requested_stop"]
    return tuple(f"a life ended: {one.text}" for one in ended[:_SHOWN_ENDS])
