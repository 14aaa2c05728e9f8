"""The model microservice: loads one model in the background and makes splats for those who ask.

``python model_service.py --port 18501`` serves the procedural model, which needs nothing. With ``--backend
trellis`` it serves microsoft/TRELLIS, and says what is missing where it cannot; it never takes another
model instead. ``--check`` only says whether the model could be loaded.

SIGTERM refuses new requests, lets open ones end for ``--drain-s``, stops the rest, and ends with 0. A model
that cannot be loaded is told on /health for ``--linger-s``; then the program ends with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from generation_stack.model.engine import Engine, Limits
from generation_stack.model.port import Backend
from generation_stack.model.procedural import ProceduralBackend
from generation_stack.model.routes import Routes
from generation_stack.model.trellis import TrellisBackend
from generation_stack.model.trellis_preflight import TEXT_MODEL, missing, missing_modules, steps
from generation_stack.program import arguments, http
from generation_stack.program.log import Log


def main() -> None:
    """Serve until told to stop."""
    options = _options()
    log = Log("model")
    log.take_over()
    if options.backend == "trellis":
        _preflight(options.model, log, is_check=options.check)
    elif options.check:
        sys.stdout.write("the procedural model needs nothing that is not here\n")
        sys.exit(0)
    http.run(lambda: _serve(options, _backend(options), log))


def _backend(options: argparse.Namespace) -> Backend:
    if options.backend == "trellis":
        return TrellisBackend(options.model)
    return ProceduralBackend(load_s=options.demo_load_s, pace=options.demo_pace)


def _preflight(model: str, log: Log, *, is_check: bool) -> None:
    """Say what TRELLIS lacks and end with 1; with ``is_check`` look at everything and end in any case.

    Otherwise only the packages are looked at here: the rest takes seconds and is looked at in the background.
    """
    lacking = missing(model) if is_check else missing_modules(model)
    for entry in lacking:
        log.error("missing", what=entry.what, fix=entry.fix)
    if lacking:
        todo = "\n".join(f"{number}. {step}" for number, step in enumerate(steps(lacking), start=1))
        sys.exit(
            f"The trellis backend cannot run here. {model} needs {len(lacking)} things:\n{todo}\n"
            "Then look again with --check: it looks at the GPU and the weights too."
        )
    if is_check:
        sys.stdout.write(f"{model} can be loaded here\n")
        sys.exit(0)


async def _serve(options: argparse.Namespace, backend: Backend, log: Log) -> int:
    stop = asyncio.Event()
    http.stop_on_signals(stop)
    engine = Engine(backend, Limits(options.queue + 1, options.deaf_s), log)
    routes = Routes(engine, log, timeout_s=options.timeout_s)
    is_broken = False

    async def load() -> None:
        nonlocal is_broken
        if await engine.load() or stop.is_set():
            return
        is_broken = True
        await asyncio.sleep(options.linger_s)
        stop.set()

    loading = asyncio.create_task(load())
    listen = http.Listen(options.host, options.port)
    await http.serve(routes.application(), listen, log, stop=stop, drain_s=options.drain_s)
    loading.cancel()
    if is_broken:
        sys.stderr.write(f"The model could not be loaded: {engine.standing.reason}\n")
    return 1 if is_broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a model that makes 3D Gaussian splats.")
    arguments.add_listen(parser)
    parser.add_argument(
        "--backend", choices=("procedural", "trellis"), default="procedural", help="(default %(default)s)"
    )
    parser.add_argument(
        "--model", default=TEXT_MODEL, help="TRELLIS model, or its folder (default %(default)s)"
    )
    parser.add_argument("--check", action="store_true", help="say whether the model could be loaded, and end")
    parser.add_argument(
        "--queue",
        type=arguments.whole(0, 1_000),
        default=4,
        help="requests that may wait (default %(default)s)",
    )
    parser.add_argument(
        "--timeout-s", type=arguments.seconds(0.1, 3_600), default=60.0,
        help="longest time of one request, waiting included (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--deaf-s", type=arguments.seconds(0.1, 600), default=10.0,
        help="how long stopped work may go on before /live fails (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--drain-s", type=arguments.seconds(0, 600), default=3.0,
        help="how long open requests may go on after SIGTERM (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--linger-s", type=arguments.seconds(0, 600), default=3.0,
        help="how long /health tells why loading failed before the program ends (default %(default)s)",
    )  # fmt: skip
    demonstration = parser.add_argument_group("for demonstrations and tests of the procedural model")
    demonstration.add_argument(
        "--demo-load-s", type=arguments.seconds(0, 600), default=0.0, help="how long loading takes"
    )
    demonstration.add_argument(
        "--demo-pace",
        type=arguments.whole(0, 10_000_000),
        default=0,
        help="most Gaussians per second; 0 = no limit",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
