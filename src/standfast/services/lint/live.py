"""Asks pm2 and docker what runs now. A manager that is not there or does not answer is said, not guessed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.services.lint.listing import joined, read_listing
from standfast.services.lint.model import Passed
from standfast.services.lint.tree import Listing

_LIMIT_S = 20.0


def ask() -> tuple[Listing | None, list[Passed]]:
    """Return what pm2 and docker list, and who could not be asked; None where nobody answered."""
    listings: list[Listing] = []
    silent: list[Passed] = []
    for name, commands in (
        ("pm2", (["pm2", "jlist"],)),
        ("docker", (["docker", "ps", "-aq"], ["docker", "stats", "--no-stream", "--format", "json"])),
    ):
        if shutil.which(name) is None:
            silent.append(Passed(name, "it is not installed"))
            continue
        try:
            listings.append(_pm2(commands[0]) if name == "pm2" else _docker(*commands))
        except (OSError, subprocess.SubprocessError, ConfigError) as error:
            silent.append(Passed(name, _why(error)))
    return (joined(listings) if listings else None), silent


def _pm2(command: list[str]) -> Listing:
    return read_listing(Path("pm2 jlist"), _run(command))


def _docker(names: list[str], stats: list[str]) -> Listing:
    found = _run(names).split()
    if not found:
        return Listing(frozenset({"docker"}), ())
    inspected = read_listing(Path("docker inspect"), _run(["docker", "inspect", *found]))
    seen = _run(stats)
    if not seen.strip():
        return inspected
    used = {one.name: one.memory_bytes for one in read_listing(Path("docker stats"), seen).running}
    return Listing(
        inspected.managers, tuple(one.with_memory(used.get(one.name)) for one in inspected.running)
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or "").strip()[-300:] or f"exit code {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {_LIMIT_S:g} s"
    return str(error)[:300]
