"""Applies the rules to what was read: sorted, each said once, silenced ones apart."""

from __future__ import annotations

from pathlib import Path

from standfast.services.lint.ignores import is_ignored
from standfast.services.lint.model import FileKind, Hit, LintFinding, LintReport, Passed, Rule, Severity
from standfast.services.lint.table import RULES
from standfast.services.lint.tree import Tree

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def judge(tree: Tree, base: Path, rules: tuple[Rule, ...] = RULES) -> LintReport:
    """Return every finding about the files that were asked for; paths are shown relative to ``base``."""
    found: dict[tuple[str, Path, int, str], tuple[Path, LintFinding]] = {}
    for rule in rules:
        for hit in rule.judge(tree):
            if _is_asked_for(tree, rule, hit):
                key = (rule.id, hit.spot.file, hit.spot.line, hit.message)
                found.setdefault(key, (hit.spot.file, _finding(rule, hit, base)))
    kept = [(p, f) for p, f in found.values() if not is_ignored(f, p, tree.texts)]
    silenced = [f for p, f in found.values() if is_ignored(f, p, tree.texts)]
    return LintReport(
        _sorted([finding for _, finding in kept]),
        {kind: tree.counts.get(kind, 0) for kind in FileKind},
        tuple(Passed(shown(Path(file), base), why) for file, why in tree.not_understood),
        _sorted(silenced),
        len(tree.running.running) if tree.running is not None else None,
    )


def _is_asked_for(tree: Tree, rule: Rule, hit: Hit) -> bool:
    """Return whether a finding is about a file that was asked for, and not about mere evidence."""
    if rule.id == "unreadable" or hit.spot.file in tree.linted:
        return True
    listed = {one.spot.file for one in tree.running.running} if tree.running is not None else set()
    return hit.spot.file in listed


def _finding(rule: Rule, hit: Hit, base: Path) -> LintFinding:
    return LintFinding(
        rule.id, hit.severity or rule.severity, shown(hit.spot.file, base), hit.spot.line, hit.message,
        hit.fix, hit.subject, hit.evidence,
    )  # fmt: skip


def shown(path: Path, base: Path) -> str:
    """Return a path as people write it: relative where it is below ``base``."""
    return str(path.relative_to(base)) if base in path.parents else str(path)


def _sorted(findings: list[LintFinding]) -> tuple[LintFinding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.file, f.line, _ORDER[f.severity], f.rule, f.message)))
