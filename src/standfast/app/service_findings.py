"""What is wrong with the services: one finding each, causes before what they keep from working.

1. A service that waits for another one is no second alarm: it is UNKNOWN, stands below its cause, and the
   cause names it.
2. Ready is PASS; a task that is completed is, too. What nobody has asked is UNKNOWN (I1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from standfast.kernel.verdict import Finding, Verdict

View = Mapping[str, Any]
_GOOD = ("ready", "completed")
#: Nobody knows enough yet to call these wrong.
_UNKNOWN = ("starting", "waiting", "running", "unknown")
_SHOWN = (
    "pid", "restarts", "restarts_in_window", "last_exit", "cls", "evidence", "retry_in_s", "declared_in",
    "log",
)  # fmt: skip


def service_findings(views: Sequence[View]) -> list[Finding]:
    """Return a finding for each service, worst first, and of equal ones causes first."""
    by_name = {str(view.get("name", "?")): view for view in views}
    depths = _depths(by_name)
    blocked = _blocked(by_name)
    found = [_finding(name, view, blocked.get(name, ())) for name, view in by_name.items()]
    return sorted(found, key=lambda one: (-one.verdict, depths[one.subject], one.subject))


def _finding(name: str, view: View, blocks: Sequence[str]) -> Finding:
    state = str(view.get("state", "unknown"))
    verdict = _verdict(state, is_required=bool(view.get("is_required", True)))
    message = str(view.get("message") or view.get("last_error") or view.get("last_exit") or state)
    detail = f": {message}" if message != state else ""
    blocking = f"; {', '.join(blocks)} wait{'s' if len(blocks) == 1 else ''} for it" if blocks else ""
    remedy = "" if verdict <= Verdict.PASS else f"standfast explain {name}; standfast logs {name}"
    evidence = {key: view[key] for key in _SHOWN if view.get(key)}
    return Finding(
        "service", verdict, str(view.get("reason") or f"Service{state.title().replace('_', '')}"),
        f"{name} is {state.replace('_', ' ')}{detail}{blocking}", subject=name,
        remedy=str(view.get("remedy") or remedy), since=str(view.get("since") or ""),
        evidence={**evidence, **({"blocks": list(blocks)} if blocks else {})},
    )  # fmt: skip


def _verdict(state: str, *, is_required: bool) -> Verdict:
    if state in _GOOD:
        return Verdict.PASS
    return Verdict.UNKNOWN if state in _UNKNOWN or not is_required else Verdict.FAIL


def _depths(by_name: Mapping[str, View]) -> dict[str, int]:
    """Return how many services stand below each one; a circle, which no stack may have, ends the walk."""
    depths: dict[str, int] = {}
    left = set(by_name)
    # Each turn places one name at least.
    while left:
        free = {name for name in left if not left & set(_needed(by_name[name])) - {name}} or left
        level = max(depths.values(), default=-1) + 1
        depths |= dict.fromkeys(free, level)
        left -= free
    return depths


def _needed(view: View) -> Sequence[str]:
    return tuple(view.get("depends_on") or view.get("waits_for") or ())


def _blocked(by_name: Mapping[str, View]) -> dict[str, tuple[str, ...]]:
    """Return which waiting services each cause keeps from starting, directly or through others."""
    blocked: dict[str, set[str]] = {}
    for name, view in by_name.items():
        if view.get("state") == "waiting":
            for cause in _causes(name, by_name):
                blocked.setdefault(cause, set()).add(name)
    return {cause: tuple(sorted(names)) for cause, names in blocked.items()}


def _causes(name: str, by_name: Mapping[str, View]) -> set[str]:
    causes: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    # Each turn takes one name off; a name is looked at once.
    while waiting:
        one = waiting.pop()
        if one in seen or one not in by_name:
            continue
        seen.add(one)
        below = [other for other in by_name[one].get("waits_for") or () if other in by_name]
        if by_name[one].get("state") == "waiting" and below:
            waiting += below
        else:
            causes.add(one)
    return causes - {name}
