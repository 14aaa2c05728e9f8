"""Who may call the API: random tokens of which only a hash is kept, each with the scopes it was given.

1. A token is shown once, when it is made; no log, fact, error or reply repeats it (I12).
2. It is random (256 bits), so one SHA-256 is enough: there is nothing to guess from a dictionary.
3. The token that is shown is compared with every known hash in constant time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.database.ports import Dialect
from standfast.kernel.clock import Clock, Entropy, iso
from standfast.kernel.errors import ConfigError, ConflictError, NotFoundError

#: What each scope allows: ``operate`` looks too, ``execute`` only works, ``admin`` may do everything.
SCOPES: Mapping[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "execute": frozenset({"execute"}),
    "operate": frozenset({"operate", "read"}),
    "admin": frozenset({"read", "execute", "operate", "admin"}),
}
#: More tokens than a person can oversee are a mistake, and each request compares with all of them.
MAX_TOKENS = 1_000
_PREFIX = "sf_"
_SHAPE = re.compile(r"sf_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the name of the token and what it allows."""

    name: str
    allowed: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the caller was given ``scope``, by itself or as a part of another."""
        return scope in self.allowed


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as the store has it."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created_at: str
    revoked_at: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a person may see of it: everything but the hash."""
        return {
            "name": self.name,
            "scopes": list(self.scopes),
            "created_at": self.created_at,
            "revoked_at": self.revoked_at,
        }


def new_token(entropy: Entropy) -> str:
    """Return a new token: 32 random bytes after a prefix by which leaks can be searched for."""
    return _PREFIX + base64.urlsafe_b64encode(entropy.token_bytes(32)).decode().rstrip("=")


def token_sha256(token: str) -> str:
    """Return the hash by which a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def find_caller(known: Iterable[KnownToken], token: str) -> Caller | None:
    """Return whose ``token`` it is; None for a token that is unknown or revoked.

    Every known hash is compared, whether or not one matched before, so the time tells nothing.
    """
    shown, found = token_sha256(token), None
    for candidate in known:
        is_same = hmac.compare_digest(candidate.sha256, shown)
        if is_same and candidate.revoked_at is None:
            found = Caller(candidate.name, allowed_by(candidate.scopes))
    return found


def allowed_by(scopes: Sequence[str]) -> frozenset[str]:
    """Return everything that ``scopes`` allow; a scope this version does not know allows nothing."""
    return frozenset().union(*(SCOPES.get(scope, frozenset()) for scope in scopes))


def redact(text: str) -> str:
    """Return ``text`` with every token in it made unreadable; for text that others wrote."""
    return _SHAPE.sub("sf_(hidden)", text)


class TokenStore:
    """The tokens of one store.

    * Only hashes are written and read.
    * A revoked name is not given again by ``create``: facts that name it must stay unambiguous.
    """

    def __init__(self, dialect: Dialect, clock: Clock, entropy: Entropy) -> None:
        self._sql: Queries = load_queries("standfast.app", dialect)
        self._clock = clock
        self._entropy = entropy

    def known(self, tx: Tx) -> tuple[KnownToken, ...]:
        """Return every token, the revoked ones too."""
        rows = tx.rows(self._sql["tokens"], {"limit": MAX_TOKENS})
        return tuple(KnownToken(n, h, tuple(s.split()), at, gone) for n, h, s, at, gone in rows)

    def create(self, tx: Tx, name: str, scopes: Sequence[str]) -> str:
        """Store a new token and return it, this once; ConflictError where the name is taken."""
        if len(self.known(tx)) >= MAX_TOKENS:
            raise ConflictError(f"there are {MAX_TOKENS} tokens", fix="use one of them: standfast token ls")
        token = new_token(self._entropy)
        if not tx.rows(self._sql["add_token"], self._row(name, token, scopes)):
            raise ConflictError(
                f"there is, or was, a token named {name}",
                why="records name who did what, so a name is never given twice",
                fix="choose another name (standfast token ls shows them)",
            )
        return token

    def install(self, tx: Tx, name: str, scopes: Sequence[str]) -> str:
        """Give the instance's own ``name`` a new token and return it; an earlier one stops working."""
        token = new_token(self._entropy)
        tx.rows(self._sql["install_token"], self._row(name, token, scopes))
        return token

    def revoke(self, tx: Tx, name: str) -> None:
        """Make a token worthless; NotFoundError where no working one has that name."""
        if not tx.rows(self._sql["revoke_token"], {"name": name, "at": iso(self._clock.wall())}):
            raise NotFoundError(f"there is no working token named {name[:64]}", fix="standfast token ls")

    def _row(self, name: str, token: str, scopes: Sequence[str]) -> dict[str, str]:
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise ConfigError(
                f"{unknown[0]} is not a scope" if unknown else "a token needs at least one scope",
                fix=f"the scopes are {', '.join(SCOPES)}",
            )
        at = iso(self._clock.wall())
        return {"name": name, "sha256": token_sha256(token), "scopes": " ".join(scopes), "at": at}


def local_token(tx: Tx, store: TokenStore, path: Path, *, name: str, scopes: Sequence[str]) -> str:
    """Return the token of this instance's own ``name``, kept in ``path`` for this user only (0600).

    A file that is missing, foreign to this store or readable by others is replaced by a new token.
    The file is written inside the transaction: if it cannot be, no token was made.
    """
    token = read_token(path)
    caller = find_caller(store.known(tx), token) if token else None
    if caller is not None and caller.name == name and caller.allowed == allowed_by(scopes):
        return token
    token = store.install(tx, name, scopes)
    write_token(path, token)
    return token


def read_token(path: Path) -> str:
    """Return the token in ``path``; empty where there is none, or where others could have read it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.stat().st_mode & 0o077 == 0:
            token = path.read_text("utf-8").strip()
            return token if _SHAPE.fullmatch(token) else ""
    return ""


def write_token(path: Path, token: str) -> None:
    """Write ``token`` so that it is whole or absent, and readable by this user only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # A partial file of an earlier life may have another mode.
        os.write(fd, f"{token}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    partial.replace(path)
