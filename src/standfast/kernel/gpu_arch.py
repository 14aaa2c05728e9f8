"""Which compiled GPU code runs on which device, and which toolkit first knew an architecture.

1. A cubin ``sm_XY`` runs on devices of the same major version X and minor version >= Y (CUDA C++ Programming
   Guide, "Binary Compatibility"; the Ada and Blackwell compatibility guides). That promise is for desktop and
   server chips: neither between nor towards Tegra chips.
2. ``sm_XYa`` runs on X.Y only, ``sm_XYf`` on its family: same major version, minor version >= Y (CUDA 12.9,
   "Family-Specific Architecture Features").
3. ``compute_XY`` is PTX. The driver may compile it for every device of at least X.Y; whether it does, and
   whether the libraries beside it have any, only running it tells. It is never counted as a cubin.
4. AMD code objects run on exactly their ``gfx`` target, or on the members of a generic target; ``xnack`` and
   ``sramecc`` must not be opposite where both say them (LLVM, "User Guide for AMDGPU Backend").
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from datetime import date

Capability = tuple[int, int]

#: Tegra chips, whose binaries are not compatible with those of desktop chips of the same major version.
TEGRA: frozenset[Capability] = frozenset({(5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0)})

#: The first CUDA toolkit with each architecture (CUDA Toolkit release notes).
FIRST_CUDA: dict[str, tuple[int, int]] = {
    "sm_60": (8, 0), "sm_61": (8, 0), "sm_70": (9, 0), "sm_75": (10, 0), "sm_80": (11, 0), "sm_86": (11, 1),
    "sm_87": (11, 4), "sm_89": (11, 8), "sm_90": (11, 8), "sm_100": (12, 8), "sm_101": (12, 8),
    "sm_120": (12, 8), "sm_103": (12, 9), "sm_121": (12, 9), "sm_110": (13, 0),
}  # fmt: skip

#: The first PyTorch release whose wheels have it: 2.7.0 of 2025-04-23, index cu128 (release notes).
FIRST_TORCH: dict[str, tuple[int, int]] = {"sm_100": (2, 7), "sm_120": (2, 7)}

#: The first nightly builds that had it on index cu128 (pytorch/pytorch #145949, #145728).
FIRST_NIGHTLY: dict[str, date] = {"sm_100": date(2025, 2, 1), "sm_120": date(2025, 2, 1)}

#: Wheel indexes of PyTorch with CUDA, oldest first, and the toolkit of each.
TORCH_INDEXES: tuple[tuple[str, tuple[int, int]], ...] = (
    ("cu118", (11, 8)), ("cu121", (12, 1)), ("cu124", (12, 4)), ("cu126", (12, 6)), ("cu128", (12, 8)),
    ("cu129", (12, 9)), ("cu130", (13, 0)),
)  # fmt: skip

#: Generic targets of AMD and the devices that each covers.
_GENERIC: dict[str, str] = {
    "gfx9-generic": r"gfx90[02469c]", "gfx9-4-generic": r"gfx9(?:4[012]|50)",
    "gfx10-1-generic": r"gfx101[0-3]",
    "gfx10-3-generic": r"gfx103[0-6]", "gfx11-generic": r"gfx11(?:0[0-3]|5[0-3])",
    "gfx12-generic": r"gfx120[01]",
}  # fmt: skip


class Fit(enum.Enum):
    """How compiled code fits a device, best first."""

    EXACT = "compiled for exactly this architecture"
    COMPATIBLE = "compiled for an earlier minor version of the same major version"
    PTX = "only PTX, which the driver has to compile"
    NONE = "nothing that this device can run"


def capability_of(name: str) -> Capability | None:
    """Return the version in ``sm_120``, ``compute_90a`` or ``12.0``; None where there is none."""
    dotted = re.fullmatch(r"(\d+)\.(\d)[af]?(?:\+PTX)?", name)
    if dotted:
        return int(dotted[1]), int(dotted[2])
    plain = re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[af]?", name)
    return (int(plain[1]), int(plain[2])) if plain else None


def sm_name(capability: Capability) -> str:
    """Return ``sm_XY`` for a capability."""
    return f"sm_{capability[0]}{capability[1]}"


def fit(device: Capability, compiled: Iterable[str]) -> tuple[Fit, str]:
    """Return how the compiled architectures fit an NVIDIA device, and which of them does."""
    best, which = Fit.NONE, ""
    order = list(Fit)
    for name in compiled:
        found = _fit_one(device, name)
        if order.index(found) < order.index(best):
            best, which = found, name
    return best, which


def _fit_one(device: Capability, name: str) -> Fit:
    built = capability_of(name)
    if built is None:
        return Fit.NONE
    if name.startswith("compute_"):
        return _fit_ptx(device, built, name)
    if built == device:
        return Fit.EXACT
    is_portable = not name.endswith("a") and device not in TEGRA and built not in TEGRA
    if is_portable and built[0] == device[0] and built[1] < device[1]:
        return Fit.COMPATIBLE
    return Fit.NONE


def _fit_ptx(device: Capability, built: Capability, name: str) -> Fit:
    if name.endswith("a"):
        return Fit.PTX if built == device else Fit.NONE
    if name.endswith("f"):
        return Fit.PTX if built[0] == device[0] and built <= device else Fit.NONE
    return Fit.PTX if built <= device else Fit.NONE


def fit_gfx(device: str, compiled: Iterable[str]) -> tuple[Fit, str]:
    """Return how compiled targets fit an AMD device such as ``gfx90a:sramecc+:xnack-``."""
    chip, _, features = device.partition(":")
    for name in compiled:
        base, _, wanted = name.partition(":")
        fits = base == chip or (base in _GENERIC and re.fullmatch(_GENERIC[base], chip) is not None)
        if fits and not _opposite(features, wanted):
            return (Fit.EXACT if base == chip else Fit.COMPATIBLE), name
    return Fit.NONE, ""


def _opposite(device: str, compiled: str) -> bool:
    flips = {flag[:-1]: flag[-1:] for flag in device.split(":") if flag}
    return any(flips.get(flag[:-1], flag[-1:]) != flag[-1:] for flag in compiled.split(":") if flag)


def index_cuda(index: str) -> tuple[int, int] | None:
    """Return the CUDA version of a wheel index such as ``cu128``; None for others."""
    match = re.fullmatch(r"cu(\d{2,})(\d)", index)
    return (int(match[1]), int(match[2])) if match else None


def indexes_for(arch: str) -> tuple[str, ...]:
    """Return the wheel indexes whose toolkit knows ``arch``, the first one that does first."""
    first = FIRST_CUDA.get(arch)
    return tuple(name for name, cuda in TORCH_INDEXES if first is not None and cuda >= first)
