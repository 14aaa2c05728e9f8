"""Turns what was seen of an end into values: what goes on record, and what a class is recognised from."""

from __future__ import annotations

from datetime import datetime

from standfast.kernel.clock import iso
from standfast.services.failures.model import Evidence
from standfast.services.failures.text import error_line, normalise
from standfast.services.model import End, ExitStatus, Outcome

#: Nobody saw how it ended; the number is no program's own.
_UNSEEN = ExitStatus(255)


def end_of(
    outcome: Outcome,
    *,
    lines: tuple[str, ...],
    lived_s: float,
    ready_s: float,
    at: datetime,
    at_s: float,
    asked_by: str,
    down: tuple[str, ...],
    addresses: tuple[str, ...],
    command: tuple[str, ...],
) -> tuple[End, Evidence]:
    """Return the end, and the evidence from which its class may be recognised."""
    status = outcome.status or _UNSEEN
    said = error_line(lines)
    end = End(
        status,
        lived_s=lived_s,
        ready_s=ready_s,
        last_line=outcome.lost or said,
        left_behind=outcome.left_behind,
        at=iso(at),
        at_s=at_s,
        print_=normalise(outcome.lost or said),
        # An end that nobody saw, or after work was done, says nothing about what was missing.
        down=() if outcome.lost else down,
        oom_kills=outcome.oom_kills,
        asked_by=asked_by,
    )
    evidence = Evidence(
        status=outcome.status,
        lines=lines,
        asked_by=asked_by,
        ready_s=ready_s,
        lived_s=lived_s,
        oom_kills=outcome.oom_kills,
        dependencies_down=down,
        dependency_addresses=addresses,
        command=command,
    )
    return end, evidence
