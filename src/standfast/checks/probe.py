"""Looks at this machine for preflight; read-only but for one small file in the data directory, removed again.

Every probe returns a sample or ``Unread``; none raises for what it meets, and none waits for long.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from standfast.checks.model import ClockSample, FolderSample, PackageSample, PortSample, ProcessSample, Unread
from standfast.kernel.clock import Clock

_CLOCK_WAIT_S = 0.05


def probe_process(needed_files: int) -> ProcessSample | Unread:
    """Return which Python runs and how many files it may open."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:
        return Unread(str(error))
    unlimited = 2**31 - 1
    return ProcessSample(
        python=sys.version_info[:3],
        open_files=unlimited if soft == resource.RLIM_INFINITY else soft,
        open_files_hard=unlimited if hard == resource.RLIM_INFINITY else hard,
        needed_files=needed_files,
    )


def probe_packages(distribution: str) -> tuple[PackageSample, ...] | Unread:
    """Return what ``distribution`` requires (extras aside) and what of it is installed."""
    try:
        wanted = metadata.requires(distribution) or []
        return tuple(_packages(wanted))
    except (metadata.PackageNotFoundError, InvalidRequirement, OSError) as error:
        return Unread(f"the metadata of {distribution} cannot be read: {error}")


def _packages(wanted: list[str]) -> Iterator[PackageSample]:
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                installed = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                installed = ""
            fits = bool(installed) and requirement.specifier.contains(installed, prereleases=True)
            yield PackageSample(requirement.name, str(requirement.specifier), installed, fits)


def probe_folder(folder: Path) -> FolderSample | Unread:
    """Write a small file to disk in ``folder``, or in the nearest folder above that exists, and remove it."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    error = _write_error(place)
    try:
        stat = os.statvfs(place)
    except OSError as failure:
        return Unread(f"{place}: {failure.strerror}")
    # Some file systems (btrfs) have no fixed number of inodes and report none at all.
    inodes = stat.f_favail if stat.f_files else -1
    return FolderSample(str(folder), error, stat.f_bavail * stat.f_frsize, inodes)


def _write_error(place: Path) -> str:
    path = place / f".standfast-probe-{os.getpid()}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"standfast\n" * 400)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return f"{place}: {error.strerror}"
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return ""


def probe_port(purpose: str, host: str, port: int, holder: Callable[[int], str]) -> PortSample:
    """Try to listen on ``port`` as a server would, and let it go; ``holder`` says who has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
            server.listen(1)
    except (OSError, OverflowError) as error:
        who = holder(port) if port else ""
        reason = getattr(error, "strerror", None) or str(error)
        return PortSample(purpose, host, port, error=reason, holder=who)
    return PortSample(purpose, host, port)


def probe_clock(clock: Clock) -> ClockSample:
    """Return how far both clocks went during the same short wait."""
    wall, monotonic = clock.wall(), clock.monotonic()
    time.sleep(_CLOCK_WAIT_S)
    elapsed = clock.wall() - wall
    return ClockSample(wall.year, elapsed.total_seconds(), clock.monotonic() - monotonic)
