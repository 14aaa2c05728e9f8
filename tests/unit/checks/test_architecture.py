"""R2 on samples written by hand: what closes the architecture gate, and what alone opens it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from standfast.checks.architecture import ArchitectureSample, DeviceSample, KernelRun, architecture_gate
from standfast.checks.kernel_probe import sample_of
from standfast.checks.model import Unread
from standfast.kernel.gpu_arch import Fit, fit, fit_gfx
from standfast.kernel.verdict import Finding, Verdict

RAN = KernelRun(ran=True, is_right=True)
FAILED = KernelRun(ran=False, is_right=False, error="RuntimeError: no kernel image is available")
WRONG = KernelRun(ran=True, is_right=False)
BLACKWELL = DeviceSample(0, "NVIDIA GeForce RTX 5070", (12, 0), kernel=RAN)
CU128 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
CU121 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
GOOD = ArchitectureSample(
    where="container meta-controller", python="3.11.9", version="2.10.0.dev20251024+cu128",
    build_date="2025-10-24", cuda="12.8", is_available=True, arch_list=CU128, devices=(BLACKWELL,), cpu=RAN,
)  # fmt: skip


def only(sample: ArchitectureSample | Unread) -> Finding:
    gate = architecture_gate(sample)
    assert len(gate.findings) == 1
    assert gate.is_open is (gate.findings[0].verdict is Verdict.PASS)
    return gate.findings[0]


def with_device(sample: ArchitectureSample = GOOD, **change: object) -> ArchitectureSample:
    return replace(sample, devices=(BLACKWELL._replace(**change),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sample", "verdict", "reason"),
    [
        (Unread("timed out"), Verdict.UNKNOWN, "NotRun"),
        (replace(GOOD, version=""), Verdict.FAIL, "TorchMissing"),
        (replace(GOOD, version="", error="OSError: libcudart.so.12"), Verdict.FAIL, "TorchBroken"),
        (replace(GOOD, cuda=""), Verdict.FAIL, "CpuOnlyBuild"),
        (replace(GOOD, is_available=False), Verdict.FAIL, "NotAvailable"),
        (replace(GOOD, devices=()), Verdict.UNKNOWN, "NoDevice"),
        (replace(GOOD, arch_list=()), Verdict.UNKNOWN, "ArchUnknown"),
        (with_device(capability=None), Verdict.UNKNOWN, "ArchUnknown"),
        (replace(GOOD, arch_list=CU121), Verdict.FAIL, "ArchMissing"),
        (with_device(kernel=None), Verdict.UNKNOWN, "KernelNotRun"),
        (with_device(kernel=FAILED), Verdict.FAIL, "KernelFailed"),
        (with_device(kernel=WRONG), Verdict.FAIL, "WrongResult"),
    ],
)
def test_r2_whatever_is_not_shown_keeps_the_gate_closed(
    sample: ArchitectureSample | Unread, verdict: Verdict, reason: str
) -> None:
    finding = only(sample)
    assert (finding.verdict, finding.reason) == (verdict, reason)
    assert finding.remedy


def test_r2_opens_only_with_architecture_availability_and_a_right_kernel() -> None:
    finding = only(GOOD)
    assert (finding.verdict, finding.reason) == (Verdict.PASS, "Exact")
    assert finding.subject == "cuda:0 NVIDIA GeForce RTX 5070"
    assert finding.evidence["architecture"] == "sm_120"


def test_r2_a_version_string_never_suffices() -> None:
    """The newest version and the right CUDA, and the architecture is not in the list."""
    sample = replace(GOOD, version="9.9.9+cu130", build_date="", cuda="13.0", arch_list=CU121)
    assert only(sample).reason == "ArchMissing"


def test_r2_ptx_is_reported_apart_and_is_no_pass() -> None:
    from_ptx = replace(GOOD, arch_list=("sm_90", "compute_90"))
    ran = only(from_ptx)
    assert (ran.verdict, ran.reason) == (Verdict.UNKNOWN, "PtxOnly")
    assert "compute_90" in ran.message
    failed = only(with_device(from_ptx, kernel=FAILED))
    assert (failed.verdict, failed.reason) == (Verdict.FAIL, "KernelFailed")


@pytest.mark.parametrize(
    ("change", "said", "not_said"),
    [
        ({"cuda": "12.1", "version": "2.5.1+cu121", "build_date": ""}, "cu128; if that has none", "this is"),
        ({"version": "2.7.0.dev20250110+cu128", "build_date": "2025-01-10"}, "nightly/cu128; if", "report"),
        ({"version": "2.6.0+cu128", "build_date": ""}, "the first with sm_120 is 2.7", "report"),
        ({"version": "2.10.0.dev20251024+cu128"}, "nightly/cu129; if that has none either: cu130", "cu128"),
        ({"cuda": "13.0", "version": "2.10.0+cu130", "build_date": ""}, "report to PyTorch", "pip"),
    ],
)
def test_r2_the_next_step_follows_from_build_date_and_index(
    change: dict[str, str], said: str, not_said: str
) -> None:
    finding = only(replace(GOOD, arch_list=CU121, **change))  # type: ignore[arg-type]
    assert finding.reason == "ArchMissing"
    assert said in finding.remedy
    assert not_said not in finding.remedy


def test_r2_every_device_is_judged_on_its_own() -> None:
    second = DeviceSample(1, "NVIDIA GeForce GTX 1080", (6, 1), kernel=FAILED)
    gate = architecture_gate(replace(GOOD, devices=(BLACKWELL, second)))
    assert [f.reason for f in gate.findings] == ["Exact", "ArchMissing"]
    assert not gate.is_open


def test_r2_the_processor_stands_in_only_when_allowed_and_labelled() -> None:
    broken = replace(GOOD, arch_list=CU121)
    assert not architecture_gate(broken).is_open
    gate = architecture_gate(broken, allows_cpu=True)
    assert gate.is_open
    gpu, cpu = gate.findings
    assert (gpu.verdict, gpu.reason) == (Verdict.SKIPPED, "ArchMissing")
    assert gpu.evidence["verdict_without_fallback"] == "FAIL"
    assert (cpu.check, cpu.verdict) == ("cpu-fallback", Verdict.PASS)
    assert cpu.message.startswith("CPU FALLBACK")


@pytest.mark.parametrize("cpu", [None, FAILED, WRONG])
def test_r2_a_processor_that_did_not_compute_is_no_fallback(cpu: KernelRun | None) -> None:
    assert not architecture_gate(replace(GOOD, arch_list=CU121, cpu=cpu), allows_cpu=True).is_open


def test_r2_allowing_the_processor_hides_no_good_gpu_and_no_missing_answer() -> None:
    assert [f.check for f in architecture_gate(GOOD, allows_cpu=True).findings] == ["architecture"]
    assert not architecture_gate(Unread("timed out"), allows_cpu=True).is_open


@pytest.mark.parametrize(
    ("device", "compiled", "wanted"),
    [
        ((8, 9), ("sm_86",), Fit.COMPATIBLE),
        ((8, 9), ("sm_90",), Fit.NONE),
        ((8, 0), ("sm_86",), Fit.NONE),
        ((9, 0), ("sm_90a",), Fit.EXACT),
        ((12, 1), ("sm_120",), Fit.COMPATIBLE),
        ((12, 1), ("sm_120a",), Fit.NONE),
        ((10, 3), ("sm_100f",), Fit.COMPATIBLE),
        ((8, 7), ("sm_86", "sm_80"), Fit.NONE),
        ((8, 9), ("sm_87",), Fit.NONE),
        ((12, 0), ("sm_100",), Fit.NONE),
        ((12, 0), ("compute_90",), Fit.PTX),
        ((12, 0), ("compute_90a",), Fit.NONE),
        ((9, 0), ("compute_120",), Fit.NONE),
        ((8, 6), ("compute_80", "sm_80"), Fit.COMPATIBLE),
        ((8, 6), ("nonsense", ""), Fit.NONE),
    ],
)
def test_r2_binary_compatibility_is_what_the_programming_guide_says(
    device: tuple[int, int], compiled: tuple[str, ...], wanted: Fit
) -> None:
    assert fit(device, compiled)[0] is wanted


@pytest.mark.parametrize(
    ("device", "compiled", "wanted"),
    [
        ("gfx942:sramecc+:xnack-", ("gfx90a", "gfx942"), Fit.EXACT),
        ("gfx90a:sramecc+:xnack-", ("gfx90a:xnack+",), Fit.NONE),
        ("gfx1032", ("gfx1030",), Fit.NONE),
        ("gfx1032", ("gfx10-3-generic",), Fit.COMPATIBLE),
        ("gfx803", ("gfx900", "gfx906"), Fit.NONE),
    ],
)
def test_r2_amd_targets_must_be_named(device: str, compiled: tuple[str, ...], wanted: Fit) -> None:
    assert fit_gfx(device, compiled)[0] is wanted


def test_r2_an_amd_device_is_judged_by_its_target() -> None:
    mi300 = DeviceSample(0, "AMD Instinct MI300X", (9, 4), "gfx942:sramecc+:xnack-", RAN)
    rocm = replace(
        GOOD,
        cuda="",
        hip="6.4.1",
        version="2.8.0+rocm6.4",
        build_date="",
        arch_list=("gfx90a",),
        devices=(mi300,),
    )
    assert only(rocm).reason == "ArchMissing"
    assert "gfx942" in only(rocm).remedy
    assert only(replace(rocm, arch_list=("gfx90a", "gfx942"))).verdict is Verdict.PASS


START = (
    'noise\nstandfast-kernel {"part": "torch", "version": "2.9.0", "is_available": true, '
    '"arch_list": ["sm_90"]}\n'
)
DEVICE = 'standfast-kernel {"part": "device", "index": 0, "name": "H200", "capability": [9, 0]}\n'


def test_r2_a_kernel_that_took_the_process_with_it_is_a_failed_kernel() -> None:
    sample = sample_of(START + DEVICE, "env", -11, "")
    assert isinstance(sample, ArchitectureSample)
    assert sample.devices[0].kernel == KernelRun(False, False, "the program ended with signal 11")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "exit code 1"),
        ("standfast-kernel not json\n", "exit code 1"),
        ('standfast-kernel ["part"]\n', "exit code 1"),
        (START + DEVICE.replace("[9, 0]", '["x", 0]'), "cannot be read"),
        (START + DEVICE.replace('"index": 0, ', ""), "cannot be read"),
    ],
)
def test_r2_an_answer_that_is_not_ours_is_unread(answer: str, said: str) -> None:
    sample = sample_of(answer, "env", 1, "")
    assert isinstance(sample, Unread)
    assert said in sample.why
