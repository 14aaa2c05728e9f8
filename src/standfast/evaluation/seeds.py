"""Seeds that nobody can know beforehand and anybody can check afterwards: commit, then reveal (K1 c).

1. A round draws a secret. Its commitment is published before the first dispatch, the secret after the round.
2. A seed depends on the secret, the environment, the variant and the episode, and on nothing else: every
   subject of a round gets the same ones (paired, K1 d).
3. Inputs are separated by their lengths and by purpose, so no two of them can be confused.
"""

from __future__ import annotations

import hashlib
import hmac

_COMMITMENT = b"standfast/seed-commitment/1\n"
_SEED = b"standfast/seed/1\n"
# Environments take a signed 32-bit seed that is not negative.
_SEED_MASK = 0x7FFF_FFFF


def commitment_of(secret: bytes) -> str:
    """Return what is published before the round: SHA-256 over a purpose and ``secret``, in hex."""
    return hashlib.sha256(_COMMITMENT + secret).hexdigest()


def seed_for(secret: bytes, environment: str, variant: int, episode: int) -> int:
    """Return the 31-bit seed of an episode: the first bytes of HMAC-SHA256 under ``secret``."""
    name = environment.encode("utf-8")
    message = _SEED + f"{len(name)}:".encode("ascii") + name + f":{variant}:{episode}".encode("ascii")
    return int.from_bytes(hmac.digest(secret, message, "sha256")[:4], "big") & _SEED_MASK


def original_seed(task_uuid: str) -> int:
    """Return the seed that kinitro derives from a task's UUID (``task_generator.generate_seed``)."""
    return int.from_bytes(hashlib.sha256(task_uuid.encode("utf-8")).digest()[:4], "big") & _SEED_MASK
