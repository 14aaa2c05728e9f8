"""What ``up`` tells while it runs, from what was seen: lines for a pipe, a page for a terminal.

1. Lines come from comparing two looks, so nothing is told twice and nothing depends on a callback.
2. Text that others wrote (names, errors, logs) loses its control characters before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Seen = Mapping[str, Any]

COMMANDS = "standfast status · standfast round show latest · standfast round verify latest · standfast down"
_STYLES = {
    "ready": "green", "starting": "cyan", "not_ready": "yellow", "backoff": "yellow", "held": "bold red",
    "stopping": "dim", "stopped": "dim", "open": "cyan", "complete": "cyan", "published": "green",
    "withheld": "yellow", "failed": "bold red",
}  # fmt: skip
_BAR_WIDTH = 28
_MAX_SUBJECTS = 32


def plain(text: object) -> str:
    """Return ``text`` on one line, without anything that could drive a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def nothing_seen() -> dict[str, Any]:
    """Return what has been seen before the first look."""
    return {"services": [], "problems": [], "rounds": [], "subjects": [], "publication": None}


def news(before: Seen, after: Seen) -> list[str]:
    """Return one line for each thing that happened between two looks."""
    return [
        *_service_news(before["services"], after["services"]),
        *_problem_news(before["problems"], after["problems"]),
        *_round_news(before, after),
        *_publication_news(before["publication"], after["publication"]),
    ]


def _service_news(before: Sequence[Seen], after: Sequence[Seen]) -> Iterator[str]:
    known = {service["name"]: service for service in before}
    for service in after:
        earlier = known.get(service["name"], {"state": "stopped", "restarts": 0})
        is_moved = service["state"] != earlier["state"] or service["restarts"] != earlier["restarts"]
        if is_moved and service["state"] not in ("starting", "stopped"):
            yield _service_line(service, restarted=service["restarts"] > earlier["restarts"])


def _service_line(service: Seen, *, restarted: bool) -> str:
    line = f"service {plain(service['name'])} {service['state']}"
    if service["state"] == "ready":
        return f"{line} again, it was {plain(service['last_exit'])}" if restarted else line
    why = f": {plain(service['message'])}" if service["message"] else ""
    fix = f". To fix: {plain(service['remedy'])}" if service["remedy"] else ""
    return f"{line}{why}{fix}"


