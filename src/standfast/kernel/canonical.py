"""One way to write a value as bytes, so that two processes hash the same thing to the same digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys, no spaces, no NaN or infinity (RFC 8785 in spirit).

    Raises ValueError for a number that JSON cannot carry and TypeError for a value that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of ``value``, in hex."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
