"""R2 for real: the kernel program in a real Python, with a torch that stands in for the hardware."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from integration.instances import command, json_of
from standfast.checks.architecture import ArchitectureSample, architecture_gate
from standfast.checks.kernel_probe import probe_container, probe_python
from standfast.checks.model import Unread

#: Computes like torch, on lists; what the device is and does comes from device.json beside it.
TORCH = """
import json, os, time, types
from pathlib import Path
WHAT = json.loads((Path(__file__).parent / "device.json").read_text())
__version__ = WHAT.get("version", "2.9.0+cu128")
version = types.SimpleNamespace(cuda=WHAT.get("cuda", "12.8"), hip=WHAT.get("hip"))
float32 = "float32"
print("a library that talks on standard output")

class Tensor:
    def __init__(self, rows, place):
        self.rows, self.place = rows, place
    def __matmul__(self, other):
        if self.place != "cpu":
            if WHAT.get("dies"):
                os.kill(os.getpid(), WHAT["dies"])
            if WHAT.get("hangs"):
                time.sleep(60)
            if WHAT.get("error"):
                raise RuntimeError(WHAT["error"])
        wrong = 1 if WHAT.get("wrong") and self.place != "cpu" else 0
        columns = list(zip(*other.rows))
        return Tensor([[dot(r, c) + wrong for c in columns] for r in self.rows], self.place)
    def __sub__(self, number):
        return Tensor([[v - number for v in r] for r in self.rows], self.place)
    def sum(self):
        return self
    def item(self):
        return float(sum(map(sum, self.rows)))

def dot(row, column):
    return sum(a * b for a, b in zip(row, column))
def tensor(rows, dtype, device):
    return Tensor(rows, device)
def relu(t):
    return Tensor([[max(0, v) for v in r] for r in t.rows], t.place)

def _init():
    raise RuntimeError("Found no NVIDIA driver on your system")

cuda = types.SimpleNamespace(
    is_available=lambda: WHAT.get("available", True), init=_init,
    device_count=lambda: WHAT.get("count", 1),
    get_arch_list=lambda: WHAT.get("arch_list", ["sm_90", "sm_120"]),
    get_device_capability=lambda n: tuple(WHAT.get("capability", (12, 0))),
    get_device_properties=lambda n: types.SimpleNamespace(name="NVIDIA GeForce RTX 5070"),
    synchronize=lambda place: None,
)
"""


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to write what the device is."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "torch" / "device.json"


def sample(device: Path, limit_s: int = 60, **what: object) -> ArchitectureSample:
    device.write_text(json.dumps(what))
    found = probe_python(sys.executable, limit_s)
    assert isinstance(found, ArchitectureSample), found
    return found


def reasons(found: ArchitectureSample | Unread) -> list[str]:
    return [finding.reason for finding in architecture_gate(found).findings]


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ({}, "Exact"),
        ({"arch_list": ["sm_90", "compute_90"]}, "PtxOnly"),
        ({"arch_list": ["sm_90"], "error": "no kernel image is available"}, "ArchMissing"),
        ({"error": "CUDA error: no kernel image is available"}, "KernelFailed"),
        ({"wrong": True}, "WrongResult"),
        ({"dies": 11}, "KernelFailed"),
        ({"available": False}, "NotAvailable"),
        ({"count": 0}, "NoDevice"),
        ({"cuda": None}, "CpuOnlyBuild"),
    ],
)
def test_r2_a_real_program_tells_what_the_device_did(
    torch: Path, what: dict[str, object], wanted: str
) -> None:
    assert reasons(sample(torch, **what)) == [wanted]


def test_r2_why_cuda_is_not_available_is_said(torch: Path) -> None:
    finding = architecture_gate(sample(torch, available=False)).findings[0]
    assert "Found no NVIDIA driver" in finding.message


def test_r2_a_kernel_that_hangs_ends_at_its_limit(torch: Path) -> None:
    found = sample(torch, limit_s=2, hangs=True)
    finding = architecture_gate(found).findings[0]
    assert finding.reason == "KernelFailed"
    assert "its time limit" in finding.message


def test_r2_a_python_without_torch_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert reasons(probe_python(sys.executable, 30)) == ["TorchBroken"]
    monkeypatch.delenv("PYTHONPATH")
    if importlib.util.find_spec("torch") is None:
        assert reasons(probe_python(sys.executable, 30)) == ["TorchMissing"]


def test_r2_no_such_python_and_no_such_container_are_unknown(tmp_path: Path) -> None:
    missing = probe_python(str(tmp_path / "python"), 5)
    assert isinstance(missing, Unread)
    assert not architecture_gate(missing, allows_cpu=True).is_open
    assert isinstance(probe_container("standfast-no-such-container", "python3", 5), Unread)


def test_r2_a_container_is_asked_through_docker_exec(
    torch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A docker that passes standard input on, as exec -i does."""
    torch.write_text("{}")
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\n[ "$1 $2 $3" = "exec -i meta" ] || exit 9\nshift 3\nexec "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
    found = probe_container("meta", sys.executable, 60)
    assert reasons(found) == ["Exact"]
    assert isinstance(found, ArchitectureSample)
    assert found.where == "container meta"


def test_r2_the_command_refuses_and_opens(torch: Path, tmp_path: Path) -> None:
    torch.write_text('{"arch_list": ["sm_90"]}')
    closed = command(tmp_path, "gate", "arch", "--python", sys.executable, "--json")
    assert closed.returncode == 5
    assert json_of(closed)["data"]["findings"][0]["reason"] == "ArchMissing"
    allowed = command(tmp_path, "gate", "arch", "--python", sys.executable, "--allow-cpu")
    assert allowed.returncode == 0
    assert "CPU FALLBACK" in allowed.stdout
    torch.write_text("{}")
    opened = command(tmp_path, "gate", "arch", "--python", sys.executable)
    assert opened.returncode == 0, opened.stdout
    assert "gate architecture: open" in opened.stdout
    assert command(tmp_path, "gate", "arch").returncode == 2
