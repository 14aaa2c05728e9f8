"""``make bench``: everything that is measured, beside what it is compared with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("scoring.py", "tasks.py")


def main() -> int:
    """Run each part as a process of its own, so that none inherits memory; return the worst code."""
    worst = 0
    for part in PARTS:
        print(f"== {part}", flush=True)
        arguments = sys.argv[1:] if part == "tasks.py" else []
        worst = max(
            worst, subprocess.run([sys.executable, str(HERE / part), *arguments], check=False).returncode
        )
        print(flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
