"""Prints a status for people: what is wrong first, then the round, executors, services, publication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from standfast.cli.output import Printer

_BAR = 30


def print_status(out: Printer, data: Mapping[str, Any]) -> None:
    """Print ``data`` as ``GET /status`` answers it, or the shorter one of an instance that does not."""
    name, version = data.get("name"), data.get("version")
    out.line(" ".join(part for part in ("standfast", version, name, data["at"]) if part), style="bold")
    findings = data["findings"]
    out.findings(finding for finding in findings if finding.get("verdict") not in ("PASS", "SKIPPED"))
    passed = sum(finding.get("verdict") == "PASS" for finding in findings)
    out.line(f"{data['verdict']}: {passed} of {len(findings)} findings are PASS")
    if data.get("round"):
        _print_round(out, data["round"], data.get("last_round"))
    _print_subjects(out, data.get("subjects") or ())
    _print_executors(out, data.get("executors") or ())
    if data.get("matrix"):
        out.line(_matrix_line(data["matrix"]))
    _print_services(out, data.get("services") or ())
    _print_publication(out, data.get("publication"))


def _print_round(out: Printer, current: Mapping[str, Any], last: Mapping[str, Any] | None) -> None:
    counts = current["counts"]
    total = counts["total"]
    ended = counts["succeeded"] + counts["failed"]
    filled = round(_BAR * ended / total) if total else 0
    out.line()
    bar = "#" * filled + "." * (_BAR - filled)
    out.line(f"round {current['round']} {current['state']}  [{bar}] {ended}/{total}")
    out.line(
        f"  total {total} = {counts['succeeded']} succeeded + {counts['failed']} failed + "
        f"{counts['running']} running + {counts['pending']} pending ({counts['paused']} paused)"
    )
    if current.get("deadline_in_s") is not None:
        out.line(f"  deadline in {current['deadline_in_s']:.0f} s")
    if last and last["round"] != current["round"]:
        why = f" ({last['reason'] or last['code']})" if last["reason"] or last["code"] else ""
        out.line(f"  before it: round {last['round']} {last['state']}{why}, ended {last['ended_at']}")


def _print_subjects(out: Printer, subjects: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            s["name"], "paused" if s["is_paused"] else "", s["slots"], s["open_tasks"], s["ended"],
            _codes(s["own_errors"]), _codes(s["our_errors"]),
        )
        for s in subjects
    ]  # fmt: skip
    headings = (">subject", "", ">slots", ">open", ">attempts ended", "its errors", "our errors")
    if rows:
        out.table(headings, rows)


def _codes(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in codes.items())


def _print_executors(out: Printer, executors: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            e["name"], "silent" if e["is_silent"] else "cordoned" if e["cordoned"] else "works", e["running"],
            f"{e['silent_s']:.1f} s", e["info"].get("spooled"),
        )
        for e in executors
    ]  # fmt: skip
    if rows:
        out.table(("executor", "state", ">running", ">silent for", ">spooled"), rows)


def _print_services(out: Printer, services: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            s["name"], s["state"], s["pid"], _span(s.get("uptime_s")), s["restarts"],
            _of_limit(s), _took(s.get("ready_after_s")), s["since"], s["reason"],
            s["message"],
        )
        for s in services
    ]  # fmt: skip
    headings = (
        "service", "state", ">pid", ">up", ">restarts", ">memory", ">ready after", "since", "reason", "what"
    )  # fmt: skip
    if rows:
        out.table(headings, rows)


def _of_limit(service: Mapping[str, Any]) -> str:
    """Return the memory that a service uses, and its limit where it has one (L3)."""
    used, limit = _size(service.get("memory_bytes")), service.get("memory_limit_bytes") or 0
    return f"{used} / {_size(limit)}" if limit else used


def _matrix_line(matrix: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{count} {name}" for name, count in matrix["counts"].items() if name != "ready")
    share = f"{matrix['ready']} of {matrix['declared']} services ready ({matrix['percent']} %)"
    return f"{share}{': ' if rest else ''}{rest}"


def _span(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if not seconds:
        return "-"
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def _size(count: int | None) -> str:
    return f"{count / 1e6:.0f} MB" if count else "-"


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _print_publication(out: Printer, publication: Mapping[str, Any] | None) -> None:
    if publication:
        when = f" {publication['settled_at']}" if publication.get("settled_at") else ""
        what = f"publication {publication['epoch']} of round {publication['round']}"
        out.line(f"{what}: {publication['state']}{when}")
        if publication.get("reason"):
            out.line(f"  because {publication['reason']}")
