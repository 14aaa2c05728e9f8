"""The miner: fetches tasks from validators, has the worker do them, hands the results in.

``python splat_miner.py --port 18504 --hotkey sn17miner2 --validator http://127.0.0.1:18503 --worker
http://127.0.0.1:18502 --data FOLDER --file registry.json``. It refuses to start when its hotkey is not
registered (exit code 1) or when that cannot be told (75), and ends when the registration goes away. Nothing
is ever registered by it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from generation_stack.miner.clients import Validator, Worker
from generation_stack.miner.rounds import Rounds
from generation_stack.network.arguments import add_registry, add_wallet, registry_of, wallet_of
from generation_stack.network.identity import Hotkey, KeyFileError, hotkey_in
from generation_stack.network.registry import Answer, Registered, Registry, Wallet
from generation_stack.program import arguments, http
from generation_stack.program.log import Log


def main() -> None:
    """Mine until told to stop."""
    options = _options()
    log = Log("miner")
    log.take_over()
    registry, wallet = registry_of(options), wallet_of(options)
    answer = registry.look(wallet)
    if answer.registered is not Registered.YES:
        _refuse(answer, wallet, log)
    try:
        hotkey = hotkey_in(options.data, options.hotkey)
    except KeyFileError as error:
        sys.exit(str(error))
    log.info("registered", hotkey=options.hotkey, netuid=options.netuid, reason=answer.reason)
    http.run(lambda: _mine(options, hotkey, registry, log))


def _refuse(answer: Answer, wallet: Wallet, log: Log) -> None:
    """Say why this miner cannot work, in the words of the field, and end."""
    log.error("not_registered", registered=answer.registered.value, reason=answer.reason, fix=answer.fix)
    if answer.registered is Registered.NO:
        sys.stderr.write(f"RuntimeError: {answer.message(wallet)}\n")
        sys.exit(1)
    sys.stderr.write(f"{answer.message(wallet)}\nfix: {answer.fix}\n")
    sys.exit(os.EX_TEMPFAIL)


async def _mine(options: argparse.Namespace, hotkey: Hotkey, registry: Registry, log: Log) -> int:
    stop = asyncio.Event()
    http.stop_on_signals(stop)
    worker = Worker(options.worker, timeout_s=options.timeout_s)
    urls = dict.fromkeys(url.rstrip("/") for url in options.validator)
    validators = [Validator(url, hotkey, timeout_s=options.timeout_s) for url in urls]
    rounds = Rounds(worker, validators, log, poll_s=options.poll_s)
    dealing = asyncio.create_task(rounds.run())
    watching = asyncio.create_task(_watch(rounds, options, registry, log))
    for task in (dealing, watching):
        task.add_done_callback(lambda _: stop.set())
    listen = http.Listen(options.host, options.port)
    try:
        await http.serve(_status(rounds, options), listen, log, stop=stop, drain_s=1.0)
    finally:
        lost = watching.result() if watching.done() and not watching.cancelled() else None
        await _end(dealing, watching)
        for peer in (worker, *validators):
            await peer.close()
    if lost is not None:
        _refuse(lost, wallet_of(options), log)
    return 0


async def _watch(rounds: Rounds, options: argparse.Namespace, registry: Registry, log: Log) -> Answer:
    """Ask the registry now and then; return its answer once it is no. Unknown stops new work only."""
    while True:
        await asyncio.sleep(options.registered_every_s)
        answer = await asyncio.to_thread(registry.look, wallet_of(options))
        rounds.may_pull = answer.registered is Registered.YES
        if answer.registered is Registered.UNKNOWN:
            log.warning("registration_unknown", reason=answer.reason)
        if answer.registered is Registered.NO:
            return answer


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs; raise what one of them has met."""
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


def _status(rounds: Rounds, options: argparse.Namespace) -> web.Application:
    """Return the application that shows what the miner does."""
    began = time.monotonic()

    async def show(request: web.Request) -> web.Response:
        body = {
            "state": "ready" if rounds.may_pull else "waiting",
            "hotkey": options.hotkey,
            "netuid": options.netuid,
            "uptime_s": round(time.monotonic() - began, 3),
            "worker": rounds.worker_state,
            "trouble": rounds.trouble,
            "counts": dict(rounds.counts),
        }
        return web.json_response(body)

    app = http.application(body_bytes=1_000)
    for path in ("/live", "/ready", "/health", "/status"):
        app.router.add_get(path, show)
    return app


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fetch tasks from validators and hand results in.")
    arguments.add_listen(parser)
    add_registry(parser)
    add_wallet(parser)
    parser.add_argument(
        "--validator", action="append", required=True, help="address of a validator; repeatable"
    )
    parser.add_argument("--worker", required=True, help="address of the gen-worker")
    parser.add_argument("--data", type=Path, required=True, help="folder of the hotkey's private key")
    settings = (
        ("--poll-s", arguments.seconds(0.05, 3_600), 0.5, "wait between two looks"),
        ("--timeout-s", arguments.seconds(0.1, 600), 20.0, "longest wait for one answer"),
        ("--registered-every-s", arguments.seconds(0.1, 86_400), 30.0, "how often the registry is asked"),
    )
    for name, kind, default, help_ in settings:
        parser.add_argument(name, type=kind, default=default, help=f"{help_} (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
