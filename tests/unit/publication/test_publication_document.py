"""The byte form of a publication: what is not exactly one is refused, what is one survives there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standfast.kernel.canonical import digest
from standfast.publication.document import (
    MAX_DOCUMENT_BYTES,
    MAX_SUBJECTS,
    SCHEMA,
    Document,
    DocumentError,
    document_of,
    is_repeat,
    parse,
    published_of,
    render,
)
from standfast.testing.publisher_contract import good_candidate, good_document


def raw() -> dict[str, Any]:
    found = json.loads(render(good_document()))
    assert isinstance(found, dict)
    return found


def sealed(content: dict[str, Any]) -> bytes:
    """Return ``content`` with a digest that fits, so that only the flaw itself can be refused."""
    body = {key: value for key, value in content.items() if key != "sha256"}
    return json.dumps({**body, "sha256": digest(body)}).encode()


def changed(*path: str, value: Any) -> bytes:
    content = raw()
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return sealed(content)


def without(*path: str) -> bytes:
    content = raw()
    at = content
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return sealed(content)


REFUSED: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("torn", render(good_document())[:-40]),
    ("not utf-8", b"\xff" + render(good_document())),
    ("byte order mark", b"\xef\xbb\xbf" + render(good_document())),
    ("utf-16", render(good_document()).decode().encode("utf-16")),
    ("two documents", render(good_document()) * 2),
    ("a list", b"[]"),
    ("a number", b"1"),
    ("deep", b"[" * 100_000),
    ("a number without end", b'{"epoch": ' + b"1" * 10_000 + b"}"),
    ("too large", b" " * (MAX_DOCUMENT_BYTES + 1)),
    ("nan", render(good_document()).replace(b"0.3", b"NaN")),
    ("infinity", render(good_document()).replace(b"0.3", b"Infinity")),
    ("beyond a float", render(good_document()).replace(b"0.3", b"1e999")),
    ("doubled key", render(good_document()).replace(b'"epoch":1', b'"epoch":1,"epoch":1')),
    ("other schema", changed("schema", value="standfast.publication/2")),
    ("unknown key", changed("colour", value="red")),
    ("unknown key of a uid", changed("weights", "0", "colour", value="red")),
    ("no epoch", without("epoch")),
    ("no hotkey", without("weights", "0", "hotkey")),
    ("epoch zero", changed("epoch", value=0)),
    ("epoch true", changed("epoch", value=True)),
    ("epoch float", changed("epoch", value=1.0)),
    ("epoch beyond JSON", changed("epoch", value=2**53)),
    ("term negative", changed("leader_term", value=-1)),
    ("round with a space", changed("round", value="a b")),
    ("digest in capitals", changed("evidence_sha256", value="E" * 64)),
    ("time without zone", changed("computed_at", value="2026-01-02T03:04:05.678")),
    ("time in another zone", changed("computed_at", value="2026-01-02T03:04:05.678+01:00")),
    ("time without milliseconds", changed("computed_at", value="2026-01-02T03:04:05Z")),
    ("no such day", changed("computed_at", value="2026-02-30T03:04:05.678Z")),
    ("nobody", changed("weights", value={})),
    ("a list of weights", changed("weights", value=[])),
    (
        "too many",
        changed(
            "weights",
            value={str(n): {"hotkey": "a", "weight": 0.0, "u16": 0} for n in range(MAX_SUBJECTS + 1)},
        ),
    ),
    ("uid with a newline", changed("weights", value={"a\n": raw()["weights"]["0"]})),
    ("entry of null", changed("weights", "0", value=None)),
    ("weight negative", changed("weights", "0", "weight", value=-0.1)),
    ("weight true", changed("weights", "0", "weight", value=True)),
    ("weight text", changed("weights", "0", "weight", value="0.5")),
    ("u16 above", changed("weights", "0", "u16", value=65_536)),
    ("u16 float", changed("weights", "0", "u16", value=1.0)),
    ("hotkey empty", changed("weights", "0", "hotkey", value="")),
    ("hotkey too long", changed("weights", "0", "hotkey", value="x" * 129)),
]


@pytest.mark.parametrize("data", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_r9_what_is_not_a_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError) as refused:
        parse(data)
    assert refused.value.exit_code == 5


def test_r9_every_changed_field_breaks_the_digest() -> None:
    changes: dict[str, Any] = {
        "epoch": 2,
        "round": "another",
        "computed_at": "2026-01-02T03:04:05.679Z",
        "evidence_sha256": "f" * 64,
        "leader_term": 2,
        "sha256": "0" * 64,
    }
    assert set(changes) | {"schema", "weights"} == raw().keys()
    for key, value in changes.items():
        with pytest.raises(DocumentError, match="sha256 does not fit"):
            parse(json.dumps({**raw(), key: value}).encode())


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_r11_a_damaged_document_is_refused_or_says_the_same(data: st.DataObject) -> None:
    good = good_document()
    rendered = bytearray(render(good))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(rendered) - 1))
        rendered[at] ^= data.draw(st.integers(1, 255))
    try:
        assert parse(bytes(rendered)) == good
    except DocumentError:
        return


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.text(alphabet='{}[]":,0123456789.eE-+ntrufalsx', max_size=200).map(str.encode)
)
def test_r11_garbage_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse(data)


def test_k17_a_document_survives_the_way_there_and_back() -> None:
    document = good_document(epoch=12, leader_term=3)
    assert parse(render(document)) == document
    assert render(parse(render(document))) == render(document)


def test_k17_the_form_is_canonical_versioned_and_names_hotkeys() -> None:
    content = raw()
    assert content["schema"] == SCHEMA == "standfast.publication/1"
    assert content["weights"]["1"] == {"hotkey": "hotkey-of-1", "weight": 0.3, "u16": 19_660}
    body = {key: value for key, value in content.items() if key != "sha256"}
    assert content["sha256"] == digest(body) == good_document().sha256
    assert (
        render(good_document())
        == (json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n").encode()
    )


def test_k17_another_writer_s_spacing_and_order_are_read() -> None:
    text = json.dumps(dict(reversed(raw().items())), indent=2)
    assert parse(text.encode()) == good_document()


def test_k17_the_zone_and_the_microseconds_do_not_change_the_document() -> None:
    abroad = timezone(timedelta(hours=5))
    same = replace(good_candidate(), computed_at=datetime(2026, 1, 2, 8, 4, 5, 678_999, tzinfo=abroad))
    assert document_of(same) == good_document()
    assert document_of(same).computed_at.tzinfo is UTC


def test_k17_zero_has_one_form() -> None:
    def with_zero(zero: float) -> Document:
        return document_of(replace(good_candidate(), weights={"0": 0.5, "1": 0.5, "2": zero}))

    assert with_zero(-0.0).sha256 == with_zero(0.0).sha256 == with_zero(0).sha256


UNWRITABLE: list[tuple[str, Callable[[], object]]] = [
    ("no hotkey", lambda: replace(good_candidate(), hotkeys={})),
    ("no u16", lambda: replace(good_candidate(), u16={})),
    ("no zone", lambda: replace(good_candidate(), computed_at=datetime(2026, 1, 2))),  # noqa: DTZ001
    (
        "beyond the calendar",
        lambda: replace(
            good_candidate(), computed_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))
        ),
    ),
    ("uid a number", lambda: replace(good_candidate(), weights={1: 1.0}, u16={1: 65_535}, hotkeys={1: "a"})),
]


@pytest.mark.parametrize("make", [row[1] for row in UNWRITABLE], ids=[row[0] for row in UNWRITABLE])
def test_r9_what_cannot_be_written_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(DocumentError):
        document_of(make())


def test_i7_a_repeat_is_the_same_content_whichever_leader_sends_it() -> None:
    held = published_of(good_document(leader_term=3))
    assert is_repeat(good_document(leader_term=3), held)
    assert is_repeat(good_document(leader_term=4), held)
    assert not is_repeat(good_document(leader_term=3, epoch=2), held)
    assert not is_repeat(good_document(leader_term=3, round_id="another"), held)
    assert not is_repeat(good_document(leader_term=3), replace(held, leader_term=4))
