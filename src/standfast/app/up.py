"""The embedded instance: store, API, scheduler, executors and the blueprint's programs under one process.

1. One SIGINT, SIGTERM or SIGHUP stops everything in order: executors drain while the API still takes
   their reports, then the programs end, the scheduler lets the lead go, the API closes, the store closes.
   A second one cuts the waits short; what was acknowledged is durable either way.
2. A kill -9 touches nothing but this process: services and executors go on, and the next start takes them
   back with what has happened to them since. ``standfast down`` ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import structlog

from standfast import __version__
from standfast.app import hold
from standfast.app.config import Config
from standfast.app.embedded import OK, Embedded, ServeApi
from standfast.app.instance import LOGS_NAME, Run, register, remove_run, write_run
from standfast.app.listening import bind
from standfast.app.logs import configure_logs
from standfast.app.plane import ControlPlane
from standfast.app.preflight import check_before_start
from standfast.app.reporters import Reporter, tolerant
from standfast.app.stopping import LOG_NAME, Stop
from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import RefusedError, StandfastError, StoreUnavailableError
from standfast.kernel.verdict import Finding
from standfast.services.adapters.journal import FileJournal

log = structlog.get_logger(__name__)


async def run_up(
    config: Config, *, serve_api: ServeApi, reporter: Reporter, started_from: Path | None = None
) -> int:
    """Run an instance of ``config`` until it is told to stop; return the exit code.

    0 after an orderly end, 130 where it was cut short, 70 where a part died. Raises ConflictError where
    another one runs here or the port is taken, RefusedError where preflight is not green, StoreError.
    """
    stop = Stop.fresh()
    with contextlib.closing(reporter), hold.held(config.data_dir), _signals(stop):
        for leftover in await asyncio.to_thread(hold.describe_leftovers, config.data_dir):
            reporter.say(f"{leftover}; what still runs of it is taken back")
        is_open = await _preflight(config, reporter, stop)
        if not is_open or stop.asked.is_set():
            return OK
        with _logs(config.data_dir), bind(config.api.host, config.api.port) as sock:
            run = _describe(config, started_from or Path.cwd())
            try:
                code = await _serve(config, sock, run, Embedded(serve_api, reporter, stop))
            except StandfastError:
                remove_run(config.data_dir)
                raise
            # Only what ended in order forgets itself: of anything else the next start must know.
            remove_run(config.data_dir)
            return code


async def _serve(config: Config, sock: socket.socket, run: Run, embedded: Embedded) -> int:
    write_run(config.data_dir, run)
    try:
        register(config.data_dir, run)
    except StandfastError as error:
        # Commands then have to be told where the instance is; that is no reason not to run.
        log.warning("not_registered", code=error.code, error=str(error))
    plane = await asyncio.to_thread(ControlPlane.open, config)
    try:
        return await embedded.run(plane, sock, run)
    finally:
        await asyncio.to_thread(plane.close)


async def _preflight(config: Config, reporter: Reporter, stop: Stop) -> bool:
    """Return whether the gate is open; raise RefusedError where it is not and nobody asked for the end.

    A Ctrl-C at a terminal ends the gate's own probes too, and what they then did not see is no objection.
    """
    gate = await asyncio.to_thread(check_before_start, config)
    if gate.is_open:
        reporter.say(f"preflight: {len(gate.findings)} findings, no objection")
    if gate.is_open or stop.asked.is_set():
        return gate.is_open
    for finding in gate.objections:
        reporter.say(f"{finding.verdict.name} {_about(finding)}. To fix: {finding.remedy}")
    first = gate.objections[0]
    raise RefusedError(
        f"preflight keeps this instance from starting: {len(gate.objections)} objections",
        why=_about(first),
        fix=first.remedy,
        code="PreflightFailed",
    )


def _about(finding: Finding) -> str:
    of = f" {finding.subject}" if finding.subject else ""
    return f"{finding.check}{of}: {finding.message}"


def _describe(config: Config, started_from: Path) -> Run:
    return Run(
        instance=hold.instance_id(config.data_dir),
        name=config.instance.name,
        process=hold.own_identity(),
        started_at=iso(SystemClock().wall()),
        version=__version__,
        config=str(config.source),
        blueprint=str(config.folder),
        started_from=str(started_from),
    )


@contextlib.contextmanager
def _logs(data_dir: Path) -> Iterator[None]:
    """Send this process's own log into a file: the terminal is for what a person asked to see."""
    journal = FileJournal(data_dir / LOGS_NAME / LOG_NAME)
    try:
        stream = os.fdopen(journal.open(), "a", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailableError(
            f"{journal.path} cannot be written",
            why=error.strerror or str(error),
            fix=f"make room, or make the folder writable: df -h {data_dir}",
            code="LogUnwritable",
        ) from error
    with stream:
        target = tolerant(stream)
        handler = logging.StreamHandler(target)
        handler.setLevel(logging.WARNING)
        logging.getLogger().addHandler(handler)
        configure_logs(stream=target)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            configure_logs()


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Let signals ask for the end; one that whoever started us had ignored (nohup) stays ignored."""
    loop = asyncio.get_running_loop()
    reasons = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal has gone"}
    heard = [number for number in reasons if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, stop.ask, reasons[number])
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
