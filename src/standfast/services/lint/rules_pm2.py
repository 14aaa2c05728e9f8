"""Rules about pm2's ecosystem files: whether the breaker can trip, and who is declared twice.

pm2 counts a restart as unstable only while less than ``min_uptime * max_restarts`` has passed since the app
was first made, and only if that life was shorter than ``min_uptime`` (lib/God.js). Its defaults are 1 s and
16: a program that lives for 2 s and fails is restarted for ever and shown as online.
"""

from __future__ import annotations

from collections.abc import Iterator

from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.tree import Tree
from standfast.services.stacks.breaker import breaker_of
from standfast.services.stacks.model import DeclaredService, ProcessRules

_VARIABLE_UNSET = "VariableUnset"
#: What other rules say better, or what only matters to somebody who leaves pm2.
_NOT_OURS = frozenset({"NameTwice", "KeyNotSupported", "BreakerInert", _VARIABLE_UNSET})
_FIELDS = ("autorestart", "max_restarts", "min_uptime_s", "restart_delay_s", "backoff_s", "max_memory_bytes")


def judge_files(tree: Tree) -> Iterator[Hit]:
    """Take over what the reader of ecosystem files refuses."""
    for finding in tree.process_findings:
        if finding.is_error and finding.reason not in _NOT_OURS:
            yield Hit(finding.spot, finding.message, finding.fix, evidence={"reason": finding.reason})


def judge_unset_variables(tree: Tree) -> Iterator[Hit]:
    """Judge values that became the text 'undefined'."""
    for finding in tree.process_findings:
        if finding.reason == _VARIABLE_UNSET:
            yield Hit(finding.spot, finding.message, finding.fix, severity=Severity.WARNING)


def judge_breaker(tree: Tree) -> Iterator[Hit]:
    """Judge apps whose restarts nothing ends."""
    for app in tree.processes:
        rules = app.process or ProcessRules()
        breaker = breaker_of(rules)
        if breaker is None or not breaker.is_inert or rules.stop_exit_codes:
            continue
        has_none = all(getattr(rules, name) is None for name in _FIELDS)
        said = "no restart option at all" if has_none else "restart options that do not bound it"
        yield Hit(
            _spot(app),
            f"{app.name} has {said}: only lives shorter than {breaker.counted_life_s:g} s count, so that a "
            "start that fails after 2 s is repeated for ever and shown as online",
            "min_uptime above the time that it takes to become ready, with max_restarts and "
            "exp_backoff_restart_delay; or let Standfast run it", app.name,
            evidence={"has_no_option": has_none, "counted_life_s": breaker.counted_life_s},
        )  # fmt: skip


def judge_declared_twice(tree: Tree) -> Iterator[Hit]:
    """Judge names that two files, or one file twice, declare: pm2 has one list for all of them."""
    for number, app in enumerate(tree.processes):
        earlier = [other for other in tree.processes[:number] if other.name == app.name]
        if not earlier:
            continue
        differs = list(dict.fromkeys(name for other in earlier for name in _differences(other, app)))
        more = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
        said = (
            f"other values of {', '.join(differs)}: what runs depends on which file was started last"
            if differs
            else "the same values"
        )
        yield Hit(
            _spot(app),
            f"{app.name} is declared in {earlier[0].file.name}:{earlier[0].line}{more} too, with {said}",
            f"keep it in one file: pm2 delete {app.name}, then pm2 start the file that is meant", app.name,
            Severity.ERROR if differs and any(_is_beside(app, other) for other in earlier) else None,
            {"also": str(earlier[0].file), "line": earlier[0].line, "differs": differs},
        )  # fmt: skip


def _is_beside(one: DeclaredService, other: DeclaredService) -> bool:
    """Return whether two files belong together: one folder, or one below the other."""
    ours, theirs = one.file.parent, other.file.parent
    return ours == theirs or ours in theirs.parents or theirs in ours.parents


def _differences(one: DeclaredService, other: DeclaredService) -> list[str]:
    names = [
        name
        for name in ("command", "working_dir", "env", "replicas")
        if getattr(one, name) != getattr(other, name)
    ]
    ours, theirs = one.process or ProcessRules(), other.process or ProcessRules()
    return names + [n for n in ProcessRules._fields if getattr(ours, n) != getattr(theirs, n)]


def _spot(app: DeclaredService) -> Spot:
    return Spot(app.file, app.line)
