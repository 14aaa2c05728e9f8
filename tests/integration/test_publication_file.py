"""The file publisher on bad days: full, read-only and failing disks, wrong paths, damage, locks.

Run as a program, this file publishes once under a limit or as another user and prints how that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from standfast.kernel.errors import ConfigError, StandfastError
from standfast.publication.adapters.file import LATEST, LOCK, Disk, FilePublisher
from standfast.publication.document import MAX_DOCUMENT_BYTES, Document, published_of, render
from standfast.publication.model import Published
from standfast.publication.ports import (
    AlreadyThere,
    PublisherDamagedError,
    PublisherUnavailableError,
    PublisherUnusableError,
    Sent,
)
from standfast.testing.publisher_contract import good_document

FIRST, SECOND = good_document(epoch=1), good_document(epoch=2)
NOBODY = 65_534
PAGE = 4096


def publish(directory: Path, document: Document, **options: float | Disk) -> Sent | AlreadyThere:
    return asyncio.run(FilePublisher(directory, **options).publish(document))  # type: ignore[arg-type]


def read_back(directory: Path, disk: Disk | None = None) -> Published | None:
    return asyncio.run(FilePublisher(directory, disk=disk).read_back())


def state(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def expected(*documents: Document) -> dict[str, bytes]:
    numbered = {f"{document.epoch:06d}.json": render(document) for document in documents}
    return {**numbered, LATEST: render(documents[-1]), LOCK: b""}


@contextlib.contextmanager
def tmpfs(path: Path, *, pages: int) -> Iterator[Path]:
    """Mount a filesystem of that many pages; the test is skipped, by name, where mounting is not allowed."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={pages * PAGE}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root; RLIMIT_FSIZE stands in for it")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("free_pages", [0, 1])
