"""Commitments: what strangers write on a chain, and what is refused (K18, K20)."""

from __future__ import annotations

import ast
import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixture_cases import cases
from fixtures_dir import fixture
from standfast.evaluation.commitments import (
    NotUnsealed,
    ParsedCommitment,
    Reachable,
    Unsealed,
    Unusable,
    build_commitment,
    build_sealed_commitment,
    deployment_id_to_url,
    examine_commitment,
    parse_chain_payload,
    parse_commitment,
    public_key_hex,
    seal_deployment,
    unseal_deployment,
)
from standfast.kernel.errors import ConfigError

PRIVATE = "11" * 32
PUBLIC = public_key_hex(PRIVATE)
DEPLOYMENT = "95edf2b6-e18b-400a-8398-5573df10e5e4"


def seal(deployment=DEPLOYMENT, *, byte=7):
    return seal_deployment(deployment, public_key_hex=PUBLIC, one_time_secret=bytes([byte]) * 32)


@pytest.mark.parametrize("key", ["", "11" * 31, "zz" * 32, "11" * 33])
def test_k20_a_bad_operator_key_is_refused_and_never_repeated(key):
    for call in (lambda: unseal_deployment(seal(), private_key_hex=key), lambda: public_key_hex(key)):
        with pytest.raises(ConfigError, match="private key is not 64") as caught:
            call()
        assert not key or key not in str(caught.value)


def test_k20_only_uuids_fresh_secrets_and_real_keys_can_seal():
    with pytest.raises(ConfigError, match="not a UUID"):
        seal("http://localhost:8001")
    with pytest.raises(ConfigError, match="one-time secret"):
        seal_deployment(DEPLOYMENT, public_key_hex=PUBLIC, one_time_secret=b"short")
    with pytest.raises(ConfigError, match="degenerate"):
        seal_deployment(DEPLOYMENT, public_key_hex="00" * 32, one_time_secret=bytes([7]) * 32)


@pytest.mark.parametrize("name", ["repository", "revision", "deployment id"])
def test_k20_a_colon_in_a_field_is_refused_by_name(name):
    fields = {"repository": "u/p", "revision": "abc", "deployment id": "dep"}
    fields[name] = "a:b"
    with pytest.raises(ConfigError, match=f"the {name} 'a:b' has a colon"):
        build_commitment(*fields.values())


def test_k20_a_commitment_longer_than_the_chain_takes_is_refused_in_bytes():
    with pytest.raises(ConfigError, match="129 bytes"):
        build_commitment("u/" + "p" * 118, "abc", "depl")
    with pytest.raises(ConfigError, match="bytes"):
        build_commitment("u/" + "\N{SNOWMAN}" * 40, "abc", "dep")


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        ("", "0 bytes"),
        ("\u2603", "not base85"),
        ('"""""', "not base85"),
        ("BLOB", "bytes, not 64"),
        (base64.b85encode(bytes(64)).decode(), "another key, or damaged"),
    ],
)
def test_k20_a_blob_that_cannot_be_opened_says_why(blob, reason):
    outcome = unseal_deployment(blob, private_key_hex=PRIVATE)
    assert isinstance(outcome, NotUnsealed)
    assert reason in outcome.reason


@pytest.mark.parametrize("position", range(64))
def test_k20_any_changed_byte_of_a_blob_is_noticed(position):
    package = bytearray(base64.b85decode(seal()))
    package[position] ^= 1
    blob = base64.b85encode(bytes(package)).decode()
    assert isinstance(unseal_deployment(blob, private_key_hex=PRIVATE), NotUnsealed)


def test_k20_a_blob_for_another_operator_cannot_be_opened():
    assert isinstance(unseal_deployment(seal(), private_key_hex="22" * 32), NotUnsealed)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "not of the form"),
        ("user/policy", "not of the form"),
        ("::", "not of the form"),
        ("user/policy:rev:", "not of the form"),
        ("user/policy:rev:e:BLOB", "no private key"),
        ("user/policy:rev:evil.example/#", "'evil.example/#' is not a name"),
        ("user/policy:rev:-x", "is not a name"),
        ("user/policy:rev:a.b", "is not a name"),
    ],
)
def test_k20_a_commitment_that_names_no_endpoint_says_why(raw, reason):
    outcome = examine_commitment(raw)
    assert isinstance(outcome, Unusable)
    assert reason in outcome.reason


def test_k20_a_sealed_commitment_that_cannot_be_opened_says_why():
    assert examine_commitment("u/p:rev:e:BLOB", private_key_hex=PRIVATE) == Unusable(
        "the sealed part has 3 bytes, not 64"
    )


