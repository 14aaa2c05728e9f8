"""``standfast recover``: what is down and why, in which order it comes back; then act, and report."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from standfast.app.progress import nothing_seen
from standfast.app.recovering import Course, Ready, bring_back, prepare
from standfast.app.recovery_report import Written, facts_of, plain_facts, report_of, write_report
from standfast.app.reporters import Reporter, reporter_for
from standfast.cli.commands.services import local, who
from standfast.cli.output import Printer, printer, say, say_error
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import StoreUnavailableError
from standfast.reports.recovery import Facts
from standfast.services.decide.recover import Plan, Return
from standfast.services.decide.up import Failed, Pending, Up

PlanOnly = Annotated[bool, typer.Option("--plan", help="Print the plan and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before acting, on a terminal.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1.0, max=86_400.0, metavar="SECONDS", help="Longest wait.")
]

_CODES = {Up: 0, Failed: 3, Pending: 8}


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(app, recover, "recover", schema="recover", example="standfast recover --plan")


def recover(session: Session, plan: PlanOnly = False, yes: Yes = False, timeout: Timeout = 300.0) -> int:
    """Bring the stack of this folder back: plan, act in order, compare before and after, write a report.

    A supervisor is started where none runs, and takes back what lives. The machine's holds are released, a
    person's stay. Exit code 0 where every required service is ready and stable, 3 where one will not come
    back, 8 where the time was over first.
    """
    ready = prepare(local(session))
    if plan:
        data = {**ready.plan.as_dict(), "before": ready.before.as_dict(), "supervisor": _supervisor(ready)}
        session.emit(data, lambda out: print_plan(out, ready))
        return 0
    if not session.is_json:
        print_plan(printer(), ready)
    is_asking = sys.stdin.isatty() and sys.stdout.isatty() and not (yes or session.is_json or ready.is_well)
    if is_asking and not typer.confirm("go on?", default=True):
        say("nothing was done")
        return 0
    return _act(session, ready, timeout)


def _act(session: Session, ready: Ready, timeout: float) -> int:
    reporter = reporter_for()
    try:
        course, judged = bring_back(
            ready, limit_s=timeout, who=who(), told=lambda course, changed: _tell(reporter, course, changed)
        )
    finally:
        reporter.close()
    facts = facts_of(ready, course, judged, who=who())
    figures = plain_facts(facts)
    # Who looks every minute whether all is well shall not find a thousand reports that say so.
    path = None if ready.is_well and not course.done else _report(ready, facts, figures)
    data = {
        **figures, "plan": ready.plan.as_dict(), "report": str(path.markdown) if path else None,
        "report_json": str(path.json) if path else None,
    }  # fmt: skip
    session.emit(data, lambda out: print_outcome(out, facts, str(path.markdown) if path else ""))
    return _CODES[type(judged)]


def _report(ready: Ready, facts: Facts, figures: dict[str, Any]) -> Written | None:
    try:
        return write_report(ready.found.data_dir, report_of(facts), figures)
    except StoreUnavailableError as error:
        # The stack is back all the same: that the disk is full is said, and changes no exit code.
        say_error(error)
        return None


def _tell(reporter: Reporter, course: Course, changed: bool) -> None:
    views = [dict(view) for view in course.views.values()]
    reporter.show({**nothing_seen(), "at": iso(SystemClock().wall()), "services": views}, time.monotonic())
    if changed:
        reporter.say(f"{course.offset_s:6.1f} s  {course.matrix.text}")


def print_plan(out: Printer, ready: Ready) -> None:
    """Print what is down, why, and in which order it comes back."""
    plan = ready.plan
    out.line(f"before: {ready.before.text}", style="bold")
    for line in ready.trouble:
        out.line(f"  {line}")
    if supervisor := _supervisor(ready):
        out.line(f"the supervisor is {supervisor}")
    if ready.is_well:
        out.line("nothing is down")
        return
    rows = [_row(one) for one in plan.returns]
    if rows:
        out.table((">wave", "service", "is", "way back", ">last time", "class", "why"), rows)
    if plan.path:
        out.line(_estimate(plan))
    for one in plan.staying:
        out.line(f"{one.name} stays down: a person holds {', '.join(one.stays_for)}; {_release(one)}")


def _row(one: Return) -> tuple[object, ...]:
    took = f"{one.took_s:.1f} s" if one.took_s is not None else "-"
    return one.wave or "-", one.name, one.cell, one.way, took, one.cls or "-", one.why


def _estimate(plan: Plan) -> str:
    chain = " -> ".join(plan.path)
    missing = f"; no earlier start is known of {', '.join(plan.unknown)}" if plan.unknown else ""
    least = "at least " if plan.unknown else "about "
    return f"{least}{plan.eta_s:.1f} s, along {chain}{missing}"


def _release(one: Return) -> str:
    return "; ".join(f"standfast release {name}" for name in one.stays_for)


def _supervisor(ready: Ready) -> str:
    return f"{ready.supervisor[0]} ({ready.supervisor[1]})" if ready.supervisor else ""


def print_outcome(out: Printer, facts: Facts, path: str) -> None:
    """Print the matrix before and after, how long each took, what is left, and where the report is."""
    after = dict(facts.after.cells)
    back = {one.name: one for one in facts.back}
    rows = [
        (name, cell, after[name], f"{back[name].offset_s:.1f} s" if name in back else "-")
        for name, cell in facts.before.cells
    ]
    out.table(("service", "before", "after", ">ready after"), rows)
    out.line(f"{facts.outcome}: {facts.before.text} -> {facts.after.text}, in {facts.duration_s:.1f} s")
    for one in facts.missing:
        out.line(f"  not back: {one}")
    for risk in facts.risks:
        out.line(f"  left: {risk.text} ({risk.owner}): {risk.remedy}")
    if path:
        out.line(f"report: {path}")
