"""Writes the systemd unit that starts a stack or an instance after the machine was restarted.

1. systemd minds the supervisor alone (KillMode=process). Services live under their own shims: when the
   supervisor crashes they go on, and the next one takes them back. systemd's default would kill them.
2. Restart=on-failure and not always: ended in order (systemctl stop, standfast down) it stays ended. A crash
   is started again without a limit of tries, because the supervisor itself knows when services are hopeless.
3. OOMPolicy=continue: the kernel ending one service for want of memory is no reason to end all of them.
4. The environment at boot is not that of a shell: PATH is written down as it is now, anything else that a
   service needs stands in its ``env``.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from standfast.app.config import Config
from standfast.kernel.errors import ConflictError, StoreUnavailableError
from standfast.services.decide.order import waves
from standfast.services.model import ServiceSpec

_HEADER = "# Written by standfast units; it writes it anew."
_SYSTEM_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_USER_FOLDER = ".config/systemd/user"
#: What the supervisor needs beside the services' own time: writing its records, and its own end.
_OWN_STOP_S = 15
_LEAST_STOP_S = 60


class Unit(NamedTuple):
    """One unit file; ``steps`` are the commands that put it to work."""

    name: str
    text: str
    steps: tuple[str, ...]


def unit_of(config: Config, specs: Sequence[ServiceSpec], *, is_user: bool) -> Unit:
    """Return the unit that keeps a supervisor of ``specs`` running."""
    name = unit_name(config.instance.name)
    wanted = "" if is_user else "Wants=network-online.target\nAfter=network-online.target"
    engine = "After=docker.service podman.socket" if any(one.driver == "container" for one in specs) else ""
    user = "" if is_user or os.geteuid() == 0 else f"User={_own_name()}"
    lines = [
        _HEADER,
        "[Unit]",
        f"Description=standfast: {_plain(config.instance.name)}, {len(specs)} services",
        wanted,
        "" if is_user else engine,
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_word(part) for part in _command(config))}",
        f"WorkingDirectory={_specifiers(str(config.folder))}",
        user,
        f"Environment={_quoted('PATH=' + os.environ.get('PATH', os.defpath))}",
        "# Killed, it is started again and takes back what runs. Ended in order, it stays ended.",
        "Restart=on-failure",
        "RestartSec=1",
        "# Another supervisor has this stack already.",
        f"RestartPreventExitStatus={ConflictError.exit_code}",
        "# Services have shims of their own, and outlive a crash of the supervisor.",
        "KillMode=process",
        f"TimeoutStopSec={stop_limit_s(specs)}",
        "# One service that runs out of memory ends alone.",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "Delegate=yes",
        "",
        "[Install]",
        f"WantedBy={'default.target' if is_user else 'multi-user.target'}",
    ]
    return Unit(name, _joined(lines), _steps(name, is_user=is_user))


def unit_name(instance: str) -> str:
    """Return what the unit of an instance is called."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", instance).strip("-.") or "instance"
    return f"standfast-{slug}.service"


def stop_limit_s(specs: Sequence[ServiceSpec]) -> int:
    """Return how long an orderly end may take: one wave after the other, each as long as its slowest."""
    by_name = {spec.name: spec for spec in specs}
    longest = sum(max(by_name[name].stop_timeout_s for name in wave) for wave in waves(specs))
    return max(_LEAST_STOP_S, int(longest) + _OWN_STOP_S)


def installed(name: str) -> Path | None:
    """Return where a unit of that name is installed on this machine, or None."""
    folders = [*map(Path, _SYSTEM_FOLDERS), Path.home() / _USER_FOLDER]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def write_unit(folder: Path, unit: Unit) -> Path:
    """Write the unit into ``folder``; ConflictError over a file of that name that somebody else wrote."""
    path = folder / unit.name
    try:
        if path.exists() and not path.read_text("utf-8", "replace").startswith(_HEADER):
            raise ConflictError(
                f"{path} was not written by standfast, and is left as it is",
                fix=f"move it away, or choose another folder: --write DIR; look at it: cat {path}",
                code="UnitExists",
            )
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(unit.text, "utf-8")
        part.replace(path)
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            fix=f"ls -ld {folder}; df -h {folder}",
        ) from error
    return path


def _command(config: Config) -> tuple[str, ...]:
    if config.is_stack:
        return sys.executable, "-m", "standfast.app.stack", str(config.data_dir)
    return (
        sys.executable, "-m", "standfast.cli", "up", str(config.folder), "--data-dir", str(config.data_dir),
    )  # fmt: skip


def _steps(name: str, *, is_user: bool) -> tuple[str, ...]:
    flag = " --user" if is_user else ""
    linger = ("loginctl enable-linger  # or it ends when you log out",) if is_user else ()
    return (f"systemctl{flag} daemon-reload", f"systemctl{flag} enable --now {name}", *linger)


def _own_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _word(text: str) -> str:
    """Return ``text`` as one word of a command line in a unit (systemd.service(5))."""
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    escaped = _specifiers(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"' if re.search(r"[\s'\";\\]", text) else escaped


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _plain(text: str) -> str:
    return _specifiers("".join(c for c in text if c.isprintable()))


def _joined(lines: Sequence[str]) -> str:
    """Join lines; an empty one stays only in front of a section."""
    kept = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line or following.startswith("[")
    ]
    return "\n".join(kept) + "\n"
