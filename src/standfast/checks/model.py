"""What preflight looked at: samples, which never judge. What could not be read is ``Unread`` (I1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Unread:
    """A probe did not come back with a sample, and why."""

    why: str


class Trouble(NamedTuple):
    """An error as it was told: CamelCase code, what happened, and the action that fixes it."""

    code: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class ConfigSample:
    """The configuration: where it is, or what is wrong with it."""

    source: str
    subjects: int = 0
    environments: int = 0
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """The Python that runs and how many files it may open."""

    python: tuple[int, int, int]
    open_files: int
    open_files_hard: int
    needed_files: int


class PackageSample(NamedTuple):
    """One distribution that is required: what is wanted and what is installed ("" = nothing)."""

    name: str
    wanted: str
    installed: str
    is_satisfied: bool


class EnvironmentSample(NamedTuple):
    """One environment of the configuration, tried in a process of its own; ``error`` is empty if it works."""

    id: str
    error: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class FolderSample:
    """The data directory: whether a file could be written to disk there, and what room is left.

    ``free_inodes`` is -1 on file systems that make them as needed.
    """

    path: str
    error: str
    free_bytes: int
    free_inodes: int


@dataclass(frozen=True, slots=True)
class StoreSample:
    """The store: whether it opened, which schema it has, and whether its facts are whole.

    ``is_new`` says that there is none yet; ``schema`` is what differs from this code's, or empty.
    """

    name: str
    is_new: bool = False
    trouble: Trouble | None = None
    schema: str = ""
    facts: int = 0
    broken_fact: str = ""


class PortSample(NamedTuple):
    """One port that will be listened on; ``holder`` is who has it now, empty if it is free."""

    purpose: str
    host: str
    port: int
    error: str = ""
    holder: str = ""


@dataclass(frozen=True, slots=True)
class ClockSample:
    """How far both clocks went during the same short wait, and the year that it is."""

    year: int
    wall_s: float
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class Samples:
    """All that preflight looked at, once."""

    config: ConfigSample | Unread
    process: ProcessSample | Unread
    packages: tuple[PackageSample, ...] | Unread
    environments: tuple[EnvironmentSample, ...] | Unread
    folder: FolderSample | Unread
    store: StoreSample | Unread
    ports: tuple[PortSample, ...] | Unread
    clock: ClockSample | Unread
