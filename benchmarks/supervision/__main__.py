"""``python -m benchmarks.supervision``."""

import sys

from benchmarks.supervision.run import main

if __name__ == "__main__":
    sys.exit(main())
