"""Draws a file of splats as a PNG picture: ``python look.py RESULT.ply picture.png``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generation_stack.splats import png
from generation_stack.splats.judge import Bounds, judge
from generation_stack.splats.ply import decode
from generation_stack.splats.render import picture_of


def main() -> None:
    """Draw one file, and say what is wrong with it where something is."""
    parser = argparse.ArgumentParser(description="Draw a file of 3D Gaussian splats as a PNG picture.")
    parser.add_argument("ply", type=Path, help="file to draw")
    parser.add_argument("png", type=Path, help="picture to write")
    parser.add_argument("--size", type=int, default=512, help="edge in pixels (default %(default)s)")
    parser.add_argument("--turn", type=float, default=30.0, help="degrees around it (default %(default)s)")
    parser.add_argument("--tilt", type=float, default=20.0, help="degrees above it (default %(default)s)")
    options = parser.parse_args()
    try:
        data = options.ply.read_bytes()
    except OSError as error:
        sys.exit(f"Cannot read {options.ply}: {error.strerror}.")
    judgement = judge(data)
    if not judgement.is_usable:
        sys.exit(f"{options.ply} is no usable result: {'; '.join(judgement.reasons)}.")
    cloud = decode(data, most=Bounds().most)
    picture = picture_of(cloud, size=options.size, turn=options.turn, tilt=options.tilt)
    try:
        options.png.write_bytes(png.encode(picture))
    except OSError as error:
        sys.exit(f"Cannot write {options.png}: {error.strerror}.")
    sys.stdout.write(f"{judgement.count} Gaussians drawn into {options.png}\n")


if __name__ == "__main__":
    main()
