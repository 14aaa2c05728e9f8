"""A report says nothing that was not observed: what has no evidence cannot be made (G)."""

from __future__ import annotations

import json

import pytest

from standfast.reports.claims import Claim, Report, Section, Table, UnfoundedError
from standfast.reports.markdown import render

CLAIM = Claim("db ended", ("written by its shim",))


@pytest.mark.parametrize("evidence", [(), ("",), ("   ",), ("seen", "")])
def test_g_a_claim_without_evidence_cannot_be_made(evidence: tuple[str, ...]) -> None:
    with pytest.raises(UnfoundedError, match="no evidence for: exit 137 was memory"):
        Claim("exit 137 was memory", evidence)
    with pytest.raises(UnfoundedError):
        Table(("service",), (("db",),), evidence)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_g_an_empty_claim_cannot_be_made(text: str) -> None:
    with pytest.raises(UnfoundedError):
        Claim(text, ("seen",))


def test_g_a_section_that_says_nothing_cannot_be_made() -> None:
    with pytest.raises(UnfoundedError):
        Section("Causes")
    with pytest.raises(UnfoundedError):
        Section("Causes", (), Table(("service",), (), ("seen",)))


def test_a_row_that_does_not_fit_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Table(("service", "state"), (("db",),), ("seen",))


def test_g_every_claim_is_printed_with_its_evidence() -> None:
    table = Table(("service", "state"), (("db", "ready"),), ("the supervisor was asked",))
    page = render(Report("Recovery", "2026-01-01T00:00:00Z", (Section("Causes", (CLAIM,), table),)))
    assert "- db ended\n  - seen: written by its shim\n" in page
    assert "| service | state |\n| --- | --- |\n| db | ready |\n\n- seen: the supervisor was asked\n" in page
    assert page.endswith("\n")
    assert not page.endswith("\n\n")


def test_what_others_wrote_does_not_change_how_a_page_is_read() -> None:
    nasty = "a | b\n# heading <script> `x` \x1b[31m ![p](http://x) " + "y" * 5_000
    page = render(Report("r", "now", (Section("s", (Claim(nasty, (nasty,)),)),)))
    assert "\x1b" not in page
    assert "<script>" not in page.replace("\\<script\\>", "")
    assert "\n# heading" not in page
    assert "a \\| b" in page
    assert max(map(len, page.splitlines())) < 1_000


def test_a_report_is_plain_json_too() -> None:
    table = Table(("service", "state"), (("db", "ready"),), ("asked",))
    report = Report("r", "now", (Section("s", (CLAIM,), table), Section("t", (CLAIM,))))
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["sections"][0]["table"]["rows"] == [{"service": "db", "state": "ready"}]
    assert plain["sections"][0]["claims"] == [{"text": "db ended", "evidence": ["written by its shim"]}]
    assert plain["sections"][1]["table"] is None
