"""Runs episodes: each in a process of its own, at most so many at once, killed at its time limit.

``run`` always returns a report, whatever happened; what happened to us is an infrastructure fault in it.
The event loop never waits for a process, a socket or a file.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from standfast.evaluation.environments import Catalogue
from standfast.evaluation.episode.blame import (
    InvalidReportError,
    Mishap,
    Progress,
    blame_timeout,
    describe_death,
    mishap,
)
from standfast.evaluation.episode.child import Job
from standfast.evaluation.episode.fork_client import Ending, ForkClient, ForkServerLostError
from standfast.evaluation.episode.rules import SubjectNetworks, check_spec, one_line
from standfast.evaluation.episode.slate import new_slate, read_progress, read_report
from standfast.evaluation.episode.subject import CallLimits, SubjectAddress
from standfast.evaluation.model import EpisodeReport, EpisodeSpec
from standfast.kernel.errors import ConfigError

#: What the fork server imports once, so that an episode does not: the engines of the built-in catalogue.
PRELOAD = (
    "numpy",
    "gymnasium.envs.classic_control",
    "mujoco",
    "gymnasium.envs.mujoco.inverted_pendulum_v5",
    "gymnasium.envs.mujoco.inverted_double_pendulum_v5",
    "gymnasium.envs.mujoco.reacher_v5",
    "standfast.evaluation.environments.classic",
    "standfast.evaluation.environments.mujoco_tasks",
)


class EpisodeRunner:
    """Runs episodes of the environments in a catalogue, at most ``concurrency`` at once.

    * ``run`` returns when the episode's process is really gone.
    * No two episodes share a process; nothing of an episode survives this process.
    * A cancelled ``run`` has killed its episode before it raises.
    * After ``close`` every ``run``, those under way too, reports ``ExecutorStopped``.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        concurrency: int,
        networks: SubjectNetworks = SubjectNetworks.ANY,
        witnesses: Sequence[str] = (),
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"{concurrency} episodes at once cannot run", fix="use 1 or more")
        self._catalogue = catalogue
        self._slots = asyncio.Semaphore(concurrency)
        self._networks = networks
        self._witnesses = tuple(witnesses)
        self._forks = ForkClient(preload)
        self._is_closed = False

    async def __aenter__(self) -> EpisodeRunner:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the episodes that run now."""
        return self._forks.pids

    async def start(self) -> None:
        """Import the engines ahead of the first episode; ForkServerLostError where that fails."""
        await self._forks.start()

    async def run(self, spec: EpisodeSpec) -> EpisodeReport:
        """Run one episode and report how it went; waits for a free place first."""
        try:
            job = self._job(spec)
        except ConfigError as error:
            code = "EnvironmentUnknown" if error.code == "UnknownEnvironment" else "SpecInvalid"
            return failed(mishap(code, str(error)))
        async with self._slots:
            if self._is_closed:
                return failed(mishap("ExecutorStopped", "the executor is stopping"))
            return await self._run(spec, job)

    async def close(self) -> None:
        """Kill the episodes that run, and wait until nothing of them is left."""
        self._is_closed = True
        await self._forks.stop()

    def _job(self, spec: EpisodeSpec) -> Job:
        entry = self._catalogue.get(spec.environment)
        check_spec(spec, entry)
        address = SubjectAddress(spec.endpoint, self._networks, self._witnesses)
        limits = spec.limits
        calls = CallLimits(limits.reset_s, limits.act_s, limits.subject_budget_s, limits.reply_bytes)
        return Job(entry, spec.seed, spec.variant, address, calls)

    async def _run(self, spec: EpisodeSpec, job: Job) -> EpisodeReport:
        started_at = time.monotonic()
        slate = new_slate()
        try:
            ending = await self._forks.run(job.as_dict(), slate_fd=slate, timeout_s=spec.limits.timeout_s)
        except ForkServerLostError as error:
            code = "ExecutorStopped" if self._is_closed else error.code
            report = failed(mishap(code, str(error)), read_progress(slate, now=time.monotonic()))
        else:
            report = conclude(slate, ending, timeout_s=spec.limits.timeout_s, started_at=started_at)
        finally:
            os.close(slate)
        return replace(report, duration_s=round(time.monotonic() - started_at, 6))


def conclude(slate: int, ending: Ending, *, timeout_s: float, started_at: float) -> EpisodeReport:
    """Say how an episode went from what its process left and how it ended.

    A whole report counts even where the process was killed afterwards: only the environment's close was
    left. Without one nothing that the process did is scored.
    """
    now = time.monotonic()
    progress = read_progress(slate, now=now)
    damage = ""
    try:
        report = read_report(slate)
    except InvalidReportError as error:
        report, damage = None, str(error)
    if report is not None:
        return report
    if ending.killed_for == "timeout":
        return failed(blame_timeout(progress, timeout_s=timeout_s, elapsed_s=now - started_at), progress)
    if ending.killed_for:
        return failed(mishap("ExecutorStopped", "the episode was killed because it was not wanted"), progress)
    if damage:
        return failed(mishap("EpisodeGarbled", f"its process left nothing usable: {damage}"), progress)
    return failed(describe_death(ending.status), progress)


def failed(failure: Mishap, progress: Progress | None = None) -> EpisodeReport:
    """Return the report of an episode that ended with ``failure``."""
    seen = progress or Progress()
    return EpisodeReport(
        success=False,
        steps=seen.steps,
        subject_s=round(seen.subject_s, 6),
        error_code=failure.code,
        error=one_line(failure.text),
        fault=failure.fault,
    )
