"""Who exports which metrics: every scraped target, and what is known of what it exports."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from standfast.services.lint.images import EXPORTER_PORTS
from standfast.services.lint.monitoring import Prometheus, ScrapeJob, Target
from standfast.services.lint.network import Listening, listening
from standfast.services.lint.sources import defines
from standfast.services.lint.tree import DeclaredStack, LintService, Tree

#: What prometheus makes itself, and what every client library exports.
_ALWAYS = re.compile(r"up|scrape_\w+|ALERTS|ALERTS_FOR_STATE|(?:go|process|promhttp|python|jvm|nodejs)_\w+")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_SELF = ("prometheus_", "net_conntrack_")


class Knowledge(enum.Enum):
    """How much is known of what a target exports."""

    PREFIXES = "a known exporter"
    SOURCES = "its sources were read"
    ABSENT = "its sources are not here"
    OPAQUE = "its image comes from elsewhere"
    DEAD = "nobody listens there"


@dataclass(frozen=True, slots=True)
class Exporter:
    """One scraped target; ``names`` are literals of its sources, ``prefixes`` those of a known exporter."""

    job: str
    where: str
    knowledge: Knowledge
    prefixes: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()

    def exports(self, metric: str) -> bool:
        """Return whether it surely or probably exports ``metric``."""
        if self.knowledge is Knowledge.PREFIXES:
            return metric.startswith(self.prefixes) if self.prefixes else False
        return self.knowledge is Knowledge.SOURCES and defines(self.names, metric)


def is_always_there(metric: str) -> bool:
    """Return whether prometheus or every client library makes ``metric``."""
    return _ALWAYS.fullmatch(metric) is not None


def prometheus_service(tree: Tree, config: Prometheus) -> LintService | None:
    """Return the service that runs prometheus with this configuration, or the only one that runs it."""
    running = [s for s in tree.services if _runs_prometheus(s)]
    for service in running:
        if any(m.kind == "bind" and m.source == str(config.path) for m in service.declared.volumes):
            return service
    return running[0] if len(running) == 1 else None


def _runs_prometheus(service: LintService) -> bool:
    built = service.built
    image = built.base if built is not None else service.declared.image
    return re.search(r"(?:^|/)prometheus(?:[:@]|$)", image or "") is not None


def exporters(tree: Tree) -> list[Exporter]:
    """Return every target that is scraped."""
    return [e for config in tree.prometheus for job in config.jobs for e in _of_job(tree, config, job)]


def _of_job(tree: Tree, config: Prometheus, job: ScrapeJob) -> Iterator[Exporter]:
    if job.has_discovery:
        yield Exporter(job.name, "discovery", Knowledge.OPAQUE)
    own = prometheus_service(tree, config)
    for target in job.targets:
        yield _of_target(tree, job, target, own)


def _of_target(tree: Tree, job: ScrapeJob, target: Target, own: LintService | None) -> Exporter:
    if target.host in _LOCAL and (target.port == 9090 or own is not None):
        return Exporter(job.name, target.text, Knowledge.PREFIXES, _SELF)
    service = find(tree, target.host, own.owner if own is not None else None)
    if service is None:
        prefixes = EXPORTER_PORTS.get(target.port)
        is_outside = "." in target.host or not tree.stacks
        if not is_outside:
            return Exporter(job.name, target.text, Knowledge.DEAD)
        known = Knowledge.PREFIXES if prefixes else Knowledge.OPAQUE
        return Exporter(job.name, target.text, known, prefixes or ())
    heard: Listening = listening(service, tree)
    if target.port and heard.is_complete and target.port not in heard.ports:
        return Exporter(job.name, target.text, Knowledge.DEAD)
    return _of_service(tree, job, target, service)


def find(tree: Tree, host: str, stack: DeclaredStack | None) -> LintService | None:
    """Return the service that ``host`` means, in the stack of prometheus first."""
    return (tree.reach(host, stack) if stack is not None else None) or tree.reach(host)


def _of_service(tree: Tree, job: ScrapeJob, target: Target, service: LintService) -> Exporter:
    if service.known is not None:
        return Exporter(job.name, target.text, Knowledge.PREFIXES, service.known.exports or ())
    if service.use is None and service.declared.build is None:
        return Exporter(job.name, target.text, Knowledge.OPAQUE)
    sources = tree.sources_of[service.use.context] if service.use is not None else ()
    names = frozenset().union(*(source.names for source in sources)) if sources else frozenset()
    if not names:
        return Exporter(job.name, target.text, Knowledge.ABSENT)
    return Exporter(job.name, target.text, Knowledge.SOURCES, names=names)
