"""Draws from two looks at a stack what a recovery's report says: why it was down, and what is left to do.

Each cause and each risk carries where it was seen. An end that nobody saw is called that, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from standfast.app.stack_look import LifeSeen, StackSeen
from standfast.app.stack_status import boot_at
from standfast.kernel.clock import iso
from standfast.reports.claims import Claim
from standfast.reports.recovery import Cause, Risk
from standfast.services.decide.matrix import UNCHECKED_REASONS, Cell, cell_of
from standfast.services.decide.recover import Plan, Return
from standfast.services.model import RestartWhen, ServiceSpec

View = Mapping[str, Any]
#: Evidence that one cause carries at most; the rest is counted.
_MOST_EVIDENCE = 20
#: More than this share of a restart budget is a warning.
_NEAR_BUDGET = 0.5


def causes_of(seen: StackSeen, plan: Plan, supervisor: tuple[str, str] | None) -> tuple[Cause, ...]:
    """Return why what the plan names was down; ``supervisor`` is what was wrong with it, and the evidence."""
    found = [Cause(("the supervisor",), supervisor[0], supervisor[1:])] if supervisor else []
    found += [_cause(seen, one) for one in plan.returns if not _is_consequence(seen, one)]
    waiting = [one.name for one in plan.returns if _is_consequence(seen, one)]
    if waiting:
        evidence = tuple(f"{one.name}: {one.why}" for one in plan.returns if one.name in waiting)
        found.append(Cause(tuple(waiting), "kept waiting by what they depend on", evidence[:_MOST_EVIDENCE]))
    return _merged(found)


def _is_consequence(seen: StackSeen, one: Return) -> bool:
    return any(view["name"] == one.name and view["state"] == "waiting" for view in seen.views)


def _cause(seen: StackSeen, one: Return) -> Cause:
    life = seen.lives.get(one.name)
    if seen.answer is not None or life is None:
        said = (
            "the supervisor said so when it was asked"
            if seen.answer is not None
            else "no life is written down"
        )
        evidence = (*one.evidence, f"{one.name}: {said}: {one.why}")
        return Cause((one.name,), one.why, evidence, since=one.since, cls=one.cls)
    return _cause_of_life(seen, one, life)


def _cause_of_life(seen: StackSeen, one: Return, life: LifeSeen) -> Cause:
    record = life.record
    if record.boot_id != seen.boot_id:
        at = boot_at(seen)
        text = "the machine was restarted, and how it ended before was seen by nobody"
        evidence = f"{one.name}: life {record.life} is of boot {record.boot_id}, this is boot {seen.boot_id}"
        return Cause((one.name,), text, (evidence,), since=f"{at} at the latest")
    if record.exit is not None:
        at = iso(datetime.fromtimestamp(float(record.exit["at"]), UTC))
        status = record.outcome().status
        evidence = f"{one.name}: written by its shim into lives/{one.name}/life.json at {at}"
        return Cause((one.name,), status.text if status else one.why, (evidence,), since=at, cls=one.cls)
    evidence = (
        f"{one.name}: neither process {record.child.pid} nor its shim {record.shim.pid} is there "
        f"(life {record.life}), and no end is written down"
    )
    return Cause((one.name,), "gone, and so is the shim that would have told how it ended", (evidence,))


def _merged(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Return causes that say the same as one, with all their services and evidence."""
    merged: dict[tuple[str, str, str], Cause] = {}
    for cause in causes:
        key = (cause.text, cause.cls, cause.since)
        known = merged.get(key)
        merged[key] = cause if known is None else _both(known, cause)
    return tuple(merged.values())


def _both(one: Cause, other: Cause) -> Cause:
    evidence = (*one.evidence, *other.evidence)
    if len(evidence) > _MOST_EVIDENCE:
        return one._replace(services=(*one.services, *other.services))
    return one._replace(services=(*one.services, *other.services), evidence=evidence)


def risks_of(
    specs: Sequence[ServiceSpec], views: Mapping[str, View], *, owner: str, unit: str, trouble: Sequence[str]
) -> tuple[Risk, ...]:
    """Return what is left, and who has to act; ``unit`` says why nothing starts the stack at boot."""
    found = [risk for spec in specs for risk in _of_service(spec, views.get(spec.name), owner)]
    if unit:
        fix = "standfast units --write /etc/systemd/system"
        found.append(Risk("A restart of the machine leaves this stack down", owner, fix, (unit,)))
    for one in trouble:
        found.append(Risk("Something stands in the way of the next recovery", owner, "mend it", (one,)))
    return tuple(found)


def _of_service(spec: ServiceSpec, view: View | None, owner: str) -> Iterator[Risk]:
    name, cell = spec.name, cell_of(view)
    if view is None or cell not in (Cell.READY, Cell.COMPLETED, Cell.UNCHECKED):
        view = view or {}
        said = f"{view.get('state', 'missing')}: {view.get('message') or 'nothing is known of it'}"
        fix = str(view.get("remedy") or f"standfast explain {name}")
        yield Risk(
            f"{name} is not back", str(view.get("held_by") or owner), fix, (f"the supervisor: {said}",)
        )
        return
    if view.get("reason") in UNCHECKED_REASONS:
        fix = f"declare `ready` for {name}"
        evidence = (
            f"{spec.file or 'its declaration'}: no probe is declared; the supervisor only sees that it runs"
        )
        yield Risk(f"Whether {name} works is known to nobody", owner, fix, (evidence,))
    if spec.restart.when is RestartWhen.NEVER and not spec.is_task:
        evidence = f"{spec.file or 'its declaration'}: restart.policy is never"
        yield Risk(f"{name} is not started again when it ends", owner, "choose another policy", (evidence,))
    spent, budget = int(view.get("restarts_in_window", 0)), spec.restart.budget
    if spent > _NEAR_BUDGET * budget:
        evidence = f"the supervisor: {spent} of {budget} restarts within {spec.restart.budget_window_s:g} s"
        yield Risk(f"{name} is close to being held", owner, f"standfast explain {name}", (evidence,))


def lessons_of(seen: StackSeen, causes: Sequence[Cause], *, unit: str) -> tuple[Claim, ...]:
    """Return what follows from what was found, and from nothing else."""
    found = []
    if seen.answer is None and unit:
        evidence = [line for cause in causes for line in cause.evidence][:1] or ["no supervisor answered"]
        found.append(
            Claim("A person had to start the supervisor; an installed unit does that.", (unit, *evidence))
        )
    unseen = [cause for cause in causes if "shim" in cause.text]
    if unseen:
        count = sum(len(cause.services) for cause in unseen)
        found.append(
            Claim(
                f"How {count} services ended cannot be told: nothing outlived them that could have seen it.",
                unseen[0].evidence,
            )
        )
    for cause in causes:
        if cause.cls.startswith("permanent"):
            names = ", ".join(cause.services)
            found.append(Claim(f"{names}: no start cures {cause.cls}.", cause.evidence))
    return tuple(found)
