"""Puts processes, probes, logs and the guardian of one machine into one hand."""

from __future__ import annotations

from pathlib import Path

from standfast.kernel.clock import Clock
from standfast.services.adapters.guard import Guard
from standfast.services.adapters.journal import FileJournal
from standfast.services.adapters.probes import NetworkProber
from standfast.services.adapters.process import LocalProcesses


class LocalMachine:
    """Runs services here; ``mark`` names this run in the environment of all of its processes."""

    def __init__(self, mark: str, logs: Path, *, clock: Clock) -> None:
        assert mark.endswith("/"), "or one mark could be the beginning of another"
        self._logs = logs
        self._journals: dict[str, FileJournal] = {}
        self.guard = Guard(mark)
        self.prober = NetworkProber(clock)
        self.processes = LocalProcesses(mark, self.journal, on_start=self.guard.watch)

    def journal(self, name: str) -> FileJournal:
        """Return the log of the service ``name``."""
        if name not in self._journals:
            self._journals[name] = FileJournal(self._logs / f"{name}.log")
        return self._journals[name]
