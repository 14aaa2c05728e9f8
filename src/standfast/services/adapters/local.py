"""Puts drivers, probes and logs of one machine into one hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from standfast.kernel.clock import Clock
from standfast.services.adapters.journal import FileJournal
from standfast.services.adapters.lives import LIVES_NAME
from standfast.services.adapters.probes import LocalProber
from standfast.services.adapters.process import LocalProcesses
from standfast.services.adapters.witness import KernelWitness
from standfast.services.ports import Driver

DriverMaker = Callable[[Callable[[str], FileJournal]], Driver]


class LocalMachine:
    """Runs services here; ``mark`` names the instance in the environment of all of its processes.

    ``more`` makes drivers besides that of processes, by kind.
    """

    def __init__(
        self,
        mark: str,
        data_dir: Path,
        *,
        logs: Path,
        clock: Clock,
        more: Mapping[str, DriverMaker] | None = None,
    ) -> None:
        assert mark.endswith("/"), "or one mark could be the beginning of another"
        self._logs = logs
        self._journals: dict[str, FileJournal] = {}
        self.prober = LocalProber(clock, self.journal)
        self.witness = KernelWitness()
        self._drivers: dict[str, Driver] = {
            "process": LocalProcesses(mark, data_dir / LIVES_NAME, self.journal)
        }
        self._drivers |= {kind: make(self.journal) for kind, make in (more or {}).items()}

    async def __aenter__(self) -> Self:
        """Begin to hear what runs."""
        for driver in self._drivers.values():
            driver.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop hearing it; what runs goes on."""
        for driver in self._drivers.values():
            driver.close()

    def driver(self, kind: str) -> Driver:
        """Return what runs services of that kind."""
        return self._drivers[kind]

    def drivers(self) -> Sequence[Driver]:
        """Return every driver there is."""
        return tuple(self._drivers.values())

    def journal(self, name: str) -> FileJournal:
        """Return the log of the service ``name``."""
        if name not in self._journals:
            self._journals[name] = FileJournal(self._logs / f"{name}.log")
        return self._journals[name]
