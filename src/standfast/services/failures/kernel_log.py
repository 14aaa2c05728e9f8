"""What the kernel's log says about a process that ended: pure readings of its lines.

Sources: mm/oom_kill.c (dump_oom_summary, __oom_kill_process), Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SUMMARY = re.compile(
    r"oom-kill:constraint=(?P<constraint>CONSTRAINT_[A-Z_]+)\b(?P<rest>.{0,2000}?)"
    r",task=(?P<name>.{0,32}?),pid=(?P<pid>\d{1,10}),"
)
_MEMCG = re.compile(r",(oom|task)_memcg=([^,\s]{1,1000})")
_KILLED = re.compile(
    r"(?P<scope>Memory cgroup out of memory|Out of memory)[^:]{0,40}: Kill(?:ed)? process (?P<pid>\d{1,10})"
    r"(?:, UID \d{1,10},)? \((?P<name>[^)]{0,32})\)(?P<rest>.{0,400})"
)
_RSS = re.compile(r"(?:anon|file|shmem)-rss:(\d{1,16})kB")
_XID = re.compile(
    r"NVRM: Xid \((?P<device>[^)]{1,60})\): (?P<code>\d{1,4})\b(?:, pid=(?P<pid>'?<?\w{1,20}>?'?))?"
)


class KernelLine(NamedTuple):
    """One record of /dev/kmsg; ``at_s`` is in seconds since the boot, without the time suspended."""

    at_s: float
    level: int
    sequence: int
    text: str


class OomKill(NamedTuple):
    """The kernel killed one process for memory. ``limit`` is the cgroup whose limit it was, or empty."""

    pid: int
    name: str
    constraint: str = ""
    limit: str = ""
    cgroup: str = ""
    rss_bytes: int = 0

    @property
    def text(self) -> str:
        """What happened, in words."""
        held = f", which held {self.rss_bytes / 1e6:.0f} MB" if self.rss_bytes else ""
        whose = f"the limit of cgroup {self.limit}" if self.limit else "the memory of the host"
        return f"the kernel killed process {self.pid} ({self.name}){held}, because {whose} was used up"


class Xid(NamedTuple):
    """The NVIDIA driver reported an error; ``pid`` is 0 where it names no process."""

    code: int
    device: str
    pid: int


def parse_record(record: str) -> KernelLine | None:
    """Return one record of /dev/kmsg; None where it is none (``level,sequence,microseconds,flags;text``)."""
    head, semicolon, body = record.partition(";")
    parts = head.split(",")
    if not semicolon or len(parts) < 3 or not all(part.isdigit() for part in parts[:3]):
        return None
    text = body.partition("\n")[0]
    return KernelLine(int(parts[2]) / 1e6, int(parts[0]) & 7, int(parts[1]), text)


def oom_kills(lines: Iterable[str]) -> tuple[OomKill, ...]:
    """Return the kills for memory that ``lines`` tell of: one per process, of both of its lines."""
    found: dict[int, OomKill] = {}
    for line in lines:
        kill = _summary(line) or _killed(line)
        if kill is None:
            continue
        known = found.get(kill.pid)
        found[kill.pid] = kill if known is None else _joined(known, kill)
    return tuple(found.values())


def xids(lines: Iterable[str]) -> tuple[Xid, ...]:
    """Return the errors of NVIDIA GPUs that ``lines`` tell of."""
    matches = (_XID.search(line) for line in lines)
    return tuple(Xid(int(m["code"]), m["device"], _number(m["pid"])) for m in matches if m is not None)


def is_about(kill: OomKill, *, pids: frozenset[int], cgroup: str, name: str = "") -> bool:
    """Whether the kill was of the service that has ``pids``, lives in ``cgroup``, and is called ``name``.

    Pids are the host's in the kernel's log; in a container they differ, and cgroups lie below another root.
    With nothing to compare with, any kill is taken to be meant.
    """
    if not pids and not cgroup and not name:
        return True
    if kill.pid in pids:
        return True
    if kill.cgroup and cgroup.strip("/"):
        return _is_below(kill.cgroup, cgroup) or _is_below(kill.limit, cgroup)
    return not pids and bool(name) and kill.name == name[:15]


def memory_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that tell of a kill for memory."""
    return tuple(line for line in lines if _SUMMARY.search(line) or _KILLED.search(line))


def _is_below(path: str, cgroup: str) -> bool:
    wanted = cgroup.strip("/").split("/")
    parts = path.strip("/").split("/")
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts) - len(wanted) + 1))


def _summary(line: str) -> OomKill | None:
    found = _SUMMARY.search(line)
    if found is None:
        return None
    groups = dict(_MEMCG.findall(found["rest"]))
    return OomKill(
        int(found["pid"]), found["name"], found["constraint"], groups.get("oom", ""), groups.get("task", "")
    )


def _killed(line: str) -> OomKill | None:
    found = _KILLED.search(line)
    if found is None:
        return None
    rss = sum(int(kilobytes) for kilobytes in _RSS.findall(found["rest"])) * 1024
    constraint = "CONSTRAINT_MEMCG" if found["scope"].startswith("Memory cgroup") else ""
    return OomKill(int(found["pid"]), found["name"], constraint, rss_bytes=rss)


def _joined(one: OomKill, two: OomKill) -> OomKill:
    return OomKill(
        one.pid, one.name or two.name, one.constraint or two.constraint, one.limit or two.limit,
        one.cgroup or two.cgroup, one.rss_bytes or two.rss_bytes,
    )  # fmt: skip


def _number(text: str | None) -> int:
    digits = (text or "").strip("'<>")
    return int(digits) if digits.isdigit() else 0
