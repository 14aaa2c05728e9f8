"""The gen-worker: keeps tasks on disk and has the model service work on them until each is done or failed.

``python gen_worker.py --port 18502 --model http://127.0.0.1:18501 --data FOLDER``. Nothing is sent while the
model is not ready; what was refused, dropped or not answered in time is tried again until the task's own
deadline; a result counts only when it was judged usable. kill -9 loses nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from generation_stack.program import arguments, http
from generation_stack.program.clock import Clock
from generation_stack.program.log import Log
from generation_stack.splats.judge import Bounds
from generation_stack.worker.delivery import ModelClient
from generation_stack.worker.journal import Journal, JournalInUseError
from generation_stack.worker.routes import Routes
from generation_stack.worker.rules import Policy
from generation_stack.worker.runner import Runner


def main() -> None:
    """Work until told to stop."""
    options = _options()
    log = Log("gen-worker")
    log.take_over()
    clock = Clock()
    try:
        journal = Journal(options.data, clock)
    except JournalInUseError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"Cannot keep tasks in {options.data}: {error.strerror}. Choose another --data.")
    try:
        http.run(lambda: _work(options, journal, clock, log))
    finally:
        journal.close()


async def _work(options: argparse.Namespace, journal: Journal, clock: Clock, log: Log) -> int:
    stop = asyncio.Event()
    http.stop_on_signals(stop)
    log.info("recovered", queued_again=journal.recover(), counts=dict(journal.counts()))
    bounds = Bounds(fewest=options.fewest, most=options.most)
    model = ModelClient(options.model, probe_s=options.probe_s, timeout_s=options.timeout_s, bounds=bounds)
    policy = Policy(options.backoff_s, options.backoff_cap_s)
    runner = Runner(journal, model, policy, clock, log)
    routes = Routes(journal, runner, clock, log, most_open=options.most_open)
    working = asyncio.create_task(runner.run(hands=options.hands))
    # A runner that ends has met a bug or a broken disk: then the program ends too, and says so.
    working.add_done_callback(lambda _: stop.set())
    listen = http.Listen(options.host, options.port)
    try:
        await http.serve(routes.application(), listen, log, stop=stop, drain_s=1.0)
    finally:
        is_broken = working.done()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await model.close()
    return 1 if is_broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Have a model service work on tasks, and lose none.")
    arguments.add_listen(parser)
    parser.add_argument("--model", required=True, help="address of the model service")
    parser.add_argument("--data", type=Path, required=True, help="folder of the journal and of the results")
    settings = (
        ("--timeout-s", arguments.seconds(0.1, 3_600), 60.0, "longest time of one request to the model"),
        ("--probe-s", arguments.seconds(0.05, 60), 2.0, "longest wait for its /health"),
        ("--backoff-s", arguments.seconds(0.01, 600), 0.5, "longest wait before the first retry; doubles"),
        ("--backoff-cap-s", arguments.seconds(0.01, 600), 10.0, "longest wait before any retry"),
        ("--hands", arguments.whole(1, 64), 1, "requests to the model at once"),
        ("--most-open", arguments.whole(1, 100_000), 16, "open tasks that are taken"),
        ("--fewest", arguments.whole(1, 10_000_000), 1_000, "fewest Gaussians of a usable result"),
        ("--most", arguments.whole(1, 10_000_000), 2_000_000, "most Gaussians of a usable result"),
    )
    for name, kind, default, help_ in settings:
        parser.add_argument(name, type=kind, default=default, help=f"{help_} (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
