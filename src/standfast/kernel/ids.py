"""Names of things: what a task is called never depends on who made it, or when (seed 002, issue 1)."""

from __future__ import annotations

import hashlib
import uuid

from standfast.kernel.clock import Entropy


def stable_id(*parts: str) -> str:
    """Return 16 hex digits that depend only on ``parts``, in every process and on every machine.

    The parts are joined with their lengths, so ("ab", "c") and ("a", "bc") differ. 63 bits: a store
    keeps it as a signed integer, and 10^6 ids collide with a probability of about 5e-8, which the
    unique constraint would catch.
    """
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    raw = hashlib.sha256(joined.encode("utf-8", "surrogatepass")).digest()
    return f"{int.from_bytes(raw[:8], 'big') & 0x7FFF_FFFF_FFFF_FFFF:016x}"


def random_uuid(entropy: Entropy) -> str:
    """Return a version 4 UUID from ``entropy``: the name of one attempt, never guessable."""
    return str(uuid.UUID(bytes=entropy.token_bytes(16), version=4))
