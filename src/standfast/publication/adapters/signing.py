"""Signs requests and verifies them: Ed25519 after RFC 9421, over the body's digest after RFC 9530.

One fixed profile, in place of the negotiable whole of the RFC:

1. Covered are ``@method``, ``@authority``, ``@path``, ``@query`` and ``content-digest``, and further
   fields where the signer names them. A verifier asks for at least these.
2. The parameters ``created``, ``expires``, ``nonce``, ``keyid`` and ``tag`` are all required; ``alg``
   may be absent or ``ed25519``. ``tag`` keeps a signature made for one purpose from serving another.
3. Exactly one signature carries the verifier's tag; others, such as a proxy's own, are not looked at.
4. Component parameters (``;sf``, ``;req`` and the like) are refused: nothing here needs them.
5. A nonce is spent only by a request whose signature holds, so that nobody can spend another's.

Written out rather than taken from the PyPI package http-message-signatures, which speaks the same: it
adds two distributions, breaks its interface about twice a year, and leaves replay to its user.
Interoperation is tested with the vector of RFC 9421, appendix B.2.6. Wall-clock time decides here,
against the habit of I14, because signer and verifier share no other clock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from standfast.kernel.clock import Clock, Entropy
from standfast.kernel.errors import AuthError, TransientError
from standfast.publication.adapters.keys import SigningKey

REQUIRED: Final = ("@method", "@authority", "@path", "@query", "content-digest")
TAG: Final = "standfast-publication"
LABEL: Final = "standfast"
_NONCE_BYTES: Final = 18
_FIELD_CHARS: Final = 8192

_LABEL = r"[a-z*][a-z0-9_\-.*]{0,63}"
_STRING = r'"[ !#-\[\]-~]{0,1024}"'  # Printable ASCII without escapes, which no value here needs.
_MEMBER = re.compile(
    rf"(?P<label>{_LABEL})=\((?P<items>[^()]*)\)(?P<params>(?:;{_LABEL}=(?:{_STRING}|-?\d{{1,15}}))*)"
)
_BYTES_MEMBER = re.compile(rf"(?P<label>{_LABEL})=:(?P<value>[A-Za-z0-9+/=]{{0,1024}}):")
_PARAM = re.compile(rf";(?P<name>{_LABEL})=(?:(?P<text>{_STRING})|(?P<number>-?\d{{1,15}}))")
_ITEM = re.compile(_STRING)
_ITEMS = re.compile(rf"{_STRING}(?: {_STRING}){{0,31}}")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_NONCE = re.compile(r"[!#-\[\]-~]{16,128}")


class SignatureRefusedError(AuthError):
    """The request is not signed as it must be; ``code`` names the rule, the message carries no secret."""

    code = "SignatureRefused"


@dataclass(frozen=True, slots=True)
class SignableRequest:
    """The parts of a request that a signature can cover.

    ``authority`` is the host, with its port unless that is the scheme's default. A receiver behind a
    proxy puts in the address that it is known under, not what the proxy wrote. ``path`` and ``query``
    are as sent, percent-encoded; ``query`` is without its question mark.
    """

    method: str
    authority: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def component(self, name: str) -> str | None:
        """Return the value of the component ``name`` (RFC 9421, sections 2.1 and 2.2), None if absent."""
        derived = {
            "@method": self.method,
            "@authority": self.authority.lower(),
            "@path": self.path or "/",
            "@query": f"?{self.query}",
        }
        if name.startswith("@"):
            return derived.get(name)
        values = [value.strip() for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class SignatureParams:
    """What was signed and how: the covered components in their order, and the parameters in theirs."""

    components: tuple[str, ...]
    parameters: tuple[tuple[str, str | int], ...]

    def serialized(self) -> str:
        """Return the value of ``@signature-params``, which is also the field's (RFC 9421, section 2.3)."""
        items = " ".join(f'"{name}"' for name in self.components)
        written = [
            f';{key}="{value}"' if isinstance(value, str) else f";{key}={value}"
            for key, value in self.parameters
        ]
        return f"({items}){''.join(written)}"

    def text(self, name: str) -> str:
        """Return the text parameter ``name``, or empty."""
        value = dict(self.parameters).get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """Return the integer parameter ``name``, or None."""
        value = dict(self.parameters).get(name)
        return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Verified:
    """Who signed a request, and until when its nonce must be remembered."""

    keyid: str
    nonce: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """``lifetime_s`` bounds expires - created, ``skew_s`` how far the signer's clock may be ahead."""

    lifetime_s: int = 300
    skew_s: int = 5
    tag: str = TAG


class NonceLedger(Protocol):
    """Which nonces were used.

    * ``spend`` answers True exactly once per (keyid, nonce) until ``expires_at``, also to several
      callers at the same time.
    * It is bounded, and raises TransientError rather than forget a nonce that is still valid.
    * A ledger that forgets on restart allows a replay within the lifetime of one signature; keep it
      where that would do harm. A replayed publication does none: it is already there.
    """

    async def spend(self, keyid: str, nonce: str, *, now: datetime, expires_at: datetime) -> bool:
        """Record the nonce and return whether it was unused."""
        ...


