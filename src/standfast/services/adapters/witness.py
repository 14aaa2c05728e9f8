"""Looks at the kernel's log at the moment of a death."""

from __future__ import annotations

from dataclasses import replace

from standfast.services.adapters.evidence import KernelLog, Unread
from standfast.services.failures.model import Evidence


class KernelWitness:
    """Adds what the kernel said to the evidence of an end; a log that cannot be read says nothing."""

    def __init__(self, log: KernelLog | None = None) -> None:
        self._log = log or KernelLog()

    def at_death(self, evidence: Evidence, *, started_s: float) -> Evidence:
        """Return ``evidence`` with the kernel's lines since ``started_s``."""
        found = self._log.since(started_s)
        return evidence if isinstance(found, Unread) else replace(evidence, kernel_lines=found)
