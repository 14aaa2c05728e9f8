"""Makes the drivers of a supervisor besides that of processes; their libraries are loaded only here.

Which engine a stack runs on is written down at the first start: a later supervisor, started in another shell
or at the boot of the machine, must find the same containers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from standfast.kernel.errors import ConfigError, ConflictError
from standfast.services.adapters.journal import FileJournal
from standfast.services.adapters.local import DriverMaker
from standfast.services.ports import Driver

_ENGINE_NAME, _CONTAINERS_NAME, _UNITS_NAME = "engine", "containers", "units"


def drivers_of(kinds: Collection[str], data_dir: Path, stack: Mapping[str, Any]) -> Mapping[str, DriverMaker]:
    """Return makers of the drivers of ``kinds`` for the supervisor of ``data_dir``.

    ``stack`` says which ``instance`` it is. Raises ConfigError where a library is missing, or a kind unknown.
    """
    makers: dict[str, DriverMaker] = {}
    for kind in sorted(kinds):
        make = _MAKERS.get(kind)
        if make is None:
            known = ", ".join(("process", *sorted(_MAKERS)))
            raise ConfigError(f"there is no driver {kind!r}", fix=f"known: {known}", code="UnknownDriver")
        makers[kind] = make(data_dir, str(stack["instance"]))
    return makers


def _containers(data_dir: Path, instance: str) -> DriverMaker:
    try:
        from standfast.services.adapters.container_records import Records  # noqa: PLC0415
        from standfast.services.adapters.containers import Containers  # noqa: PLC0415
        from standfast.services.adapters.engine import EngineLink, engine_host  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "the library that speaks to container engines is missing",
            why=str(error),
            fix="pip install 'standfast[containers]'",
            code="LibraryMissing",
        ) from error
    folder = data_dir / _CONTAINERS_NAME
    host = _remembered(folder / _ENGINE_NAME, engine_host(os.environ), is_told="DOCKER_HOST" in os.environ)

    def make(journal_of: Callable[[str], FileJournal]) -> Driver:
        return Containers(EngineLink(host, instance), instance, Records(folder), journal_of)

    return make


def end_driven(data_dir: Path, instance: str) -> int:
    """End what drivers other than that of processes have left running without a supervisor; return how many.

    Raises ConflictError where something of it cannot be ended.
    """
    ended = 0
    folder = data_dir / _CONTAINERS_NAME
    if folder.is_dir():
        from standfast.services.adapters.container_records import Records  # noqa: PLC0415
        from standfast.services.adapters.engine import engine_host, stop_all  # noqa: PLC0415

        host = _remembered(
            folder / _ENGINE_NAME, engine_host(os.environ), is_told="DOCKER_HOST" in os.environ
        )
        try:
            ended += stop_all(host, instance)
        except OSError as error:
            raise ConflictError(
                "containers of an earlier run may still run",
                why=f"the container engine at {host} does not do it: {error}",
                fix=f"docker -H {host} ps --filter label=standfast.instance={instance}",
                code="LeftoversStay",
            ) from error
        records = Records(folder)
        for record in records.all():
            # Ended because somebody wanted it so: the next supervisor must not take it for a failure.
            records.write(record._replace(is_noted=True))
    if (data_dir / _UNITS_NAME).is_dir():
        from standfast.services.adapters.systemd import stop_all as stop_units  # noqa: PLC0415

        ended += stop_units(data_dir / _UNITS_NAME)
    return ended


def _remembered(path: Path, found: str, *, is_told: bool) -> str:
    """Return what was written down, unless somebody says otherwise now; write down what counts."""
    with contextlib.suppress(OSError):
        if not is_told and (known := path.read_text("utf-8").strip()):
            return known
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(f"{found}\n", "utf-8")
    return found


def _systemd(data_dir: Path, instance: str) -> DriverMaker:
    from standfast.services.adapters.systemd import SystemdUnits  # noqa: PLC0415

    def make(journal_of: Callable[[str], FileJournal]) -> Driver:
        return SystemdUnits(data_dir / _UNITS_NAME, instance, journal_of)

    return make


_MAKERS: Mapping[str, Callable[[Path, str], DriverMaker]] = {"container": _containers, "systemd": _systemd}
