"""Service declarations as plain JSON values and back, for the process that supervises them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from standfast.services.model import (
    Condition,
    Dependency,
    Limits,
    Liveness,
    Need,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)


def spec_to_dict(spec: ServiceSpec) -> dict[str, Any]:
    """Return ``spec`` as plain values."""
    plain = _plain(spec)
    assert isinstance(plain, dict)
    return plain


def spec_from_dict(raw: Mapping[str, Any]) -> ServiceSpec:
    """Return the declaration that ``spec_to_dict`` wrote; KeyError, TypeError, ValueError for others."""
    known = dict(raw)
    known |= {
        "command": tuple(raw["command"]),
        "cwd": None if raw["cwd"] is None else Path(raw["cwd"]),
        "ready": _readiness(raw["ready"]),
        "live": None
        if raw["live"] is None
        else Liveness(**{**raw["live"], "ask": _readiness(raw["live"]["ask"])}),
        "restart": RestartPolicy(**{**raw["restart"], "when": RestartWhen(raw["restart"]["when"])}),
        "depends_on": tuple(
            Dependency(one["name"], Condition(one["condition"]), one["restart"], float(one["patience_s"]))
            for one in raw["depends_on"]
        ),
        "needs": tuple(Need(**{**one, "command": tuple(one["command"])}) for one in raw["needs"]),
        "limits": Limits(**raw["limits"]),
        "watch": tuple(Path(one) for one in raw["watch"]),
    }
    return ServiceSpec(**known)


def _readiness(raw: Mapping[str, Any]) -> Readiness:
    return Readiness(**{**raw, "command": tuple(raw["command"])})


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return str(value) if isinstance(value, Path) else value
