"""Preflight: what must hold before an instance starts, as pure judgements over samples, and their gate."""

from standfast.checks.decide import BUILTIN, Check, preflight
from standfast.checks.model import (
    ClockSample,
    ConfigSample,
    EnvironmentSample,
    FolderSample,
    PackageSample,
    PortSample,
    ProcessSample,
    Samples,
    StoreSample,
    Unread,
)

__all__ = [
    "BUILTIN",
    "Check",
    "ClockSample",
    "ConfigSample",
    "EnvironmentSample",
    "FolderSample",
    "PackageSample",
    "PortSample",
    "ProcessSample",
    "Samples",
    "StoreSample",
    "Unread",
    "preflight",
]