class MemoryNonces:
    """A NonceLedger of one process, holding at most ``limit`` unexpired nonces."""

    def __init__(self, *, limit: int = 100_000) -> None:
        self._limit = limit
        self._until: dict[tuple[str, str], datetime] = {}

    async def spend(self, keyid: str, nonce: str, *, now: datetime, expires_at: datetime) -> bool:
        """Record the nonce and return whether it was unused."""
        if len(self._until) >= self._limit:
            self._until = {key: until for key, until in self._until.items() if until > now}
        if self._until.get((keyid, nonce), now) > now:
            return False
        if len(self._until) >= self._limit:
            raise TransientError(
                f"{self._limit} signatures are still valid", fix="send less often", code="NonceLedgerFull"
            )
        self._until[keyid, nonce] = expires_at
        return True


def content_digest(body: bytes) -> str:
    """Return the value of Content-Digest for ``body`` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def signature_base(request: SignableRequest, params: SignatureParams) -> bytes:
    """Return the bytes that are signed (RFC 9421, section 2.5).

    SignatureRefusedError if a component is absent, unknown, covered twice or not one line of ASCII.
    """
    lines = []
    for name in params.components:
        value = request.component(name)
        if value is None:
            raise _refused("ComponentMissing", f"the request has no {name!r}, which its signature covers")
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {params.serialized()}')
    if len(set(params.components)) != len(params.components) or any(
        "\n" in line or "\r" in line for line in lines
    ):
        raise _refused("SignatureMalformed", "a component is covered twice or spans lines")
    try:
        return "\n".join(lines).encode("ascii")
    except UnicodeEncodeError:
        raise _refused("SignatureMalformed", "a covered component is not ASCII") from None


class RequestSigner:
    """Signs requests with ``key``; each signature is valid for ``lifetime_s`` and has its own nonce."""

    def __init__(
        self, key: SigningKey, *, clock: Clock, entropy: Entropy, lifetime_s: int = 60, tag: str = TAG
    ) -> None:
        self._key = key
        self._clock = clock
        self._entropy = entropy
        self._lifetime_s = lifetime_s
        self._tag = tag

    def __repr__(self) -> str:
        return f"RequestSigner(keyid={self._key.keyid!r})"

    def headers_for(self, request: SignableRequest, *, also: Iterable[str] = ()) -> dict[str, str]:
        """Return the fields that make ``request`` signed; ``also`` names fields to cover besides."""
        digest_value = content_digest(request.body)
        signed = SignableRequest(
            method=request.method,
            authority=request.authority,
            path=request.path,
            query=request.query,
            headers=(*request.headers, ("content-digest", digest_value)),
            body=request.body,
        )
        params = self._params((*REQUIRED, *also))
        signature = base64.b64encode(self._key.sign(signature_base(signed, params))).decode("ascii")
        return {
            "Content-Digest": digest_value,
            "Signature-Input": f"{LABEL}={params.serialized()}",
            "Signature": f"{LABEL}=:{signature}:",
        }

    def _params(self, components: tuple[str, ...]) -> SignatureParams:
        created = int(self._clock.wall().timestamp())
        nonce = base64.urlsafe_b64encode(self._entropy.token_bytes(_NONCE_BYTES)).decode("ascii")
        return SignatureParams(
            components,
            (
                ("created", created),
                ("expires", created + self._lifetime_s),
                ("nonce", nonce),
                ("keyid", self._key.keyid),
                ("alg", "ed25519"),
                ("tag", self._tag),
            ),
        )


async def verify(
    request: SignableRequest,
    *,
    keys: Mapping[str, Ed25519PublicKey],
    nonces: NonceLedger,
    now: datetime,
    limits: VerifyLimits | None = None,
) -> Verified:
    """Return who signed ``request``, once per nonce; SignatureRefusedError with a code per rule."""
    verified = check_signature(request, keys=keys, now=now, limits=limits or VerifyLimits())
    if not await nonces.spend(verified.keyid, verified.nonce, now=now, expires_at=verified.expires_at):
        raise _refused("NonceReplayed", "this signed request was received before")
    return verified


def check_signature(
    request: SignableRequest, *, keys: Mapping[str, Ed25519PublicKey], now: datetime, limits: VerifyLimits
) -> Verified:
    """Return who signed ``request``, replay aside: everything of ``verify`` that needs no memory."""
    assert now.tzinfo is not None, "an instant without a zone cannot be compared"
    label, params = _signature_input(request, limits.tag)
    missing = [name for name in REQUIRED if name not in params.components]
    if missing:
        raise _refused("ComponentMissing", f"the signature does not cover {', '.join(missing)}")
    expires_at = _valid_until(params, now, limits)
    nonce = params.text("nonce")
    if _NONCE.fullmatch(nonce) is None or params.text("alg") not in {"", "ed25519"}:
        raise _refused("SignatureMalformed", "nonce must have 16 to 128 characters and alg must be ed25519")
    key = keys.get(params.text("keyid"))
    if key is None:
        raise _refused("UnknownKey", "the signature's keyid is not known here")
    _check_digest(request)
    _check_bytes(key, _signature_bytes(request, label), signature_base(request, params))
    return Verified(keyid=params.text("keyid"), nonce=nonce, expires_at=expires_at)


def parse_signature_input(field: str) -> dict[str, SignatureParams]:
    """Return the signatures that a Signature-Input field announces, by label.

    SignatureRefusedError for anything outside the profile, doubled labels and parameters among it.
    """
    found: dict[str, SignatureParams] = {}
    for match in _members(field, _MEMBER):
        items = match["items"].strip(" ")
        if items and _ITEMS.fullmatch(items) is None:
            raise _refused(
                "SignatureMalformed", "Signature-Input covers components in a form not spoken here"
            )
        parameters: list[tuple[str, str | int]] = [
            (param["name"], param["text"][1:-1] if param["text"] is not None else int(param["number"]))
            for param in _PARAM.finditer(match["params"])
        ]
        if len({name for name, _ in parameters}) != len(parameters) or match["label"] in found:
            raise _refused("SignatureMalformed", "Signature-Input names a label or a parameter twice")
        components = tuple(item[1:-1] for item in _ITEM.findall(items))
        found[match["label"]] = SignatureParams(components, tuple(parameters))
    return found


def _signature_input(request: SignableRequest, tag: str) -> tuple[str, SignatureParams]:
    field = request.component("signature-input")
    if field is None or request.component("signature") is None:
        raise _refused("SignatureMissing", "the request is not signed")
    ours = [
        (label, found) for label, found in parse_signature_input(field).items() if found.text("tag") == tag
    ]
    if len(ours) != 1:
        raise _refused("SignatureMissing", f"{len(ours)} signatures carry the tag {tag!r} in place of one")
    return ours[0]


def _valid_until(params: SignatureParams, now: datetime, limits: VerifyLimits) -> datetime:
    created, expires = params.number("created"), params.number("expires")
    if created is None or expires is None or not 0 < expires - created <= limits.lifetime_s:
        raise _refused(
            "SignatureMalformed", f"created and expires must be at most {limits.lifetime_s} s apart"
        )
    at = now.timestamp()
    if at >= expires:
        raise _refused("SignatureExpired", f"the signature expired {at - expires:.0f} s ago by this clock")
    if created > at + limits.skew_s:
        raise _refused("SignatureFuture", f"the signature is dated {created - at:.0f} s ahead of this clock")
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=expires)


def _check_digest(request: SignableRequest) -> None:
    field = request.component("content-digest")
    if field is None:
        raise _refused("ComponentMissing", "the request has no Content-Digest")
    digests = _byte_members(field)
    expected = hashlib.sha256(request.body).digest()
    if not hmac.compare_digest(digests.get("sha-256", b""), expected):
        raise _refused("DigestMismatch", "Content-Digest carries no sha-256 that fits the body")


def _signature_bytes(request: SignableRequest, label: str) -> bytes:
    signature = _byte_members(request.component("signature") or "").get(label)
    if signature is None:
        raise _refused("SignatureMissing", "Signature and Signature-Input do not belong together")
    return signature


def _check_bytes(key: Ed25519PublicKey, signature: bytes, base: bytes) -> None:
    try:
        key.verify(signature, base)
    except InvalidSignature:
        raise _refused("SignatureInvalid", "the signature does not fit the request") from None


def _byte_members(field: str) -> dict[str, bytes]:
    """Return a dictionary of byte sequences (RFC 8941), as Signature and Content-Digest carry them."""
    found: dict[str, bytes] = {}
    for match in _members(field, _BYTES_MEMBER):
        if match["label"] in found:
            raise _refused("SignatureMalformed", "a field names a label twice")
        try:
            found[match["label"]] = base64.b64decode(match["value"], validate=True)
        except binascii.Error:
            raise _refused("SignatureMalformed", "a field carries bytes that are not base64") from None
    return found


def _members(field: str, member: re.Pattern[str]) -> list[re.Match[str]]:
    """Split a dictionary field into its members; each step consumes at least one character."""
    if len(field) > _FIELD_CHARS:
        raise _refused("SignatureMalformed", f"a signature field has more than {_FIELD_CHARS} characters")
    found, position = [], 0
    while match := member.match(field, position):
        found.append(match)
        if match.end() == len(field):
            return found
        comma = _COMMA.match(field, match.end())
        if comma is None:
            break
        position = comma.end()
    raise _refused("SignatureMalformed", "a signature field is not written as RFC 9421 has it")


def _refused(code: str, what: str) -> SignatureRefusedError:
    return SignatureRefusedError(
        what, fix="sign the request again, with the key and the clock that are expected", code=code
    )
