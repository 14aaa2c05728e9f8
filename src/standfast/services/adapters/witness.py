"""Looks at the kernel's log at the moment of a death."""

from __future__ import annotations

from dataclasses import replace

from standfast.services.failures.model import Evidence


class KernelWitness:
    """Adds what the kernel said to the evidence of an end."""

    def at_death(self, evidence: Evidence, *, started_s: float) -> Evidence:
        """Return ``evidence`` with the kernel's lines since ``started_s``."""
        return replace(evidence)
