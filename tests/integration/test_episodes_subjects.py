"""Subjects that refuse, stall, drip, lie, flood or hang up, on real sockets (K1e, K2, I6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from bad_subjects import (
    GOOD,
    Behaviour,
    black_hole,
    closes_idle,
    drips,
    floods,
    http,
    is_silent,
    is_slow,
    refusing,
    says,
    says_raw,
    self_signed,
    serving,
)
from episode_lab import QUICK, Lab, episode, lab_in, timed
from standfast.evaluation.episode import EpisodeRunner, SubjectNetworks, classify
from standfast.evaluation.model import EpisodeLimits, EpisodeReport, Fault, OutcomeClass

#: What a busy machine may add to a limit of a call.
SLACK_S = 2.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_in(tmp_path_factory.mktemp("notes")) as opened:
        yield opened


def act_u(value: object) -> Behaviour:
    return says(json.dumps({"action": {"continuous": {"u": value}}}).encode())


ACT_FAULTS: dict[str, tuple[Behaviour, str]] = {
    "silent": (is_silent, "SubjectTimeout"),
    "drips": (drips(0.05), "SubjectTimeout"),
    "status-500": (says({"error": "x"}, status="500 Oh"), "SubjectStatus"),
    "status-404": (says({}, status="404 No"), "SubjectStatus"),
    "status-204": (says_raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "SubjectStatus"),
    "redirect": (
        says({}, status="307 There", headers="Location: http://127.0.0.1:1/\r\n"),
        "SubjectRedirected",
    ),
    "not-json": (says(b"<html>"), "SubjectReplyNotJson"),
    "deep-json": (says(b"[" * 500_000), "SubjectReplyNotJson"),
    "gzip": (says(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"), "SubjectReplyNotJson"),
    "empty": (says(b""), "SubjectReplyNotJson"),
    "nan": (says(b'{"action": {"continuous": {"u": [NaN]}}}'), "SubjectReplyNotJson"),
    "infinite": (says(b'{"action": {"continuous": {"u": [1e999]}}}'), "SubjectActionNotFinite"),
    "no-action": (says({"status": "ok"}), "SubjectActionInvalid"),
    "wrong-length": (act_u([0.1, 0.2]), "SubjectActionInvalid"),
    "text": (act_u(["0.1"]), "SubjectActionInvalid"),
    "boolean": (act_u([True]), "SubjectActionInvalid"),
    "flood": (floods(100_000_000, with_length=True), "SubjectReplyTooLarge"),
    "chunked-flood": (floods(100_000_000, with_length=False), "SubjectReplyTooLarge"),
    "hangs-up": (says_raw(b"", hang_up=True), "SubjectClosed"),
    "hangs-up-in-mid-reply": (says_raw(http(b"x" * 900)[:200], hang_up=True), "SubjectClosed"),
    "not-http": (says_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", hang_up=True), "SubjectReplyNotHttp"),
    "long-header": (says(b"{}", headers=f"X: {'y' * 100_000}\r\n"), "SubjectReplyNotHttp"),
}


@pytest.mark.parametrize("name", ACT_FAULTS)
def test_k2_a_subject_that_breaks_the_protocol_scores_nothing(lab: Lab, name: str) -> None:
    behaviour, code = ACT_FAULTS[name]

    async def run() -> tuple[EpisodeReport, float, int]:
        async with serving(behaviour) as subject:
            report, took_s = await timed(lab.runner, episode("bad/none", subject.url))
            return report, took_s, subject.acts

    report, took_s, acts = lab.call(run())
    assert 1 <= acts <= 2, "the fault did not happen, or was asked for again and again"
    assert report.error_code == code, report.error
    assert report.fault is Fault.SUBJECT
    assert classify(report) is OutcomeClass.SUBJECT_ERROR
    assert took_s < QUICK.act_s + SLACK_S
    assert report.subject_s < QUICK.act_s + 0.3


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ({"status": "error"}, "SubjectResetInvalid"),
        ({"status": "ok", "episode_id": {"a": 1}}, "SubjectResetInvalid"),
        ([], "SubjectResetInvalid"),
        (b"ok", "SubjectReplyNotJson"),
    ],
)
def test_k2_a_wrong_reply_to_reset_scores_nothing(lab: Lab, reply: object, code: str) -> None:
    async def run() -> tuple[EpisodeReport, int, int]:
        async with serving(on_reset=says(reply)) as subject:
            report = await lab.runner.run(episode("bad/none", subject.url))
            return report, subject.resets, subject.acts

    report, resets, acts = lab.call(run())
    assert (resets, acts) == (1, 0)
    assert (report.error_code, report.fault) == (code, Fault.SUBJECT)


def test_k2_a_silent_reset_is_cut_at_its_own_limit(lab: Lab) -> None:
    async def run() -> tuple[EpisodeReport, float]:
        async with serving(on_reset=is_silent) as subject:
            return await timed(lab.runner, episode("bad/none", subject.url))

    report, took_s = lab.call(run())
    assert (report.error_code, report.fault) == ("SubjectTimeout", Fault.SUBJECT)
    assert QUICK.reset_s <= took_s < QUICK.reset_s + SLACK_S


@pytest.mark.parametrize(
    ("place", "code", "limit_s"),
    [(refusing, "SubjectRefused", 0.0), (black_hole, "SubjectUnreachable", QUICK.reset_s)],
)
def test_k2_a_subject_that_cannot_be_reached_scores_nothing(
    lab: Lab, place: type[AbstractContextManager[str]], code: str, limit_s: float
) -> None:
    with place() as url:
        report, took_s = lab.call(timed(lab.runner, episode("bad/none", url)))
    assert (report.error_code, report.fault) == (code, Fault.SUBJECT), report.error
    assert limit_s <= took_s < limit_s + SLACK_S
    assert report.steps == 0


def test_k2_a_certificate_that_nobody_signed_is_the_subjects_doing(lab: Lab, tmp_path: Path) -> None:
    async def run() -> EpisodeReport:
        async with serving(tls=self_signed(tmp_path)) as subject:
            return await lab.runner.run(episode("bad/none", subject.url))

    report = lab.call(run())
    assert (report.error_code, report.fault) == ("SubjectTlsFailed", Fault.SUBJECT), report.error
    assert "self-signed" in report.error


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "SubjectEndpointInvalid"),
        ("subject.example:80", "SubjectEndpointInvalid"),
        ("ftp://subject.example", "SubjectEndpointInvalid"),
        ("http://", "SubjectEndpointInvalid"),
        ("http://127.0.0.1:99999", "SubjectEndpointInvalid"),
        ("http://name:secret@127.0.0.1:80", "SubjectEndpointInvalid"),
        ("http://127.0.0.1:80/?seed=1", "SubjectEndpointInvalid"),
        ("http://169.254.169.254/latest", "SubjectAddressForbidden"),
        ("http://[fe80::1]:80", "SubjectAddressForbidden"),
        ("http://0.0.0.0:80", "SubjectAddressForbidden"),
    ],
)
def test_k2_an_impossible_endpoint_is_the_subjects_doing(lab: Lab, url: str, code: str) -> None:
    report = lab.call(lab.runner.run(episode("bad/none", url)))
    assert (report.error_code, report.fault) == (code, Fault.SUBJECT), report.error


def test_a_slow_subject_is_stopped_by_its_budget(lab: Lab) -> None:
    limits = EpisodeLimits(timeout_s=20.0, reset_s=0.5, act_s=0.5, subject_budget_s=0.7)

    async def run() -> tuple[EpisodeReport, float, int]:
        async with serving(is_slow(0.2)) as subject:
            return *(await timed(lab.runner, episode("bad/never-over", subject.url, limits))), subject.acts

    report, took_s, acts = lab.call(run())
    assert acts >= 3, "the budget did not last as long as it should"
    assert (report.error_code, report.fault) == ("SubjectBudgetSpent", Fault.SUBJECT), report.error
    assert 0.7 <= took_s < 0.7 + SLACK_S


def test_k4_a_subject_that_uses_up_the_whole_time_is_charged_with_the_timeout(lab: Lab) -> None:
    limits = EpisodeLimits(timeout_s=1.0, reset_s=1.0, act_s=1.0, subject_budget_s=1.0)

    async def run() -> tuple[EpisodeReport, int]:
        async with serving(is_slow(0.3)) as subject:
            return await lab.runner.run(episode("bad/never-over", subject.url, limits)), subject.acts

    report, acts = lab.call(run())
    assert acts >= 2
    assert report.error_code in ("Timeout", "SubjectBudgetSpent")
    assert report.fault is Fault.SUBJECT
    assert report.duration_s < 1.1


def test_a_connection_that_was_closed_while_idle_is_not_held_against_the_subject(lab: Lab) -> None:
    async def run() -> tuple[EpisodeReport, int]:
        async with serving(closes_idle(0.05)) as subject:
            # Each step takes longer than the subject keeps an idle connection.
            return await lab.runner.run(episode("bad/slow", subject.url)), subject.connections

    report, connections = lab.call(run())
    assert classify(report) is OutcomeClass.WON, report.error
    assert connections >= 4


def test_one_connection_serves_a_whole_episode(lab: Lab) -> None:
    async def run() -> int:
        async with serving() as subject:
            assert (await lab.runner.run(episode("bad/none", subject.url))).success
            return int(subject.connections)

    assert lab.call(run()) == 1


@pytest.mark.parametrize("is_network_up", [True, False])
def test_i6_an_unreachable_subject_is_ours_when_no_witness_answers(lab: Lab, is_network_up: bool) -> None:
    async def run(witness: str, url: str) -> EpisodeReport:
        runner = EpisodeRunner(lab.runner._catalogue, concurrency=1, witnesses=[witness], preload=())
        async with runner:
            return await runner.run(episode("bad/none", url))

    async def with_witness(url: str) -> EpisodeReport:
        async with serving() as witness:
            return await run(witness.url.removeprefix("http://"), url)

    with black_hole() as url, refusing() as nobody:
        down = run(nobody.removeprefix("http://"), url)
        if is_network_up:
            down.close()
        report = lab.call(with_witness(url) if is_network_up else down)
    expected = (
        ("SubjectUnreachable", Fault.SUBJECT) if is_network_up else ("NetworkFailed", Fault.INFRASTRUCTURE)
    )
    assert (report.error_code, report.fault) == expected


def test_a_strangers_endpoint_may_not_name_this_machine(lab: Lab) -> None:
    async def run() -> tuple[EpisodeReport, int]:
        runner = EpisodeRunner(
            lab.runner._catalogue, concurrency=1, networks=SubjectNetworks.PUBLIC, preload=()
        )
        async with serving() as subject, runner:
            return await runner.run(episode("bad/none", subject.url)), subject.connections

    report, connections = lab.call(run())
    assert (report.error_code, connections) == ("SubjectAddressForbidden", 0)


def test_k1e_no_request_carries_seed_variant_or_any_id_of_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[object]:
        async with serving() as subject:
            spec = replace(episode("bad/none", subject.url), seed=918_273_645, variant=7_531)
            assert (await lab.runner.run(spec)).success
            return list(subject.requests)

    requests = lab.call(run())
    assert [request.target for request in requests] == ["/reset"] + ["/act"] * 5
    for request in requests:
        raw = f"{request.method} {request.target} {request.headers} {request.body!r}"
        assert not re.search(
            r"918273645|7531|seed|variant|task_id|attempt|uuid|cookie|authorization", raw, re.I
        )
        assert set(request.headers) == {
            "host", "accept", "accept-encoding", "content-type", "user-agent", "content-length",
        }  # fmt: skip
    assert requests[0].json == {
        "task_config": {"env_id": "bad/none"},
        "action_space": {"kind": "continuous", "shape": [1], "low": [-1.0], "high": [1.0]},
        "observation_size": 2,
    }
    for request in requests[1:]:
        assert request.json == {"obs": {"proprio": {"state": [0.25, -0.5]}}, "episode_id": "mine"}


def test_no_proxy_is_used_and_no_secret_of_the_executor_reaches_an_episode(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("STANDFAST_TOKEN", "canary")

    async def run() -> tuple[EpisodeReport, list[str]]:
        runner = EpisodeRunner(lab.runner._catalogue, concurrency=1, preload=())
        async with serving(GOOD) as subject, runner:
            report = await runner.run(episode("bad/none", subject.url))
            pid = runner._forks._process.pid
            return report, Path(f"/proc/{pid}/environ").read_text().split("\0")

    report, variables = lab.call(run())
    assert report.success, report.error
    assert not [entry for entry in variables if "canary" in entry or "_proxy=" in entry.lower()]


def test_cookies_are_not_kept(lab: Lab) -> None:
    async def run() -> list[object]:
        on_act = says({"action": {"continuous": {"u": [0.5]}}}, headers="Set-Cookie: who=you\r\n")
        async with serving(on_act) as subject:
            assert (await lab.runner.run(episode("bad/none", subject.url))).success
            return list(subject.requests)

    assert not [request for request in lab.call(run()) if "cookie" in request.headers]
