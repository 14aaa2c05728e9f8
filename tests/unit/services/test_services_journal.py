"""The log of a service: bounded, readable, harmless to show."""

from __future__ import annotations

import os
from pathlib import Path

from standfast.services.adapters.journal import KEPT_BYTES, FileJournal


def write(journal: FileJournal, text: str) -> None:
    descriptor = journal.open()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def append(journal: FileJournal, text: str) -> None:
    """Write as the present life does, whose file is open."""
    with Path(journal.path).open("a") as file:
        file.write(text)


def test_lives_append_to_one_file(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "logs" / "a.log")
    write(journal, "first\n")
    write(journal, "second\n")
    assert journal.tail() == ("first", "second")


def test_lines_are_the_present_lifes_own(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    write(journal, "of the first life\n")
    os.close(journal.open())
    assert journal.lines() == ()
    append(journal, "of the second life\n\n")
    assert journal.lines() == ("of the second life",)
    assert journal.tail() == ("of the first life", "of the second life")


def test_control_characters_never_reach_the_reader(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    write(journal, "\x1b[2J\x1b]0;owned\x07harm\x00less\n" + "x" * 5_000 + "\n")
    assert journal.tail()[0] == "[2J]0;ownedharmless"
    assert len(journal.tail()[1]) == 400


def test_a_large_file_moves_aside_at_the_start(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log", limit_bytes=100)
    write(journal, "old " * 40)
    write(journal, "new\n")
    assert (tmp_path / "a.log").read_text() == "new\n"
    assert (tmp_path / "a.log.1").read_text().startswith("old ")


def test_a_flood_is_cut_under_the_writer_and_counted(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log", limit_bytes=KEPT_BYTES)
    descriptor = journal.open()
    os.write(descriptor, b"z" * (KEPT_BYTES + 500))
    assert journal.bound() == 500
    # The descriptor is in append mode, so what follows begins at the start of the emptied file.
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert (tmp_path / "a.log").read_bytes() == b"after\n"
    assert journal.bound() == 500
    assert (tmp_path / "a.log.1").stat().st_size == KEPT_BYTES


def test_a_log_that_was_deleted_is_empty(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    assert (journal.tail(), journal.lines(), journal.bound(), journal.saw("x")) == ((), (), 0, False)


def test_a_life_that_is_taken_back_keeps_its_lines_and_no_others(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    write(journal, "READY of an old life\n")
    begins_at = journal.begin()
    append(journal, "present\n")
    later = FileJournal(tmp_path / "a.log")
    later.resume(begins_at)
    assert later.lines() == ("present",)
    assert not later.saw("READY")
    append(journal, "READY\n")
    assert later.saw("READY")


def test_a_log_that_was_emptied_since_is_read_from_its_beginning(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    write(journal, "short\n")
    journal.resume(9_000)
    assert journal.lines() == ("short",)


def test_a_line_is_seen_whole_or_not_yet(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    journal.begin()
    append(journal, "server is re")
    assert not journal.saw("ready")
    append(journal, "ady\n")
    assert journal.saw("ready")


def test_what_was_looked_at_is_not_read_again_and_all_of_a_flood_is(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    journal.begin()
    append(journal, "noise " * 100_000 + "\n" + "ready\n")
    looks = 0
    while not journal.saw("^ready$"):
        looks += 1
        assert looks < 10, "600 KB in 256 KB a look"
    assert not journal.saw("^ready$")


def test_a_pattern_is_found_in_the_first_line_of_a_life(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    journal.begin()
    append(journal, "\x1b[32mINFO\x1b[0m listening on 8000\n")
    assert journal.saw(r"INFO.* listening on \d+$")
