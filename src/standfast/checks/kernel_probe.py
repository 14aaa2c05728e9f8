"""Sends the kernel program to a Python, here or in a container, and reads back what it saw.

Nothing of the answer is trusted: what is no line of ours is passed over, and what does not fit is Unread.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from standfast.checks import kernel_program
from standfast.checks.architecture import ArchitectureSample, DeviceSample, KernelRun
from standfast.checks.model import Unread

#: The program ends itself first; this is how long its goodbye may take.
_GRACE_S = 10.0
_LARGEST_ANSWER = 4_000_000
_TAIL = 300


def probe_python(python: str, limit_s: int) -> ArchitectureSample | Unread:
    """Run the kernel program in the interpreter at ``python``."""
    return _probe([python, "-", str(limit_s)], python, limit_s)


def probe_container(name: str, python: str, limit_s: int) -> ArchitectureSample | Unread:
    """Run the kernel program in the running container ``name``, through the docker command."""
    return _probe(["docker", "exec", "-i", name, python, "-", str(limit_s)], f"container {name}", limit_s)


def _probe(command: Sequence[str], where: str, limit_s: int) -> ArchitectureSample | Unread:
    source = Path(kernel_program.__file__).read_bytes()
    try:
        # A session of its own, so that a hanging child of the interpreter ends with it.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Unread(f"{command[0]} cannot be started: {error.strerror}")
    try:
        out, err = child.communicate(source, timeout=limit_s + _GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return Unread(f"{where} gave no answer within {limit_s} s")
    finally:
        if child.poll() is None:
            child.kill()
    tail = err.decode("utf-8", "replace").strip()[-_TAIL:]
    return sample_of(out[:_LARGEST_ANSWER].decode("utf-8", "replace"), where, child.returncode, tail)


def sample_of(answer: str, where: str, code: int, tail: str) -> ArchitectureSample | Unread:
    """Return what the lines of ``answer`` say; a program that died in the middle is said to have."""
    parts = list(_parts(answer))
    by_name: dict[str, Mapping[str, Any]] = {part.get("part", ""): part for part in parts}
    death = "" if "end" in by_name else f"the program ended with {_ending(code)} {tail}".strip()
    if "torch" not in by_name:
        said = death or "it said nothing about torch"
        return Unread(f"{where}: {said}")
    try:
        return _sample(parts, by_name, where, death)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return Unread(f"{where} answered what cannot be read: {error!r}")


def _sample(
    parts: Sequence[Mapping[str, Any]], by_name: Mapping[str, Mapping[str, Any]], where: str, death: str
) -> ArchitectureSample:
    torch = by_name["torch"]
    kernels = {int(part["index"]): _kernel(part) for part in parts if part.get("part") == "kernel"}
    devices = [_device(part, kernels) for part in parts if part.get("part") == "device"]
    first = next((n for n, device in enumerate(devices) if device.kernel is None), None)
    if death and first is not None:
        devices[first] = devices[first]._replace(kernel=KernelRun(ran=False, is_right=False, error=death))
    trouble = by_name.get("trouble", {}).get("error", "")
    return ArchitectureSample(
        where=where,
        python=str(by_name.get("python", {}).get("version", "")),
        version=str(torch["version"]),
        error=str(torch.get("error", "") or trouble),
        build_date=str(torch.get("build_date", "")),
        cuda=str(torch.get("cuda", "")),
        hip=str(torch.get("hip", "")),
        is_available=torch.get("is_available") is True,
        arch_list=tuple(map(str, torch.get("arch_list", ()))),
        devices=tuple(devices),
        cpu=kernels.get(-1),
    )


def _parts(answer: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for line in answer.splitlines():
        if line.startswith(kernel_program.MARK):
            try:
                part = json.loads(line[len(kernel_program.MARK) :])
            except ValueError:
                continue
            if isinstance(part, dict):
                found.append(part)
    return found


def _device(part: Mapping[str, Any], kernels: Mapping[int, KernelRun]) -> DeviceSample:
    number = int(part["index"])
    capability = [int(value) for value in part.get("capability") or ()]
    return DeviceSample(
        number, str(part["name"]), (capability[0], capability[1]) if len(capability) > 1 else None,
        str(part.get("gcn_arch", "")), kernels.get(number), str(part.get("error", "")),
    )  # fmt: skip


def _kernel(part: Mapping[str, Any]) -> KernelRun:
    return KernelRun(part["ran"] is True, part["is_right"] is True, str(part.get("error", "")))


def _ending(code: int) -> str:
    if code == -signal.SIGALRM or code == 128 + signal.SIGALRM:
        return "its time limit"
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
