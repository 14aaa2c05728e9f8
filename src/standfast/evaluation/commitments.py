"""What a subject wrote on the chain: which policy it serves and where, in plain or sealed for the operator.

The formats are those of kinitro, whose miners and chain records stay valid:

* plain: ``repo:revision:deployment_id``;
* sealed: ``repo:revision:e:BLOB``. The blob is base85 of 64 bytes: an X25519 public key made for this one
  message (32), then the deployment's UUID (16 bytes) under ChaCha20-Poly1305 with its tag (16). The cipher's
  key is the raw X25519 shared secret and its nonce the first 12 bytes of SHA-256 of that public key; a nonce
  that follows from the key is sound only because each key pair is used once.

Whoever reads the chain reads strangers' text: a bad commitment or blob is a named outcome, never an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from standfast.kernel.errors import ConfigError

MAX_COMMITMENT_BYTES = 128
REVISION_LENGTH = 8
_DEPLOYMENT_HOST = "deployments.basilica.ai"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_UUID_BYTES = 16
_BLOB_BYTES = _KEY_BYTES + _UUID_BYTES + 16
# One DNS label: whatever else stands in a deployment id could make its URL point elsewhere.
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class ParsedCommitment:
    """The fields of a commitment; all empty where the text is none. Sealed ones have no deployment id yet."""

    huggingface_repo: str = ""
    revision_sha: str = ""
    deployment_id: str = ""
    encrypted_deployment: str | None = None
    docker_image: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether a repository, a revision, and a deployment in either form are named."""
        has_deployment = bool(self.deployment_id or self.encrypted_deployment)
        return bool(self.huggingface_repo and self.revision_sha) and has_deployment

    def as_dict(self) -> dict[str, str | None]:
        """Return the fields under their names on the wire."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The deployment id that was in a blob."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class NotUnsealed:
    """Why a blob could not be opened."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reachable:
    """A commitment that names an endpoint."""

    commitment: ParsedCommitment
    endpoint: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a commitment names no endpoint, in words for the subject that wrote it."""

    reason: str


def parse_commitment(raw: str) -> ParsedCommitment:
    """Return the fields of ``raw``; an empty ParsedCommitment where it is none."""
    fields = raw.split(":", 3)
    if len(fields) < 3:
        return ParsedCommitment()
    repo, revision, third = fields[:3]
    is_sealed = third == "e" and len(fields) == 4
    return ParsedCommitment(
        huggingface_repo=repo,
        revision_sha=revision,
        deployment_id="" if is_sealed else third,
        encrypted_deployment=fields[3] if is_sealed else None,
        docker_image=f"{repo}:{revision}",
    )


def build_commitment(repo: str, revision: str, deployment: str) -> str:
    """Return a plain commitment; ConfigError for a colon in a field or more than 128 bytes."""
    return _joined(repo, revision, deployment=deployment, tail=deployment)


def build_sealed_commitment(
    repo: str, revision: str, deployment: str, *, public_key_hex: str, one_time_secret: bytes
) -> str:
    """Return a sealed commitment that only the holder of the private key can read.

    ``one_time_secret`` is 32 fresh random bytes, never used again. Raises ConfigError for a colon in a
    field, a deployment id that is no UUID, a bad key, or more than 128 bytes.
    """
    blob = seal_deployment(deployment, public_key_hex=public_key_hex, one_time_secret=one_time_secret)
    return _joined(repo, revision, deployment=deployment, tail=f"e:{blob}")


def seal_deployment(deployment: str, *, public_key_hex: str, one_time_secret: bytes) -> str:
    """Return the blob that seals ``deployment``, a UUID; ConfigError for anything else, or a bad key."""
    plain = _uuid_bytes(deployment)
    if plain is None:
        raise ConfigError(f"the deployment id {deployment!r:.60} is not a UUID", fix="seal only UUIDs")
    if len(one_time_secret) != _KEY_BYTES:
        raise ConfigError("the one-time secret is not 32 bytes", fix="draw 32 fresh random bytes")
    one_time = X25519PrivateKey.from_private_bytes(one_time_secret)
    recipient = X25519PublicKey.from_public_bytes(_key_bytes(public_key_hex, "public"))
    try:
        shared = one_time.exchange(recipient)
    except ValueError as error:
        raise ConfigError(
            "the public key is a degenerate point", fix="ask the operator for the key"
        ) from error
    announced = one_time.public_key().public_bytes_raw()
    sealed = ChaCha20Poly1305(shared).encrypt(_nonce(announced), plain, None)
    return base64.b85encode(announced + sealed).decode("ascii")


def unseal_deployment(blob: str, *, private_key_hex: str) -> Unsealed | NotUnsealed:
    """Open ``blob`` with the operator's private key; ConfigError only where that key itself is bad."""
    private = X25519PrivateKey.from_private_bytes(_key_bytes(private_key_hex, "private"))
    try:
        package = base64.b85decode(blob.encode("ascii"))
    except (UnicodeEncodeError, ValueError, binascii.Error):
        return NotUnsealed("the sealed part is not base85")
    if len(package) != _BLOB_BYTES:
        return NotUnsealed(f"the sealed part has {len(package)} bytes, not {_BLOB_BYTES}")
    announced, sealed = package[:_KEY_BYTES], package[_KEY_BYTES:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(announced))
        plain = ChaCha20Poly1305(shared).decrypt(_nonce(announced), sealed, None)
    except (InvalidTag, ValueError):
        # ValueError: a low-order point, which makes the shared secret all zeros.
        return NotUnsealed("sealed for another key, or damaged")
    digits = plain.hex()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return Unsealed("-".join(parts))


