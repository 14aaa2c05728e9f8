"""Verdicts, findings, gates, canonical JSON, names, backoff and errors, with literals only."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import hypothesis.strategies as st
import pytest
from hypothesis import given

from standfast.kernel.backoff import Backoff
from standfast.kernel.canonical import canonical_json, digest
from standfast.kernel.clock import SystemClock, SystemEntropy, iso
from standfast.kernel.errors import (
    ConfigError,
    ConflictError,
    StaleTokenError,
    StandfastError,
    StoreUnavailableError,
    TransientError,
)
from standfast.kernel.ids import random_uuid, stable_id
from standfast.kernel.verdict import Finding, Gate, Verdict, combine

SKIPPED, PASS, UNKNOWN, FAIL = Verdict.SKIPPED, Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL


# Verdicts: unknown loses.


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([], UNKNOWN),
        ([SKIPPED], UNKNOWN),
        ([SKIPPED, SKIPPED], UNKNOWN),
        ([UNKNOWN, PASS], UNKNOWN),
        ([FAIL, UNKNOWN, PASS], FAIL),
        ([SKIPPED, PASS], PASS),
        ([PASS], PASS),
    ],
)
def test_i1_the_worst_verdict_wins_and_none_is_unknown(verdicts: list[Verdict], worst: Verdict) -> None:
    assert combine(verdicts) is worst


@given(st.lists(st.sampled_from(Verdict), max_size=6), st.sampled_from([UNKNOWN, FAIL]))
def test_i1_nothing_makes_a_bad_verdict_better(verdicts: list[Verdict], bad: Verdict) -> None:
    assert combine([*verdicts, bad]) >= bad


def found(verdict: Verdict, reason: str = "R") -> Finding:
    return Finding("check", verdict, reason, "message", remedy="do something" if verdict > PASS else "")


@pytest.mark.parametrize("verdict", [UNKNOWN, FAIL])
def test_a_finding_without_a_remedy_is_a_mistake(verdict: Verdict) -> None:
    with pytest.raises(AssertionError, match="remedy"):
        Finding("check", verdict, "R", "message")


def test_a_finding_is_plain_values() -> None:
    told = found(FAIL).as_dict()
    assert told["verdict"] == "FAIL"
    assert canonical_json(told)


@pytest.mark.parametrize(
    ("verdicts", "is_open"),
    [
        ([], False),
        ([SKIPPED], False),
        ([PASS, UNKNOWN], False),
        ([PASS, FAIL], False),
        ([PASS, SKIPPED], True),
        ([PASS], True),
    ],
)
def test_i1_a_gate_opens_only_on_silence_and_evidence(verdicts: list[Verdict], is_open: bool) -> None:
    gate = Gate("g", [found(verdict) for verdict in verdicts])
    assert gate.is_open is is_open


def test_a_gate_names_its_objections_worst_first() -> None:
    gate = Gate("g", [found(PASS, "A"), found(UNKNOWN, "B"), found(FAIL, "C"), found(SKIPPED, "D")])
    assert [one.reason for one in gate.objections] == ["C", "B"]


# Canonical JSON: one value, one digest.


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), {"x": [float("nan")]}])
def test_a_number_that_is_none_has_no_canonical_form(bad: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(bad)


@pytest.mark.parametrize("bad", [object(), {1, 2}, b"x", {"t": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_what_is_not_json_has_no_canonical_form(bad: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(bad)


def test_order_does_not_matter_and_content_does() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == '{"a":[1,2],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest("1") != digest(1)


def test_any_text_has_a_digest() -> None:
    assert len(digest("\ud800")) == 64


# Names: the same in every process.


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_k1_different_parts_have_different_names(one: list[str], two: list[str]) -> None:
    assert (stable_id(*one) == stable_id(*two)) == (one == two)


def test_k1_parts_do_not_run_into_each_other() -> None:
    assert stable_id("ab", "c") != stable_id("a", "bc") != stable_id("a", "b", "c")
    assert stable_id("a") != stable_id("a", "") != stable_id()
    assert stable_id("1:a") != stable_id("a")


def test_k1_a_name_fits_a_signed_64_bit_number() -> None:
    for n in range(2_000):
        name = stable_id(str(n))
        assert len(name) == 16
        assert 0 <= int(name, 16) < 2**63


def test_k1_names_and_task_sets_do_not_depend_on_the_hash_seed() -> None:
    """Two processes with different PYTHONHASHSEED name the same work the same, in the same order."""
    program = (
        "from standfast.kernel.ids import stable_id\n"
        "from standfast.kernel.canonical import digest\n"
        "parts = {'round-1', 'subject', 'environment', 'größe'}\n"
        "print(sorted(stable_id('round-1', p) for p in parts), digest({p: 1 for p in parts}))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4294967295")
    }  # fmt: skip
    assert len(told) == 1


def test_an_attempt_is_a_version_4_uuid() -> None:
    class Ones:
        def token_bytes(self, count: int) -> bytes:
            return b"\xff" * count

    assert random_uuid(Ones()) == "ffffffff-ffff-4fff-bfff-ffffffffffff"


# Waiting.


@given(attempt=st.integers(-5, 10**9), unit=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_bounded_by_its_ceiling_and_never_nothing(attempt: int, unit: float) -> None:
    backoff = Backoff(base_s=0.5, factor=3.0, cap_s=20.0)
    ceiling = backoff.ceiling_s(attempt)
    assert 0.5 <= ceiling <= 20.0
    assert 0.1 * ceiling <= backoff.wait_s(attempt, unit=unit) < ceiling * 1.0000001


def test_ceilings_grow_to_the_cap() -> None:
    backoff = Backoff(base_s=1.0, factor=2.0, cap_s=10.0)
    assert [backoff.ceiling_s(attempt) for attempt in (1, 2, 3, 4, 5, 99)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


# Time.


def test_instants_are_told_in_utc_with_milliseconds() -> None:
    east = timezone(timedelta(hours=2))
    assert iso(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=east)) == "2026-01-02T01:04:05.678Z"


def test_the_system_has_a_clock_and_entropy() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall().tzinfo is UTC
    assert len(SystemEntropy().token_bytes(16)) == 16


# Errors: sorted by what the reader must do.


def test_an_error_says_what_why_since_when_and_the_fix() -> None:
    error = ConfigError("no port", why="it is in use", since="12:00", fix="choose another", code="PortInUse")
    assert str(error) == "no port, because it is in use, since 12:00. To fix: choose another"
    assert (error.code, error.exit_code) == ("PortInUse", 2)
    assert str(StandfastError("no")) == "no"


def test_what_may_be_retried_and_what_may_not() -> None:
    assert issubclass(StoreUnavailableError, TransientError)
    assert not issubclass(StaleTokenError, TransientError)
    assert issubclass(StaleTokenError, ConflictError)


def _all(kind: type[StandfastError]) -> list[type[StandfastError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _all(child))]


def test_every_error_has_a_code_and_an_exit_code_of_the_command_line() -> None:
    for kind in _all(StandfastError):
        assert kind.code[0].isupper()
        assert kind.exit_code in (1, 2, 3, 4, 5, 6, 7, 8, 70), kind
