"""Runs episodes of bad environments against bad subjects, with one runner on a loop of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bad_environments import FOLDER, bad_catalogue, notes
from standfast.evaluation.episode import EpisodeRunner
from standfast.evaluation.model import EpisodeLimits, EpisodeReport, EpisodeSpec

T = TypeVar("T")

#: Short limits: a fault shows as soon as its limit has passed.
QUICK = EpisodeLimits(timeout_s=20.0, reset_s=1.0, act_s=0.4, subject_budget_s=5.0)


class Lab:
    """One runner, its event loop in a thread, and the folder in which environments leave their notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.runner = EpisodeRunner(bad_catalogue(), concurrency=4, preload=("bad_environments",))
        self.call(self.runner.start())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def notes(self, environment: str) -> list[str]:
        """Return what ``environment`` has noted."""
        return notes(self.folder, environment)

    def stop(self) -> None:
        """Stop the runner and the loop."""
        self.call(self.runner.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def lab_in(folder: Path) -> Iterator[Lab]:
    """Open a lab whose environments leave their notes in ``folder``."""
    os.environ[FOLDER] = str(folder)
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.stop()
        del os.environ[FOLDER]


def episode(environment: str, url: str, limits: EpisodeLimits = QUICK) -> EpisodeSpec:
    return EpisodeSpec(environment, 918_273_645, 7_531, url, limits)


async def timed(runner: EpisodeRunner, spec: EpisodeSpec) -> tuple[EpisodeReport, float]:
    """Return the report and the seconds it took as this test sees them."""
    started_at = time.monotonic()
    report = await runner.run(spec)
    return report, time.monotonic() - started_at


def is_gone(pid: int) -> bool:
    """Say whether no process has this pid, dead ones that nobody has buried included."""
    return not Path(f"/proc/{pid}").exists()


def is_dead(pid: int) -> bool:
    """Say whether the process is gone or only waits to be buried by a stranger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(condition: Any, *, within_s: float) -> bool:
    """Wait until ``condition`` holds; say whether it did in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
