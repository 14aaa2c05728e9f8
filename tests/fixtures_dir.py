"""Where the real inputs lie, for the tests that run on them; they are never part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def fixtures_root() -> Path | None:
    """Return the folder of real inputs, or None where there is none."""
    named = os.environ.get("STANDFAST_FIXTURES")
    root = Path(named) if named else ROOT.parent / "shared" / "fixtures"
    return root if root.is_dir() else None


def fixture(path: str) -> Path:
    """Return the real input at ``path``; the calling test is skipped, by name and reason, without it."""
    root = fixtures_root()
    if root is None:
        pytest.skip(f"real input {path} is absent: set STANDFAST_FIXTURES or put ../shared/fixtures there")
    found = root / path
    assert found.exists(), f"{found} is missing from the real inputs"
    return found
