"""Reads prometheus, rule and alertmanager files into values with lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from standfast.services.stacks.nodes import Document, Node, ScalarNode, SequenceNode

PLACEHOLDER = re.compile(
    r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?[-?][^}]*)?\}|\$[A-Z][A-Z0-9_]{2,}\b|\{\{\s*env\b[^}]*\}\}|<[A-Z][A-Z0-9_]{3,}>"
)
_MOST_LINES = 200


class Target(NamedTuple):
    """An address that is scraped or notified; ``port`` is 0 where none is written."""

    host: str
    port: int
    text: str
    line: int


class Placeholder(NamedTuple):
    """Text that was meant to be replaced: which, where in the document, and its line."""

    text: str
    key: str
    line: int


class Written(NamedTuple):
    """A text and its line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class ScrapeJob:
    """One scrape job; with ``has_discovery`` more targets are found while it runs."""

    name: str
    line: int
    targets: tuple[Target, ...]
    has_discovery: bool
    path: str = "/metrics"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A prometheus configuration."""

    path: Path
    jobs: tuple[ScrapeJob, ...]
    alertmanagers: tuple[Target, ...]
    rule_files: tuple[Written, ...]
    placeholders: tuple[Placeholder, ...]


class MetricRule(NamedTuple):
    """An alert or a recording rule; ``lines`` has the lines of its expression, from ``line`` on."""

    kind: str
    name: str
    expression: str
    line: int
    lines: tuple[str, ...]

    def line_of(self, word: str) -> int:
        """Return the line of the file that ``word`` of the expression stands at."""
        for offset, text in enumerate(self.lines):
            if re.search(rf"(?<![A-Za-z0-9_:]){re.escape(word)}(?![A-Za-z0-9_:])", text):
                return self.line + offset
        return self.line


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file of alerting and recording rules."""

    path: Path
    rules: tuple[MetricRule, ...]
    labels: tuple[tuple[str, Written], ...] = ()


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """An alertmanager configuration."""

    path: Path
    receivers: tuple[Written, ...]
    used: tuple[Written, ...]
    placeholders: tuple[Placeholder, ...]


def is_prometheus(root: Node) -> bool:
    """Return whether a document is a prometheus configuration."""
    return isinstance(root.get("scrape_configs"), SequenceNode) and root.get("services") is None


def is_rules(root: Node) -> bool:
    """Return whether a document is a file of rules, bare or as a PrometheusRule."""
    groups = _groups(root)
    return any(group.get("rules") is not None for group in groups)


def is_alertmanager(root: Node) -> bool:
    """Return whether a document is an alertmanager configuration."""
    return root.get("route") is not None and root.get("receivers") is not None


def read_prometheus(document: Document) -> Prometheus:
    """Return what a prometheus configuration says."""
    root = document.root
    jobs = tuple(_job(node) for node in _nodes(root, "scrape_configs"))
    managers = [target for node in _nodes(root.at("alerting"), "alertmanagers") for target in _targets(node)]
    rules = tuple(Written(str(_value(n)), n.line) for n in _nodes(root, "rule_files"))
    # external_labels are expanded by prometheus itself (feature flag in 2.x, always in 3.x).
    found = tuple(p for p in placeholders(root) if not p.key.startswith("global.external_labels"))
    return Prometheus(document.file, jobs, tuple(managers), rules, found)


def _job(node: Node) -> ScrapeJob:
    name = _text(node, "job_name")
    discovers = any(key.text.endswith("_sd_configs") for key, _ in node.items())
    line = node.get("job_name").line if node.get("job_name") else node.line  # type: ignore[union-attr]
    return ScrapeJob(name, line, tuple(_targets(node)), discovers, _text(node, "metrics_path") or "/metrics")


def _targets(node: Node) -> Iterator[Target]:
    for group in _nodes(node, "static_configs"):
        for target in _nodes(group, "targets"):
            yield target_of(str(_value(target)), target.line)


def target_of(text: str, line: int) -> Target:
    """Return the host and port in ``text``."""
    bare = re.sub(r"^[a-z]+://", "", text).split("/", 1)[0]
    match = re.fullmatch(r"(\[[^\]]+\]|[^:]*)(?::(\d+))?", bare)
    if match is None:
        return Target(bare, 0, text, line)
    return Target(match[1].strip("[]"), int(match[2] or 0), text, line)


def read_rules(document: Document, text: str) -> RuleFile:
    """Return the rules of a file; ``text`` is needed to find the lines inside an expression."""
    lines = text.split("\n")
    rules: list[MetricRule] = []
    for root in document.roots:
        for group in _groups(root):
            rules += [rule for node in _nodes(group, "rules") if (rule := _rule(node, lines)) is not None]
    return RuleFile(document.file, tuple(rules))


def _groups(root: Node) -> tuple[Node, ...]:
    return (*_nodes(root, "groups"), *_nodes(root.get("spec"), "groups"))


def _rule(node: Node, lines: list[str]) -> MetricRule | None:
    kind = "alert" if node.get("alert") is not None else "record"
    expression = node.get("expr")
    if expression is None or node.get(kind) is None:
        return None
    start = expression.line
    later = [inner.line for _, inner in node.items() if inner.line > start]
    end = min([*later, start + _MOST_LINES, len(lines) + 1])
    # The value of the last key may reach to the end of the list; a word is looked for from the top.
    return MetricRule(
        kind, _text(node, kind), str(_value(expression)), start, tuple(lines[start - 1 : max(end - 1, start)])
    )


def read_alertmanager(document: Document) -> Alertmanager:
    """Return what an alertmanager configuration says."""
    root = document.root
    receivers = [
        Written(_text(node, "name"), (node.get("name") or node).line) for node in _nodes(root, "receivers")
    ]
    route = root.get("route")
    used = tuple(_used(route, 0)) if route is not None else ()
    return Alertmanager(document.file, tuple(receivers), used, tuple(placeholders(root)))


_DEEPEST = 30


def _used(route: Node, depth: int) -> Iterator[Written]:
    receiver = route.get("receiver")
    if receiver is not None:
        yield Written(str(_value(receiver)), receiver.line)
    if depth < _DEEPEST:
        for child in _nodes(route, "routes"):
            yield from _used(child, depth + 1)


def placeholders(root: Node) -> Iterator[Placeholder]:
    """Yield texts in ``root`` that look as if something should have replaced them."""
    waiting: list[tuple[str, Node]] = [("", root)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, ScalarNode):
            # In templates and in matchers of rules "$labels" and "$1" have a meaning of their own.
            is_template = "{{" in node.text and "{{ env" not in node.text
            for match in PLACEHOLDER.finditer(node.text) if not is_template else ():
                yield Placeholder(match[0], key, node.line)
        waiting += [(f"{key}.{name.text}".lstrip("."), inner) for name, inner in node.items()]
        waiting += [(key, inner) for inner in node.nodes]


def _nodes(node: Node | None, key: str) -> tuple[Node, ...]:
    found = node.get(key) if node is not None else None
    return found.nodes if found is not None else ()


def _value(node: Node) -> object:
    return node.value if isinstance(node, ScalarNode) else ""


def _text(node: Node, key: str) -> str:
    found = node.get(key)
    return str(_value(found)) if found is not None else ""
