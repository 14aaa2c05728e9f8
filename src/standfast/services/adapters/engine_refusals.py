"""Turns an engine's refusal to make or start a container into an obstacle with the command that clears it."""

from __future__ import annotations

import re
from typing import NamedTuple

from standfast.services.model import Obstacle, ServiceSpec

#: What an engine refuses needs a person; a look costs the making of a container.
_REFUSED_S = 15.0
_SOON_S = 2.0


class _Refusal(NamedTuple):
    """What an engine says when it refuses, and what is to be done; ``{0}`` is what the pattern caught."""

    pattern: str
    reason: str
    fix: str
    recheck_s: float = _REFUSED_S


_TAKEN = r"(?:port is already allocated|.*address already in use)"
_REFUSALS = (
    _Refusal(
        rf"(?:bind for|listen tcp4?) \S*?:(\d+)\S*(?: failed)?: {_TAKEN}",
        "PortInUse",
        "see who has port {0}: ss -ltnp 'sport = :{0}'; or choose another port",
        _SOON_S,
    ),
    _Refusal(
        rf"{_TAKEN}|proxy already running",
        "PortInUse",
        "see who has the port: ss -ltnp; or choose another port",
        _SOON_S,
    ),
    _Refusal(r"no such image|image not known", "ImageMissing", "pull or build the image", _SOON_S),
    _Refusal(
        r"could not select device driver|unknown or invalid runtime name: nvidia|nvidia-container-cli",
        "HostGpuDriver",
        "nvidia-smi; install the NVIDIA container toolkit (nvidia-ctk runtime configure), restart the engine",
    ),
    _Refusal(
        r"container name \"?/?([^\"\s]+)\"? is already in use",
        "NameTaken",
        "see what it is: docker inspect {0}; remove it if it is not needed: docker rm -f {0}",
    ),
    _Refusal(
        r"exec: \"([^\"]*)\".*(?:not found|no such file)",
        "ProgramMissing",
        "the image has no {0}: correct `command`, `entrypoint` or the image",
    ),
    _Refusal(
        r"exec: \"([^\"]*)\".*permission denied",
        "ProgramMissing",
        "{0} may not be executed: chmod +x it in the image, or correct `command`",
    ),
    _Refusal(r"bind source path does not exist: (\S+)", "FolderMissing", "create {0}, or correct `volumes`"),
    _Refusal(r"no space left on device", "DiskFull", "make room: docker system df; df -h", 30.0),
    _Refusal(r"network (\S+) not found", "NetworkMissing", "docker network create {0}"),
)


def refusal(text: str, spec: ServiceSpec) -> Obstacle:
    """Return what stands in the way where an engine refused to make or start the container of ``spec``."""
    for known in _REFUSALS:
        found = re.search(known.pattern, text, re.IGNORECASE)
        if found:
            caught = found[1] if found.groups() and found[1] else ""
            what = f"the engine refuses it: {_short(text)}"
            return Obstacle(known.reason, what, known.fix.format(caught), known.recheck_s)
    where = f"{spec.file}:{spec.line}" if spec.line else spec.file
    fix = f"correct it in {where}; standfast release {spec.name} tries again at once"
    return Obstacle("EngineRefused", f"the engine refuses it: {_short(text)}", fix, _REFUSED_S)


def _short(text: str) -> str:
    return " ".join(text.split())[:400]
