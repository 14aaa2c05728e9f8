"""Starts and accompanies the supervisor of a stack: a process of its own that outlives this one.

The foreground shows what happens and ends the stack at Ctrl-C. Should the supervisor be killed, it is started
again and takes back what runs; the services notice nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from standfast import __version__
from standfast.app import hold
from standfast.app.config import Config
from standfast.app.declared import programs_of
from standfast.app.instance import LOGS_NAME, Run, read_run, register
from standfast.app.reporters import Reporter
from standfast.app.stack import STACK_NAME
from standfast.app.stopping import LOG_NAME, Stop
from standfast.kernel.canonical import canonical_json
from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import (
    ConfigError,
    ConflictError,
    StandfastError,
    StoreUnavailableError,
    TransientError,
)
from standfast.services.adapters.control import ask
from standfast.services.adapters.journal import FileJournal
from standfast.services.decide.order import problems
from standfast.services.decide.up import Failed, Pending, Up, judge_up
from standfast.services.model import ServiceSpec
from standfast.services.wire import spec_to_dict

_LOOK_S = 0.25
_SHOW_S = 1.0
#: The longest that a supervisor may take to answer for the first time.
_START_S = 20.0
#: What a start that somebody else has begun takes until its record is written.
_SETTLES_S = 5.0
#: A supervisor that dies so often within a minute has a fault that another start does not cure.
_MOST_RESPAWNS = 3
OK, BUG = 0, 70
_COMMANDS = "standfast status · standfast explain SERVICE · standfast down"


def specs_of(config: Config) -> tuple[ServiceSpec, ...]:
    """Return everything that the stack declares; ConfigError for what cannot be run together."""
    specs = programs_of(config)
    found = problems(specs)
    if found:
        more = (
            f" (and {len(found) - 1} more: {'; '.join(one.what for one in found[1:4])})" if found[1:] else ""
        )
        raise ConfigError(f"{found[0].what}{more}", fix=found[0].fix, code=found[0].code)
    return specs


def start(config: Config, *, started_from: Path) -> int:
    """Have a supervisor run for ``config``; return its process number once it answers.

    One that runs already is given the declaration as it is now. StandfastError where none can be had.
    """
    specs, until_s = specs_of(config), time.monotonic() + _SETTLES_S
    # Each turn tries once: somebody else's start may be under way. Bounded by the time that one takes.
    while True:
        try:
            return _start(config, specs, started_from)
        except ConflictError as error:
            if error.code not in ("AlreadyStarts", "SupervisorLost") or time.monotonic() > until_s:
                raise
        time.sleep(_LOOK_S)


def _start(config: Config, specs: Sequence[ServiceSpec], started_from: Path) -> int:
    data_dir = config.data_dir
    run = read_run(data_dir)
    if isinstance(run, Run) and run.is_alive:
        if {spec.driver for spec in specs} <= _drivers_of(data_dir):
            ask(data_dir, "declare", services=[spec_to_dict(spec) for spec in specs])
            write_stack(config, specs, started_from)
            return run.process.pid
        _let_go(data_dir, run)
    lost = hold.lost_supervisors(data_dir)
    if lost:
        raise ConflictError(
            f"a supervisor of this folder still runs (process {lost[0].pid}), whose record was removed",
            why="a second one would run every service twice",
            fix="end it, it ends its services in order: standfast down",
            code="SupervisorLost",
        )
    with hold.held(data_dir):
        write_stack(config, specs, started_from)
    return spawn(data_dir)


def _drivers_of(data_dir: Path) -> frozenset[str]:
    """Return the drivers that the supervisor of ``data_dir`` was started with."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stack = json.loads((data_dir / STACK_NAME).read_bytes())
        return frozenset({"process", *(str(one["driver"]) for one in stack["services"])})
    return frozenset({"process"})


def _let_go(data_dir: Path, run: Run) -> None:
    """Have a supervisor leave what runs to the next one, which is started with other drivers."""
    ask(data_dir, "leave")
    until_s = time.monotonic() + _START_S
    # Each turn looks once; bounded by the time for a start.
    while run.is_alive and time.monotonic() < until_s:
        time.sleep(0.02)


def write_stack(config: Config, specs: Sequence[ServiceSpec], started_from: Path) -> None:
    """Write down what the supervisor of this stack is to run; StoreUnavailableError where that cannot be."""
    data_dir = config.data_dir
    stack = {
        "name": config.instance.name, "instance": hold.instance_id(data_dir), "mark": hold.mark_of(data_dir),
        "version": __version__, "config": str(config.source), "blueprint": str(config.folder),
        "started_from": str(started_from),
        "budgets": {"group": config.stack.group_budget, "host": config.stack.host_budget},
        "rules": [str(config.folder / one) for one in config.stack.rules],
        "profiles": list(config.stack.profiles),
        "services": [spec_to_dict(spec) for spec in specs],
    }  # fmt: skip
    new = data_dir / f"{STACK_NAME}.new"
    try:
        # What a service is started with may hold secrets (I12).
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(canonical_json(stack).encode())
        new.replace(data_dir / STACK_NAME)
    except OSError as error:
        raise StoreUnavailableError(
            f"{data_dir / STACK_NAME} cannot be written",
            why=error.strerror or str(error),
            fix=f"df -h {data_dir}",
        ) from error
    with contextlib.suppress(StandfastError):
        register(data_dir, _run_of(config, started_from))


