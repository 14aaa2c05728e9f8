"""Attempts are named by their token, and nothing else is taken for such a name."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.tasks.attempts import attempt_name, attempt_tails, token_of


@given(st.integers(1, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_k18_a_name_is_a_uuid_that_leads_back_to_its_token(token: int, drawn: bytes) -> None:
    name = attempt_name(token, attempt_tails(drawn)[0])
    assert token_of(name) == token
    parsed = uuid.UUID(name)
    assert (str(parsed), parsed.version, parsed.variant) == (name, 4, uuid.RFC_4122)


@given(st.binary(min_size=10, max_size=10), st.integers(0, 79))
def test_k18_all_but_six_of_the_drawn_bits_are_in_the_name(drawn: bytes, bit: int) -> None:
    flipped = (int.from_bytes(drawn, "big") ^ (1 << bit)).to_bytes(10, "big")
    is_same = attempt_tails(flipped) == attempt_tails(drawn)
    # Two bits beside the variant and the last four are not used: 74 are.
    assert is_same is (bit in (0, 1, 2, 3, 66, 67))


def test_each_name_has_a_tail_of_its_own() -> None:
    tails = attempt_tails(bytes(range(30)))
    assert len(set(tails)) == 3
    assert attempt_tails(b"") == []


@pytest.mark.parametrize(
    "junk",
    [
        None, 7, "", "x", "0" * 5_000, "00000000-0001-4000-8000-00000000000",
        "00000000-0000-4000-8000-000000000000",
        "00000000-0001-1000-8000-000000000000", "00000000-0001-4000-c000-000000000000",
        "0000000A-0001-4000-8000-000000000000", "00000000-0001-4000-8000-000000000000\n",
        "{00000000-0001-4000-8000-000000000000}", "00000000000140008000000000000000", ["x"],
        "٠0000000-0001-4000-8000-000000000000",
    ],
)  # fmt: skip
def test_what_is_no_name_has_no_token(junk: object) -> None:
    assert token_of(junk) is None
