"""Signed requests: refused when any one thing is off, accepted once, as the RFC has them."""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.kernel.errors import ConfigError, TransientError
from standfast.publication.adapters.keys import SigningKey, keyid_of, load_key, load_public_key, write_new_key
from standfast.publication.adapters.signing import (
    MemoryNonces,
    RequestSigner,
    SignableRequest,
    SignatureParams,
    SignatureRefusedError,
    Verified,
    VerifyLimits,
    check_signature,
    content_digest,
    parse_signature_input,
    signature_base,
    verify,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SEED = bytes(range(32))
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(SEED), keyid="leader-1")
KEYS = {"leader-1": KEY.public}


@dataclass
class StillClock:
    """A clock that stands where it is put."""

    at: datetime = NOW

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.at


class CountingEntropy:
    """Bytes that differ with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def token_bytes(self, count: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(count, "big")


def signer(
    key: SigningKey = KEY, *, tag: str = "standfast-publication", lifetime_s: int = 60
) -> RequestSigner:
    return RequestSigner(key, clock=StillClock(), entropy=CountingEntropy(), tag=tag, lifetime_s=lifetime_s)


def signed(by: RequestSigner | None = None, *, body: bytes = b'{"epoch":1}') -> SignableRequest:
    request = SignableRequest(
        "POST",
        "validator.example:8443",
        "/v1/weights",
        "net=3",
        (("content-type", "application/json"),),
        body,
    )
    extra = (by or signer()).headers_for(request, also=("content-type",))
    return replace(request, headers=(*request.headers, *extra.items()))


def with_header(request: SignableRequest, name: str, change: Callable[[str], str]) -> SignableRequest:
    assert any(key == name for key, _ in request.headers), f"{name} is not there to be changed"
    headers = tuple((key, change(value) if key == name else value) for key, value in request.headers)
    assert headers != request.headers, "the change did not land"
    return replace(request, headers=headers)


def without_header(request: SignableRequest, name: str) -> SignableRequest:
    return replace(request, headers=tuple(pair for pair in request.headers if pair[0] != name))


def checked(request: SignableRequest, *, now: datetime = NOW) -> Verified:
    return check_signature(request, keys=KEYS, now=now, limits=VerifyLimits())


def resigned(params: Callable[[SignatureParams], SignatureParams]) -> SignableRequest:
    """Return a request whose signature fits parameters that break the profile."""
    request = signed()
    field = dict(request.headers)["Signature-Input"]
    changed = params(parse_signature_input(field)["standfast"])
    value = base64.b64encode(KEY.sign(signature_base(request, changed))).decode()
    request = with_header(request, "Signature-Input", lambda _: f"standfast={changed.serialized()}")
    return with_header(request, "Signature", lambda _: f"standfast=:{value}:")


def parameter(name: str, value: str | int | None) -> Callable[[SignatureParams], SignatureParams]:
    def change(params: SignatureParams) -> SignatureParams:
        kept = [(key, old) for key, old in params.parameters if key != name]
        return replace(params, parameters=tuple(kept if value is None else [*kept, (name, value)]))

    return change


def uncovered(name: str) -> Callable[[SignatureParams], SignatureParams]:
    return lambda params: replace(params, components=tuple(c for c in params.components if c != name))


def resigned_twice() -> SignableRequest:
    request = signed()
    return with_header(request, "Signature-Input", lambda v: v.replace('("@method"', '("@method" "@method"'))


CREATED = int(NOW.timestamp())
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)), keyid="leader-1")
STRANGER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)), keyid="stranger")

REFUSED: list[tuple[str, str, Callable[[], SignableRequest]]] = [
    ("unsigned", "SignatureMissing", lambda: replace(signed(), headers=())),
    ("no input", "SignatureMissing", lambda: without_header(signed(), "Signature-Input")),
    ("no signature", "SignatureMissing", lambda: without_header(signed(), "Signature")),
    (
        "other label",
        "SignatureMissing",
        lambda: with_header(signed(), "Signature", lambda v: v.replace("standfast", "x")),
    ),
    ("other purpose", "SignatureMissing", lambda: signed(signer(tag="peer-gossip"))),
    ("no tag", "SignatureMissing", lambda: resigned(parameter("tag", None))),
    (
        "two of the tag",
        "SignatureMissing",
        lambda: with_header(
            signed(), "Signature-Input", lambda v: f"{v}, {v.replace('standfast=', 'b=', 1)}"
        ),
    ),
    ("no digest", "ComponentMissing", lambda: without_header(signed(), "Content-Digest")),
    ("covered field gone", "ComponentMissing", lambda: without_header(signed(), "content-type")),
    ("method open", "ComponentMissing", lambda: resigned(uncovered("@method"))),
    ("authority open", "ComponentMissing", lambda: resigned(uncovered("@authority"))),
    ("path open", "ComponentMissing", lambda: resigned(uncovered("@path"))),
    ("query open", "ComponentMissing", lambda: resigned(uncovered("@query"))),
    ("body open", "ComponentMissing", lambda: resigned(uncovered("content-digest"))),
    ("other body", "DigestMismatch", lambda: replace(signed(), body=b'{"epoch":2}')),
    ("no body", "DigestMismatch", lambda: replace(signed(), body=b"")),
    (
        "other digest",
        "SignatureInvalid",
        lambda: replace(with_header(signed(), "Content-Digest", lambda _: content_digest(b"x")), body=b"x"),
    ),
    (
        "weaker digest",
        "DigestMismatch",
        lambda: with_header(signed(), "Content-Digest", lambda _: "md5=:AAAA:"),
    ),
    ("other method", "SignatureInvalid", lambda: replace(signed(), method="PUT")),
    ("other receiver", "SignatureInvalid", lambda: replace(signed(), authority="other.example:8443")),
    ("other path", "SignatureInvalid", lambda: replace(signed(), path="/v1/burn")),
    ("other query", "SignatureInvalid", lambda: replace(signed(), query="net=4")),
    ("other type", "SignatureInvalid", lambda: with_header(signed(), "content-type", lambda _: "text/plain")),
    (
        "other nonce",
        "SignatureInvalid",
        lambda: with_header(signed(), "Signature-Input", lambda v: v.replace("AAAA", "AAAB", 1)),
    ),
    (
        "longer life",
        "SignatureInvalid",
        lambda: with_header(
            signed(), "Signature-Input", lambda v: v.replace(str(CREATED + 60), str(CREATED + 70))
        ),
    ),
    ("other key of that name", "SignatureInvalid", lambda: signed(signer(OTHER))),
    ("unknown key", "UnknownKey", lambda: signed(signer(STRANGER))),
    ("no keyid", "UnknownKey", lambda: resigned(parameter("keyid", None))),
    ("no created", "SignatureMalformed", lambda: resigned(parameter("created", None))),
    ("no expires", "SignatureMalformed", lambda: resigned(parameter("expires", None))),
    ("valid for years", "SignatureMalformed", lambda: resigned(parameter("expires", CREATED + 10**8))),
    ("expires before created", "SignatureMalformed", lambda: resigned(parameter("expires", CREATED - 1))),
    ("created as text", "SignatureMalformed", lambda: resigned(parameter("created", str(CREATED)))),
    ("no nonce", "SignatureMalformed", lambda: resigned(parameter("nonce", None))),
    ("short nonce", "SignatureMalformed", lambda: resigned(parameter("nonce", "abc"))),
    ("other algorithm", "SignatureMalformed", lambda: resigned(parameter("alg", "hmac-sha256"))),
    ("covered twice", "SignatureMalformed", resigned_twice),
    (
        "component parameter",
        "SignatureMalformed",
        lambda: with_header(
            signed(), "Signature-Input", lambda v: v.replace('"content-type"', '"content-type";sf')
        ),
    ),
    ("garbage", "SignatureMalformed", lambda: with_header(signed(), "Signature-Input", lambda _: "\x00")),
    ("endless", "SignatureMalformed", lambda: with_header(signed(), "Signature-Input", lambda v: v * 1000)),
    (
        "trailing comma",
        "SignatureMalformed",
        lambda: with_header(signed(), "Signature-Input", lambda v: v + ","),
    ),
    (
        "doubled label",
        "SignatureMalformed",
        lambda: with_header(signed(), "Signature-Input", lambda v: f"{v}, {v}"),
    ),
    (
        "doubled parameter",
        "SignatureMalformed",
        lambda: with_header(signed(), "Signature-Input", lambda v: v + ";created=1"),
    ),
    (
        "not base64",
        "SignatureMalformed",
        lambda: with_header(signed(), "Signature", lambda _: "standfast=:A:"),
    ),
    ("not ascii", "SignatureMalformed", lambda: replace(signed(), path="/ключ")),
    ("line break", "SignatureMalformed", lambda: replace(signed(), path='/\n"@method": GET')),
    (
        "short signature",
        "SignatureInvalid",
        lambda: with_header(signed(), "Signature", lambda _: "standfast=:AAAA:"),
    ),
]


@pytest.mark.parametrize(("code", "make"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_r9_a_request_with_one_thing_off_is_refused(code: str, make: Callable[[], SignableRequest]) -> None:
    with pytest.raises(SignatureRefusedError) as refused:
        checked(make())
    assert refused.value.code == code
    assert refused.value.exit_code == 4


def test_i14_a_signature_is_valid_from_its_time_to_its_expiry_only() -> None:
    request = signed()
    for fine_s in (-5, 0, 59.9):
        checked(request, now=NOW + timedelta(seconds=fine_s))
    for code, off_s in (
        ("SignatureFuture", -5.1),
        ("SignatureExpired", 60),
        ("SignatureExpired", 3600),
        ("SignatureFuture", -3600),
    ):
        with pytest.raises(SignatureRefusedError) as refused:
            checked(request, now=NOW + timedelta(seconds=off_s))
        assert refused.value.code == code


def test_k17_a_signed_request_is_accepted_and_names_its_signer() -> None:
    verified = checked(signed())
    assert verified.keyid == "leader-1"
    assert verified.expires_at == NOW + timedelta(seconds=60)


def test_k17_a_proxy_s_own_signature_beside_ours_does_no_harm() -> None:
    request = with_header(signed(), "Signature-Input", lambda v: f'proxy=("@method");created=1, {v}')
    checked(with_header(request, "Signature", lambda v: f"proxy=:AAAA:, {v}"))


def test_k17_without_alg_the_key_decides() -> None:
    checked(resigned(parameter("alg", None)))


def test_r9_a_signed_request_is_accepted_once() -> None:
    async def twice() -> str:
        nonces = MemoryNonces()
        request = signed()
        await verify(request, keys=KEYS, nonces=nonces, now=NOW)
        await verify(signed(by), keys=KEYS, nonces=nonces, now=NOW)
        with pytest.raises(SignatureRefusedError) as refused:
            await verify(request, keys=KEYS, nonces=nonces, now=NOW + timedelta(seconds=30))
        return refused.value.code

    by = signer()
    signed(by)
    assert asyncio.run(twice()) == "NonceReplayed"


def test_r9_a_forged_request_does_not_spend_the_nonce() -> None:
    async def forged_then_real() -> Verified:
        nonces = MemoryNonces()
        request = signed()
        with pytest.raises(SignatureRefusedError):
            await verify(replace(request, path="/other"), keys=KEYS, nonces=nonces, now=NOW)
        return await verify(request, keys=KEYS, nonces=nonces, now=NOW)

    assert asyncio.run(forged_then_real()).keyid == "leader-1"


def test_r9_the_ledger_is_bounded_and_forgets_only_what_expired() -> None:
    async def fill() -> None:
        nonces = MemoryNonces(limit=2)
        soon, late = NOW + timedelta(seconds=10), NOW + timedelta(seconds=60)
        assert await nonces.spend("k", "a", now=NOW, expires_at=soon)
        assert await nonces.spend("k", "b", now=NOW, expires_at=late)
        with pytest.raises(TransientError):
            await nonces.spend("k", "c", now=NOW, expires_at=late)
        assert await nonces.spend("k", "c", now=soon, expires_at=late)
        assert not await nonces.spend("k", "b", now=soon, expires_at=late)

    asyncio.run(fill())


@settings(max_examples=500, deadline=None)
@given(field=st.text(alphabet='standfast=("@method" );created,:\\\t0', max_size=80))
def test_r11_any_signature_field_is_a_typed_error(field: str) -> None:
    request = SignableRequest("GET", "a", "/", headers=(("signature-input", field), ("signature", field)))
    with pytest.raises(SignatureRefusedError):
        checked(request)


def test_k17_the_vector_of_rfc_9421_b_2_6_is_reproduced() -> None:
    """Appendix B.1.4 (test-key-ed25519), B.2 (test-request) and B.2.6 of RFC 9421."""
    key = SigningKey(
        Ed25519PrivateKey.from_private_bytes(
            base64.b64decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=")
        ),
        keyid="test-key-ed25519",
    )
    raw_public = key.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert base64.b64encode(raw_public) == b"JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    request = SignableRequest(
        "POST",
        "example.com",
        "/foo",
        "param=Value&Pet=dog",
        (
            ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("Content-Type", "application/json"),
            ("Content-Length", "18"),
        ),
        b'{"hello": "world"}',
    )
    covered = ("date", "@method", "@path", "@authority", "content-type", "content-length")
    params = SignatureParams(covered, (("created", 1_618_884_473), ("keyid", "test-key-ed25519")))
    field = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    assert params.serialized() == field
    assert parse_signature_input(f"sig-b26={field}") == {"sig-b26": params}
    assert signature_base(request, params).decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@method": POST\n'
        '"@path": /foo\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"content-length": 18\n'
        f'"@signature-params": {field}'
    )
    assert base64.b64encode(key.sign(signature_base(request, params))).decode() == (
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    )


def test_k17_the_digest_of_rfc_9530_is_reproduced() -> None:
    """RFC 9530, appendix B.1."""
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_file(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_i12_a_key_file_is_written_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "leader.pem"
    previous = os.umask(0)
    try:
        key = write_new_key(path)
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).keyid == key.keyid == keyid_of(key.public)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="File exists"):
        write_new_key(path)
    assert path.read_bytes() == before


def test_k17_pem_and_raw_keys_sign_the_same(tmp_path: Path) -> None:
    from_raw = load_key(key_file(tmp_path / "raw", SEED), keyid="a")
    from_pem = load_key(
        key_file(tmp_path / "pem", pem(Ed25519PrivateKey.from_private_bytes(SEED)), mode=0o400)
    )
    assert from_raw.sign(b"x") == from_pem.sign(b"x")
    assert from_raw.keyid == "a"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644, 0o666])
def test_i12_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path / "leader.pem", SEED, mode=mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        load_key(path)


def _unusable() -> dict[str, bytes]:
    encrypted = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary-passphrase")
    )
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    torn = pem(Ed25519PrivateKey.from_private_bytes(SEED))[:60]
    return {
        "empty": b"",
        "short": SEED[:31],
        "text": b"canary-secret",
        "encrypted": encrypted,
        "ec": other,
        "torn": torn,
    }


@pytest.mark.parametrize("name", sorted(_unusable()))
def test_i12_an_unusable_key_is_refused_without_showing_it(tmp_path: Path, name: str) -> None:
    data = _unusable()[name]
    with pytest.raises(ConfigError) as refused:
        load_key(key_file(tmp_path / "key", data))
    shown = f"{refused.value} {refused.value!r} {refused.value.__cause__!r}"
    assert "canary" not in shown
    assert not data or data.decode("latin-1") not in shown


def test_i12_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "absent", tmp_path / "fifo"):
        with pytest.raises(ConfigError):
            load_key(path)
    with pytest.raises(ConfigError):
        write_new_key(tmp_path / "absent" / "key")


def test_i12_a_key_never_shows_itself() -> None:
    for shown in (repr(KEY), str(KEY), repr(signer()), f"{KEY!s}"):
        assert SEED.hex() not in shown
        assert "leader-1" in shown
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_k17_public_keys_are_read_from_pem_and_raw() -> None:
    raw_public = KEY.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    text = KEY.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert keyid_of(load_public_key(raw_public)) == keyid_of(load_public_key(text)) == keyid_of(KEY.public)
    for bad in (b"", b"x" * 31, pem(Ed25519PrivateKey.generate())):
        with pytest.raises(ConfigError):
            load_public_key(bad)


@pytest.mark.parametrize("keyid", ['a"b', "a\\b", "a b", "a\n", "x" * 129])
def test_r9_a_keyid_that_cannot_be_written_into_a_field_is_refused(keyid: str) -> None:
    with pytest.raises(ConfigError):
        SigningKey(Ed25519PrivateKey.generate(), keyid=keyid)
