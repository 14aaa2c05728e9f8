"""Turns what was seen of an end into values: what goes on record, and what a class is recognised from."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from standfast.kernel.clock import iso
from standfast.services.failures.model import Evidence
from standfast.services.failures.text import error_line, normalise
from standfast.services.model import End, ExitStatus, Outcome

#: Nobody saw how it ended; the number is no program's own.
_UNSEEN = ExitStatus(255)


class Circumstances(NamedTuple):
    """What is known of an end besides its outcome; seconds are monotonic, ``at`` is for people.

    ``down`` names the services that it needs and that were not ready, ``addresses`` are how its output may
    name what it depends on.
    """

    lines: tuple[str, ...]
    lived_s: float
    ready_s: float
    at: datetime
    at_s: float
    asked_by: str
    down: tuple[str, ...]
    addresses: tuple[str, ...]
    command: tuple[str, ...]


def end_of(outcome: Outcome, known: Circumstances) -> tuple[End, Evidence]:
    """Return the end, and the evidence from which its class may be recognised."""
    status = outcome.status or _UNSEEN
    said = error_line(known.lines)
    end = End(
        status,
        lived_s=known.lived_s,
        ready_s=known.ready_s,
        last_line=outcome.lost or said,
        left_behind=outcome.left_behind,
        at=iso(known.at),
        at_s=known.at_s,
        print_=normalise(outcome.lost or said),
        # An end that nobody saw, or after work was done, says nothing about what was missing.
        down=() if outcome.lost else known.down,
        oom_kills=outcome.oom_kills,
        asked_by=known.asked_by,
    )
    evidence = Evidence(
        status=outcome.status,
        lines=known.lines,
        asked_by=known.asked_by,
        ready_s=known.ready_s,
        lived_s=known.lived_s,
        oom_kills=outcome.oom_kills,
        dependencies_down=known.down,
        dependency_addresses=known.addresses,
        command=known.command,
    )
    return end, evidence
