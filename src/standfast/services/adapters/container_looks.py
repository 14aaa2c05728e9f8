"""Looks at a container: at its process, ports and memory from this machine, and at what the engine shows.

What cannot be seen, because the engine runs elsewhere or the kernel keeps it from us, is empty or 0.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standfast.services.adapters import procfs
from standfast.services.model import Identity

_GROUPS = Path("/sys/fs/cgroup")
_LISTEN = " 0A "
_LONGEST = 200


def run_inside(client: Any, container: str, words: tuple[str, ...]) -> tuple[int, str]:
    """Run a program in a container; return its exit code and the last line it printed, as text to append."""
    made = client.exec_create(container, list(words))["Id"]
    said = client.exec_start(made).decode("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    code = client.exec_inspect(made)["ExitCode"]
    return (1 if code is None else int(code)), f": {lines[-1][:_LONGEST]}" if lines else ""


def ports_inside(pid: int) -> frozenset[int]:
    """Return the TCP ports that are listened on in the network of process ``pid``."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            found |= {int(line.split()[1].rpartition(":")[2], 16) for line in lines if _LISTEN in line}
    return frozenset(found)


def group_memory(pid: int) -> int:
    """Return what the control group of process ``pid`` uses, without what the kernel can drop at once."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if "memory" in names.split(","):
                return _used(
                    _GROUPS / "memory" / path.lstrip("/"), "memory.usage_in_bytes", "total_inactive_file"
                )
            folder = _GROUPS / path.lstrip("/")
            if not names and (folder / "memory.current").exists():
                return _used(folder, "memory.current", "inactive_file")
    return 0


def _used(folder: Path, usage: str, droppable: str) -> int:
    used = int((folder / usage).read_text())
    dropped = re.search(rf"^{droppable} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    return max(0, used - int(dropped[1])) if dropped else used


def process_of(container: str, state: Mapping[str, Any]) -> Identity | None:
    """Return the container's first process, where it is one of this machine's."""
    pid = int(state.get("Pid") or 0)
    with contextlib.suppress(OSError):
        if pid and container in Path(f"/proc/{pid}/cgroup").read_text():
            return procfs.identify(pid)
    return None


def check_of(test: Any) -> tuple[str, ...]:
    """Return the words that run a health check; nothing where there is none."""
    words = tuple(str(word) for word in test)
    if words[:1] == ("CMD-SHELL",):
        return ("/bin/sh", "-c", *words[1:])
    return words[1:] if words[:1] == ("CMD",) else ()


def signal_of(name: str) -> int:
    """Return the number of a signal as images and declarations name it; SIGTERM where it is none."""
    text = name.upper().removeprefix("SIG")
    if text.isdecimal():
        return int(text)
    return int(getattr(signal, f"SIG{text}", signal.SIGTERM))


def last_failure(health: Mapping[str, Any]) -> str:
    """Return how the engine's last look at the health ended, where that was not well."""
    looks = health.get("Log") or ()
    if not looks or not looks[-1].get("ExitCode"):
        return ""
    lines = [line.strip() for line in str(looks[-1].get("Output") or "").splitlines() if line.strip()]
    said = f": {lines[-1][:_LONGEST]}" if lines else ""
    return f"its health check ended with exit code {looks[-1]['ExitCode']}{said}"


def state_of(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return what an event alone says of an end, where the container is gone already."""
    code = attributes.get("exitCode") or attributes.get("containerExitCode") or "255"
    return {"Running": False, "ExitCode": int(code) if code.isdigit() else 255}