def test_r4_on_a_full_disk_the_last_stays_and_the_next_call_publishes(
    tmp_path: Path, free_pages: int
) -> None:
    with tmpfs(tmp_path / "small", pages=8) as small:
        directory = small / "out"
        publish(directory, FIRST)
        fill = small / "fill"
        with pytest.raises(OSError, match="No space"):
            fill.write_bytes(b"x" * (64 * PAGE))
        os.truncate(fill, fill.stat().st_size // PAGE * PAGE - free_pages * PAGE)
        with pytest.raises(PublisherUnavailableError) as full:
            publish(directory, SECOND)
        assert (full.value.code, full.value.exit_code) == ("PublisherFull", 7)
        assert state(directory) == expected(FIRST)
        assert read_back(directory) == published_of(FIRST)
        fill.unlink()
        assert publish(directory, SECOND) == Sent(published_of(SECOND))
        assert state(directory) == expected(FIRST, SECOND)


def test_r9_on_a_filesystem_mounted_read_only_reading_goes_on(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", pages=16) as small:
        publish(small, FIRST)
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        with pytest.raises(PublisherUnusableError) as refused:
            publish(small, SECOND)
        assert (refused.value.code, refused.value.exit_code) == ("PublisherReadOnly", 3)
        assert read_back(small) == published_of(FIRST)
        assert state(small) == expected(FIRST)


def in_child(*arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("most_bytes", [0, 1, 100])
def test_r4_a_write_that_is_cut_off_leaves_nothing_visible(tmp_path: Path, most_bytes: int) -> None:
    publish(tmp_path, FIRST)
    assert most_bytes < len(render(SECOND))
    assert in_child("limited", str(tmp_path), str(most_bytes)) == {"code": "PublisherFull"}
    assert state(tmp_path) == expected(FIRST)
    assert publish(tmp_path, SECOND) == Sent(published_of(SECOND))


def test_r9_in_a_directory_that_may_not_be_written_the_last_stays() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        publish(directory, FIRST)
        before = state(directory)
        directory.chmod(0o555)
        try:
            assert in_child("unprivileged", name, "") == {"code": "PublisherReadOnly"}
        finally:
            directory.chmod(0o700)
        assert state(directory) == before


class FailingDisk(Disk):
    """Raises ``number`` in place of step ``failing_step`` and of every later one if ``for_good``."""

    def __init__(self, failing_step: int, number: int, *, for_good: bool) -> None:
        self.failing_step = failing_step
        self.number = number
        self.for_good = for_good
        self.step = 0

    def _fail(self) -> None:
        self.step += 1
        if self.step == self.failing_step or (self.for_good and self.step > self.failing_step):
            raise OSError(self.number, os.strerror(self.number))

    def make_directory(self, path: Path) -> None:
        self._fail()
        super().make_directory(path)

    @contextlib.contextmanager
    def locked(self, path: Path, *, wait_s: float) -> Iterator[None]:
        self._fail()
        with super().locked(path, wait_s=wait_s):
            yield

    def names(self, directory: Path) -> list[str]:
        self._fail()
        return super().names(directory)

    def read(self, path: Path) -> bytes:
        self._fail()
        return super().read(path)

    def write_new(self, path: Path, data: bytes) -> None:
        try:
            self._fail()
        except OSError:
            path.write_bytes(data[: len(data) // 2])
            raise
        super().write_new(path, data)

    def link(self, source: Path, target: Path) -> None:
        self._fail()
        super().link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._fail()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self._fail()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._fail()
        super().sync_directory(path)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_r4_a_disk_that_fails_at_any_step_is_a_typed_refusal(
    tmp_path: Path, number: int, for_good: bool
) -> None:
    failures = 0
    for step in range(1, 60):
        directory = tmp_path / str(step)
        publish(directory, FIRST)
        disk = FailingDisk(step, number, for_good=for_good)
        try:
            publish(directory, SECOND, disk=disk)
        except (PublisherUnavailableError, PublisherUnusableError):
            failures += 1
        if disk.step < step:
            break
        visible = {name: data for name, data in state(directory).items() if name.endswith(".json")}
        assert set(visible.values()) <= {render(FIRST), render(SECOND)}
        publish(directory, SECOND)
        assert state(directory) == expected(FIRST, SECOND), f"step {step}"
    else:
        raise AssertionError("the publication never ended")
    assert failures >= 14, "most steps failed loudly; only removals after the publication may fail quietly"


DAMAGE: list[tuple[str, str, Callable[[Path], object]]] = [
    ("torn", "000002.json", lambda d: (d / "000002.json").write_bytes(render(SECOND)[:-30])),
    ("empty", "000002.json", lambda d: (d / "000002.json").write_bytes(b"")),
    ("foreign", "000002.json", lambda d: (d / "000002.json").write_text('{"weights": {}}')),
    (
        "one bit",
        "000002.json",
        lambda d: (d / "000002.json").write_bytes(render(SECOND).replace(b"0.3", b"0.2")),
    ),
    ("another's number", "000009.json", lambda d: (d / "000009.json").write_bytes(render(SECOND))),
    ("short number", "3.json", lambda d: (d / "3.json").write_bytes(render(SECOND))),
    ("long number", "0000003.json", lambda d: (d / "0000003.json").write_bytes(render(SECOND))),
    ("endless number", "9" * 40, lambda d: (d / f"{'9' * 40}.json").write_bytes(render(SECOND))),
    ("directory", "000003.json", lambda d: (d / "000003.json").mkdir()),
    ("symlink", "000003.json", lambda d: (d / "000003.json").symlink_to(d / "000002.json")),
    ("fifo", "000003.json", lambda d: os.mkfifo(d / "000003.json")),
    ("too large", "000003.json", lambda d: os.truncate(_touched(d / "000003.json"), MAX_DOCUMENT_BYTES + 1)),
    ("latest torn", LATEST, lambda d: (d / LATEST).write_bytes(render(SECOND)[:-30])),
    (
        "latest foreign",
        LATEST,
        lambda d: (d / LATEST).write_bytes(render(good_document(epoch=2, round_id="x"))),
    ),
    ("latest a link", LATEST, lambda d: ((d / LATEST).unlink(), (d / LATEST).symlink_to(d / "000002.json"))),
    ("latest a directory", LATEST, lambda d: ((d / LATEST).unlink(), (d / LATEST).mkdir())),
    ("number missing", "000002.json", lambda d: (d / "000002.json").unlink()),
    ("numbers missing", "000002.json", lambda d: [path.unlink() for path in d.glob("0*.json")]),
]


class JournalDisk(Disk):
    """Writes down what changes names, and what makes names durable."""

    def __init__(self) -> None:
        self.journal: list[str] = []

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        self.journal.append(f"named {target.name}")

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.journal.append(f"named {target.name}")

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.journal.append(f"synced {path.name}")


def test_i2_every_name_is_durable_before_the_next_and_before_the_answer(tmp_path: Path) -> None:
    disk = JournalDisk()
    publish(tmp_path / "a" / "b", FIRST, disk=disk)
    assert disk.journal == [
        "synced a",
        f"synced {tmp_path.name}",
        "named 000001.json",
        "synced b",
        "named latest.json",
        "synced b",
    ]
    for call in (
        lambda: publish(tmp_path / "a" / "b", FIRST, disk=disk),
        lambda: read_back(tmp_path / "a" / "b", disk),
    ):
        disk.journal.clear()
        call()
        assert disk.journal == ["synced b"], "its writer may have died before this"


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(("name", "damage"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_r9_damage_is_named_and_left_alone(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    publish(tmp_path, FIRST)
    publish(tmp_path, SECOND)
    damage(tmp_path)
    before = state(tmp_path)
    for call in (lambda: read_back(tmp_path), lambda: publish(tmp_path, good_document(epoch=3))):
        with pytest.raises(PublisherDamagedError) as found:
            call()
        assert name in found.value.what
        assert str(tmp_path) in found.value.fix
        assert found.value.exit_code == 3
        assert state(tmp_path) == before


def test_r9_the_advice_for_damage_works(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    publish(tmp_path, SECOND)
    (tmp_path / "000002.json").write_bytes(b"torn")
    with pytest.raises(PublisherDamagedError, match="move it out"):
        read_back(tmp_path)
    (tmp_path / "000002.json").rename(tmp_path / "moved-out")
    with pytest.raises(PublisherDamagedError) as missing:
        read_back(tmp_path)
    subprocess.run(missing.value.fix.removeprefix("restore it: ").split(), check=True)
    assert read_back(tmp_path) == published_of(SECOND)
    (tmp_path / LATEST).unlink()
    assert read_back(tmp_path) == published_of(SECOND)
    assert (tmp_path / LATEST).read_bytes() == render(SECOND)


def test_k17_other_files_beside_publications_are_none_of_our_business(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    (tmp_path / "README").write_text("weights")
    (tmp_path / "notes.json").write_text("{}")
    assert publish(tmp_path, SECOND) == Sent(published_of(SECOND))
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_k17_old_numbers_may_be_deleted(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        publish(tmp_path, good_document(epoch=epoch))
    (tmp_path / "000001.json").unlink()
    (tmp_path / "000002.json").unlink()
    assert publish(tmp_path, good_document(epoch=4)) == Sent(published_of(good_document(epoch=4)))


def test_k17_latest_is_the_highest_number_not_the_longest_name(tmp_path: Path) -> None:
    for epoch in (999_999, 1_000_000):
        publish(tmp_path, good_document(epoch=epoch))
    assert (tmp_path / LATEST).read_bytes() == (tmp_path / "1000000.json").read_bytes()


def _file_in_the_way(root: Path) -> Path:
    (root / "file").write_text("x")
    return root / "file"


WRONG_PATHS: list[tuple[str, Callable[[Path], Path]]] = [
    ("a file", _file_in_the_way),
    ("below a file", lambda root: _file_in_the_way(root) / "weights"),
    ("a name too long", lambda root: root / ("x" * 300)),
]


@pytest.mark.parametrize("make", [row[1] for row in WRONG_PATHS], ids=[row[0] for row in WRONG_PATHS])
def test_r9_a_path_that_cannot_be_a_directory_is_a_configuration_error(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    for call in (lambda: publish(path, FIRST), lambda: read_back(path)):
        with pytest.raises(ConfigError) as refused:
            call()
        assert refused.value.code == "PublisherPathInvalid"


def test_r9_a_link_into_nowhere_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(tmp_path / "unmounted")
    with pytest.raises(ConfigError):
        publish(tmp_path / "weights", FIRST)


@pytest.mark.parametrize("wait_s", [float("nan"), float("inf"), -1.0])
def test_r9_a_wait_without_end_is_refused(tmp_path: Path, wait_s: float) -> None:
    with pytest.raises(ConfigError):
        FilePublisher(tmp_path, lock_wait_s=wait_s)


def test_i7_a_writer_that_holds_the_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    with (tmp_path / LOCK).open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        started = time.monotonic()
        with pytest.raises(PublisherUnavailableError) as busy:
            publish(tmp_path, SECOND, lock_wait_s=0.2)
        assert 0.2 <= time.monotonic() - started < 2
        assert busy.value.code == "PublisherLocked"
        assert read_back(tmp_path) == published_of(FIRST), "readers wait for nobody"
    assert publish(tmp_path, SECOND) == Sent(published_of(SECOND))


def test_i7_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    with subprocess.Popen(
        [sys.executable, __file__, "holder", str(tmp_path), ""], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(PublisherUnavailableError):
            publish(tmp_path, SECOND, lock_wait_s=0.1)
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
    assert publish(tmp_path, SECOND) == Sent(published_of(SECOND))


def test_i7_of_several_processes_one_wins_and_all_agree(tmp_path: Path) -> None:
    rivals = [
        subprocess.Popen(
            [sys.executable, __file__, "rival", str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    answers = [json.loads(rival.communicate(timeout=30)[0])["code"] for rival in rivals]
    assert sorted(answers) == ["EpochTaken", "EpochTaken", "EpochTaken", "Sent"]
    winner = good_document(round_id=f"by-{answers.index('Sent')}")
    assert state(tmp_path) == expected(winner)


def _ending(directory: Path, document: Document) -> str:
    try:
        return type(publish(directory, document)).__name__
    except StandfastError as error:
        return error.code


def act(how: str, directory: Path, argument: str) -> None:
    """Be the child process that a test needs; print how publishing ended."""
    if how == "holder":
        with (directory / LOCK).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            sys.stdout.write("held\n")
            sys.stdout.flush()
            time.sleep(60)
    document = good_document(round_id=f"by-{argument}") if how == "rival" else SECOND
    # Output goes through a pipe, which RLIMIT_FSIZE does not limit.
    if how == "limited":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(argument), int(argument)))
    if how == "unprivileged" and os.geteuid() == 0:
        # The standard library loads threads when they are first used; nobody may not be able to read it.
        asyncio.run(asyncio.to_thread(os.getpid))
        os.setuid(NOBODY)
    sys.stdout.write(json.dumps({"code": _ending(directory, document)}) + "\n")


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
