"""Seeds that nobody can foresee and anybody can check afterwards: commit, run, reveal (K1 c, d, e).

1. A round draws a secret of 32 bytes and publishes ``commit(secret, round_id)`` before it dispatches.
2. Each episode's seed is derived from the secret, the environment, the variant and the episode, and from
   nothing else: not from the subject, so that all subjects of a round meet the same episodes (paired), and
   not from any attempt, so that a retry meets the same episode again.
3. After the round the secret is published; ``verify`` recomputes the commitment and every seed.

A subject must see neither seed nor variant before it acts; that is the runner's duty, not this file's.
The derivation is HMAC-SHA256 (RFC 2104) under the secret, which is a pseudorandom function: seeds that
became known say nothing about the others. Fields are written with their lengths, so that no two different
episodes are the same message.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from standfast.kernel.errors import ConfigError

SECRET_BYTES = 32
_COMMIT_DOMAIN = "standfast/round-secret/1"
_SEED_DOMAIN = "standfast/episode-seed/1"
_MASK_31_BITS = 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class SeedClaim:
    """A seed that was used: what for, and which."""

    environment: str
    variant: int
    episode: int
    seed: int


@dataclass(frozen=True, slots=True)
class SeedsVerified:
    """The commitment is that of the secret, and all ``count`` seeds follow from it."""

    count: int


@dataclass(frozen=True, slots=True)
class SeedsRefuted:
    """Something does not follow from the secret, or there was nothing to check."""

    objections: tuple[str, ...]


def commit(secret: bytes, *, round_id: str) -> str:
    """Return the commitment to ``secret`` for one round, in hex.

    Raises ConfigError unless the secret has exactly 32 bytes: a short one can be guessed from its commitment.
    """
    return hashlib.sha256(_message(_COMMIT_DOMAIN, round_id) + _checked(secret)).hexdigest()


def derive_seed(secret: bytes, *, environment: str, variant: int, episode: int) -> int:
    """Return the seed, in [0, 2 ** 31), that every subject gets for this episode.

    Raises ConfigError unless the secret has exactly 32 bytes.
    """
    message = _message(_SEED_DOMAIN, environment, str(variant), str(episode))
    code = hmac.new(_checked(secret), message, hashlib.sha256).digest()
    return int.from_bytes(code[:4], "big") & _MASK_31_BITS


def verify(
    secret: bytes, *, commitment: str, round_id: str, claims: Iterable[SeedClaim]
) -> SeedsVerified | SeedsRefuted:
    """Recompute the commitment and every claimed seed from the revealed ``secret``.

    No claims at all are refuted too: a round without episodes proves nothing.
    """
    if len(secret) != SECRET_BYTES:
        return SeedsRefuted((f"the secret has {len(secret)} bytes, not {SECRET_BYTES}",))
    objections = []
    if not hmac.compare_digest(commit(secret, round_id=round_id), commitment):
        objections.append(f"the commitment of round {round_id} is not that of the revealed secret")
    count = 0
    for claim in claims:
        count += 1
        seed = derive_seed(
            secret, environment=claim.environment, variant=claim.variant, episode=claim.episode
        )
        if seed != claim.seed:
            objections.append(
                f"{claim.environment} variant {claim.variant} episode {claim.episode} "
                f"used seed {claim.seed}, not {seed}"
            )
    if not count:
        objections.append("no seed was claimed")
    return SeedsRefuted(tuple(objections)) if objections else SeedsVerified(count)


def original_seed(task_uuid: str) -> int:
    """Return the seed of the original network: 31 bits of the task id's SHA-256.

    Every subject gets another one and the task id travels to the subject, so it is neither paired nor
    secret; it is here to check the original's records.
    """
    digest = hashlib.sha256(task_uuid.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") & _MASK_31_BITS


def _checked(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"the round's secret has {len(secret)} bytes", fix=f"draw {SECRET_BYTES} bytes")
    return secret


def _message(*fields: str) -> bytes:
    encoded = [field.encode("utf-8", "surrogatepass") for field in fields]
    return b"".join(len(field).to_bytes(8, "big") + field for field in encoded)
