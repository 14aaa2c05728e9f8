"""Makes control groups for lives with limits, where the machine allows it (cgroups(7), versions 1 and 2).

A group has to lie below the one that this process is in. Where none can be made, the reason is returned and
the caller watches memory itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from standfast.services.model import Limits

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_CPU_PERIOD_US = 100_000


class Groups(NamedTuple):
    """The folders that a life joins; ``why_not`` says why a limit has no group that keeps it."""

    folders: tuple[str, ...] = ()
    why_not: str = ""


def make(limits: Limits, name: str, *, root: Path = _ROOT, own: Path = _OWN) -> Groups:
    """Return groups named ``name`` that keep ``limits``."""
    if not limits.memory_bytes and not limits.cpus:
        return Groups()
    made: list[str] = []
    try:
        for parent, settings in _wanted(limits, _paths(own.read_text()), root):
            folder = parent / name
            folder.mkdir(exist_ok=True)
            made.append(str(folder))
            for file, value in settings.items():
                (folder / file).write_text(value)
    except (OSError, ValueError, KeyError) as error:
        for one in made:
            with contextlib.suppress(OSError):
                Path(one).rmdir()
        return Groups((), f"no control group could be made: {error}")
    return Groups(tuple(made))


def _paths(text: str) -> Mapping[str, str]:
    """Return the path of this process in each hierarchy, by controller; version 2 has the name ''."""
    found = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        found.update(dict.fromkeys(names.split(","), path.lstrip("/")))
    return found


def _wanted(limits: Limits, paths: Mapping[str, str], root: Path) -> list[tuple[Path, Mapping[str, str]]]:
    if "memory" in paths:
        return _wanted_v1(limits, paths, root)
    parent = root / paths[""]
    controllers = [name for name, value in (("memory", limits.memory_bytes), ("cpu", limits.cpus)) if value]
    enabled = (parent / "cgroup.subtree_control").read_text().split()
    missing = [name for name in controllers if name not in enabled]
    if missing:
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
    settings: dict[str, str] = {}
    if limits.memory_bytes:
        settings |= {"memory.max": str(limits.memory_bytes), "memory.oom.group": "1"}
    if limits.cpus:
        settings |= {"cpu.max": f"{int(limits.cpus * _CPU_PERIOD_US)} {_CPU_PERIOD_US}"}
    return [(parent, settings)]


def _wanted_v1(limits: Limits, paths: Mapping[str, str], root: Path) -> list[tuple[Path, Mapping[str, str]]]:
    wanted: list[tuple[Path, Mapping[str, str]]] = []
    if limits.memory_bytes:
        wanted.append(
            (root / "memory" / paths["memory"], {"memory.limit_in_bytes": str(limits.memory_bytes)})
        )
    if limits.cpus:
        settings = {
            "cpu.cfs_period_us": str(_CPU_PERIOD_US),
            "cpu.cfs_quota_us": str(int(limits.cpus * _CPU_PERIOD_US)),
        }
        wanted.append((root / "cpu" / paths["cpu"], settings))
    return wanted
