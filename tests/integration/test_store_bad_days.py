"""SQLite on its bad days: locked, newer, damaged, read-only, full, killed in the middle of a write."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.facts.database import Migrations, Tx, migrate
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.facts.model import Intact
from standfast.facts.store import FactStore
from standfast.kernel.clock import SystemClock
from standfast.kernel.errors import StoreError, StoreUnavailableError

SERIES = [Migrations.of("standfast.facts", "sqlite"), Migrations.of("standfast.tasks", "sqlite")]
PAGE = 4_096
HOLDER = """
import sys, time
from standfast.facts.database.sqlite import SqliteDatabase
database = SqliteDatabase(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""
WRITER = """
import sys
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.facts.store import FactStore
from standfast.kernel.clock import SystemClock
database = SqliteDatabase(sys.argv[1])
facts = FactStore("sqlite", SystemClock())
for number in range(100_000):
    text = "x" * (number % 2_000)
    fact = database.write_now(lambda tx: facts.append(tx, "trial.wrote", text, {"n": number}))
    print(fact.seq, flush=True)
"""


def open_store(path: Path) -> SqliteDatabase:
    database = SqliteDatabase(path)
    migrate(database, SERIES, SystemClock())
    return database


def append(database: SqliteDatabase, count: int, *, size: int = 200) -> None:
    facts = FactStore("sqlite", SystemClock())
    for number in range(count):
        body = {"n": number, "text": "x" * size}
        database.write_now(lambda tx, body=body: facts.append(tx, "trial.wrote", "s", body))


def started(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)


def verified(database: SqliteDatabase) -> Intact:
    found = database.read_now(FactStore("sqlite", SystemClock()).verify)
    assert isinstance(found, Intact), found
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "standfast.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB of its own; the test is skipped where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "standfast-test", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        pytest.skip(f"a file system cannot be mounted here: {tried.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# Locked.


def test_a_store_that_another_process_writes_is_refused_by_its_pid(path: Path) -> None:
    open_store(path).close()
    with started(HOLDER, path) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError) as caught:
            SqliteDatabase(path)
        assert caught.value.code == "StoreLocked"
        assert f"process {holder.pid}" in str(caught.value)
        assert "standfast down" in caught.value.fix
        reader = SqliteDatabase(path, read_only=True)
        verified(reader)
        reader.close()
        holder.send_signal(signal.SIGKILL)
    database = SqliteDatabase(path)
    append(database, 1)
    database.close()


def test_a_refused_store_is_not_touched(path: Path) -> None:
    database = open_store(path)
    append(database, 3)
    with pytest.raises(StoreError):
        SqliteDatabase(path)
    append(database, 3)
    assert verified(database).count == 6
    database.close()


# Newer.


def test_a_newer_store_is_refused_and_still_whole_for_the_newer_code(path: Path) -> None:
    database = open_store(path)
    append(database, 2)
    database.write_now(
        lambda tx: tx.rows("INSERT INTO schema_migration VALUES ('tasks', 99, 'later', 'now')")
    )
    with pytest.raises(StoreError) as caught:
        migrate(database, SERIES, SystemClock())
    assert caught.value.code == "StoreNewer"
    assert "tasks schema 99" in caught.value.why
    assert verified(database).count == 2
    database.close()


# Damaged.


def _filled(path: Path) -> bytes:
    database = open_store(path)
    append(database, 300)
    database.close()
    return path.read_bytes()


def _spoil_header(sound: bytes) -> bytes:
    return b"\x93garbage" * 16 + sound[128:]


def _spoil_schema(sound: bytes) -> bytes:
    return sound[:100] + random.Random(1).randbytes(PAGE - 100) + sound[PAGE:]


def _spoil_page(sound: bytes) -> bytes:
    middle = len(sound) // PAGE // 2 * PAGE
    return sound[:middle] + random.Random(2).randbytes(PAGE) + sound[middle + PAGE :]


def _cut_in_half(sound: bytes) -> bytes:
    return sound[: len(sound) // PAGE // 2 * PAGE]


def _cut_in_a_page(sound: bytes) -> bytes:
    return sound[: PAGE * 3 + 777]


@pytest.mark.parametrize("spoil", [_spoil_header, _spoil_schema, _spoil_page, _cut_in_half, _cut_in_a_page])
def test_a_damaged_store_is_refused_and_left_as_it_is(path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    spoilt = spoil(_filled(path))
    path.write_bytes(spoilt)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            SqliteDatabase(path)
        assert caught.value.code == "StoreDamaged"
        assert str(path) in caught.value.fix
        assert caught.value.why
    assert path.read_bytes() == spoilt


def test_every_single_page_that_is_lost_is_noticed(path: Path) -> None:
    """Page by page: zeroed. What is opened nevertheless holds a chain that is whole or named as broken."""
    sound = _filled(path)
    noticed = 0
    for number in range(len(sound) // PAGE):
        path.write_bytes(sound[: number * PAGE] + bytes(PAGE) + sound[(number + 1) * PAGE :])
        noticed += _is_noticed(path)
    assert noticed >= len(sound) // PAGE * 0.9


def _is_noticed(path: Path) -> bool:
    try:
        database = SqliteDatabase(path)
    except StoreError as error:
        return error.code == "StoreDamaged"
    found = database.read_now(FactStore("sqlite", SystemClock()).verify)
    database.close()
    assert not isinstance(found, Intact) or found.count == 300
    return not isinstance(found, Intact)


# Read-only and missing.


def test_a_folder_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        SqliteDatabase(tmp_path / "nowhere" / "standfast.db")
    assert caught.value.code == "StoreCannotOpen"


def test_a_folder_in_place_of_the_file_is_said_to_be_so(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError) as caught:
        SqliteDatabase(path)
    assert caught.value.code == "StoreCannotOpen"


def test_a_store_on_a_read_only_disk_is_refused_at_once(small_disk: Path) -> None:
    path = small_disk / "standfast.db"
    database = open_store(path)
    append(database, 3)
    database.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError) as caught:
        SqliteDatabase(path)
    assert caught.value.code == "StoreReadOnly"
    assert "writable" in caught.value.fix
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    database = SqliteDatabase(path)
    assert verified(database).count == 3
    database.close()


# Full.


def test_a_full_disk_is_a_typed_refusal_that_loses_nothing_and_passes(small_disk: Path) -> None:
    database = open_store(small_disk / "standfast.db")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    with pytest.raises(StoreUnavailableError) as caught:
        append(database, 1_000, size=20_000)
    written = verified(database).count
    assert caught.value.code == "StoreFull"
    assert "free some space" in caught.value.fix
    assert written > 10
    with pytest.raises(StoreUnavailableError):
        append(database, 1, size=20_000)
    ballast.unlink()
    append(database, 5, size=2_000)
    assert verified(database).count == written + 5
    database.close()
    again = SqliteDatabase(small_disk / "standfast.db")
    assert verified(again).count == written + 5
    again.close()


def test_a_store_on_a_disk_that_is_full_from_the_start_says_so(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(b"x" * 4_000_000)
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(small_disk / "standfast.db")
    assert caught.value.code == "StoreFull"


# Killed.


@pytest.mark.parametrize("after", [1, 37, 150])
def test_i2_a_kill_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(
    path: Path, after: int
) -> None:
    open_store(path).close()
    acknowledged = 0
    for _ in range(3):
        with started(WRITER, path) as writer:
            assert writer.stdout
            for _ in range(after):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        database = SqliteDatabase(path)
        assert verified(database).count >= acknowledged
        database.close()
    assert acknowledged >= 3 * after


def test_a_fork_of_the_writer_does_not_keep_the_store_from_its_successor(path: Path) -> None:
    """A child that outlives us must not hold our lock: what is started is started by exec."""
    program = (
        "import subprocess, sys\n"
        "from standfast.facts.database.sqlite import SqliteDatabase\n"
        "database = SqliteDatabase(sys.argv[1])\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "program = 'import time; time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', program], close_fds=False, **quiet)\n"
        "print(child.pid, flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    child = int(died.stdout)
    try:
        SqliteDatabase(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_a_reader_sees_while_somebody_writes_is_one_moment(path: Path) -> None:
    """The head and the rows that are read belong together, however fast the writer is."""
    open_store(path).close()
    with started(WRITER, path) as writer:
        assert writer.stdout
        writer.stdout.readline()
        reader = SqliteDatabase(path, read_only=True)
        counts = [verified(reader).count for _ in range(20)]
        reader.close()
        writer.send_signal(signal.SIGKILL)
    assert counts == sorted(counts)


def test_a_statement_of_ours_that_is_wrong_is_no_typed_refusal(path: Path) -> None:
    """Nobody shall retry a bug."""
    database = open_store(path)

    def work(tx: Tx) -> None:
        tx.rows("INSERT INTO nowhere VALUES (:x)", {"x": json.dumps({})})

    with pytest.raises(Exception, match="nowhere") as caught:
        database.write_now(work)
    assert not isinstance(caught.value, StoreError | StoreUnavailableError)
    database.close()