def _run_of(config: Config, started_from: Path) -> Run:
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


def spawn(data_dir: Path) -> int:
    """Have a supervisor run what is written down in ``data_dir``; return its pid once it answers."""
    log = FileJournal(data_dir / LOGS_NAME / LOG_NAME)
    output = log.open()
    try:
        popen = subprocess.Popen(
            [sys.executable, "-m", "standfast.app.stack", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
    until_s = time.monotonic() + _START_S
    # Each turn asks once; bounded by the time for a start.
    while time.monotonic() < until_s:
        with contextlib.suppress(TransientError):
            ask(data_dir, "list", timeout_s=2.0)
            # Of two that were started at once, one answers for both.
            run = read_run(data_dir)
            return run.process.pid if isinstance(run, Run) and run.is_alive else popen.pid
        if popen.poll() is not None:
            break
        time.sleep(0.05)
    last = " | ".join(log.lines()[-3:])
    raise ConflictError(
        "the supervisor did not come up",
        why=last or "it said nothing",
        fix=f"read {log.path}; standfast doctor",
        code="SupervisorFailed",
    )


def restarts_so_far(data_dir: Path) -> dict[str, int]:
    """Return the restarts of each service that a supervisor counts now; nothing where none answers."""
    with contextlib.suppress(TransientError):
        return {view["name"]: int(view["restarts"]) for view in ask(data_dir, "list")["services"]}
    return {}


def wait_until_up(
    data_dir: Path, reporter: Reporter, *, limit_s: float, before: Mapping[str, int]
) -> Up | Pending | Failed:
    """Return what became of the stack: up, hopeless, or still pending after ``limit_s``.

    ``before`` is what ``restarts_so_far`` said before the start. A supervisor that is killed meanwhile is
    replaced; a stack that somebody ends meanwhile is hopeless.
    """
    until_s, respawns = time.monotonic() + limit_s, 0
    judged: Up | Pending | Failed = Pending(("nobody has looked yet",))
    # Each turn looks once; bounded by the limit.
    while True:
        try:
            views = ask(data_dir, "list")["services"]
            reporter.show(_seen(views), time.monotonic())
            judged = judge_up(views, before=before)
        except TransientError:
            if read_run(data_dir) is None:
                return Failed(("the stack was stopped meanwhile",))
            respawns += _respawn(data_dir, respawns)
        if not isinstance(judged, Pending) or time.monotonic() > until_s:
            return judged
        time.sleep(_LOOK_S)


def _respawn(data_dir: Path, respawns: int) -> int:
    """Start a supervisor anew where it is gone, and return 1; one that lives and is silent is left alone."""
    run = read_run(data_dir)
    if isinstance(run, Run) and run.is_alive:
        return 0
    if respawns >= _MOST_RESPAWNS:
        raise ConflictError(
            f"the supervisor died {respawns + 1} times; its services go on",
            fix="standfast logs",
            code="SupervisorFailed",
        )
    spawn(data_dir)
    return 1


async def accompany(config: Config, reporter: Reporter, *, started_from: Path) -> int:
    """Show the stack until Ctrl-C or its end by others; return the exit code."""
    stop, data_dir = Stop.fresh(), config.data_dir
    with contextlib.closing(reporter), _signals(stop):
        await asyncio.to_thread(start, config, started_from=started_from)
        reporter.say(f"the data is in {data_dir}; Ctrl-C ends the stack")
        reporter.say(f"in another terminal, in the same folder: {_COMMANDS}")
        respawns = 0
        # Each turn looks once; ends when the stack has ended.
        while not stop.asked.is_set():
            try:
                views = (await asyncio.to_thread(ask, data_dir, "list"))["services"]
                reporter.show(_seen(views), time.monotonic())
            except TransientError:
                if read_run(data_dir) is None:
                    reporter.say("the stack was stopped")
                    return OK
                try:
                    made = await asyncio.to_thread(_respawn, data_dir, respawns)
                except ConflictError as error:
                    reporter.say(f"{error.what}: {error.fix}")
                    return BUG
                respawns += made
                what = (
                    "was killed; a new one took back what runs"
                    if made
                    else "gives no answer; what runs goes on"
                )
                reporter.say(f"the supervisor {what}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.asked.wait(), _SHOW_S)
        return await _wind_up(data_dir, reporter, stop)


async def _wind_up(data_dir: Path, reporter: Reporter, stop: Stop) -> int:
    reporter.say(f"stopping: {stop.reason}; once more makes it faster")
    run = read_run(data_dir)
    with contextlib.suppress(TransientError):
        await asyncio.to_thread(ask, data_dir, "stop")
    was_hurried = False
    # Each turn looks once; the supervisor ends when its last service has.
    while isinstance(run, Run) and run.is_alive:
        if stop.hurry.is_set() and not was_hurried:
            was_hurried = True
            with contextlib.suppress(TransientError):
                await asyncio.to_thread(ask, data_dir, "hurry")
        await asyncio.sleep(0.05)
    reporter.close()
    reporter.say("stopped; what it knows of its services is kept for the next start")
    return 130 if was_hurried else OK


def _seen(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "at": iso(SystemClock().wall()), "url": "", "services": [dict(view) for view in views],
        "problems": [], "rounds": [], "subjects": [], "publication": None,
    }  # fmt: skip


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
