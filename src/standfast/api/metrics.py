"""What Prometheus may ask: requests as they are counted here, and the instance as it stands in the store.

1. A registry of its own, so that a library in the same process cannot add to it.
2. What the store would have to say is absent while it does not answer, and ``standfast_store_up`` is 0:
   an old number must not look like a fresh one (I1).
3. Labels are names from the configuration and codes of ours; no text that a caller sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_METHODS = frozenset({"GET", "POST", "DELETE"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The instance at one moment; what is not known is None or empty."""

    is_store_up: bool
    round_number: int | None = None
    round_age_s: float | None = None
    publication_epoch: int | None = None
    publication_age_s: float | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    attempts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    executors: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    is_leading: bool | None = None


class Metrics:
    """The counters of this process, and the text that Prometheus reads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "standfast_http_request_seconds",
            "Time to answer a request.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; methods that are none of ours share a label."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    def render(self, snapshot: Snapshot, store_errors: Mapping[str, int]) -> bytes:
        """Return everything in Prometheus' text format."""
        looked_up = CollectorRegistry()
        looked_up.register(_Looked(snapshot, store_errors))
        return generate_latest(self._registry) + generate_latest(looked_up)


class _Looked(Collector):
    """Hands one snapshot to the renderer."""

    def __init__(self, snapshot: Snapshot, store_errors: Mapping[str, int]) -> None:
        self._snapshot = snapshot
        self._store_errors = store_errors

    def collect(self) -> Iterable[Metric]:
        """Return the snapshot as metrics."""
        seen = self._snapshot
        yield GaugeMetricFamily("standfast_store_up", "Whether the store answers.", value=seen.is_store_up)
        errors = CounterMetricFamily("standfast_store_errors", "Errors of the store.", labels=["code"])
        for code, count in sorted(self._store_errors.items()):
            errors.add_metric([code], count)
        yield errors
        numbers = {
            "standfast_round": ("Number of the newest round.", seen.round_number),
            "standfast_round_age_seconds": ("Since the newest round was opened.", seen.round_age_s),
            "standfast_publication_epoch": ("Number of the last publication.", seen.publication_epoch),
            "standfast_publication_age_seconds": ("Since the last publication.", seen.publication_age_s),
            "standfast_scheduler_leading": ("Whether the scheduler here leads.", seen.is_leading),
        }
        for name, (text, value) in numbers.items():
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)
        yield from self._labelled()

    def _labelled(self) -> Iterable[Metric]:
        seen = self._snapshot
        tasks = GaugeMetricFamily("standfast_tasks", "Tasks of the newest round.", labels=["state"])
        for state, count in seen.tasks.items():
            tasks.add_metric([state], count)
        outcomes = GaugeMetricFamily(
            "standfast_outcomes", "Accepted results of the newest round.", labels=["class"]
        )
        for kind, count in seen.outcomes.items():
            outcomes.add_metric([kind], count)
        attempts = GaugeMetricFamily(
            "standfast_attempts", "Attempts of the newest round.", labels=["state", "error_code"]
        )
        for labels, count in seen.attempts.items():
            attempts.add_metric(list(labels), count)
        silent = GaugeMetricFamily(
            "standfast_executor_silent_seconds", "Since an executor was heard of.", labels=["executor"]
        )
        running = GaugeMetricFamily(
            "standfast_executor_running", "Leases that an executor holds.", labels=["executor"]
        )
        for name, (silent_s, held) in seen.executors.items():
            silent.add_metric([name], silent_s)
            running.add_metric([name], held)
        yield from (tasks, outcomes, attempts, silent, running)