def test_k20_plain_and_sealed_commitments_lead_to_the_endpoint():
    endpoint = f"https://{DEPLOYMENT}.deployments.basilica.ai"
    plain = examine_commitment(build_commitment("u/p", "abcdef0123456", DEPLOYMENT))
    assert isinstance(plain, Reachable)
    assert plain.endpoint == endpoint
    raw = build_sealed_commitment(
        "u/p", "abcdef0123456", DEPLOYMENT, public_key_hex=PUBLIC, one_time_secret=bytes([9]) * 32
    )
    assert raw.startswith("u/p:abcdef01:e:")
    assert DEPLOYMENT not in raw
    sealed = examine_commitment(raw, private_key_hex=PRIVATE)
    assert isinstance(sealed, Reachable)
    assert sealed.endpoint == endpoint


@given(st.uuids(), st.binary(min_size=32, max_size=32))
def test_k20_what_is_sealed_is_unsealed(deployment, one_time):
    blob = seal_deployment(str(deployment), public_key_hex=PUBLIC, one_time_secret=one_time)
    assert len(blob) == 80
    assert unseal_deployment(blob, private_key_hex=PRIVATE) == Unsealed(str(deployment))


@given(st.text(max_size=200))
def test_k20_no_text_on_the_chain_raises(raw):
    parsed = parse_commitment(raw)
    assert isinstance(examine_commitment(raw, private_key_hex=PRIVATE), Reachable | Unusable)
    assert parsed.is_valid or examine_commitment(raw) == Unusable(
        "not of the form repo:revision:deployment_id or repo:revision:e:sealed"
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["info", "fields", "block", "Raw3", "Data", 3]), inner)
        ),
        max_leaves=12,
    )
)
def test_k20_no_answer_of_a_chain_raises(payload):
    text, block = parse_chain_payload(payload)
    assert text is None or isinstance(text, str)
    assert block is None or isinstance(block, int)


class ScaleObject:
    def __init__(self, value):
        self.value = value


def test_k20_answers_of_a_chain_by_hand():
    record = {"block": 9, "info": {"fields": [{"Raw5": b"a:b\xff:c"}]}}
    assert parse_chain_payload(record) == ("a:b:c", 9)
    assert parse_chain_payload(ScaleObject(record)) == ("a:b:c", 9)
    assert parse_chain_payload(b"a:b:c") == ("a:b:c", None)
    assert parse_chain_payload("a:b:c") == ("a:b:c", None)
    assert parse_chain_payload("") == (None, None)
    assert parse_chain_payload(17) == (None, None)
    assert parse_chain_payload({"info": {"fields": [{"Raw1": ([300],), "Other": "x"}]}}) == (None, None)
    assert parse_chain_payload({"info": {"fields": [{"Data": "x"}]}, "block": "9" * 5000}) == ("x", None)


def test_k20_an_invalid_commitment_is_empty_in_every_field():
    assert parse_commitment("a:b") == ParsedCommitment()
    assert parse_commitment("a:b:http://localhost:8001").deployment_id == "http"


@pytest.mark.parametrize("case", cases("evaluation/commitments.json", key="parse"))
def test_k18_commitments_are_parsed_as_the_original_does(case):
    assert parse_commitment(case["raw"]).as_dict() == case["parsed"]


@pytest.mark.parametrize("case", cases("evaluation/commitments.json", key="encrypted"))
def test_k18_sealed_commitments_of_the_original_are_opened(case):
    import json

    keys = json.loads(fixture("evaluation/commitments.json").read_text())
    private = keys["backend_private_key_hex"]
    assert public_key_hex(private) == keys["backend_public_key_hex"]
    assert len(case["commitment"]) == case["commitment_len"]
    parsed = parse_commitment(case["commitment"])
    assert parsed.encrypted_deployment == case["blob_base85"]
    assert unseal_deployment(case["blob_base85"], private_key_hex=private) == Unsealed(case["uuid"])
    # The one-time secret of the original is not known; a new one seals the same to another blob.
    again = seal_deployment(
        case["uuid"], public_key_hex=keys["backend_public_key_hex"], one_time_secret=bytes([3]) * 32
    )
    assert unseal_deployment(again, private_key_hex=private) == Unsealed(str(uuid.UUID(case["uuid"])))


@pytest.mark.parametrize("case", cases("evaluation/commitments.json", key="deployment_id_to_url"))
def test_k18_deployment_ids_become_the_originals_urls(case):
    assert deployment_id_to_url(case["in"]) == case["out"]


@pytest.mark.parametrize("case", cases("evaluation/commitments.json", key="chain_payloads"))
def test_k18_answers_of_the_chain_are_read_as_the_original_does(case):
    assert list(parse_chain_payload(ast.literal_eval(case["in"]))) == case["out"]


@pytest.mark.parametrize("case", cases("evaluation/commitments.json", key="build"))
def test_k18_commitments_are_built_as_the_original_does_or_refused(case):
    repo, revision, deployment, key = case["args"]
    assert key is None
    if case["out"] is None:
        with pytest.raises(ConfigError):
            build_commitment(repo, revision, deployment)
    else:
        assert build_commitment(repo, revision, deployment) == case["out"]
