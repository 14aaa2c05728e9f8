"""What a stack declares, as values: services with the file and line of each, and what was found wrong.

1. Nothing is dropped in silence. A key that we do not act on stands in ``DeclaredService.unsupported`` and
   in the stack's findings, with its line; a key that a container engine acts on, and we only pass on, stands
   in ``DeclaredService.options`` in compose's own form.
2. A finding that is FAIL makes a stack unusable, UNKNOWN is a warning, SKIPPED is a key without effect.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.stacks.nodes import Place, Plain

CHECK = "stack"


class Condition(enum.StrEnum):
    """What a dependency must have reached before its dependant starts."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


class Dependency(NamedTuple):
    """One name that a service depends on; where it is not ``required``, its absence is no error.

    With ``restarts`` the dependant is restarted when a command restarts the dependency.
    """

    name: str
    condition: Condition
    line: int
    required: bool = True
    restarts: bool = False


class Port(NamedTuple):
    """One published port; ``host`` is 0 where the engine picks one, from ``host`` to ``host_last`` if set."""

    container: int
    host: int
    protocol: str
    line: int
    host_ip: str = ""
    host_last: int = 0


class Build(NamedTuple):
    """How an image is built: ``context`` is an absolute path or a URL, ``dockerfile`` counts from it."""

    context: str
    dockerfile: str
    line: int
    target: str = ""
    args: Mapping[str, str] = {}
    options: Mapping[str, Plain] = {}


class Healthcheck(NamedTuple):
    """A container's own check; ``test`` starts with CMD, CMD-SHELL or NONE, empty = the image's own.

    Times are seconds, None where nothing is declared (docker: 30, 30, 3 retries, 0, 5).
    """

    test: tuple[str, ...]
    line: int
    interval_s: float | None = None
    timeout_s: float | None = None
    retries: int | None = None
    start_period_s: float | None = None
    start_interval_s: float | None = None
    is_disabled: bool = False


class RestartRule(NamedTuple):
    """When a container is started again: ``no``, ``always``, ``on-failure`` or ``unless-stopped``."""

    policy: str
    line: int
    most: int | None = None
    delay_s: float | None = None


class Mount(NamedTuple):
    """What a container sees at ``target``: ``kind`` is bind, volume, tmpfs, npipe, cluster or image.

    ``source`` is an absolute path for a bind, a name of the stack's volumes for a volume, empty for an
    anonymous one. ``options`` is what the long form says beyond that.
    """

    kind: str
    source: str
    target: str
    line: int
    is_read_only: bool = False
    options: Mapping[str, Plain] = {}


class NetworkUse(NamedTuple):
    """A network that a service is on, by its key in the stack."""

    name: str
    line: int
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Plain] = {}


class GpuRequest(NamedTuple):
    """Devices that a service needs; ``number`` is -1 for all, 0 where ``device_ids`` says which."""

    number: int
    line: int
    device_ids: tuple[str, ...] = ()
    driver: str = ""
    capabilities: tuple[str, ...] = ("gpu",)


class EnvFile(NamedTuple):
    """A file of variables, as an absolute path."""

    path: str
    line: int
    required: bool = True
    is_raw: bool = False


class UnsupportedKey(NamedTuple):
    """A key that is not acted on; ``changes_what_runs`` tells an error from a remark."""

    key: str
    line: int
    changes_what_runs: bool


class ProcessRules(NamedTuple):
    """How a process manager was told to keep a process; None is "not declared". Times are seconds."""

    autorestart: bool | None = None
    max_restarts: int | None = None
    min_uptime_s: float | None = None
    restart_delay_s: float | None = None
    backoff_s: float | None = None
    max_memory_bytes: int | None = None
    kill_timeout_s: float | None = None
    wait_ready: bool = False
    listen_timeout_s: float | None = None
    stop_exit_codes: tuple[int, ...] = ()
    cron_restart: str = ""
    watch: tuple[str, ...] = ()
    out_file: str = ""
    error_file: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """One service as its file declares it; ``file`` and ``line`` are where its name stands.

    ``command`` and ``entrypoint`` are None where nothing is declared; an empty one clears the image's own.
    ``env`` has the variables of ``env_files`` too, those of the service itself win. ``env_taken`` says for
    which of them the value was made with a variable of the environment, and with which. ``places`` has the
    place of each key of it.
    """

    name: str
    file: Path
    line: int
    driver: Literal["process", "container"] = "container"
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    env_files: tuple[EnvFile, ...] = ()
    ports: tuple[Port, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    healthcheck: Healthcheck | None = None
    restart: RestartRule | None = None
    mem_limit_bytes: int | None = None
    cpus: float | None = None
    gpus: tuple[GpuRequest, ...] = ()
    volumes: tuple[Mount, ...] = ()
    networks: tuple[NetworkUse, ...] = ()
    profiles: tuple[str, ...] = ()
    container_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    stop_grace_s: float | None = None
    replicas: int = 1
    options: Mapping[str, Plain] = field(default_factory=dict)
    unsupported: tuple[UnsupportedKey, ...] = ()
    process: ProcessRules | None = None
    env_taken: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where its name stands."""
        return Place(self.file, self.line)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, without what is not declared."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "places"}
        return {key: value for key, value in plain.items() if value not in (None, "", [], {})}


@dataclass(frozen=True, slots=True)
class Resource:
    """A volume or network of a stack: ``name`` is what the engine calls it."""

    key: str
    name: str
    file: Path
    line: int
    is_external: bool = False
    driver: str = ""
    options: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """All that the files declare together.

    ``services`` are those that run with the active ``profiles``, ``inactive`` those that do not. ``files``
    are the files asked for, ``read`` all that were read for it, with includes and extended ones.
    """

    name: str
    files: tuple[Path, ...]
    folder: Path
    services: tuple[DeclaredService, ...]
    inactive: tuple[DeclaredService, ...] = ()
    volumes: Mapping[str, Resource] = field(default_factory=dict)
    networks: Mapping[str, Resource] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    read: tuple[Path, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes it unusable."""
        return tuple(f for f in self.findings if f.verdict is Verdict.FAIL)

    def get(self, name: str) -> DeclaredService | None:
        """Return the service called ``name``, active or not."""
        return next((s for s in (*self.services, *self.inactive) if s.name == name), None)

    def usable(self) -> Stack:
        """Return the stack itself; ConfigError with everything that is wrong where it is unusable."""
        errors = self.errors
        if not errors:
            return self
        first, rest = errors[0], errors[1:]
        more = "\n".join(f"also {finding.message}" for finding in rest[:20])
        raise ConfigError(first.message, why=more, fix=first.remedy, code=first.reason)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "name": self.name,
            "files": [str(path) for path in self.files],
            "read": [str(path) for path in self.read],
            "profiles": list(self.profiles),
            "services": [service.as_dict() for service in self.services],
            "inactive": [service.as_dict() for service in self.inactive],
            "volumes": {key: _plain(value) for key, value in self.volumes.items()},
            "networks": {key: _plain(value) for key, value in self.networks.items()},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def _plain(value: object) -> Any:
    if isinstance(value, Path | enum.Enum):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(inner) for key, inner in value._asdict().items()}
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value
