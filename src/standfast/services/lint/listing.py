"""Reads what a manager lists as running: pm2 jlist, docker inspect, docker ps and docker stats.

Only structured output is read; a table that was printed for people is refused.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from standfast.kernel.errors import ConfigError
from standfast.services.lint.model import Spot
from standfast.services.lint.tree import Listing, Running

_UNITS = {
    "": 1, "b": 1, "k": 1_000, "kb": 1_000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_STARTS = re.compile(r"\s*(?:\[\s*(?:\{|\]|$)|\{)")
_FIX = "give the JSON of: pm2 jlist, docker inspect $(docker ps -aq), or docker ps -a --format json"


def read_listing(path: Path, text: str) -> Listing:
    """Return what ``text`` lists; ConfigError where it is of no form that is known."""
    found: dict[tuple[str, str], Running] = {}
    managers: set[str] = set()
    for entry in _entries(path, text):
        running = _running(entry, path, text)
        if running is None:
            raise ConfigError(
                f"{path} is no listing of processes or containers", why=f"an entry has {sorted(entry)[:5]}",
                fix=_FIX, code="ListingUnknown",
            )  # fmt: skip
        managers.add(running.manager)
        key = (running.manager, running.name)
        found[key] = _together(found[key], running) if key in found else running
    if not managers and not re.fullmatch(r"\s*\[\s*\]\s*", text):
        raise ConfigError(f"{path} lists nothing", fix=_FIX, code="ListingUnknown")
    return Listing(frozenset(managers or {"pm2", "docker"}), tuple(found.values()))


def joined(listings: list[Listing]) -> Listing:
    """Return several listings as one."""
    managers = frozenset[str]().union(*(listing.managers for listing in listings))
    return Listing(managers, tuple(one for listing in listings for one in listing.running))


def _entries(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a JSON list, or of one JSON object a line."""
    # pm2 prints messages of its daemon, "[PM2] ...", before the list when it had to start it.
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if _STARTS.match(line)), 0)
    body = "\n".join(lines[start:])
    try:
        value = json.loads(body)
        values = value if isinstance(value, list) else [value]
    except ValueError:
        try:
            values = [json.loads(line) for line in body.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is no JSON", why=str(error), fix=_FIX, code="NotJson") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply", fix=_FIX, code="NotJson") from None
    for entry in values:
        yield entry if isinstance(entry, dict) else {}


def _running(entry: Mapping[str, Any], path: Path, text: str) -> Running | None:
    if isinstance(entry.get("pm2_env"), dict):
        return _pm2(entry, path, text)
    if isinstance(entry.get("State"), dict) and isinstance(entry.get("Config"), dict):
        return _inspected(entry, path, text)
    if "Names" in entry and "Image" in entry:
        return _listed(entry, path, text)
    if "MemUsage" in entry and "Name" in entry:
        name = str(entry["Name"])
        used = memory_bytes(str(entry["MemUsage"]).split("/", maxsplit=1)[0])
        return Running(name, "docker", _spot(path, text, name), is_up=True, memory_bytes=used)
    return None


def _pm2(entry: Mapping[str, Any], path: Path, text: str) -> Running:
    env = entry["pm2_env"]
    monitor = entry.get("monit") if isinstance(entry.get("monit"), dict) else {}
    name = str(entry.get("name") or env.get("name", ""))
    status = str(env.get("status", ""))
    return Running(
        name, "pm2", _spot(path, text, name), status == "online", status, _words(env.get("args")),
        _whole(monitor.get("memory")) if monitor else None, _whole(env.get("max_memory_restart")),
        _whole(env.get("restart_time")), _whole(env.get("unstable_restarts")),
    )  # fmt: skip


def _inspected(entry: Mapping[str, Any], path: Path, text: str) -> Running:
    config, state = entry["Config"], entry["State"]
    host = entry.get("HostConfig") if isinstance(entry.get("HostConfig"), dict) else {}
    assert isinstance(host, dict)
    name = str(entry.get("Name", "")).lstrip("/")
    labels = config.get("Labels") if isinstance(config.get("Labels"), dict) else {}
    policy = host.get("RestartPolicy")
    return Running(
        name, "docker", _spot(path, text, name), state.get("Running") is True, str(state.get("Status", "")),
        _words(config.get("Cmd")), None, _whole(host.get("Memory")) if host else None,
        _whole(entry.get("RestartCount")), None,
        str(policy.get("Name") or "no") if isinstance(policy, dict) else None, **_origin(labels),
    )  # fmt: skip


def _listed(entry: Mapping[str, Any], path: Path, text: str) -> Running:
    name = str(entry["Names"]).split(",", maxsplit=1)[0]
    state = str(entry.get("State") or entry.get("Status", ""))
    labels = dict(part.partition("=")[::2] for part in str(entry.get("Labels", "")).split(","))
    return Running(
        name,
        "docker",
        _spot(path, text, name),
        state.lower().startswith(("running", "up")),
        state,
        **_origin(labels),
    )


def _origin(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return what compose writes on the containers that it makes."""
    files = str(labels.get("com.docker.compose.project.config_files", ""))
    return {
        "service": str(labels.get("com.docker.compose.service", "")),
        "project": str(labels.get("com.docker.compose.project", "")),
        "files": tuple(part for part in files.split(",") if part),
    }


def _together(one: Running, other: Running) -> Running:
    """Return what two entries about the same container say together, and the worst of two instances."""
    return Running(
        one.name, one.manager, one.spot, one.is_up or other.is_up, one.status or other.status,
        one.arguments or other.arguments, _most(one.memory_bytes, other.memory_bytes),
        _most(one.limit_bytes, other.limit_bytes), _most(one.restarts, other.restarts),
        _most(one.unstable, other.unstable), one.restart_policy or other.restart_policy,
        one.service or other.service, one.project or other.project, one.files or other.files,
    )  # fmt: skip


def _most(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def _words(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list):
        return tuple(str(word) for word in value)
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError:
            return tuple(value.split())
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, str):
        return memory_bytes(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def memory_bytes(text: str) -> int | None:
    """Return an amount such as ``6G`` (pm2: powers of 1024), ``32.3GiB`` or ``12MB`` in bytes."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        return None
    try:
        return int(float(match[1]) * _UNITS[match[2].lower()])
    except ValueError:
        return None


def _spot(path: Path, text: str, name: str) -> Spot:
    match = re.search(rf'"/?{re.escape(name)}"', text)
    return Spot(path, text.count("\n", 0, match.start()) + 1 if match else 1)
