"""The log of a service: bounded, readable, harmless to show."""

from __future__ import annotations

import os
from pathlib import Path

from standfast.services.adapters.journal import KEPT_BYTES, FileJournal


def write(journal: FileJournal, text: str) -> None:
    descriptor = journal.open()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_lives_append_to_one_file(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "logs" / "a.log")
    write(journal, "first\n")
    write(journal, "second\n")
    assert journal.tail() == ("first", "second")


def test_the_last_line_is_the_present_lifes_own(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "a.log")
    write(journal, "of the first life\n")
    os.close(journal.open())
    assert journal.last_line() == ""
    write(journal, "of the third life\n\n")
    assert journal.last_line() == "of the third life"


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
    assert (journal.tail(), journal.last_line(), journal.bound()) == ((), "", 0)
