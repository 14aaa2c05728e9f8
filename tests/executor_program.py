"""A real executor process for tests: the product's own, with a runner that takes as long as it is told."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
from pathlib import Path

from standfast.app.executor import ExecutorOptions, serve_executor
from standfast.app.logs import configure_logs
from standfast.evaluation.model import EpisodeReport, EpisodeSpec, Fault
from standfast.kernel.errors import StandfastError


class TimedRunner:
    """Ends every episode after ``seconds``; writes down what it started and what was cancelled."""

    def __init__(self, seconds: float, diary: Path | None = None, *, blames: bool = False) -> None:
        self._seconds = seconds
        self._diary = diary
        self._blames = blames

    async def run(self, spec: EpisodeSpec) -> EpisodeReport:
        self._note("started", spec)
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self._note("cancelled", spec)
            raise
        self._note("finished", spec)
        if self._blames:
            said = "connection refused"
            return EpisodeReport(
                success=False, steps=1, error_code="SubjectRefused", error=said, fault=Fault.SUBJECT
            )
        return EpisodeReport(success=True, score=1.0, steps=1, duration_s=self._seconds)

    def _note(self, word: str, spec: EpisodeSpec) -> None:
        if self._diary is not None:
            with self._diary.open("a", encoding="utf-8") as diary:
                diary.write(json.dumps([word, spec.seed, spec.variant]) + "\n")


def main() -> int:
    """Run it; the exit code is that of the error, as the command line's would be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--spool", required=True, type=Path)
    parser.add_argument("--name", default="e1")
    parser.add_argument("--seconds", default=0.1, type=float)
    parser.add_argument("--capacity", default=4, type=int)
    parser.add_argument("--drain-s", default=2.0, type=float)
    parser.add_argument("--lifeline-fd", default=-1, type=int)
    parser.add_argument("--largest-file", default=0, type=int)
    parser.add_argument("--blames", default="", help="anything: every episode fails by the subject's doing")
    options = parser.parse_args()
    configure_logs()
    if options.largest_file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest_file, hard))
    wanted = ExecutorOptions(
        name=options.name, url=options.url, token=options.token, spool=options.spool,
        capacity=options.capacity, poll_s=0.1, drain_s=options.drain_s, call_s=2.0,
    )  # fmt: skip
    diary = None if options.largest_file else options.spool.parent / "diary"
    runner = TimedRunner(options.seconds, diary, blames=bool(options.blames))
    try:
        asyncio.run(serve_executor(wanted, runner, lifeline_fd=options.lifeline_fd))
    except StandfastError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
