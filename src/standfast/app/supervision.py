"""Wires a supervisor for one data directory: the same for an embedded instance and for a stack alone.

Nothing heavy may be imported here: a supervisor of two hundred services has to stay small.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from standfast.kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from standfast.services.adapters import procfs
from standfast.services.adapters.local import DriverMaker, LocalMachine
from standfast.services.adapters.probes import run_command
from standfast.services.driver import Supervisor
from standfast.services.failures.model import Classified, Evidence
from standfast.services.history import DATABASE_NAME, History
from standfast.services.model import Budgets, ServiceSpec, ServiceView

if TYPE_CHECKING:
    from standfast.services.failures.rules import Rules

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


def supervise(
    specs: Iterable[ServiceSpec],
    data_dir: Path,
    *,
    mark: str,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    budgets: Budgets | None = None,
    drivers: Mapping[str, DriverMaker] | None = None,
    rules: tuple[Path, ...] = (),
    on_change: Callable[[ServiceView], None] = lambda _: None,
) -> Supervision:
    """Return a supervisor of ``specs`` that keeps its records in ``data_dir``; StoreError where it cannot.

    ``mark`` names the instance in the environment of everything that it starts; ``rules`` are files of the
    user's own failure rules.
    """
    clock = clock or SystemClock()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    machine = LocalMachine(mark, data_dir, logs=data_dir / LOGS_NAME, clock=clock, more=drivers)
    history = History(data_dir / DATABASE_NAME, clock, boot_id=procfs.boot_id())
    supervisor = Supervisor(
        specs,
        machine,
        history,
        check=run_command,
        clock=clock,
        entropy=entropy or SystemEntropy(),
        budgets=budgets,
        recognise=functools.partial(_recognise, rules),
        on_change=on_change,
    )
    return Supervision(supervisor, history)


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
def _rules(files: tuple[Path, ...]) -> Rules:
    from standfast.services.failures.rules import load_rules  # noqa: PLC0415

    return load_rules(files)
