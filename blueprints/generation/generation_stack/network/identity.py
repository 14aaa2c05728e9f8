"""Identities of the blueprint's own network: an Ed25519 key per hotkey, made where it is used.

What is signed is a list of texts, each with its length, so that no two lists give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_DOMAIN = "standfast-generation-1"
_KEY_BYTES = 32


class KeyFileError(Exception):
    """The file of a key cannot be used."""


class Hotkey:
    """A name and its private key."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()

    def sign(self, parts: Sequence[str]) -> str:
        """Return the signature of ``parts`` as hexadecimal digits."""
        return self._key.sign(_message(parts)).hex()


def hotkey_in(folder: Path, name: str) -> Hotkey:
    """Return the key of ``name`` in ``folder``; it is made at the first use. Making is not registering."""
    path = folder / f"{name}.key"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = _made(path)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) != _KEY_BYTES:
        raise KeyFileError(f"{path} holds {len(data)} bytes; a key has {_KEY_BYTES}")
    return Hotkey(name, Ed25519PrivateKey.from_private_bytes(data))


def _made(path: Path) -> bytes:
    data = Ed25519PrivateKey.generate().private_bytes_raw()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner from the first moment on, and there only when it is whole.
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
    return data


def is_signed(public_key: str, signature: str, parts: Sequence[str]) -> bool:
    """Return whether ``signature`` of ``parts`` was made with the key that belongs to ``public_key``."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), _message(parts))
    except (ValueError, InvalidSignature):
        return False
    return True


def _message(parts: Sequence[str]) -> bytes:
    texts = [part.encode() for part in (_DOMAIN, *parts)]
    return b"".join(len(text).to_bytes(8, "big") + text for text in texts)