def _problem_news(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for problem in after:
        if problem not in before:
            yield f"problem: {plain(problem)}"
    for problem in before:
        if problem not in after:
            yield f"over: {plain(problem)}"


def _round_news(before: Seen, after: Seen) -> Iterator[str]:
    known = {row["round"]: row["state"] for row in before["rounds"]}
    newest_known = max(known, default=0)
    for row in sorted(after["rounds"], key=lambda r: r["round"]):
        state, number = row["state"], row["round"]
        # What was over before the first look is history, not news.
        is_history = not known and state != "open"
        if is_history or state == known.get(number) or (number not in known and number < newest_known):
            continue
        if number not in known:
            yield f"round {number} {'opened' if known else 'is open'}: {row['expected']} episodes"
        if state != "open":
            yield _round_end(row)


def _round_end(row: Seen) -> str:
    why = f": {plain(row['reason'])}" if row["reason"] else ""
    return f"round {row['round']} {row['state']}{why} ({counts_text(row['counts'])})"


def counts_text(counts: Seen) -> str:
    """Return the disjoint counts so that a reader can add them up (I5)."""
    return (
        f"total {counts['total']} = {counts['succeeded']} done + {counts['failed']} failed"
        f" + {counts['running']} running + {counts['pending']} pending"
    )


def progress_line(seen: Seen) -> str:
    """Return how far the open round is, or an empty string where none is open."""
    row = next((r for r in seen["rounds"] if r["state"] == "open"), None)
    if row is None:
        return ""
    subjects = ", ".join(
        f"{plain(s['hotkey'])} {s['done']}/{s['expected']}" for s in seen["subjects"][:_MAX_SUBJECTS]
    )
    return f"round {row['round']}: {counts_text(row['counts'])}; {subjects}"


def _publication_news(before: Seen | None, after: Seen | None) -> Iterator[str]:
    if after is None or (before is not None and before["epoch"] == after["epoch"]):
        return
    yield f"epoch {after['epoch']} published: the weights of round {after['round']}"
    for entry in _by_weight(after)[:_MAX_SUBJECTS]:
        who = f"{entry['uid']:>5}  {plain(entry['hotkey'])}"
        yield f"    {entry['weight']:8.6f}  u16 {entry['u16']:5d}  {who}"


def _by_weight(publication: Seen) -> list[Seen]:
    return sorted(publication["weights"], key=lambda entry: -entry["weight"])


def page(seen: Seen) -> RenderableType:
    """Return everything at one look, for a terminal."""
    parts: list[RenderableType] = [_heading(seen), _services_table(seen["services"])]
    if seen["rounds"]:
        parts += [_round_line(seen["rounds"][0]), _subjects_table(seen["subjects"])]
    if seen["publication"] is not None:
        parts.append(_publication_line(seen["publication"]))
    parts += [Text(f"! {plain(problem)}", style="bold red") for problem in seen["problems"]]
    parts.append(Text(f"{COMMANDS} · Ctrl-C stops all", style="dim"))
    return Group(*parts)


def _heading(seen: Seen) -> Text:
    text = Text("standfast", style="bold")
    return text.append(f"  {seen.get('url') or 'starting'}  {seen.get('at', '')}", style="not bold dim")


def _services_table(services: Sequence[Seen]) -> Table:
    table = Table.grid(padding=(0, 2))
    for service in services:
        state = Text(service["state"], style=_STYLES.get(service["state"], ""))
        pid = "" if service["pid"] is None else f"pid {service['pid']}"
        restarts = f"{service['restarts']} restarts" if service["restarts"] else ""
        why = "" if service["state"] == "ready" else _why(service)
        table.add_row(Text(plain(service["name"])), state, Text(pid), Text(restarts), Text(why))
    return table


def _why(service: Seen) -> str:
    fix = f" -> {service['remedy']}" if service["remedy"] else ""
    return plain(f"{service['message']}{fix}")


def _round_line(row: Seen) -> Text:
    text = Text(f"\nround {row['round']} ", style="bold")
    text.append(row["state"], style=_STYLES.get(row["state"], ""))
    text.append(f"  {counts_text(row['counts'])}", style="not bold")
    if row["reason"]:
        text.append(f"  {plain(row['reason'])}", style="yellow")
    return text


def _subjects_table(subjects: Sequence[Seen]) -> Table:
    table = Table.grid(padding=(0, 2))
    for subject in subjects[:_MAX_SUBJECTS]:
        bar = ProgressBar(total=max(subject["expected"], 1), completed=subject["done"], width=_BAR_WIDTH)
        table.add_row(
            Text(f"{subject['uid']:>5}"),
            Text(plain(subject["hotkey"])),
            bar,
            Text(f"{subject['done']}/{subject['expected']}"),
            Text(f"{subject['won']} won", style="green"),
            Text(f"{subject['lost']} lost"),
            Text(f"{subject['subject_error']} errors", style="red" if subject["subject_error"] else "dim"),
            Text(f"{subject['running']} running", style="dim"),
        )
    if len(subjects) > _MAX_SUBJECTS:
        table.add_row("", Text(f"and {len(subjects) - _MAX_SUBJECTS} more", style="dim"))
    return table


def _publication_line(publication: Seen) -> Text:
    weights = ", ".join(
        f"{plain(e['hotkey'])} {e['weight']:.4f}" for e in _by_weight(publication)[:_MAX_SUBJECTS]
    )
    text = Text(f"\nepoch {publication['epoch']} published", style="green")
    return text.append(f" (round {publication['round']}): {weights}", style="not bold default")
