"""The arguments that all programs share, and types that refuse what cannot be meant."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a type for a number of seconds within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from {low:g} to {high:g}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a type for a whole number within bounds."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {low} to {high}")
        return int(text)

    return parse


def add_listen(parser: argparse.ArgumentParser) -> None:
    """Add --host and --port."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=whole(0, 65_535), required=True, help="port to listen on; 0 = any free one"
    )


def shown(text: str) -> str:
    """Return a text for argparse, which gives a percent sign a meaning."""
    return text.replace("%", "%%")
