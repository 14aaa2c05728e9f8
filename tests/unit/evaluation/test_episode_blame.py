from __future__ import annotations

import errno
import math
import re
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.evaluation.episode.blame import (
    CODES,
    CallStage,
    InvalidReportError,
    Phase,
    Progress,
    blame_connect_error,
    blame_lookup_error,
    blame_overrun,
    blame_stream_error,
    blame_timeout,
    classify,
    describe_death,
)
from standfast.evaluation.model import EpisodeReport, Fault, OutcomeClass

BROKEN = EpisodeReport(success=False, error_code="EnvironmentRaised", error="x", fault=Fault.INFRASTRUCTURE)
SOURCES = Path(__file__).resolve().parents[3] / "src/standfast/evaluation/episode"


def test_k2_the_four_ways_an_episode_ends() -> None:
    assert classify(EpisodeReport(success=True, score=1.0)) is OutcomeClass.WON
    assert classify(EpisodeReport(success=False)) is OutcomeClass.LOST
    assert classify(BROKEN) is OutcomeClass.INFRA_ERROR
    assert classify(replace(BROKEN, fault=Fault.SUBJECT)) is OutcomeClass.SUBJECT_ERROR


@pytest.mark.parametrize(
    "change",
    [
        {"success": True}, {"score": 0.5}, {"fault": None}, {"error": ""}, {"error_code": ""},
    ],
)  # fmt: skip
def test_k2_success_with_an_error_and_half_an_error_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidReportError):
        classify(replace(BROKEN, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"score": math.nan}, {"score": 1.1}, {"score": -0.1}, {"total_reward": math.inf}, {"steps": -1},
        {"duration_s": math.nan}, {"subject_s": -1.0},
    ],
)  # fmt: skip
def test_k2_numbers_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidReportError):
        classify(replace(EpisodeReport(success=False), **change))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ECONNREFUSED, "SubjectRefused"),
        (errno.EHOSTUNREACH, "SubjectUnreachable"),
        (errno.ETIMEDOUT, "SubjectUnreachable"),
        (errno.ECONNRESET, "SubjectClosed"),
        (None, "SubjectUnreachable"),
        (errno.ENETUNREACH, "NetworkFailed"),
        (errno.EADDRNOTAVAIL, "NetworkFailed"),
        (errno.EMFILE, "NetworkFailed"),
        (errno.EPERM, "NetworkFailed"),
        (errno.ENOBUFS, "NetworkFailed"),
    ],
)
def test_i6_who_is_charged_when_no_connection_comes_about(number: int | None, code: str) -> None:
    assert blame_connect_error(number, "x").code == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (socket.EAI_NONAME, "SubjectNameUnknown"),
        (socket.EAI_AGAIN, "NetworkFailed"),
        (socket.EAI_FAIL, "NetworkFailed"),
        (socket.EAI_SYSTEM, "NetworkFailed"),
        (None, "NetworkFailed"),
    ],
)
def test_i6_a_name_service_that_gives_no_answer_is_ours(number: int | None, code: str) -> None:
    assert blame_lookup_error(number, "x").code == code


def test_i6_a_connection_that_breaks_for_want_of_local_memory_is_ours() -> None:
    assert blame_stream_error(errno.ENOBUFS, "x").code == "NetworkFailed"
    assert blame_stream_error(errno.ECONNRESET, "x").code == "SubjectClosed"
    assert blame_stream_error(None, "x").code == "SubjectClosed"


@pytest.mark.parametrize(
    ("stage", "elapsed_s", "starved_s", "code"),
    [
        (CallStage.CONNECTED, 0.501, 0.0, "SubjectTimeout"),
        (CallStage.CONNECTING, 0.501, 0.0, "SubjectUnreachable"),
        (CallStage.RESOLVING, 0.501, 0.0, "NetworkFailed"),
        # No CPU for a fifth of the time: the reply may have been there.
        (CallStage.CONNECTED, 0.501, 0.11, "ExecutorStarved"),
        (CallStage.CONNECTING, 0.501, 0.11, "ExecutorStarved"),
        # Woken late, as after a SIGSTOP: nobody looked at the socket in time.
        (CallStage.CONNECTED, 7.0, 0.0, "ExecutorStarved"),
        (CallStage.CONNECTED, 0.52, 0.05, "SubjectTimeout"),
    ],
)
def test_i6_a_subject_is_not_charged_for_a_busy_executor(
    stage: CallStage, elapsed_s: float, starved_s: float, code: str
) -> None:
    assert blame_overrun(stage, limit_s=0.5, elapsed_s=elapsed_s, starved_s=starved_s).code == code


@pytest.mark.parametrize(
    ("phase", "subject_s", "elapsed_s", "fault"),
    [
        (Phase.STARTING, 0.0, 10.0, Fault.INFRASTRUCTURE),
        (Phase.ENVIRONMENT, 0.5, 10.0, Fault.INFRASTRUCTURE),
        # Waiting for the subject at the end is not enough: most of the time went elsewhere.
        (Phase.SUBJECT, 4.9, 10.0, Fault.INFRASTRUCTURE),
        (Phase.SUBJECT, 5.0, 10.0, Fault.INFRASTRUCTURE),
        (Phase.SUBJECT, 5.1, 10.0, Fault.SUBJECT),
        (Phase.ENVIRONMENT, 9.0, 10.0, Fault.SUBJECT),
        # A kill that came late shows an overloaded or suspended machine.
        (Phase.SUBJECT, 9.0, 11.5, Fault.INFRASTRUCTURE),
    ],
)
def test_k4_whose_doing_a_timeout_was(phase: Phase, subject_s: float, elapsed_s: float, fault: Fault) -> None:
    progress = Progress(phase, 3, subject_s, 1.0)
    found = blame_timeout(progress, timeout_s=10.0, elapsed_s=elapsed_s)
    assert found.code == "Timeout"
    assert found.fault is fault
    assert "step 3" in found.text


def test_a_death_by_signal_is_decoded() -> None:
    assert "SIGSEGV" in describe_death(-signal.SIGSEGV).text
    assert "memory" in describe_death(-signal.SIGKILL).text
    assert "signal 123" in describe_death(-123).text
    assert describe_death(0).code == describe_death(3).code == "EpisodeExited"
    assert describe_death(-9).fault is Fault.INFRASTRUCTURE


def test_every_code_that_is_used_is_in_the_table_and_every_code_in_the_table_is_used() -> None:
    texts = "".join(path.read_text() for path in SOURCES.glob("*.py"))
    used = set(re.findall(r'(?:fail|mishap)\(\s*"(\w+)"', texts)) | {
        "EnvironmentMissing",
        "EnvironmentUnknown",
    }
    used |= {"SpecInvalid", "ForkServerLost", "ExecutorStopped"}
    assert used == set(CODES)


def test_every_code_is_explained_in_the_reference() -> None:
    page = (SOURCES.parents[3] / "docs/reference/miner-protocol.md").read_text()
    for code in [*CODES, "Timeout"]:
        assert f"`{code}`" in page, f"{code} is not in docs/reference/miner-protocol.md"
