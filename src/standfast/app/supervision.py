"""Wires a supervisor for one data directory: the same for an embedded instance and for a stack alone.

Nothing heavy may be imported here: a supervisor of two hundred services has to stay small.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from standfast.kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from standfast.services.adapters import procfs
from standfast.services.adapters.local import DriverMaker, LocalMachine
from standfast.services.adapters.probes import run_command
from standfast.services.driver import Means, Supervisor
from standfast.services.failures.model import Classified, Evidence
from standfast.services.history import DATABASE_NAME, History
from standfast.services.model import Budgets, ServiceSpec, ServiceView

if TYPE_CHECKING:
    from standfast.services.failures.rules import Rule

LOGS_NAME = "logs"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Supervision:
    """A supervisor and its memory; close it when the supervisor has returned."""

    supervisor: Supervisor
    history: History

    def close(self) -> None:
        """Write what waits to be written."""
        self.history.close()


@dataclass(frozen=True, slots=True)
class Options:
    """What may differ between supervisors; ``rules`` are files of the user's own failure rules."""

    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    budgets: Budgets = field(default_factory=Budgets)
    drivers: Mapping[str, DriverMaker] = field(default_factory=dict)
    rules: tuple[Path, ...] = ()
    on_change: Callable[[ServiceView], None] = lambda _: None


def supervise(
    specs: Iterable[ServiceSpec], data_dir: Path, *, mark: str, options: Options | None = None
) -> Supervision:
    """Return a supervisor of ``specs`` that keeps its records in ``data_dir``; StoreError where it cannot.

    ``mark`` names the instance in the environment of everything that it starts.
    """
    chosen = options or Options()
    clock = chosen.clock
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    machine = LocalMachine(mark, data_dir, logs=data_dir / LOGS_NAME, clock=clock, more=chosen.drivers)
    history = History(data_dir / DATABASE_NAME, clock, boot_id=procfs.boot_id())
    means = Means(
        machine,
        history,
        check=run_command,
        clock=clock,
        entropy=chosen.entropy,
        budgets=chosen.budgets,
        recognise=functools.partial(_recognise, chosen.rules),
    )
    return Supervision(Supervisor(specs, means, on_change=chosen.on_change), history)


def _recognise(files: tuple[Path, ...], evidence: Evidence) -> Classified | None:
    """Name the failure; the rules are read at the first death and not before."""
    try:
        from standfast.services.failures.decide import classify  # noqa: PLC0415

        return classify(evidence, _rules(files))
    except Exception:
        # Without a name the rules of repetition decide: no reason to stop supervising anything.
        log.exception("failure_not_classified")
        return None


@functools.cache
def _rules(files: tuple[Path, ...]) -> tuple[Rule, ...]:
    from standfast.services.failures.rules import rules_with  # noqa: PLC0415

    return rules_with(files)
