"""Reading a log by position: nothing twice, nothing lost, whatever is done to the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.app.log_reading import LogReader, last_lines, life_begins_at
from standfast.kernel.errors import UnhealthyError


def test_a_log_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnhealthyError, match=r"db\.log cannot be read"):
        last_lines(tmp_path / "db.log", 5)


def test_the_last_lines_of_a_life_are_none_of_an_earlier_one(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text("old 1\nold 2\nnew 1\nnew 2\n")
    assert last_lines(log, 3) == ["old 2", "new 1", "new 2"]
    assert last_lines(log, 9, begin=12) == ["new 1", "new 2"]
    assert last_lines(log, 9, begin=10_000) == []


def test_where_a_life_begins_is_read_from_its_shim(tmp_path: Path) -> None:
    log, folder = tmp_path / "db.log", tmp_path / "lives" / "db"
    log.write_text("x" * 20)
    assert life_begins_at(tmp_path, "db", log) is None
    folder.mkdir(parents=True)
    life = {
        "name": "db", "life": "l", "spec": "s", "boot": "b", "shim": [1, 2], "child": [3, 4],
        "started_s": 1.0, "started_at": 1.0, "log_at": 12, "cgroups": [], "ready_s": None, "status": "",
        "stopped": False, "asked_by": 0, "exit": None, "gone": False,
    }  # fmt: skip
    (folder / "life.json").write_text(json.dumps(life))
    assert life_begins_at(tmp_path, "db", log) == 12
    log.write_text("short")
    assert life_begins_at(tmp_path, "db", log) == 0, "it was emptied under the life"


def test_following_tells_whole_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text("before\n")
    reader = LogReader.at_end(log)
    assert list(reader.more()) == []
    with log.open("a") as file:
        file.write("one\ntw")
    assert list(reader.more()) == ["one"]
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert list(reader.more()) == ["two", "three"]
    assert list(reader.more()) == []


def test_following_survives_a_log_that_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text("before\n")
    reader = LogReader.at_end(log)
    with log.open("a") as file:
        file.write("last of the old\n")
    log.replace(tmp_path / "db.log.1")
    assert list(reader.more()) == []
    log.write_text("first of the new\n")
    assert list(reader.more()) == ["last of the old", "first of the new"]


def test_following_survives_a_log_that_is_emptied(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text("a long text before\n")
    reader = LogReader.at_end(log)
    log.write_text("after\n")
    assert list(reader.more()) == ["after"]


def test_following_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    reader = LogReader.at_end(tmp_path / "db.log")
    assert list(reader.more()) == []
    (tmp_path / "db.log").write_text("first\n")
    assert list(reader.more()) == ["first"]


def test_a_line_without_an_end_is_told_before_it_fills_the_memory(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text("")
    reader = LogReader.at_end(log)
    log.write_text("y" * 1_500_000)
    (line,) = reader.more()
    assert len(line) == 1_500_000
