"""What ``up`` tells, from literals."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from standfast.app.progress import news, nothing_seen, page, plain, progress_line
from standfast.app.reporters import LineReporter, tolerant


def service(name: str = "miner", **fields: Any) -> dict[str, Any]:
    return {
        "name": name, "state": "ready", "pid": 7, "restarts": 0, "last_exit": "", "message": "", "remedy": "",
        **fields,
    }  # fmt: skip


def counts(total: int = 10, **fields: int) -> dict[str, int]:
    known = {"succeeded": 0, "failed": 0, "running": 0, **fields}
    return {"total": total, **known, "pending": total - sum(known.values())}


def a_round(number: int = 1, state: str = "open", **fields: Any) -> dict[str, Any]:
    return {"round": number, "state": state, "expected": 10, "reason": "", "counts": counts(), **fields}


def seen(**fields: Any) -> dict[str, Any]:
    return {**nothing_seen(), "at": "2026-01-02T03:04:05.000Z", "url": "http://127.0.0.1:1", **fields}


PUBLICATION = {
    "epoch": 3,
    "round": 9,
    "at": "2026-01-02T03:04:05.000Z",
    "weights": [
        {"uid": "2", "hotkey": "small", "weight": 0.25, "u16": 16384},
        {"uid": "1", "hotkey": "large", "weight": 0.75, "u16": 49151},
    ],
}


def test_nothing_new_is_no_news() -> None:
    now = seen(services=[service()], rounds=[a_round()], publication=PUBLICATION, problems=["x"])
    assert news(now, now) == []


def test_a_service_is_told_when_its_state_moves() -> None:
    assert news(seen(), seen(services=[service()])) == ["service miner ready"]
    held = service(state="held", message="its program is missing", remedy="install it")
    assert news(seen(services=[service()]), seen(services=[held])) == [
        "service miner held: its program is missing. To fix: install it"
    ]


def test_a_service_that_came_back_between_two_looks_is_told_with_what_ended_it() -> None:
    back = service(restarts=1, last_exit="killed by SIGKILL (9) after 3.0 s")
    assert news(seen(services=[service()]), seen(services=[back])) == [
        "service miner ready again, it was killed by SIGKILL (9) after 3.0 s"
    ]


def test_starting_is_not_worth_a_line() -> None:
    assert news(seen(), seen(services=[service(state="starting")])) == []


def test_a_round_is_told_when_it_opens_and_when_it_ends() -> None:
    first = seen(rounds=[a_round(1)])
    assert news(seen(), first) == ["round 1 is open: 10 episodes"]
    over = a_round(1, "published", counts=counts(succeeded=9, failed=1))
    second = seen(rounds=[a_round(2), over])
    assert news(first, second) == [
        "round 1 published (total 10 = 9 done + 1 failed + 0 running + 0 pending)",
        "round 2 opened: 10 episodes",
    ]


def test_a_whole_round_between_two_looks_is_told() -> None:
    before, after = seen(rounds=[a_round(1)]), seen(rounds=[a_round(2, "withheld", reason="why"), a_round(1)])
    assert news(before, after) == [
        "round 2 opened: 10 episodes",
        "round 2 withheld: why (total 10 = 0 done + 0 failed + 0 running + 10 pending)",
    ]


def test_history_is_no_news() -> None:
    assert news(seen(), seen(rounds=[a_round(5), a_round(4, "published")])) == [
        "round 5 is open: 10 episodes"
    ]


def test_a_publication_is_told_once_heaviest_first() -> None:
    lines = news(seen(), seen(publication=PUBLICATION))
    assert lines[0] == "epoch 3 published: the weights of round 9"
    assert [line.split() for line in lines[1:]] == [
        ["0.750000", "u16", "49151", "1", "large"],
        ["0.250000", "u16", "16384", "2", "small"],
    ]
    assert news(seen(publication=PUBLICATION), seen(publication=PUBLICATION)) == []


def test_a_problem_is_told_when_it_begins_and_when_it_ends() -> None:
    bad = seen(problems=["the store is away"])
    assert news(seen(), bad) == ["problem: the store is away"]
    assert news(bad, seen()) == ["over: the store is away"]


def test_i5_counts_in_a_line_add_up() -> None:
    row = a_round(counts=counts(total=10, succeeded=4, failed=1, running=2))
    line = progress_line(seen(rounds=[row], subjects=[subject(1)]))
    assert line == "round 1: total 10 = 4 done + 1 failed + 2 running + 3 pending; hk1 4/5"


def test_no_open_round_has_no_progress() -> None:
    assert progress_line(seen(rounds=[a_round(1, "published")])) == ""


def subject(uid: int, **fields: Any) -> dict[str, Any]:
    return {
        "uid": str(uid), "hotkey": f"hk{uid}", "expected": 5, "done": 4, "running": 1, "won": 2, "lost": 1,
        "subject_error": 1, **fields,
    }  # fmt: skip


def drawn(what: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=140, force_terminal=False, record=True)
    console.print(page(what))
    return console.export_text()


def test_the_page_shows_services_progress_counts_and_weights() -> None:
    text = drawn(
        seen(
            services=[service(), service("gone", state="held", message="why", remedy="fix it", pid=None)],
            rounds=[a_round(counts=counts(total=10, succeeded=4, running=1))],
            subjects=[subject(1), subject(2)],
            publication=PUBLICATION,
            problems=["the disk is full"],
        )
    )
    for words in (
        "http://127.0.0.1:1", "miner", "ready", "why -> fix it", "round 1 open", "hk2", "4/5", "2 won",
        "1 lost", "1 errors", "total 10 = 4 done + 0 failed + 1 running + 5 pending", "epoch 3 published",
        "large 0.7500", "! the disk is full", "standfast down",
    ):  # fmt: skip
        assert words in text, words


def test_the_page_of_nothing_can_be_drawn() -> None:
    assert "standfast" in drawn(nothing_seen())


def test_the_page_of_a_large_network_is_bounded() -> None:
    text = drawn(seen(rounds=[a_round()], subjects=[subject(uid) for uid in range(256)]))
    assert "and 224 more" in text
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "bell\x07"])
def test_what_others_wrote_cannot_drive_the_terminal(text: str) -> None:
    assert plain(text).isprintable()
    line = news(seen(), seen(services=[service("x", state="held", message=text)]))[0]
    assert line.isprintable()
    assert "\x1b" not in drawn(seen(services=[service(text, state="held", message=text)]))


def test_progress_of_a_round_that_goes_on_is_told_every_ten_seconds() -> None:
    stream = io.StringIO()
    reporter = LineReporter(stream)
    for now_s in (0.0, 2.0, 4.0, 11.0):
        reporter.show(seen(rounds=[a_round()], subjects=[subject(1)]), now_s)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("03:04:05 round 1") for line in lines)


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_not_missed() -> None:
    reporter = LineReporter(tolerant(Broken()))
    reporter.say("hello")
    reporter.show(seen(rounds=[a_round()]), 0.0)
    reporter.close()
