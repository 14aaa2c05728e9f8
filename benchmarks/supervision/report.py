"""The figures as text: a table for each measure, ratios beside them, and which targets of ours were met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.supervision.phases import Bringing, Figures, Idle, median

OURS, IDEAL = "ours", "ideal"
Rows = list[list[str]]


def data(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Return all figures as plain values."""
    return {name: asdict(one) for name, one in figures.items()}


def text(figures: Mapping[str, Figures], extent: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return everything for a person."""
    shown = {name: one for name, one in figures.items() if not one.skipped}
    blocks = [
        _up(shown, extent),
        _respawn(shown),
        _slow(shown, extent),
        *(_idle(shown, count) for count in _counts(shown)),
        _hopeless(shown, extent),
        _crash(shown, extent),
        _targets(shown),
        _remarks(figures),
    ]
    machine_was = f"{machine['cores']} cores, load {machine['load_before']:.1f} before"
    return "\n\n".join([*filter(None, blocks), f"{machine_was}, {machine['took_s'] / 60:.1f} min"])


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = [title]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "   ".join(cells).rstrip())
    return "\n".join(lines)


def _number(value: float | None, digits: int = 2) -> str:
    return "never" if value is None else f"{value:.{digits}f}"


def _ratio(value: float | None, of: float | None) -> str:
    if value is None or of is None:
        return "-"
    return f"{value / of:.2f}x" if of else "-"


def _command_s(one: Figures) -> float | None:
    return median([bringing.from_command_s for bringing in one.up])


def _first_s(one: Figures) -> float | None:
    return median([bringing.from_first_s for bringing in one.up])


def _failed(bringings: Sequence[Bringing]) -> str:
    counts = sorted({bringing.failed for bringing in bringings})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


def _up(figures: Mapping[str, Figures], extent: Mapping[str, Any]) -> str:
    shown = {name: one for name, one in figures.items() if one.up}
    ideal = shown.get(IDEAL, Figures(""))
    rows = [
        [
            name,
            _number(_command_s(one)),
            _ratio(_command_s(one), _command_s(ideal)),
            _number(_first_s(one)),
            _ratio(_first_s(one), _first_s(ideal)),
            _failed(one.up),
        ]
        for name, one in shown.items()
    ]
    head = ["", "s from command", "x ideal", "s from first start", "x ideal", "failed starts"]
    return _table(f"10 services, 3 deep, until all are ready, median of {extent['turns']}", head, rows)


def _respawn(figures: Mapping[str, Figures]) -> str:
    shown = {name: one for name, one in figures.items() if one.respawns}
    of = shown.get(OURS, Figures(""))
    rows = []
    for name, one in shown.items():
        cells = [name]
        for get in (_respawned_ms, _ready_ms):
            cells += [_number(get(one), 0), _ratio(get(one), get(of))]
        rows.append([*cells, str(len(one.respawns))])
    head = ["", "ms to the next", "x ours", "ms to ready", "x ours", "kills"]
    return _table("kill -9 of a service, median", head, rows)


def _respawned_ms(one: Figures) -> float | None:
    return median([respawn.respawned_ms for respawn in one.respawns])


def _ready_ms(one: Figures) -> float | None:
    return median([respawn.ready_ms for respawn in one.respawns])


def _slow(figures: Mapping[str, Figures], extent: Mapping[str, Any]) -> str:
    shown = {name: one.slow for name, one in figures.items() if one.slow}
    ideal = shown[IDEAL].from_first_s if IDEAL in shown else None
    rows = [
        [
            name,
            _number(slow.from_command_s),
            _number(slow.from_first_s),
            _ratio(slow.from_first_s, ideal),
            str(slow.failed),
            f"{slow.ready}/10",
            str(slow.given_up),
        ]
        for name, slow in shown.items()
    ]
    head = ["", "s from command", "s from first start", "x ideal", "failed starts", "ready", "given up"]
    title = f"the same where one dependency takes {extent['slow_s']:g} s, all supervisors beside each other"
    return _table(title, head, rows)


def _counts(figures: Mapping[str, Figures]) -> list[int]:
    return sorted({idle.count for one in figures.values() for idle in one.idle})


def _idle(figures: Mapping[str, Figures], count: int) -> str:
    found = {name: idle for name, one in figures.items() for idle in one.idle if idle.count == count}
    of = found.get(OURS)
    our_cpu, our_rss = (of.cpu_percent, of.memory.rss_mb) if of else (None, None)
    our_pss = of.memory.pss_mb + of.shims_memory.pss_mb if of else None
    rows = []
    for name, idle in found.items():
        both_cpu = idle.cpu_percent + idle.shims_cpu_percent
        both_pss = idle.memory.pss_mb + idle.shims_memory.pss_mb
        rows.append(
            [
                name,
                _number(idle.cpu_percent, 3),
                _ratio(idle.cpu_percent, our_cpu),
                _number(both_cpu, 3),
                f"{idle.memory.rss_mb:.1f} / {idle.memory.pss_mb:.1f}",
                _ratio(idle.memory.rss_mb, our_rss),
                f"{idle.memory.rss_mb + idle.shims_memory.rss_mb:.1f} / {both_pss:.1f}",
                _ratio(both_pss, our_pss),
                f"{idle.processes} + {idle.shims}",
            ]
        )
    head = [
        "",
        "CPU %",
        "x ours",
        "all of it",
        "RSS / PSS MB",
        "x ours",
        "all of it",
        "x ours",
        "processes",
    ]
    window_s = max(idle.window_s for idle in found.values())
    return _table(f"idle with {count} services, {window_s:.0f} s, percent of a core", head, rows)


def _hopeless(figures: Mapping[str, Figures], extent: Mapping[str, Any]) -> str:
    lives = {str(life): window for life, window in extent["lives_s"].items()}
    rows = [
        [name, *(str(one.hopeless.get(life, "-")) for life in lives), str(one.hopeless_given_up)]
        for name, one in figures.items()
        if one.hopeless
    ]
    head = ["", *(f"{life} s, in {window:g} s" for life, window in lives.items()), "given up"]
    return _table("starts of what fails alike each time, never ready, by its life", head, rows)


def _crash(figures: Mapping[str, Figures], extent: Mapping[str, Any]) -> str:
    rows = [
        [name, *(str(value) for value in (c.outlived, c.kept, c.started, c.failed, c.serving))]
        for name, one in figures.items()
        if (c := one.crash)
    ]
    head = ["", "outlived it", "kept", "started again", "failed starts", "serving at the end"]
    return _table(
        f"kill -9 of the supervisor, and its next start, {extent['crash_s']:g} s, of 10 services", head, rows
    )


def _targets(figures: Mapping[str, Figures]) -> str:
    ours, ideal = figures.get(OURS), figures.get(IDEAL, Figures(""))
    if ours is None:
        return ""
    lines: list[str] = []

    def target(words: str, shown: str, is_met: bool) -> None:
        lines.append(f"  {words:<58} {shown:>12}   {'met' if is_met else 'MISSED'}")

    _up_targets(target, ours, ideal)
    if ours.respawns:
        ms = _respawned_ms(ours)
        target("kill -9 to the next: at most 40 ms", f"{_number(ms, 0)} ms", ms is not None and ms <= 40)
    for idle in ours.idle:
        _idle_targets(target, idle)
    for life, starts in ours.hopeless.items():
        target(f"life {life} s: at most 3 starts", str(starts), 0 < starts <= 3)
    if ours.hopeless:
        given_up, of = ours.hopeless_given_up, len(ours.hopeless)
        target("all of those are held at the end", f"{given_up}/{of}", given_up == of)
    if crash := ours.crash:
        shown = f"{crash.kept}/{crash.services} + {crash.started}"
        is_met = crash.kept == crash.services == crash.serving and not crash.started
        target("supervisor killed: every child kept, none started", shown, is_met)
    return "\n".join(["targets of ours", *lines]) if lines else ""


def _within(value: float | None, of: float | None, times: float) -> bool:
    return value is not None and of is not None and value <= times * of


def _up_targets(target: Callable[..., None], ours: Figures, ideal: Figures) -> None:
    if ours.up and ideal.up:
        for words, get in (("the command", _command_s), ("the first start", _first_s)):
            shown = _ratio(get(ours), get(ideal))
            target(f"all ready: at most 1.2x ideal, from {words}", shown, _within(get(ours), get(ideal), 1.2))
        failed = sum(bringing.failed for bringing in ours.up)
        target("all ready: no failed start", str(failed), failed == 0)
    if ours.slow and ideal.slow:
        # Not from the command: beside each other, the commands wait for a processor first.
        slow, least = ours.slow.from_first_s, ideal.slow.from_first_s
        target(
            "slow dependency: at most 1.2x ideal, from the first start",
            _ratio(slow, least),
            _within(slow, least, 1.2),
        )
        target("slow dependency: no failed start", str(ours.slow.failed), ours.slow.failed == 0)


def _idle_targets(target: Callable[..., None], idle: Idle) -> None:
    cpu, rss = idle.cpu_percent, idle.memory.rss_mb
    target(f"idle with {idle.count}: below 0.05 % of a core", f"{cpu:.3f} %", cpu < 0.05)
    target(f"supervisor with {idle.count}: below 40 MB RSS", f"{rss:.1f} MB", rss < 40)


def _remarks(figures: Mapping[str, Figures]) -> str:
    lines = [f"  {name}: {one.about}" for name, one in figures.items()]
    lines += [f"  {name}: {note}" for name, one in figures.items() for note in one.notes]
    lines += [f"  {name}: skipped, {one.skipped}" for name, one in figures.items() if one.skipped]
    return "\n".join(["how they were run", *lines])
