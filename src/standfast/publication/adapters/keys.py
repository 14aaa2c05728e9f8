"""Key files for signing: Ed25519 in PEM or raw, readable by their owner alone, never shown."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from standfast.kernel.errors import ConfigError

_RAW_KEY_BYTES: Final = 32
_KEY_FILE_BYTES: Final = 4096


class SigningKey:
    """An Ed25519 private key and the name that others know it by; it never shows itself."""

    __slots__ = ("_private", "keyid")

    def __init__(self, private: Ed25519PrivateKey, *, keyid: str = "") -> None:
        self._private = private
        self.keyid = keyid or keyid_of(private.public_key())
        if not re.fullmatch(r"[!#-\[\]-~]{1,128}", self.keyid):
            raise ConfigError("a keyid is 1 to 128 printable ASCII characters without quotes and backslashes")

    def __repr__(self) -> str:
        return f"SigningKey(keyid={self.keyid!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not serialized")

    @property
    def public(self) -> Ed25519PublicKey:
        """The public half, for those who verify."""
        return self._private.public_key()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message``."""
        return self._private.sign(message)


def keyid_of(public: Ed25519PublicKey) -> str:
    """Return the name a key has unless somebody gives it another: a digest of its public half."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"ed25519-{hashlib.sha256(raw).hexdigest()[:32]}"


def write_new_key(path: Path) -> SigningKey:
    """Create a key in PEM (PKCS #8) at ``path``, mode 0600; ConfigError if something is there already."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A key is shorter than a page: the kernel takes all of it or none.
            os.write(handle, pem)
            os.fsync(handle)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise _key_error(
            path, os.strerror(error.errno or 0), "name a new file in a writable directory"
        ) from None
    return SigningKey(private)


def load_key(path: Path, *, keyid: str = "") -> SigningKey:
    """Return the key in ``path``: PEM (PKCS #8, not encrypted) or the 32 raw bytes.

    ConfigError if it cannot be read, is no such key, or may be used by anybody but its owner.
    """
    data = _private_bytes(path)
    try:
        if len(data) == _RAW_KEY_BYTES:
            return SigningKey(Ed25519PrivateKey.from_private_bytes(data), keyid=keyid)
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message may quote the input; ours must not.
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _key_error(path, "it is not an Ed25519 key in PEM or 32 raw bytes", "put the right file there")
    return SigningKey(key, keyid=keyid)


def load_public_key(data: bytes) -> Ed25519PublicKey:
    """Return the public key in ``data``: PEM or the 32 raw bytes; ConfigError if it is neither."""
    try:
        if len(data) == _RAW_KEY_BYTES:
            return Ed25519PublicKey.from_public_bytes(data)
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("the public key is not Ed25519 in PEM or 32 raw bytes")
    return key


def _private_bytes(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise _key_error(path, "it is not a plain file", "name the key's file")
            if mode & 0o077:
                raise _key_error(
                    path, f"others may use it (mode {stat.S_IMODE(mode):04o})", f"chmod 600 {path}"
                )
            return os.read(handle, _KEY_FILE_BYTES)
        finally:
            os.close(handle)
    except OSError as error:
        raise _key_error(
            path, os.strerror(error.errno or 0), "name a key file that this user may read"
        ) from None


def _key_error(path: Path, why: str, fix: str) -> ConfigError:
    return ConfigError(f"the signing key {path} cannot be used", why=why, fix=fix, code="SigningKeyUnusable")
