"""Memory that an episode's process writes and its executor reads: how far it is, and its report.

It outlives the process, so that a killed episode still says where it was. The executor reads it only
when the process is gone, so no half-written number is ever seen, unless the process died in the middle of
writing: the report counts only with its length and checksum, which are written last.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import time
import zlib
from dataclasses import asdict
from typing import Any

from standfast.evaluation.episode.blame import InvalidReportError, Phase, Progress, classify
from standfast.evaluation.model import EpisodeReport, Fault

SIZE = 16_384
_PROGRESS = struct.Struct("<IIddd")  # phase, steps, subject_s, environment_s, since when in this phase
_SEAL = struct.Struct("<II")  # length and CRC-32 of the report
_SEAL_AT = _PROGRESS.size
_REPORT_AT = _SEAL_AT + _SEAL.size


def new_slate() -> int:
    """Return the descriptor of an empty slate; the caller closes it."""
    fd = os.memfd_create("standfast-episode", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd


class SlateWriter:
    """The episode's side: notes every change of phase and accounts the time of the one before."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)
        self._phase = Phase.STARTING
        self._since = time.monotonic()
        self.steps = 0
        self.subject_s = 0.0
        self.environment_s = 0.0
        self._note()

    def enter(self, phase: Phase) -> None:
        """Begin ``phase``; the time since the last change belongs to the phase before."""
        now = time.monotonic()
        if self._phase is Phase.ENVIRONMENT:
            self.environment_s += now - self._since
        elif self._phase is Phase.SUBJECT:
            self.subject_s += now - self._since
        self._phase, self._since = phase, now
        self._note()

    def count_step(self) -> None:
        """Count one call of the environment's step."""
        self.steps += 1
        self._note()

    def write_report(self, report: EpisodeReport) -> None:
        """Leave the report; it is the episode's last word."""
        raw = json.dumps(asdict(report)).encode()
        assert len(raw) <= SIZE - _REPORT_AT, "an error text is bounded, so a report always fits"
        self._memory[_REPORT_AT : _REPORT_AT + len(raw)] = raw
        _SEAL.pack_into(self._memory, _SEAL_AT, len(raw), zlib.crc32(raw))

    def _note(self) -> None:
        _PROGRESS.pack_into(
            self._memory, 0, self._phase, self.steps, self.subject_s, self.environment_s, self._since
        )


def read_progress(fd: int, *, now: float) -> Progress:
    """Return how far the episode came; ``now`` is monotonic, and the phase under way lasts until then.

    What cannot be read counts as not started, which charges nobody but us.
    """
    raw = os.pread(fd, _PROGRESS.size, 0)
    try:
        number, steps, subject_s, environment_s, since = _PROGRESS.unpack(raw)
        phase = Phase(number)
    except (struct.error, ValueError):
        return Progress()
    if not all(math.isfinite(n) and n >= 0 for n in (subject_s, environment_s, since)):
        return Progress()
    running_s = max(0.0, now - since)
    if phase is Phase.SUBJECT:
        subject_s += running_s
    elif phase is Phase.ENVIRONMENT:
        environment_s += running_s
    return Progress(phase, steps, subject_s, environment_s)


def read_report(fd: int) -> EpisodeReport | None:
    """Return the report, or None where none was begun; InvalidReportError where it is damaged."""
    raw = os.pread(fd, SIZE, 0)
    if len(raw) < SIZE:
        raise InvalidReportError("the episode's memory was cut short")
    length, checksum = _SEAL.unpack_from(raw, _SEAL_AT)
    if length == 0 and checksum == 0:
        return None
    body = raw[_REPORT_AT : _REPORT_AT + length]
    if len(body) != length or zlib.crc32(body) != checksum:
        raise InvalidReportError("the checksum of the report does not fit")
    return _report(body)


def _report(body: bytes) -> EpisodeReport:
    try:
        value: dict[str, Any] = json.loads(body)
        fault = Fault(value["fault"]) if value["fault"] else None
        report = EpisodeReport(**{**value, "fault": fault})
        classify(report)
    except InvalidReportError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidReportError(f"the report is not one: {type(error).__name__}") from error
    return report
