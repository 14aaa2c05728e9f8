"""Real inputs as test parameters; where they are absent, one skipped parameter says so by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtures_dir import fixtures_root


def cases(path: str, key: str = "cases") -> list[Any]:
    """Return the list at ``key`` of the JSON file ``path`` as parameters, named by id, name or position."""
    root = fixtures_root()
    if root is None:
        reason = f"real input {path} is absent: set STANDFAST_FIXTURES or put ../shared/fixtures there"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="absent")]
    found = json.loads((root / path).read_text())[key]
    assert found, f"{path} has no {key}"
    return [
        pytest.param(case, id=str(case.get("id") or case.get("name") or number))
        for number, case in enumerate(found)
    ]
