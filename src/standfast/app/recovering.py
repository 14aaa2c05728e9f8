"""Brings a stack back: has a supervisor run, clears the way of each service once, and watches until the end.

Killed in the middle, it leaves nothing half done: the supervisor goes on, and the next call looks anew.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from standfast.app.instance import Found, Run
from standfast.app.offline import blueprint_of, config_of
from standfast.app.stack_look import StackSeen, is_stack, look_at_stack, names_of
from standfast.app.stack_status import STARTING_S, rows_of
from standfast.app.stack_up import spawn, specs_of, start
from standfast.kernel.clock import iso
from standfast.kernel.errors import ConfigError, StandfastError, TransientError
from standfast.services.adapters import procfs
from standfast.services.adapters.control import ask
from standfast.services.adapters.records import read_records
from standfast.services.decide.matrix import Cell, Matrix, cell_of, matrix_of
from standfast.services.decide.recover import Act, Plan, Way, due, judge_recovery, plan_of
from standfast.services.decide.up import Failed, Pending, Up
from standfast.services.model import STOPPED, Dependency, ServiceSpec
from standfast.services.records import Records

View = Mapping[str, Any]
_LOOK_S = 0.25
_ASK_S = 5.0
#: A supervisor that dies so often meanwhile has a fault that another start does not cure.
_MOST_STARTS = 3
_UP = (Cell.READY, Cell.COMPLETED, Cell.UNCHECKED)


class Done(NamedTuple):
    """Something that was done, ``offset_s`` after the beginning."""

    at: str
    offset_s: float
    text: str


@dataclass(slots=True)
class Ready:
    """A stack that was looked at: what is down, how it comes back, and what is wrong with its supervisor."""

    found: Found
    seen: StackSeen
    specs: tuple[ServiceSpec, ...]
    plan: Plan
    records: Records
    supervisor: tuple[str, str] | None
    trouble: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared service: the denominator of every figure."""
        return names_of(self.specs, rows_of(self.seen))

    @property
    def before(self) -> Matrix:
        """How the stack was found."""
        return matrix_of(self.names, {row["name"]: row for row in rows_of(self.seen)})

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do."""
        return not self.plan.returns and self.supervisor is None


@dataclass(slots=True)
class Course:
    """What was seen and done on the way: the matrix whenever its figure changed, and when each came back."""

    began_s: float
    began_at: str
    names: tuple[str, ...]
    done: list[Done] = field(default_factory=list)
    timeline: list[tuple[float, int]] = field(default_factory=list)
    back_s: dict[str, float] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    acted: set[str] = field(default_factory=set)
    _since_s: dict[str, tuple[tuple[object, object], float]] = field(default_factory=dict)

    @classmethod
    def begin(cls, names: tuple[str, ...], before: Matrix) -> Course:
        """Return one that begins now."""
        course = cls(time.monotonic(), iso(datetime.now(UTC)), names)
        course.timeline.append((0.0, before.ready))
        return course

    @property
    def offset_s(self) -> float:
        """How long it has gone on."""
        return time.monotonic() - self.began_s

    @property
    def matrix(self) -> Matrix:
        """How the stack is by the last look."""
        return matrix_of(self.names, self.views)

    def note(self, text: str) -> None:
        """Put on record what was done."""
        self.done.append(Done(iso(datetime.now(UTC)), self.offset_s, text))

    def see(self, views: Sequence[View]) -> bool:
        """Take note of a look; return whether the number of ready services changed."""
        now_s = self.offset_s
        self.views = {str(view["name"]): view for view in views}
        for name, view in self.views.items():
            stands = (view["state"], view.get("reason"))
            known = self._since_s.get(name)
            if known is None or known[0] != stands:
                self._since_s[name] = (stands, now_s)
            if cell_of(view) in _UP:
                self.back_s.setdefault(name, now_s)
            else:
                self.back_s.pop(name, None)
        ready = self.matrix.ready
        has_changed = ready != self.timeline[-1][1]
        if has_changed:
            self.timeline.append((now_s, ready))
        return has_changed

    def acted_on(self, name: str) -> None:
        """Take note that something was done about a service: how it stands now counts from here."""
        self.acted.add(name)
        self._since_s.pop(name, None)

    def seen_s(self) -> dict[str, float]:
        """Return for how long each service has been seen to stand as it does."""
        now_s = self.offset_s
        return {name: now_s - since_s for name, (_, since_s) in self._since_s.items()}


def prepare(found: Found) -> Ready:
    """Look at a stack and plan its return; raises TransientError for an instance whose own `up` must run."""
    blueprint = blueprint_of(found)
    seen = look_at_stack(found.data_dir, blueprint=blueprint)
    is_alone = is_stack(found.data_dir, seen.run)
    trouble: list[str] = []
    specs = seen.specs
    if seen.answer is None:
        specs, trouble = _declared(found, seen, is_alone=is_alone)
    elif not is_alone:
        specs = tuple(_spec_of(view) for view in seen.views)
    records = read_records(found.data_dir)
    rows = {row["name"]: row for row in rows_of(seen)}
    took = {spec.name: records.last_wait_s(spec.name) for spec in specs}
    supervisor = _wrong_with(seen)
    return Ready(found, seen, specs, plan_of(specs, rows, took), records, supervisor, trouble)


def bring_back(
    ready: Ready, *, limit_s: float, who: str, told: Callable[[Course, bool], None]
) -> tuple[Course, Up | Pending | Failed]:
    """Act until everything required is back and stable, nothing moves any more, or ``limit_s`` is over.

    ``told`` hears of every look, and whether the number of ready services has changed.
    """
    course, starts = Course.begin(ready.names, ready.before), 0
    judged: Up | Pending | Failed = Pending(("no supervisor has answered yet",))
    # Each turn looks once; bounded by the limit.
    while course.offset_s < limit_s and isinstance(judged, Pending):
        try:
            views = ask(ready.found.data_dir, "list", timeout_s=_ASK_S)["services"]
        except TransientError:
            starts += _have_supervisor(ready, course, starts)
            time.sleep(_LOOK_S)
            continue
        told(course, course.see(views))
        for act in due(ready.specs, course.views, acted=course.acted, seen_s=course.seen_s()):
            _do(ready, course, act, who)
        judged = judge_recovery(ready.specs, course.views, acted=course.acted, seen_s=course.seen_s())
        time.sleep(_LOOK_S if isinstance(judged, Pending) else 0.0)
    return course, judged


def _declared(found: Found, seen: StackSeen, *, is_alone: bool) -> tuple[tuple[ServiceSpec, ...], list[str]]:
    """Return what is to run where no supervisor says it: as configured now, else as it ran last."""
    try:
        config = config_of(found)
        if config.is_stack:
            return specs_of(config), []
    except ConfigError as error:
        if not seen.specs:
            raise
        return seen.specs, [f"{error}; what ran before is run again"]
    if not is_alone:
        raise TransientError(
            f"no instance runs in {found.data_dir}",
            why="it has an API, which stands in the same process as its supervisor",
            fix=f"standfast up {seen.blueprint}: it takes back what runs",
            code="NotRunning",
        )
    return seen.specs, []


def _spec_of(view: View) -> ServiceSpec:
    """Return what a view tells of a declaration: enough to order and to judge."""
    return ServiceSpec(
        str(view["name"]), (), depends_on=tuple(Dependency(one) for one in view.get("depends_on", ())),
        is_required=bool(view.get("is_required", True)), file=str(view.get("declared_in", "")),
    )  # fmt: skip


def _wrong_with(seen: StackSeen) -> tuple[str, str] | None:
    """Return what is wrong with the supervisor and where that was seen, or None."""
    if seen.answer is not None:
        return None
    letter = seen.main.letter if seen.main is not None else ""
    pid = seen.main.pid if seen.main is not None else 0
    if letter in STOPPED and letter:
        return "stopped by a signal", f"process {pid}: state {letter} in /proc"
    if letter not in ("", "Z", "X"):
        why = seen.error.what if seen.error is not None else "no answer"
        return "alive and silent", f"process {pid}: state {letter} in /proc; {why}"
    if isinstance(seen.run, Run):
        return "gone without a goodbye", f"run.json names process {pid}, which is not there"
    return "not running", f"there is no run.json in {seen.data_dir}"


def _have_supervisor(ready: Ready, course: Course, starts: int) -> int:
    """Have a supervisor run; return 1 where one was started. Raises StandfastError where none can be had."""
    seen = look_at_stack(ready.found.data_dir, timeout_s=_ASK_S)
    if seen.answer is not None:
        return 0
    letter = seen.main.letter if seen.main is not None else ""
    if isinstance(seen.run, Run) and letter in STOPPED and letter:
        procfs.send(seen.run.process, signal.SIGCONT)
        course.note(f"continued the supervisor (process {seen.run.process.pid}), which was stopped")
        return 0
    if isinstance(seen.run, Run) and letter not in ("", "Z", "X"):
        if seen.age_s < STARTING_S:
            return 0
        # Its services do not notice: they live under shims of their own.
        procfs.send(seen.run.process, signal.SIGKILL)
        course.note(f"ended the supervisor (process {seen.run.process.pid}), which gave no answer")
    if starts >= _MOST_STARTS:
        raise TransientError(
            f"the supervisor was started {starts} times and does not stay",
            fix="standfast logs; standfast doctor", code="SupervisorFailed",
        )  # fmt: skip
    pid = _start(ready)
    course.note(f"started a supervisor (process {pid}); it takes back what runs and starts the rest in order")
    return 1


def _start(ready: Ready) -> int:
    try:
        config = config_of(ready.found)
    except ConfigError:
        return spawn(ready.found.data_dir)
    return start(config, started_from=Path.cwd())


def _do(ready: Ready, course: Course, act: Act, who: str) -> None:
    """Do one thing for one service; a service that is gone meanwhile is looked at again."""
    data_dir, names = ready.found.data_dir, [act.name]
    course.acted_on(act.name)
    with contextlib.suppress(StandfastError):
        if act.way is Way.RELEASE:
            ask(data_dir, "release", names=names, who=who)
        else:
            ask(data_dir, "restart", names=names, who=who, only=True)
        verb = {Way.RELEASE: "released", Way.START: "started", Way.RESTART: "restarted"}[act.way]
        course.note(f"{verb} {act.name}: {act.why}")
