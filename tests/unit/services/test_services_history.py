"""What survives a supervisor: ends, waits, holds; and a store that is damaged, removed, full or not there."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from standfast.kernel.clock import SystemClock
from standfast.kernel.errors import StandfastError, StoreError
from standfast.services.history import KEPT, LOOKED_AT, History
from standfast.services.model import UNSEEN, End, ExitStatus

BOOT = "boot-1"
Open = Callable[..., History]

BOOM = End(
    ExitStatus(42), lived_s=2.2, ready_s=0.5, last_line="boom 'quoted' \N{SNOWMAN}", left_behind=1,
    at="2026-01-01T00:00:00.000Z", at_s=77.0, print_="boom", down=("db",), oom_kills=3, asked_by="",
    cls="code_bug", action="backoff_limited", rule="r", fix="mend it", evidence=("a", "b"), is_permanent=True,
    inputs={"config": "1 2 3"},
)  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Open]:
    opened: list[History] = []

    def begin(*, boot: str = BOOT) -> History:
        if opened:
            opened[-1].close()
        opened.append(History(tmp_path / "services.db", SystemClock(), boot_id=boot))
        return opened[-1]

    yield begin
    opened[-1].close()


def at(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000Z"


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives_of(history: History) -> list[dict[str, object]]:
    """Return its lives; nothing at the moment at which its store is made again."""
    with contextlib.suppress(StandfastError):
        return history.lives()
    return []


def test_an_end_is_read_back_as_it_was_written(history: Open) -> None:
    first = history()
    first.began("web", "l1", at=at(0))
    first.ended("web", "l1", BOOM)
    first.ended("web", "l2", dataclasses.replace(BOOM, status=UNSEEN, oom_kills=None, at=at(9)))
    assert list(history().ends("web")) == [
        BOOM,
        dataclasses.replace(BOOM, status=UNSEEN, oom_kills=None, at=at(9)),
    ]


def test_the_clock_of_another_boot_is_not_believed(history: Open) -> None:
    history().ended("web", "l1", BOOM)
    assert history(boot="boot-2").ends("web")[0].at_s == float("-inf")


def test_an_end_that_was_asked_for_is_kept_and_held_against_nobody(history: Open) -> None:
    first = history()
    first.ended("web", "l1", dataclasses.replace(BOOM, cls="requested_stop"))
    second = history()
    assert second.ends("web") == ()
    assert [life["class"] for life in second.lives("web")] == ["requested_stop"]


def test_a000_7_what_lives_took_to_become_ready_survives(history: Open) -> None:
    first = history()
    for number, wait_s in enumerate((24.3, 63.9, 50.1)):
        first.began("model", f"l{number}", at=at(number))
        first.ready("model", f"l{number}", after_s=wait_s)
    second = history()
    assert second.waits("model") == (24.3, 63.9, 50.1)
    assert second.waits("other") == ()


def test_a_life_that_has_not_ended_knows_when_it_became_ready(history: Open) -> None:
    first = history()
    first.began("web", "l1", at=at(0))
    first.ready("web", "l1", after_s=1.5)
    first.began("db", "l2", at=at(0))
    first.ready("db", "l2", after_s=1.0)
    first.ended("db", "l2", BOOM)
    second = history()
    assert (second.ready_after("l1"), second.ready_after("l2")) == (1.5, None)


def test_a_pardon_holds_for_what_was_and_not_for_what_comes(history: Open) -> None:
    first = history()
    first.ended("web", "l1", BOOM)
    first.pardon("web")
    first.ended("web", "l2", dataclasses.replace(BOOM, at="2999-01-01T00:00:00.000Z", last_line="later"))
    assert [end.last_line for end in history().ends("web")] == ["later"]
    assert len(history().lives("web")) == 2


def test_a_hold_survives_until_it_is_released(history: Open) -> None:
    history().hold("web", "ann", "mends it")
    second = history()
    held = second.held_by("web")
    assert held is not None
    assert held[:2] == ("ann", "mends it")
    second.release("web")
    assert history().held_by("web") is None


def test_only_the_latest_lives_are_looked_at_and_old_ones_go(history: Open) -> None:
    first = history()
    for number in range(KEPT + 20):
        first.ended("web", f"l{number}", dataclasses.replace(BOOM, at=at(number), last_line=str(number)))
    second = history()
    ends = second.ends("web")
    assert len(ends) == LOOKED_AT
    assert ends[-1].last_line == str(KEPT + 19)
    assert len(second.lives("web", limit=10_000)) == KEPT


def test_a_second_one_beside_it_is_refused(history: Open, tmp_path: Path) -> None:
    history()
    with pytest.raises(StoreError, match="in use by"):
        History(tmp_path / "services.db", SystemClock(), boot_id=BOOT)


def test_a_damaged_store_is_kept_aside_and_begun_anew(history: Open, tmp_path: Path) -> None:
    (tmp_path / "services.db").write_bytes(b"this is no database" * 500)
    damaged = history()
    assert "damaged" in damaged.trouble
    damaged.ended("web", "l1", BOOM)
    assert (tmp_path / next(p.name for p in tmp_path.glob("services.db.damaged-*"))).stat().st_size == 9_500
    again = history()
    assert (list(again.ends("web")), again.trouble) == ([BOOM], "")


def test_a_store_that_cannot_be_opened_is_said_and_opened_as_soon_as_it_can(
    history: Open, tmp_path: Path
) -> None:
    (tmp_path / "services.db").mkdir()
    without = history()
    assert "cannot be opened" in without.trouble
    without.hold("web", "ann", "")
    without.ended("web", "l1", BOOM)
    assert without.held_by("web") is not None
    with pytest.raises(StandfastError, match="cannot be opened"):
        without.lives()
    (tmp_path / "services.db").rmdir()
    until(lambda: not without.trouble)
    assert list(history().ends("web")) == [BOOM]


def test_a_store_that_is_removed_while_in_use_is_made_again_and_said(history: Open, tmp_path: Path) -> None:
    used = history()
    used.ended("web", "l1", BOOM)
    until(lambda: used.lives("web"))
    for path in tmp_path.glob("services.db*"):
        path.unlink()
    used.ended("web", "l2", BOOM)
    until(lambda: [life["life"] for life in lives_of(used)] == ["l2"])
    assert "removed" in used.trouble
    assert list(history().ends("web")) == [BOOM]


def test_a_record_that_cannot_be_written_is_dropped_alone(history: Open) -> None:
    used = history()
    used.ended("web", "l1", dataclasses.replace(BOOM, last_line="\udcff is no text"))
    used.note("service.held", "web", {"message": object()})
    used.ended("web", "l2", BOOM)
    assert list(history().ends("web")) == [BOOM]
    assert "2 records were dropped" in used.trouble
