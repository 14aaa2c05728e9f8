"""A small validator: gives tasks to registered miners, judges their results, and keeps account of each.

``python splat_validator.py --port 18503 --data FOLDER --file registry.json``. GET /status shows the accounts;
the latest accepted results lie in ``FOLDER/gallery``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from generation_stack.network.arguments import add_registry, registry_of
from generation_stack.program import arguments, http
from generation_stack.program.clock import Clock
from generation_stack.program.log import Log
from generation_stack.validator.ledger import Ledger
from generation_stack.validator.routes import Routes
from generation_stack.validator.rules import Terms


def main() -> None:
    """Serve until told to stop."""
    options = _options()
    log = Log("validator")
    log.take_over()
    try:
        ledger = Ledger(options.data, Clock())
    except OSError as error:
        sys.exit(f"Cannot keep accounts in {options.data}: {error.strerror}. Choose another --data.")
    try:
        http.run(lambda: _serve(options, ledger, log))
    finally:
        ledger.close()


async def _serve(options: argparse.Namespace, ledger: Ledger, log: Log) -> int:
    stop = asyncio.Event()
    http.stop_on_signals(stop)
    terms = Terms(options.deadline_s, options.cooldown_s, most_open=options.most_open)
    gallery = options.data / "gallery"
    routes = Routes(ledger, registry_of(options), options.netuid, terms, gallery, log)
    expiring = asyncio.create_task(routes.expire())
    expiring.add_done_callback(lambda _: stop.set())
    listen = http.Listen(options.host, options.port)
    await http.serve(routes.application(), listen, log, stop=stop, drain_s=2.0)
    if expiring.done():
        expiring.result()
    expiring.cancel()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Give tasks to miners and judge what they make.")
    arguments.add_listen(parser)
    add_registry(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of the accounts and of the gallery")
    settings = (
        ("--deadline-s", arguments.seconds(0.5, 86_400), 120.0, "time for one task"),
        ("--cooldown-s", arguments.seconds(0, 86_400), 3.0, "wait after an accepted result"),
        ("--most-open", arguments.whole(1, 1_000), 2, "open tasks of one miner"),
    )
    for name, kind, default, help_ in settings:
        parser.add_argument(name, type=kind, default=default, help=f"{help_} (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
