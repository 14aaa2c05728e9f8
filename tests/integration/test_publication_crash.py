"""Killed between any two steps or in mid-write, the file publisher leaves what the next call completes.

Run as a program, this file is the victim: it forks a process per step and lets it kill itself there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.publication.adapters.file import LATEST, LOCK, Disk, FilePublisher
from standfast.publication.document import Document, parse, published_of, render
from standfast.publication.ports import AlreadyThere, Sent
from standfast.testing.publisher_contract import good_document

FIRST, SECOND = good_document(epoch=1), good_document(epoch=2)
# Steps of one publication over an earlier one: two sweeps, a sync, two writes, a link, a sync, a rename,
# a sync and two removals, and the lock.
FEWEST_STEPS = 12


class MortalDisk(Disk):
    """Kills its own process in front of step ``mortal_step``, or in the middle of it if that writes."""

    def __init__(self, mortal_step: int, *, torn: bool) -> None:
        self.mortal_step = mortal_step
        self.torn = torn
        self.step = 0

    def _survive(self) -> None:
        self.step += 1
        if self.step == self.mortal_step and not self.torn:
            os.kill(os.getpid(), signal.SIGKILL)

    def make_directory(self, path: Path) -> None:
        self._survive()
        super().make_directory(path)

    @contextlib.contextmanager
    def locked(self, path: Path, *, wait_s: float) -> Iterator[None]:
        self._survive()
        with super().locked(path, wait_s=wait_s):
            yield

    def write_new(self, path: Path, data: bytes) -> None:
        self._survive()
        if self.step == self.mortal_step and self.torn:
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        super().write_new(path, data)

    def link(self, source: Path, target: Path) -> None:
        self._survive()
        super().link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._survive()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self._survive()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._survive()
        super().sync_directory(path)


def publish(directory: Path, document: Document, disk: Disk | None = None) -> Sent | AlreadyThere:
    return asyncio.run(FilePublisher(directory, disk=disk).publish(document))


def victim(root: Path) -> None:
    """Leave one directory per point of death under ``root`` and print what became of each process."""
    for name, before, document in (("first", None, FIRST), ("second", FIRST, SECOND)):
        for torn in (False, True):
            step = 0
            while step < 100:  # Ends at the first step that the process does not reach.
                step += 1
                directory = root / f"{name}-{step:02d}-{'torn' if torn else 'whole'}"
                if before is not None:
                    publish(directory, before)
                disk = MortalDisk(step, torn=torn)
                child = os.fork()
                if child == 0:
                    publish(directory, document, disk)
                    os._exit(0 if disk.step >= step else 1)
                ending = os.waitpid(child, 0)[1]
                died = os.WIFSIGNALED(ending) and os.WTERMSIG(ending) == signal.SIGKILL
                sys.stdout.write(json.dumps({"directory": directory.name, "died": died}) + "\n")
                if os.WIFEXITED(ending) and os.WEXITSTATUS(ending) == 1:
                    break


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the directories that a killed process left, one per point of death."""
    root = tmp_path_factory.mktemp("victim")
    done = subprocess.run(
        [sys.executable, __file__, str(root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    found = [root / end["directory"] for end in ends if end["died"]]
    for name in ("first", "second"):
        assert (
            len([path for path in found if path.name.startswith(name) and "whole" in path.name])
            >= FEWEST_STEPS
        )
        assert len([path for path in found if path.name.startswith(name) and "torn" in path.name]) == 2
    return found


def state(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def expected(*documents: Document) -> dict[str, bytes]:
    numbered = {f"{document.epoch:06d}.json": render(document) for document in documents}
    return {**numbered, LATEST: render(documents[-1]), LOCK: b""}


def of(directory: Path) -> tuple[list[Document], Document]:
    """Return what was published in ``directory`` before, and what its process died of publishing."""
    return ([], FIRST) if directory.name.startswith("first") else ([FIRST], SECOND)


def copies(dead: list[Path], tmp_path: Path) -> list[Path]:
    found = []
    for directory in dead:
        copy = tmp_path / directory.name
        if directory.exists():
            shutil.copytree(directory, copy)
        found.append(copy)
    return found


def test_r5_at_every_death_a_reader_sees_whole_documents_only(dead: list[Path]) -> None:
    seen = set()
    for directory in dead:
        before, document = of(directory)
        visible = sorted(directory.glob("*.json")) if directory.exists() else []
        for path in visible:
            found = parse(path.read_bytes())
            assert found in [*before, document], path
            seen.add((path.name, found.epoch))
        if before:
            assert directory / LATEST in visible, "the last good publication was there at every moment"
    assert {(LATEST, 1), (LATEST, 2), ("000002.json", 2)} <= seen, (
        "deaths fell on both sides of the publication"
    )


def test_r5_the_same_call_after_every_death_leads_to_the_same_state(dead: list[Path], tmp_path: Path) -> None:
    outcomes = set()
    for directory in copies(dead, tmp_path):
        before, document = of(directory)
        outcomes.add(type(publish(directory, document)))
        assert state(directory) == expected(*before, document), directory.name
    assert outcomes == {Sent, AlreadyThere}


def test_r5_the_next_leader_after_every_death_publishes_the_same_once(
    dead: list[Path], tmp_path: Path
) -> None:
    for directory in copies(dead, tmp_path):
        before, document = of(directory)
        taken_over = replace(document, leader_term=document.leader_term + 1)
        published = publish(directory, taken_over)
        final = document if isinstance(published, AlreadyThere) else taken_over
        assert state(directory) == expected(*before, final), directory.name


def test_r5_reading_back_after_every_death_completes_what_was_published(
    dead: list[Path], tmp_path: Path
) -> None:
    answers = set()
    for directory in copies(dead, tmp_path):
        before, document = of(directory)
        answer = asyncio.run(FilePublisher(directory).read_back())
        answers.add(answer.epoch if answer else None)
        numbered = sorted(path.name for path in directory.glob("0*.json"))
        if answer is None:
            assert not before
            assert not numbered
            continue
        assert answer == published_of(parse((directory / LATEST).read_bytes()))
        assert numbered[-1] == f"{answer.epoch:06d}.json"
        assert isinstance(publish(directory, document), Sent) == (answer.epoch < document.epoch)
    assert answers == {None, 1, 2}


if __name__ == "__main__":
    victim(Path(sys.argv[1]))
