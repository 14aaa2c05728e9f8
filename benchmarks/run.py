"""``make bench``: everything that is measured, beside what it is compared with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("scoring", "tasks", "supervision")


def main() -> int:
    """Run each part as a process of its own, so that none inherits memory; return the worst code."""
    worst = 0
    for part in PARTS:
        print(f"== {part}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{part}", *_arguments(part)]
        worst = max(worst, subprocess.run(command, cwd=HERE.parent, check=False).returncode)
        print(flush=True)
    return worst


def _arguments(part: str) -> list[str]:
    """Return what ``part`` understands; a file of figures is one part's own."""
    if part == "supervision":
        return [argument for argument in sys.argv[1:] if argument == "--quick"]
    return sys.argv[1:] if part == "tasks" else []


if __name__ == "__main__":
    sys.exit(main())
