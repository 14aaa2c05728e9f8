"""Looks at one process in /proc, by (boot, pid, start): a pid alone is given out again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from standfast.services.model import Identity

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What /proc says of a living or dead-but-unburied process; ``letter`` is R, S, D, T, Z, ..."""

    identity: Identity
    letter: str
    program: str


def look(pid: int) -> ProcessSample | None:
    """Return what /proc says of ``pid``, or None where there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The program's name is in parentheses and may itself hold spaces and parentheses.
    program, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    return ProcessSample(Identity(boot_id(), pid, int(fields[19])), fields[0], program)


def is_same(identity: Identity) -> bool:
    """Return whether the process of ``identity`` still lives; a zombie does not."""
    sample = look(identity.pid)
    return sample is not None and sample.identity == identity and sample.letter not in ("Z", "X")


def boot_id() -> str:
    """Return the kernel's name of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