def public_key_hex(private_key_hex: str) -> str:
    """Return the public key, in hex, of an operator's private key; ConfigError for a bad one."""
    private = X25519PrivateKey.from_private_bytes(_key_bytes(private_key_hex, "private"))
    return private.public_key().public_bytes_raw().hex()


def deployment_id_to_url(deployment_id: str) -> str:
    """Return the endpoint of a deployment; a full http(s) URL stays itself, less trailing slashes."""
    if deployment_id.startswith(("http://", "https://")):
        return deployment_id.rstrip("/")
    return f"https://{deployment_id}.{_DEPLOYMENT_HOST}"


def examine_commitment(raw: str, *, private_key_hex: str | None = None) -> Reachable | Unusable:
    """Say whether ``raw`` leads to an endpoint, and if not, why, in words for its author.

    Unlike ``deployment_id_to_url`` it refuses a deployment id that is not a single host label: "x/#" would
    make the URL point to a host of the author's choice.
    """
    commitment = parse_commitment(raw)
    if not commitment.is_valid:
        return Unusable("not of the form repo:revision:deployment_id or repo:revision:e:sealed")
    deployment = commitment.deployment_id
    if commitment.encrypted_deployment is not None:
        if private_key_hex is None:
            return Unusable("sealed, and this network has no private key to open it")
        opened = unseal_deployment(commitment.encrypted_deployment, private_key_hex=private_key_hex)
        if isinstance(opened, NotUnsealed):
            return Unusable(opened.reason)
        deployment = opened.deployment_id
    if not _LABEL.fullmatch(deployment):
        return Unusable(f"the deployment id {deployment!r:.60} is not a name of letters, digits and dashes")
    return Reachable(commitment, deployment_id_to_url(deployment))


def parse_chain_payload(payload: object) -> tuple[str | None, int | None]:
    """Return (commitment text, block) of what a chain client answers; None for what is not there.

    Accepts None, text, bytes, the record ``{"block": ..., "info": {"fields": [...]}}`` and an object with
    such a ``value``. Only the first field counts; bytes that are not UTF-8 are left out, as in the original.
    """
    data = payload if isinstance(payload, dict | str | bytes | bytearray) else getattr(payload, "value", None)
    if not isinstance(data, dict):
        return (_text(data) or None), None
    info = data.get("info")
    fields = info.get("fields") if isinstance(info, dict) else None
    if not isinstance(fields, list | tuple) or not fields:
        return None, None
    text = _field_text(fields[0])
    return (None, None) if text is None else (text, _block(data.get("block")))


def _field_text(field: object) -> str | None:
    if isinstance(field, tuple) and field:
        field = field[0]
    if not isinstance(field, dict):
        return _text(field)
    for name, value in field.items():
        if isinstance(name, str) and (name == "Data" or name.startswith("Raw")):
            text = _text(value[0] if isinstance(value, tuple) and value else value)
            if text is not None:
                return text
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        try:
            value = bytes(value)
        except (TypeError, ValueError):
            return None
    return value.decode("utf-8", "ignore") if isinstance(value, bytes | bytearray) else None


def _block(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _joined(repo: str, revision: str, *, deployment: str, tail: str) -> str:
    short = revision[:REVISION_LENGTH]
    for name, value in (("repository", repo), ("revision", short), ("deployment id", deployment)):
        if ":" in value:
            raise ConfigError(f"the {name} {value!r:.60} has a colon", why="colons separate the fields")
    text = f"{repo}:{short}:{tail}"
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_COMMITMENT_BYTES:
        raise ConfigError(
            f"the commitment has {size} bytes",
            why=f"the chain takes {MAX_COMMITMENT_BYTES}",
            fix="use a shorter repository name",
        )
    return text


def _nonce(announced: bytes) -> bytes:
    return hashlib.sha256(announced).digest()[:_NONCE_BYTES]


def _uuid_bytes(text: str) -> bytes | None:
    digits = text.replace("-", "")
    return bytes.fromhex(digits) if re.fullmatch(r"[0-9a-fA-F]{32}", digits) else None


def _key_bytes(text: str, kind: str) -> bytes:
    # The value stays out of the message: it may be the private key (I12).
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ConfigError(f"the {kind} key is not 64 hexadecimal digits", fix=f"check the {kind} key")
    return bytes.fromhex(text)
