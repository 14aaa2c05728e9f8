"""The supervisor of a stack alone: a small process that reads what to run, runs it, and answers.

Run as ``python -m standfast.app.stack DATA_DIR``; ``stack.json`` in there was written by ``standfast up``. It
imports neither the API nor the configuration's reader: two hundred services must not need a large supervisor.

SIGTERM and SIGINT end the stack in order, asked twice at once. Killed, it leaves everything running, and the
next one takes it back.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standfast.app.service_control import Control
from standfast.app.supervision import LOGS_NAME, Options, supervise
from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import StandfastError
from standfast.services.adapters import procfs
from standfast.services.adapters.control import Door
from standfast.services.model import Budgets, ServiceView
from standfast.services.wire import spec_from_dict

STACK_NAME, RUN_NAME, LOCK_NAME = "stack.json", "run.json", "up.lock"
_ALREADY, _UNUSABLE = 6, 1
_AGAIN_S = 2.0


def main() -> int:
    """Supervise the stack of the data directory named by the first argument; return the exit code."""
    data_dir = Path(sys.argv[1])
    lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        tell("refused", why=f"another supervisor runs in {data_dir}")
        return _ALREADY
    try:
        stack = json.loads((data_dir / STACK_NAME).read_bytes())
        asyncio.run(_run(data_dir, stack))
    except (OSError, ValueError, KeyError, TypeError, StandfastError) as error:
        tell("cannot_supervise", why=str(error))
        return _UNUSABLE
    return 0


async def _run(data_dir: Path, stack: Mapping[str, Any]) -> None:
    stop = asyncio.Event()
    asked: list[str] = []
    specs = [spec_from_dict(one) for one in stack["services"]]
    supervision = supervise(
        specs,
        data_dir,
        mark=stack["mark"],
        options=Options(
            budgets=Budgets(**stack["budgets"]),
            drivers=_drivers(data_dir, stack),
            rules=tuple(Path(one) for one in stack["rules"]),
            on_change=_tell_change,
        ),
    )
    loop = asyncio.get_running_loop()

    def ask(reason: str) -> None:
        if asked:
            supervision.supervisor.hurry()
        asked.append(reason)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    control = Control(supervision, stop=lambda: ask("standfast down"))
    try:
        async with Door(data_dir, control):
            noting = asyncio.create_task(_note_run(data_dir, stack))
            tell("supervising", services=len(specs))
            # What was imported and read is kept for good: looking through it again would only cost.
            gc.freeze()
            await supervision.supervisor.run(stop)
            noting.cancel()
        # Only what ended in order forgets itself: of anything else the next start must know.
        if asked:
            (data_dir / RUN_NAME).unlink(missing_ok=True)
        tell("stopped" if asked else "left", why=", ".join(asked))
    finally:
        supervision.close()


def _drivers(data_dir: Path, stack: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {one["driver"] for one in stack["services"]} - {"process"}
    if not kinds:
        return {}
    # The libraries of other drivers are large, and only those who have such services pay for them.
    from standfast.app.drivers import drivers_of  # noqa: PLC0415

    return drivers_of(kinds, data_dir, stack)


async def _note_run(data_dir: Path, stack: Mapping[str, Any]) -> None:
    """Write down that this stack lives, as soon as there is room for it."""
    # Ends when it is written; supervising does not wait for it.
    while True:
        try:
            return _write_run(data_dir, stack)
        except OSError as error:
            tell("run_not_written", why=error.strerror or str(error))
        await asyncio.sleep(_AGAIN_S)


def _write_run(data_dir: Path, stack: Mapping[str, Any]) -> None:
    """Write down that this stack lives, as ``app.instance.Run`` reads it."""
    identity = procfs.identify(os.getpid())
    assert identity is not None, "this process can see itself"
    kept = ("instance", "name", "version", "config", "blueprint", "started_from")
    run = {key: stack[key] for key in kept}
    run |= {"process": list(identity), "started_at": iso(SystemClock().wall()), "url": "", "children": []}
    raw, old, new = json.dumps(run).encode(), data_dir / RUN_NAME, data_dir / f"{RUN_NAME}.new"
    try:
        new.write_bytes(raw)
        new.replace(old)
    except OSError:
        # On a full disk there may still be room in the place of what an earlier one wrote.
        with old.open("r+b") as file:
            file.write(raw)
            file.truncate()


def _tell_change(view: ServiceView) -> None:
    more = {"reason": view.reason, "message": view.message} if view.message else {}
    tell("service", name=view.name, state=str(view.state), **more)


def tell(event: str, **fields: object) -> None:
    """Write one line to the log, which is standard output; a line that does not fit is lost."""
    line = {"event": event, "timestamp": iso(datetime.now(UTC)), "level": "info", **fields}
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["LOGS_NAME", "main"]
