"""Rules about prometheus, its rules and alertmanager: who is scraped, what exists, what is expanded."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from standfast.services.lint.exporting import (
    Exporter,
    Knowledge,
    exporters,
    find,
    is_always_there,
    prometheus_service,
)
from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.monitoring import MetricRule, Prometheus, Target, Written
from standfast.services.lint.network import listening
from standfast.services.lint.promql import Selector, selectors
from standfast.services.lint.sources import defines
from standfast.services.lint.tree import LintService, Tree

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST_OF_DOCKER = "host.docker.internal"
_EXPANDS = re.compile(r"envsubst|\bsed\b|gomplate|confd|--config\.expand-env")


def judge_placeholders(tree: Tree) -> Iterator[Hit]:
    """Judge text that something should have replaced: neither prometheus nor alertmanager does."""
    configs = [("alertmanager", config.path, config.placeholders) for config in tree.alertmanagers]
    configs += [("prometheus", config.path, config.placeholders) for config in tree.prometheus]
    for name, path, found in configs:
        if _is_expanded(tree, path):
            continue
        for placeholder in found:
            if not placeholder.key.endswith("replacement"):
                yield Hit(
                    Spot(path, placeholder.line),
                    f"{name} does not expand {placeholder.text}: {placeholder.key} is that text itself",
                    "put the value into a file (such as slack_api_url_file, password_file), or write the "
                    "configuration with envsubst before it starts", placeholder.key,
                    evidence={"placeholder": placeholder.text, "key": placeholder.key},
                )  # fmt: skip


def _is_expanded(tree: Tree, path: Path) -> bool:
    """Return whether a service that gets the file runs something that fills it in first."""
    for service in tree.services:
        words = " ".join((*(service.declared.entrypoint or ()), *(service.declared.command or ())))
        mounts = any(Path(m.source).name == path.name for m in service.declared.volumes if m.kind == "bind")
        if mounts and _EXPANDS.search(words):
            return True
    return False


def judge_receivers(tree: Tree) -> Iterator[Hit]:
    """Judge receivers that a route names and nobody defines."""
    for config in tree.alertmanagers:
        known = {receiver.text for receiver in config.receivers}
        for used in config.used:
            if used.text not in known:
                yield Hit(
                    Spot(config.path, used.line),
                    f"the receiver {used.text} is not defined: alertmanager does not start",
                    f"define it below receivers:, or use one of {', '.join(sorted(known))}", used.text,
                )  # fmt: skip


def judge_rule_files(tree: Tree) -> Iterator[Hit]:
    """Judge rule files that prometheus names and does not find."""
    for config in tree.prometheus:
        for written in config.rule_files:
            trouble = _rule_file_trouble(tree, config, written)
            if trouble:
                yield Hit(
                    Spot(config.path, written.line), f"{written.text}: {trouble}; no alert of it ever fires",
                    "add the file where it is looked for, or correct the name", written.text,
                )  # fmt: skip


def _rule_file_trouble(tree: Tree, config: Prometheus, written: Written) -> str:
    service = next((s for s in tree.services if _mount_of(s, config.path) is not None), None)
    if service is not None and service.use is None:
        place = _mount_of(service, config.path)
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(place or "/"), written.text))
        host = _host_path(service, wanted)
        if host is None:
            return f"{service.name} mounts nothing at {wanted}"
        return "" if _is_there(tree, host) else f"there is no {host}"
    if written.text.startswith("/"):
        name = posixpath.basename(written.text)
        is_known = any(PurePosixPath(rules.path.name).match(name) for rules in tree.rule_files)
        return "" if is_known else "no file of rules of that name was read"
    return "" if _is_there(tree, config.path.parent / written.text) else f"not beside {config.path.name}"


def _mount_of(service: LintService, path: Path) -> str | None:
    """Return where ``path`` is in the container of a service, or None."""
    for mount in service.declared.volumes:
        source = Path(mount.source)
        if mount.kind == "bind" and source == path:
            return mount.target
        if mount.kind == "bind" and source in path.parents:
            return posixpath.join(mount.target, path.relative_to(source).as_posix())
    return None


def _host_path(service: LintService, inside: str) -> Path | None:
    fitting = [m for m in service.declared.volumes if m.kind == "bind" and _covers(m.target, inside)]
    if not fitting:
        return None
    mount = max(fitting, key=lambda m: len(m.target))
    rest = posixpath.relpath(inside, mount.target)
    return Path(os.path.normpath(Path(mount.source) / rest))


def _covers(target: str, inside: str) -> bool:
    target = target.rstrip("/")
    return inside == target or inside.startswith(target + "/")


def _is_there(tree: Tree, path: Path) -> bool:
    if re.search(r"[*?\[]", str(path)):
        return any(file.match(path.name) for file in tree.disk.files if file.parent == path.parent)
    return tree.disk.has(path) or not tree.disk.knows(path.parent)


def judge_scrapes(tree: Tree) -> Iterator[Hit]:
    """Judge scrape targets behind which there is no service, or not on that port."""
    for config in tree.prometheus:
        own = prometheus_service(tree, config)
        for job in config.jobs:
            for target in job.targets:
                found = _target_trouble(tree, target, own)
                if found is not None:
                    yield Hit(
                        Spot(config.path, target.line),
                        f"the job {job.name} scrapes {target.text}: {found[0]}",
                        "add the exporter to the stack, correct host and port, or remove the job", job.name,
                        found[1], {"target": target.text, "job": job.name},
                    )  # fmt: skip


def judge_alertmanager_targets(tree: Tree) -> Iterator[Hit]:
    """Judge the alertmanagers that prometheus notifies."""
    for config in tree.prometheus:
        own = prometheus_service(tree, config)
        for target in config.alertmanagers:
            found = _target_trouble(tree, target, own)
            if found is not None:
                yield Hit(
                    Spot(config.path, target.line), f"alerts go to {target.text}: {found[0]}",
                    "add alertmanager to the stack, or correct host and port", target.text, found[1],
                )  # fmt: skip


def _target_trouble(tree: Tree, target: Target, own: LintService | None) -> tuple[str, Severity] | None:
    if not tree.stacks:
        return None
    if target.host in _LOCAL:
        return _local_trouble(tree, target, own)
    if target.host == _HOST_OF_DOCKER:
        return _docker_host_trouble(own)
    service = find(tree, target.host, own.owner if own is not None else None)
    if service is None:
        is_outside = "." in target.host or "$" in target.host or ":" in target.host
        return None if is_outside else ("no service is called that", Severity.ERROR)
    heard = listening(service, tree)
    port = target.port or 80
    if port in heard.ports:
        return None
    severity = Severity.ERROR if heard.is_complete else Severity.WARNING
    said = f"{service.name} is there, and not on port {port}: {heard.text()}"
    return said, Severity.INFO if heard.is_opaque else severity


def _local_trouble(tree: Tree, target: Target, own: LintService | None) -> tuple[str, Severity] | None:
    """Inside a container, localhost is the container itself."""
    if own is None or own.declared.options.get("network_mode") == "host":
        return None
    if target.port in (0, *listening(own, tree).ports):
        return None
    return f"that is the container of {own.name} itself, where nobody listens on it", Severity.ERROR


def _docker_host_trouble(own: LintService | None) -> tuple[str, Severity] | None:
    """Judge a name that exists on Docker Desktop only, unless the service adds it."""
    hosts = own.declared.options.get("extra_hosts") if own is not None else None
    if own is None or _HOST_OF_DOCKER in str(hosts) or own.declared.options.get("network_mode") == "host":
        return None
    return (
        f"no service, and on Linux {own.name} does not know that name without extra_hosts "
        f"{_HOST_OF_DOCKER}:host-gateway", Severity.WARNING,
    )  # fmt: skip


def judge_jobs_twice(tree: Tree) -> Iterator[Hit]:
    """Judge scrape jobs of the same name."""
    for config in tree.prometheus:
        first: dict[str, int] = {}
        for job in config.jobs:
            if job.name in first:
                yield Hit(
                    Spot(config.path, job.line),
                    f"the job {job.name} stands twice (line {first[job.name]}): prometheus does not start",
                    "give it another name, or put the targets together", job.name,
                )  # fmt: skip
            first.setdefault(job.name, job.line)


def judge_alert_jobs(tree: Tree) -> Iterator[Hit]:
    """Judge rules about jobs that nobody scrapes: they never fire."""
    jobs = [job for config in tree.prometheus for job in config.jobs]
    if not jobs:
        return
    discovers = any(job.has_discovery for job in jobs)
    for path, rule, selector in _selected(tree):
        wanted = [m.value for m in selector.matchers if m.label == "job" and m.operator in ("=", "=~")]
        if wanted and not any(selector.allows("job", job.name) for job in jobs):
            yield Hit(
                Spot(path, rule.line_of(wanted[0])),
                f"{rule.name} asks for the job {wanted[0]}, which no scrape job is called: it never fires",
                f"one of {', '.join(sorted({job.name for job in jobs}))}", rule.name,
                Severity.WARNING if discovers else Severity.ERROR,
            )  # fmt: skip


def _selected(tree: Tree) -> Iterator[tuple[Path, MetricRule, Selector]]:
    for rules in tree.rule_files:
        for rule in rules.rules:
            seen: set[tuple[str, object]] = set()
            for selector in selectors(rule.expression):
                if (selector.name, selector.matchers) not in seen:
                    seen.add((selector.name, selector.matchers))
                    yield rules.path, rule, selector


def judge_metrics(tree: Tree) -> Iterator[Hit]:
    """Judge metrics that rules ask for and nobody exports, as far as that can be known."""
    if not tree.prometheus:
        return
    known = exporters(tree)
    recorded = {rule.name for rules in tree.rule_files for rule in rules.rules if rule.kind == "record"}
    reported: set[tuple[Path, str, str]] = set()
    unknown: dict[Path, list[Hit]] = {}
    for path, rule, selector in _selected(tree):
        key = (path, rule.name, selector.name)
        if selector.name in recorded or is_always_there(selector.name) or key in reported:
            continue
        candidates = [e for e in known if selector.allows("job", e.job)]
        if any(exporter.exports(selector.name) for exporter in candidates):
            continue
        reported.add(key)
        hit = _metric_hit(tree, path, rule, selector, candidates)
        if hit.severity is Severity.INFO:
            unknown.setdefault(path, []).append(hit)
        else:
            yield hit
    # What cannot be known is said once a file: it is one gap in what was looked at, not many faults.
    for hits in unknown.values():
        more = f"; the same for {len(hits) - 1} more" if len(hits) > 1 else ""
        names = sorted({str(hit.evidence["metric"]) for hit in hits})
        evidence = {**hits[0].evidence, "metrics": names}
        yield replace(hits[0], message=hits[0].message + more, evidence=evidence)


def _metric_hit(
    tree: Tree, path: Path, rule: MetricRule, selector: Selector, candidates: list[Exporter]
) -> Hit:
    elsewhere = [s.path.name for s in tree.sources if defines(s.names, selector.name)]
    severity, why = _unexported(candidates, elsewhere)
    who = "UNKNOWN who exports" if severity is Severity.INFO else "nobody exports"
    return Hit(
        Spot(path, rule.line_of(selector.name)),
        f"{rule.kind} {rule.name}: {who} {selector.name}: {why}",
        "export it where it is scraped, scrape who does, or remove the rule: it can never fire", rule.name,
        severity,
        {
            "metric": selector.name, "certainty": "proved" if severity is Severity.ERROR else "unknown",
            "looked_at": [f"{e.job} {e.where}: {e.knowledge.value}" for e in candidates],
            "defined_in": elsewhere[:10],
        },
    )  # fmt: skip


def _unexported(candidates: list[Exporter], elsewhere: list[str]) -> tuple[Severity, str]:
    """Return how sure it is that nobody exports a metric, and the reason."""
    opaque = [e.where for e in candidates if e.knowledge is Knowledge.OPAQUE]
    absent = [e.where for e in candidates if e.knowledge is Knowledge.ABSENT]
    if elsewhere and not absent and not opaque:
        return Severity.ERROR, f"{elsewhere[0]} defines it, and no job scrapes that program"
    if opaque:
        return Severity.INFO, f"{', '.join(opaque)} may, its image comes from elsewhere"
    if absent:
        said = "no file that was read defines it" if not elsewhere else f"{elsewhere[0]} defines it"
        return Severity.WARNING, f"{said}, no known exporter is scraped, and the sources behind " \
            f"{', '.join(absent)} are not here"  # fmt: skip
    return Severity.ERROR, "neither the sources nor the exporters behind the scrape jobs have it"
