"""What makes two ends the same: the last error, without what varies from life to life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.services.failures.text import error_chain, error_line, fingerprint, normalise
from standfast.services.model import ExitStatus

ONE = ExitStatus(1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("2026-01-02 03:04:05,678 ERROR lost 7 of 9", "2026-02-03 04:05:06,789 ERROR lost 8 of 19"),
        ("Error at 0x7ffe12ab", "Error at 0x55d0ff"),
        ("cannot open /srv/a/b.db: corrupt", "cannot open /data/c.db: corrupt"),
        ("request 550e8400-e29b-41d4-a716-446655440000 failed",
         "request 123e4567-e89b-12d3-a456-426614174000 failed"),
        ("connect 10.0.0.7:5432 refused", "connect 10.0.0.8:6432 refused"),
        ("connect [fe80::1]:80 refused", "connect [2001:db8::2:9]:81 refused"),
        ("hotkey 5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy failed",
         "hotkey 5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty failed"),
        ("failed after 1.2s", "failed after 12ms"),
        ("\x1b[31mERROR\x1b[0m it failed", "ERROR it failed"),
        ('open "a": failed', "open 'a': failed"),
        ("GET https://a.example/x?y=1 failed", "GET https://a.example/z failed"),
        ("mkdir tmpx9y_8z12: failed", "mkdir tmpab_cd99x: failed"),
    ],
)  # fmt: skip
def test_a000_2_what_varies_is_no_difference(one: str, two: str) -> None:
    assert fingerprint(ONE, False, (one,)) == fingerprint(ONE, False, (two,))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("No module named 'left'", "No module named 'right'"),
        ("connection refused", "connection reset"),
        ("KeyError: 'alpha'", "KeyError: 'beta'"),
    ],
)
def test_a000_2_other_errors_are_other_ends(one: str, two: str) -> None:
    assert fingerprint(ONE, False, (one,)) != fingerprint(ONE, False, (two,))


def test_a000_2_status_and_phase_count() -> None:
    lines = ("Error: x",)
    ends = {
        fingerprint(ONE, False, lines), fingerprint(ONE, True, lines),
        fingerprint(ExitStatus(2), False, lines), fingerprint(ExitStatus(1, 9), False, lines),
    }  # fmt: skip
    assert len(ends) == 4


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (("Error: first", "at run (/srv/a.js:1:2)", "", "Node.js v20.1.0"), "Error: first"),
        (("ERROR bind failed", "INFO: Application shutdown complete."), "ERROR bind failed"),
        (("panic: it broke", "", "goroutine 1 [running]:", "main.main()", "exit status 2"),
         "panic: it broke"),
        (("Exception in x", "\tat a.b.C(D.java:1)", "\t... 23 more"), "Exception in x"),
        (("thread 'main' panicked at x.rs:1:2:", "value is missing", "note: run with `RUST_BACKTRACE=1`"),
         "value is missing"),
        (("ERROR bind failed", "DEBUG: pool of 0 workers failed over"), "ERROR bind failed"),
        (("working", "bye"), "bye"),
        ((), ""),
    ],
)  # fmt: skip
def test_the_last_error_line_is_meant_not_the_last_line(lines: tuple[str, ...], wanted: str) -> None:
    assert error_line(lines) == wanted


def test_error_chain_tells_the_latest_first() -> None:
    lines = ("ERROR one", "fine", "ERROR two", "ERROR three", "bye")
    assert error_chain(lines, most=2) == ("ERROR three", "ERROR two")


@given(st.lists(st.text(max_size=400), max_size=20))
def test_any_text_has_a_fingerprint_and_only_one(lines: list[str]) -> None:
    found = fingerprint(ONE, False, lines)
    assert found == fingerprint(ONE, False, lines)
    assert len(found[3]) <= 200


@given(st.text(max_size=300))
def test_normalising_twice_changes_nothing_that_matters(line: str) -> None:
    assert len(normalise(line)) <= 200
    assert "\n" not in normalise(line)
