"""Runs a real kernel on every GPU that PyTorch sees here, and says what it saw, one line of JSON a step.

This file is sent to the Python under test on its standard input. It needs the standard library of Python
3.8 and whatever torch is there, nothing of Standfast. Each step is written before the next one starts: a
kernel that takes the whole process with it still leaves what was known before, and which one it was.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import time
from typing import Any

#: What a library prints on standard output does not start with this.
MARK = "standfast-kernel "
_SIZE = 64
_LONGEST_ERROR = 600


def say(**part: Any) -> None:
    """Write one step."""
    sys.stdout.write("\n" + MARK + json.dumps(part) + "\n")
    sys.stdout.flush()


def main(limit_s: int) -> None:
    """Write what torch says of itself, then what each device and the processor computed."""
    # The signal's default action ends the process even in the middle of a driver's call.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limit_s)
    # The name of a device must not depend on the order in which the driver finds them.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    say(part="python", version=".".join(map(str, sys.version_info[:3])), executable=sys.executable)
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        is_absent = getattr(error, "name", None) == "torch"
        say(part="torch", version="", error="" if is_absent else text_of(error))
        return
    except (OSError, RuntimeError, AttributeError) as error:
        say(part="torch", version="", error=text_of(error))
        return
    say(part="torch", **facts(torch))
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except (RuntimeError, AssertionError, AttributeError) as error:
        say(part="trouble", error=text_of(error))
        count = 0
    # All of them are named before the first is used: a missing kernel is then seen to be missing.
    for index in range(count):
        say(part="device", **device(torch, index))
    for index in range(count):
        say(part="kernel", index=index, **kernel(torch, f"cuda:{index}"))
    say(part="kernel", index=-1, **kernel(torch, "cpu"))
    say(part="end")


def facts(torch: Any) -> dict[str, Any]:
    """Return what torch says of itself: versions, the architectures it was compiled for, availability."""
    version = str(getattr(torch, "__version__", ""))
    nightly = re.search(r"\.dev(\d{4})(\d{2})(\d{2})", version)
    try:
        available, error = bool(torch.cuda.is_available()), ""
        if not available:
            # is_available() swallows the reason; asking for the device itself tells it.
            torch.cuda.init()
    except (RuntimeError, AssertionError, AttributeError) as trouble:
        available, error = False, text_of(trouble)
    try:
        compiled = [str(name) for name in torch.cuda.get_arch_list()]
    except (RuntimeError, AssertionError, AttributeError):
        compiled = []
    return {
        "version": version,
        "error": error,
        "build_date": "-".join(nightly.groups()) if nightly else "",
        "cuda": str(getattr(torch.version, "cuda", None) or ""),
        "hip": str(getattr(torch.version, "hip", None) or ""),
        "is_available": available,
        "arch_list": compiled,
    }


def device(torch: Any, index: int) -> dict[str, Any]:
    """Return name and architecture of one device."""
    try:
        properties = torch.cuda.get_device_properties(index)
        return {
            "index": index,
            "name": str(properties.name),
            "capability": [int(n) for n in torch.cuda.get_device_capability(index)],
            "gcn_arch": str(getattr(properties, "gcnArchName", "") or ""),
        }
    except (RuntimeError, AssertionError, AttributeError) as error:
        return {"index": index, "name": "", "capability": [], "gcn_arch": "", "error": text_of(error)}


def kernel(torch: Any, place: str) -> dict[str, Any]:
    """Multiply two matrices at ``place`` and compare sums with those computed here in whole numbers.

    The values are small whole numbers, exact in every precision that a device may choose for a product.
    The product comes from a library; subtraction, relu and the sum are kernels of torch itself.
    """
    left = [[(3 * i + 5 * k) % 7 for k in range(_SIZE)] for i in range(_SIZE)]
    right = [[(2 * k + 3 * j) % 5 for j in range(_SIZE)] for k in range(_SIZE)]
    around = range(_SIZE)
    wanted = [[sum(left[i][k] * right[k][j] for k in around) for j in around] for i in around]
    middle = wanted[_SIZE // 2][_SIZE // 2]
    expected = [sum(map(sum, wanted)), sum(max(0, value - middle) for row in wanted for value in row)]
    started = time.monotonic()
    try:
        a = torch.tensor(left, dtype=torch.float32, device=place)
        b = torch.tensor(right, dtype=torch.float32, device=place)
        product = a @ b
        seen = [float(product.sum().item()), float(torch.relu(product - middle).sum().item())]
        if place != "cpu":
            torch.cuda.synchronize(place)
    except (RuntimeError, AssertionError, AttributeError, NotImplementedError) as error:
        return {"ran": False, "is_right": False, "error": text_of(error)}
    return {
        "ran": True,
        "is_right": seen == [float(value) for value in expected],
        "expected": expected,
        "seen": seen,
        "seconds": round(time.monotonic() - started, 3),
        "error": "",
    }


def text_of(error: BaseException) -> str:
    """Return what an error says, not longer than a message may be."""
    return (type(error).__name__ + ": " + str(error))[:_LONGEST_ERROR]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 120)
