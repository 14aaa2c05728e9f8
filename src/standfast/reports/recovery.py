"""The report of a recovery: what was down and why, what was done, what came back, what is left (G).

Everything in it comes from ``Facts``, which are observations with their sources. A lesson is drawn only from
a finding of this recovery.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from standfast.reports.claims import Claim, Report, Section, Table
from standfast.services.decide.matrix import Cell, Matrix

#: A start that took this many times what it took last time is worth a word.
_SLOWER = 2.0
_LEAST_SLOW_S = 1.0


class Cause(NamedTuple):
    """Why services were down; ``since`` is empty where nobody saw when it began."""

    services: tuple[str, ...]
    text: str
    evidence: tuple[str, ...]
    since: str = ""
    cls: str = ""


class Action(NamedTuple):
    """Something that was done, ``offset_s`` after the beginning."""

    at: str
    offset_s: float
    text: str


class Back(NamedTuple):
    """One service that came back, ``offset_s`` after the beginning; ``last_s`` is what it took before."""

    name: str
    offset_s: float
    took_s: float | None
    last_s: float | None


class Risk(NamedTuple):
    """What is left, and who has to do something about it."""

    text: str
    owner: str
    remedy: str
    evidence: tuple[str, ...]


class Share(NamedTuple):
    """The ready share of the declared services' time from ``since`` on; ``basis`` is how it is known."""

    percent: float
    since: str
    basis: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What was observed of one recovery.

    ``timeline`` has the number of ready services whenever it changed, by seconds since ``began_at``.
    ``lookers`` says how everything here was observed. ``outcome`` is one line, ``missing`` what is not back.
    """

    stack: str
    data_dir: str
    who: str
    began_at: str
    ended_at: str
    duration_s: float
    outcome: str
    before: Matrix
    after: Matrix
    lookers: tuple[str, ...]
    timeline: tuple[tuple[float, int], ...]
    causes: tuple[Cause, ...] = ()
    actions: tuple[Action, ...] = ()
    back: tuple[Back, ...] = ()
    availability: Share | None = None
    risks: tuple[Risk, ...] = ()
    missing: tuple[str, ...] = ()
    estimate_s: float | None = None
    lessons: tuple[Claim, ...] = ()


def build(facts: Facts) -> Report:
    """Return the report; UnfoundedError where a fact has no source."""
    return Report(
        f"Recovery of {facts.stack}",
        facts.ended_at,
        (
            Section("Summary", tuple(_summary(facts))),
            Section("Causes", tuple(_causes(facts))),
            Section("Actions", tuple(_acted(facts))),
            Section("Matrix", (), _matrix(facts)),
            Section("Back", tuple(_came_back(facts)), _times(facts)),
            Section("Availability", tuple(_available(facts))),
            Section("Remaining risks", tuple(_risks(facts))),
            Section("Lessons", tuple(_lessons(facts))),
        ),
    )


def _summary(facts: Facts) -> Iterator[Claim]:
    yield Claim(f"{facts.outcome}: {facts.before.text} before, {facts.after.text} after.", facts.lookers)
    when = f"It began at {facts.began_at}, ended at {facts.ended_at} and took {facts.duration_s:.1f} s"
    expected = ""
    if facts.estimate_s:
        expected = f"; {facts.estimate_s:.1f} s were expected from what each service took last time"
    yield Claim(f"{when}{expected}.", (f"run by {facts.who}; the records are in {facts.data_dir}",))
    for one in facts.missing:
        yield Claim(f"Not back: {one}.", facts.lookers)


def _causes(facts: Facts) -> Iterator[Claim]:
    for cause in facts.causes:
        since = f", since {cause.since}" if cause.since else "; when it began was seen by nobody"
        cls = f" [{cause.cls}]" if cause.cls else ""
        yield Claim(f"{_names(cause.services)}: {cause.text}{cls}{since}.", cause.evidence)
    if not facts.causes:
        yield Claim("Nothing was down.", facts.lookers)


def _acted(facts: Facts) -> Iterator[Claim]:
    for action in facts.actions:
        yield Claim(f"{action.text}.", (f"done at {action.at}, {action.offset_s:.1f} s after the beginning",))
    if not facts.actions:
        yield Claim("Nothing had to be done.", facts.lookers)


def _matrix(facts: Facts) -> Table:
    after = dict(facts.after.cells)
    rows = tuple((name, str(cell), str(after.get(name, Cell.MISSING))) for name, cell in facts.before.cells)
    counts = (
        (
            "services ready",
            f"{facts.before.ready} of {facts.before.declared}",
            f"{facts.after.ready} of {facts.after.declared}",
        ),
        ("share", f"{facts.before.percent} %", f"{facts.after.percent} %"),
    )
    return Table(("service", "before", "after"), (*rows, *counts), facts.lookers)


def _came_back(facts: Facts) -> Iterator[Claim]:
    steps = ", ".join(
        f"{count} of {facts.after.declared} after {at_s:.1f} s" for at_s, count in facts.timeline
    )
    if steps:
        yield Claim(f"Ready services: {steps}.", facts.lookers)


def _times(facts: Facts) -> Table:
    rows = tuple(
        (one.name, f"{one.offset_s:.1f} s", _took(one.took_s), _took(one.last_s)) for one in facts.back
    )
    headings = ("service", "ready after the beginning", "its own start took", "last time")
    return Table(headings, rows, (*facts.lookers, "last time: the lives on record in services.db"))


def _available(facts: Facts) -> Iterator[Claim]:
    share = facts.availability
    if share is None:
        yield Claim("How much was available cannot be said: nothing is declared.", facts.lookers)
        return
    text = f"{share.percent:.1f} % of the declared services' time was ready time between {share.since} and"
    yield Claim(f"{text} {facts.ended_at}.", (share.basis,))


def _risks(facts: Facts) -> Iterator[Claim]:
    for risk in facts.risks:
        yield Claim(f"{risk.text}. Owner: {risk.owner}. To do: {risk.remedy}.", risk.evidence)
    if not facts.risks:
        yield Claim("None was found among what was looked at.", facts.lookers)


def _lessons(facts: Facts) -> Iterator[Claim]:
    found = [*facts.lessons, *_slow(facts)]
    yield from found
    if not found:
        yield Claim("None follows from what was found.", facts.lookers)


def _slow(facts: Facts) -> Iterator[Claim]:
    """Yield what the measured starts teach: which decided how long it took, which was slower than before."""
    timed = [one for one in facts.back if one.took_s is not None and one.took_s >= _LEAST_SLOW_S]
    slowest = max(timed, key=lambda one: one.took_s or 0.0, default=None)
    if slowest is not None and 2 * (slowest.took_s or 0.0) > facts.duration_s:
        yield Claim(
            f"How long a recovery takes is decided by {slowest.name}.",
            (f"its start took {_took(slowest.took_s)} of {facts.duration_s:.1f} s",),
        )
    for one in timed:
        if one.last_s and one.took_s and one.took_s > _SLOWER * one.last_s:
            yield Claim(
                f"{one.name} was slower than before.",
                (f"its start took {_took(one.took_s)}, last time {_took(one.last_s)}",),
            )


def _took(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds:.1f} s"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def availability(
    timeline: Sequence[tuple[float, int]],
    declared: int,
    duration_s: float,
    *,
    before_s: float = 0.0,
    ready_before_s: float = 0.0,
) -> float:
    """Return the ready share of all services' time, in percent.

    ``timeline`` is as in ``Facts``. In the ``before_s`` seconds before its beginning, all services together
    were ready for ``ready_before_s``.
    """
    if not declared or duration_s + before_s <= 0:
        return 0.0
    ready_s = ready_before_s
    for (at_s, count), (next_s, _) in itertools.pairwise([*timeline, (duration_s, 0)]):
        ready_s += count * max(0.0, min(next_s, duration_s) - at_s)
    return 100.0 * ready_s / (declared * (duration_s + before_s))
