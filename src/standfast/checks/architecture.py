"""Judges whether PyTorch in an environment can really use the GPUs that it sees (R2).

1. PASS needs all of it: the device's architecture among those that torch was compiled for, CUDA available,
   and a kernel that ran on that device with the right result. A version string never suffices.
2. PTX alone is UNKNOWN, with a reason of its own, even when the kernel ran: this kernel could be compiled by
   the driver, but the libraries beside torch bring cubins only, and another driver may decide otherwise.
3. The processor stands in only where that was allowed. Then the GPU's finding says so and is no PASS; what
   opens the gate is a second finding that carries the label.
4. What was not seen is UNKNOWN: no answer, no architecture list, a kernel that was never started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from standfast.checks.model import Unread
from standfast.kernel.gpu_arch import (
    FIRST_NIGHTLY,
    FIRST_TORCH,
    Capability,
    Fit,
    fit,
    fit_gfx,
    index_cuda,
    indexes_for,
    sm_name,
)
from standfast.kernel.verdict import Finding, Gate, Verdict

CHECK = "architecture"
FALLBACK = "cpu-fallback"
_AGAIN = "run it again: standfast gate arch"


class KernelRun(NamedTuple):
    """One real computation: whether it ran, whether its result was right, and what went wrong."""

    ran: bool
    is_right: bool
    error: str = ""


class DeviceSample(NamedTuple):
    """One device as torch sees it; ``kernel`` is None where none was started on it."""

    number: int
    name: str
    capability: Capability | None
    gcn_arch: str = ""
    kernel: KernelRun | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ArchitectureSample:
    """What torch said in the environment ``where``; ``version`` is empty where there is no torch."""

    where: str
    python: str
    version: str = ""
    error: str = ""
    build_date: str = ""
    cuda: str = ""
    hip: str = ""
    is_available: bool = False
    arch_list: tuple[str, ...] = ()
    devices: tuple[DeviceSample, ...] = ()
    cpu: KernelRun | None = None

    @property
    def evidence(self) -> dict[str, object]:
        """What every finding about it rests on."""
        return {
            "where": self.where, "python": self.python, "torch": self.version, "build_date": self.build_date,
            "cuda": self.cuda, "hip": self.hip, "cuda_available": self.is_available,
            "arch_list": list(self.arch_list),
        }  # fmt: skip


def architecture_gate(sample: ArchitectureSample | Unread, *, allows_cpu: bool = False) -> Gate:
    """Return the gate that opens only where every GPU proved itself, or the processor was allowed and did."""
    findings = tuple(_judge(sample))
    is_green = bool(findings) and all(finding.verdict is Verdict.PASS for finding in findings)
    if is_green or not allows_cpu or isinstance(sample, Unread):
        return Gate(CHECK, findings)
    set_aside = tuple(
        replace(
            f, verdict=Verdict.SKIPPED, message=f"set aside by --allow-cpu: {f.message}",
            evidence={**f.evidence, "verdict_without_fallback": f.verdict.name},
        )
        if f.verdict > Verdict.PASS
        else f
        for f in findings
    )  # fmt: skip
    return Gate(CHECK, (*set_aside, _judge_fallback(sample)))


def _judge(sample: ArchitectureSample | Unread) -> Iterator[Finding]:
    if isinstance(sample, Unread):
        yield Finding(CHECK, Verdict.UNKNOWN, "NotRun", sample.why, remedy=_AGAIN)
        return
    general = _general(sample)
    if general is not None:
        yield general
        return
    for device in sample.devices:
        yield _judge_device(sample, device)


def _general(sample: ArchitectureSample) -> Finding | None:
    """Return what is wrong before any device is looked at."""
    if not sample.version:
        if sample.error:
            return _fail(
                sample, "TorchBroken", f"torch cannot be imported: {sample.error}", "reinstall torch"
            )
        return _fail(
            sample, "TorchMissing", f"no torch in {sample.where}",
            "install torch there from the index of your CUDA (cu128 for sm_120)",
        )  # fmt: skip
    if not sample.cuda and not sample.hip:
        return _fail(
            sample, "CpuOnlyBuild", f"torch {sample.version} was built without CUDA and without ROCm",
            "install torch from a CUDA index: pip install --force-reinstall torch --index-url .../whl/cu128",
        )  # fmt: skip
    if not sample.is_available:
        why = f": {sample.error}" if sample.error else ""
        return _fail(
            sample, "NotAvailable", f"torch {sample.version} sees no usable GPU{why}",
            "nvidia-smi must show the GPU there; a container needs a GPU reservation or --gpus all",
        )  # fmt: skip
    if not sample.devices:
        return Finding(
            CHECK, Verdict.UNKNOWN, "NoDevice", "CUDA is available, and no device was listed",
            sample.where, sample.evidence, _AGAIN,
        )  # fmt: skip
    return None


def _judge_device(sample: ArchitectureSample, device: DeviceSample) -> Finding:
    kind, which = _fit(sample, device)
    kernel = device.kernel
    arch = device.gcn_arch or (sm_name(device.capability) if device.capability else "")
    evidence = {
        **sample.evidence, "device": device.name, "architecture": arch, "fit": kind.name if kind else "",
        "compiled": which, "kernel": kernel._asdict() if kernel else None,
    }  # fmt: skip
    subject = f"cuda:{device.number} {device.name}".strip()

    def finding(verdict: Verdict, reason: str, message: str, remedy: str = "") -> Finding:
        return Finding(CHECK, verdict, reason, message, subject, evidence, remedy)

    if kind is None:
        why = device.error or "torch names no architectures that it was compiled for"
        return finding(Verdict.UNKNOWN, "ArchUnknown", why, _AGAIN)
    if kind is Fit.NONE:
        listed = ", ".join(sample.arch_list)
        return finding(
            Verdict.FAIL, "ArchMissing", f"torch {sample.version} has no code for {arch}: it has {listed}",
            _next_step(sample, arch),
        )  # fmt: skip
    if kernel is None:
        return finding(Verdict.UNKNOWN, "KernelNotRun", f"no kernel was started on {arch}", _AGAIN)
    if not kernel.ran:
        return finding(Verdict.FAIL, "KernelFailed", kernel.error or "the kernel failed", _repair(arch))
    if not kernel.is_right:
        return finding(
            Verdict.FAIL, "WrongResult", f"a product of whole numbers came out wrong on {arch}",
            "take this device out of use, and test it: dcgmi diag -r 3",
        )  # fmt: skip
    if kind is Fit.PTX:
        return finding(
            Verdict.UNKNOWN, "PtxOnly",
            f"torch {sample.version} has no {arch}; a kernel ran from PTX ({which}), which proves no library",
            _next_step(sample, arch),
        )  # fmt: skip
    how = "" if kind is Fit.EXACT else f" ({which} runs on it: same major version)"
    return finding(Verdict.PASS, kind.name.capitalize(), f"a kernel ran on {arch} with the right result{how}")


def _fit(sample: ArchitectureSample, device: DeviceSample) -> tuple[Fit | None, str]:
    if not sample.arch_list:
        return None, ""
    if sample.hip:
        return fit_gfx(device.gcn_arch, sample.arch_list) if device.gcn_arch else (None, "")
    return fit(device.capability, sample.arch_list) if device.capability else (None, "")


def _next_step(sample: ArchitectureSample, arch: str) -> str:
    """Return what to install: a newer build where this one is too old, else the next index."""
    if sample.hip:
        return f"install a ROCm build of torch that lists {arch.split(':', maxsplit=1)[0]}"
    possible = indexes_for(arch)
    if not possible:
        return f"no index is known for {arch}: build torch with TORCH_CUDA_ARCH_LIST for it"
    have = _version(sample.cuda)
    later = [name for name in possible if (index_cuda(name) or (0, 0)) > have]
    if have < (index_cuda(possible[0]) or (0, 0)):
        return _install(possible[0], "") + _otherwise(later[1:])
    too_old = _too_old(sample, arch)
    if too_old:
        return _install(f"cu{have[0]}{have[1]}", too_old) + _otherwise(later)
    if later:
        return _install(later[0], "") + _otherwise(later[1:])
    return f"report to PyTorch that its newest index has no {arch}, and build torch for it meanwhile"


def _too_old(sample: ArchitectureSample, arch: str) -> str:
    """Return why this build is older than the first that could have ``arch``, or nothing."""
    first_day, first_release = FIRST_NIGHTLY.get(arch), FIRST_TORCH.get(arch)
    if sample.build_date and first_day and date.fromisoformat(sample.build_date) < first_day:
        return f"this build is of {sample.build_date}, the first with {arch} of {first_day}"
    is_release = not sample.build_date
    if is_release and first_release and _version(sample.version) < first_release:
        return f"this is torch {sample.version}, the first with {arch} is {'.'.join(map(str, first_release))}"
    return ""


def _version(text: str) -> tuple[int, int]:
    numbers = [int(part) for part in text.split("+", maxsplit=1)[0].split(".")[:2] if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _install(index: str, why: str) -> str:
    command = f"pip install --force-reinstall --pre torch --index-url .../whl/nightly/{index}"
    return f"{why}: {command}" if why else command


def _otherwise(indexes: list[str]) -> str:
    return f"; if that has none either: {', '.join(indexes)}" if indexes else ""


def _repair(arch: str) -> str:
    return f"read the error; a driver older than the CUDA of torch, or a library without {arch}, is usual"


def _judge_fallback(sample: ArchitectureSample) -> Finding:
    label = f"CPU FALLBACK in {sample.where}"
    cpu = sample.cpu
    if cpu is None:
        return Finding(
            FALLBACK, Verdict.UNKNOWN, "KernelNotRun", f"{label}: nothing was computed", remedy=_AGAIN
        )
    if not (cpu.ran and cpu.is_right):
        why = cpu.error or "the result was wrong"
        return Finding(
            FALLBACK, Verdict.FAIL, "KernelFailed", f"{label}: {why}", remedy="reinstall torch there"
        )
    return Finding(
        FALLBACK, Verdict.PASS, "CpuFallback",
        f"{label}: the processor computes in place of the GPU, because it was allowed",
        evidence={**sample.evidence, "mode": "cpu"},
    )  # fmt: skip


def _fail(sample: ArchitectureSample, reason: str, message: str, remedy: str) -> Finding:
    return Finding(CHECK, Verdict.FAIL, reason, message, sample.where, sample.evidence, remedy)
