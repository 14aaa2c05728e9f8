"""What runs in an episode's own process: the environment, the conversation with the subject, the report.

The process ends by ``os._exit`` as soon as the report is written: nothing that an environment left behind
(threads, exit handlers, a name lookup that hangs) can hold it. It does not know the episode's time limit:
that is kept by the process that started it, which kills it (K4).
"""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from standfast.evaluation.environments import EnvironmentSpec, make, spec_from_dict
from standfast.evaluation.episode.blame import MishapError, Phase, fail, mishap
from standfast.evaluation.episode.rules import (
    SubjectNetworks,
    check_observation,
    check_reward,
    one_line,
)
from standfast.evaluation.episode.slate import SlateWriter
from standfast.evaluation.episode.subject import CallLimits, SubjectAddress, SubjectClient
from standfast.evaluation.model import EpisodeReport
from standfast.evaluation.ports import Environment, Step
from standfast.kernel.errors import ConfigError

#: An environment may take this long to close; then the kernel ends the process.
CLOSE_S = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One episode as its process receives it; the time limit of the whole is not part of it."""

    entry: EnvironmentSpec
    seed: int
    variant: int
    address: SubjectAddress
    limits: CallLimits

    def as_dict(self) -> dict[str, Any]:
        """Return the job as plain JSON values."""
        return {
            "entry": self.entry.as_dict(),
            "seed": self.seed,
            "variant": self.variant,
            "endpoint": self.address.endpoint,
            "networks": self.address.networks.value,
            "witnesses": list(self.address.witnesses),
            "limits": asdict(self.limits),
        }


def job_from_dict(value: Mapping[str, Any]) -> Job:
    """Return the job that ``as_dict`` wrote."""
    return Job(
        entry=spec_from_dict(value["entry"]),
        seed=value["seed"],
        variant=value["variant"],
        address=SubjectAddress(
            value["endpoint"], SubjectNetworks(value["networks"]), tuple(value["witnesses"])
        ),
        limits=CallLimits(**value["limits"]),
    )


def run_job(job: Job, slate: SlateWriter) -> None:
    """Play the episode, leave its report, and end the process; never returns."""
    episode = Episode(job, slate)
    asyncio.run(episode.play_to_exit())


class Episode:
    """One environment and one subject; each change of side is noted on the slate."""

    def __init__(self, job: Job, slate: SlateWriter) -> None:
        self._job = job
        self._slate = slate
        self._environment: Environment | None = None
        self._total_reward = 0.0
        self._subject_s = 0.0

    async def play_to_exit(self) -> None:
        """Play, report, close the environment, exit."""
        report = await self._report()
        self._slate.enter(Phase.ENDING)
        self._slate.write_report(report)
        # The default action of SIGALRM ends the process even where the interpreter never runs again.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CLOSE_S)
        try:
            if self._environment is not None:
                self._environment.close()
        finally:
            os._exit(0)

    async def _report(self) -> EpisodeReport:
        try:
            is_success = await self._play()
        except MishapError as error:
            failure = error.failure
        except Exception as error:  # noqa: BLE001 - the top of this process: a bug of ours must be told
            failure = mishap("EpisodeCrashed", _describe(error))
        else:
            return self._ended(success=is_success, score=1.0 if is_success else 0.0)
        return self._ended(
            success=False, error_code=failure.code, error=one_line(failure.text), fault=failure.fault
        )

    def _ended(self, **outcome: Any) -> EpisodeReport:
        return EpisodeReport(
            total_reward=self._total_reward,
            steps=self._slate.steps,
            subject_s=round(self._subject_s, 6),
            **outcome,
        )

    async def _play(self) -> bool:
        job = self._job
        environment = self._environment = self._inside(partial(make, job.entry))
        first = self._inside(partial(environment.reset, seed=job.seed, variant=job.variant))
        observation = check_observation(first, job.entry.observation_size)
        subject = SubjectClient(job.address, job.limits, job.entry)
        await self._outside(subject, subject.reset)
        # Every round is one step; the entry's step limit bounds them even if the environment never ends.
        for _ in range(job.entry.max_steps):
            action = await self._outside(subject, partial(subject.act, observation))
            self._slate.count_step()
            step = self._inside(partial(environment.step, action))
            observation = self._account(step)
            if step.is_over:
                return step.is_success
        return False

    def _account(self, step: Step) -> tuple[float, ...]:
        if not isinstance(step, Step):
            raise fail("EnvironmentMalformed", f"its step returned {type(step).__name__}, not a Step")
        if not (isinstance(step.is_over, bool) and isinstance(step.is_success, bool)):
            raise fail("EnvironmentMalformed", "is_over and is_success must be booleans")
        # Two finite rewards may add up to infinity.
        self._total_reward = check_reward(self._total_reward + check_reward(step.reward))
        return check_observation(step.observation, self._job.entry.observation_size)

    def _inside(self, call: Callable[[], T]) -> T:
        """Call the environment; whatever it raises, exits of the interpreter too, is its failure."""
        self._slate.enter(Phase.ENVIRONMENT)
        try:
            return call()
        except ConfigError as error:
            code = error.code if error.code == "EnvironmentMissing" else "EnvironmentRaised"
            raise fail(code, str(error)) from error
        except BaseException as error:
            raise fail("EnvironmentRaised", _describe(error)) from error

    async def _outside(self, subject: SubjectClient, call: Callable[[], Awaitable[T]]) -> T:
        self._slate.enter(Phase.SUBJECT)
        try:
            return await call()
        finally:
            self._subject_s = subject.spent_s


def _describe(error: BaseException) -> str:
    """Return type, text and the innermost place of ``error``, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code again
        text = "(its text cannot be had)"
    return one_line(f"{type(error).__name__}: {text}{where}")
