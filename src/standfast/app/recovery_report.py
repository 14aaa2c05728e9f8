"""Puts together what was observed of a recovery, and writes the report beside the records of the stack."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from standfast.app.instance import Run
from standfast.app.recovering import Course, Ready
from standfast.app.recovery_facts import causes_of, lessons_of, risks_of
from standfast.app.tokens import redact
from standfast.app.units import installed, unit_name
from standfast.kernel.clock import iso
from standfast.kernel.errors import StoreUnavailableError
from standfast.reports.claims import Report
from standfast.reports.markdown import render
from standfast.reports.recovery import Action, Back, Cause, Facts, Share, availability, build
from standfast.services.decide.matrix import Matrix
from standfast.services.decide.up import Failed, Pending, Up

REPORTS_NAME = "reports"
#: Reports that are kept, the newest ones.
_KEPT = 200
_OUTCOMES = {Up: "Recovered", Failed: "Recovered in part", Pending: "Not recovered in time"}


class Written(NamedTuple):
    """Where a report lies, for people and for machines."""

    markdown: Path
    json: Path


def facts_of(ready: Ready, course: Course, judged: Up | Pending | Failed, *, who: str) -> Facts:
    """Return everything that is known about a recovery that has ended."""
    seen, duration_s = ready.seen, course.offset_s
    unit = _why_not_at_boot(ready)
    causes = causes_of(seen, ready.plan, ready.supervisor)
    after = course.matrix if course.views else ready.before
    missing = (
        judged.missing if isinstance(judged, Pending) else judged.why if isinstance(judged, Failed) else ()
    )
    return Facts(
        stack=_name(ready), data_dir=str(ready.found.data_dir), who=who,
        began_at=course.began_at, ended_at=iso(datetime.now(UTC)), duration_s=duration_s,
        outcome="Nothing was down" if ready.is_well and isinstance(judged, Up) else _OUTCOMES[type(judged)],
        before=ready.before, after=after,
        lookers=_lookers(ready, course), timeline=tuple(course.timeline), causes=causes,
        actions=tuple(Action(*one) for one in course.done), back=_back(ready, course),
        availability=_share(ready, course, causes, duration_s), missing=missing,
        risks=risks_of(
            ready.specs, course.views, owner=who, unit=unit, trouble=[*ready.trouble, *_trouble(ready)]
        ),
        estimate_s=ready.plan.eta_s or None, lessons=lessons_of(seen, causes, unit=unit),
    )  # fmt: skip


def write_report(data_dir: Path, report: Report, facts: Mapping[str, Any]) -> Written:
    """Write a report as Markdown and as JSON; StoreUnavailableError where that cannot be done.

    What looks like a secret of ours is taken out: a last line of a log may hold one (I12).
    """
    folder = data_dir / REPORTS_NAME
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    written = Written(folder / f"recovery-{stamp}.md", folder / f"recovery-{stamp}.json")
    plain = json.dumps({**report.as_dict(), "facts": facts}, ensure_ascii=False, indent=1, default=str)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(written.markdown, redact(render(report)))
        _write(written.json, redact(plain) + "\n")
        for suffix in ("md", "json"):
            for old in sorted(folder.glob(f"recovery-*.{suffix}"))[:-_KEPT]:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailableError(
            f"the report cannot be written into {folder}",
            why=error.strerror or str(error),
            fix=f"make room, or make it writable: df -h {data_dir}; ls -ld {data_dir}",
            code="ReportUnwritable",
        ) from error
    return written


def report_of(facts: Facts) -> Report:
    """Return the report of a recovery."""
    return build(facts)


def plain_facts(facts: Facts) -> dict[str, Any]:
    """Return the figures of a recovery as plain JSON values."""
    share = facts.availability
    return {
        "outcome": facts.outcome, "missing": list(facts.missing), "who": facts.who,
        "began_at": facts.began_at, "ended_at": facts.ended_at, "duration_s": round(facts.duration_s, 3),
        "estimate_s": facts.estimate_s, "before": facts.before.as_dict(), "after": facts.after.as_dict(),
        "timeline": [{"at_s": round(at_s, 3), "ready": count} for at_s, count in facts.timeline],
        "back": [one._asdict() for one in facts.back],
        "actions": [one._asdict() for one in facts.actions],
        "causes": [_plain(one._asdict()) for one in facts.causes],
        "risks": [_plain(one._asdict()) for one in facts.risks],
        "availability": share._asdict() if share is not None else None,
    }  # fmt: skip


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(inner) if isinstance(inner, tuple) else inner for key, inner in value.items()}


def _name(ready: Ready) -> str:
    run = ready.seen.run
    return run.name if isinstance(run, Run) else ready.found.data_dir.parent.name


def _lookers(ready: Ready, course: Course) -> tuple[str, ...]:
    seen = ready.seen
    asked = (
        "the supervisor was asked" if seen.answer is not None else "lives/NAME/life.json, /proc, services.db"
    )
    before = f"before, at {iso(seen.at)}: {asked}"
    return before, f"after: the supervisor was asked until {course.offset_s:.1f} s after the beginning"


def _back(ready: Ready, course: Course) -> tuple[Back, ...]:
    down = {one.name: one for one in ready.plan.returns}
    return tuple(
        Back(name, at_s, _took(course.views.get(name, {})), down[name].took_s)
        for name, at_s in sorted(course.back_s.items(), key=lambda one: one[1])
        if name in down
    )


def _took(view: Mapping[str, Any]) -> float | None:
    took_s = view.get("ready_after_s")
    return float(took_s) if took_s is not None else None


def _share(ready: Ready, course: Course, causes: tuple[Cause, ...], duration_s: float) -> Share | None:
    """Return the availability since the first service went down, where that was seen, else since now."""
    before: Matrix = ready.before
    began = _instant(course.began_at)
    if not before.declared or began is None:
        return None
    ends = [(len(one.services), _instant(one.since)) for one in causes if one.services != ("the supervisor",)]
    known = [(count, at) for count, at in ends if at is not None and at < began]
    if not known or len(known) < len(ends):
        why = "when services went down before was seen by nobody" if ends else "nothing was down before"
        percent = availability(course.timeline, before.declared, duration_s)
        return Share(percent, course.began_at, f"every look since the beginning; {why}")
    first = min(at for _, at in known)
    before_s = (began - first).total_seconds()
    ready_s = before.ready * before_s + sum(count * (at - first).total_seconds() for count, at in known)
    percent = availability(
        course.timeline, before.declared, duration_s, before_s=before_s, ready_before_s=ready_s
    )
    is_bound = any(one.since.endswith("at the latest") for one in causes)
    basis = "ends as they were written down, and every look since the beginning"
    return Share(percent, iso(first), f"{basis}{'; at most: some ended earlier' if is_bound else ''}")


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.split(" ", maxsplit=1)[0])
    except ValueError:
        return None


def _why_not_at_boot(ready: Ready) -> str:
    """Return why nothing starts this stack after a restart of the machine; empty where something does."""
    name = unit_name(_name(ready))
    return "" if installed(name) else f"no {name} is installed in the folders of systemd"


def _trouble(ready: Ready) -> tuple[str, ...]:
    return (ready.records.trouble,) if ready.records.trouble and ready.seen.run is not None else ()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
