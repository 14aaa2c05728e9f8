"""``standfast api | scheduler | executor``: the parts of an instance, each as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from standfast.api.app import create_app
from standfast.api.serve import address_of, bind, serve
from standfast.app.config import Config, load_config, parse_config
from standfast.app.executor import ExecutorOptions, serve_executor
from standfast.app.instance import TOKEN_NAME
from standfast.app.logs import configure_logs
from standfast.app.plane import ControlPlane
from standfast.app.scheduler import Scheduler
from standfast.app.tokens import TokenStore, local_token
from standfast.cli.output import say
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.evaluation.episode.runner import EpisodeRunner
from standfast.kernel.errors import ConfigError

ConfigFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="Configuration file, or the folder that has it.")
]
OptionalConfig = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration with [executor]; defaults without."),
]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65_535, help="Port instead of api.port; 0 is any free one.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory instead of .standfast.")
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of this process among its kind.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", min=1, max=256, help="Episodes at a time.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    example = "standfast api --config blueprints/evaluation --port 8321"
    command(app, api, "api", schema="api", example=example, is_remote=False)
    example = "standfast scheduler --config blueprints/evaluation"
    command(app, scheduler, "scheduler", schema="scheduler", example=example, is_remote=False)
    example = "standfast executor --url http://10.0.0.5:8321 --token-file rig-7.token --name rig-7"
    command(app, executor, "executor", schema="executor", example=example)


def api(session: Session, config: ConfigFile = Path(), port: Port = None, data_dir: DataDir = None) -> None:
    """Run the API alone, until SIGTERM or Ctrl-C.

    With SQLite it is the store's one process; several parts apart need PostgreSQL.
    """
    chosen = load_config(config, data_dir=data_dir).changed(port=port, data_dir=data_dir)
    asyncio.run(_api(session, chosen))
    _emit_end(session)


async def _api(session: Session, config: Config) -> None:
    configure_logs()
    with contextlib.closing(await asyncio.to_thread(ControlPlane.open, config)) as plane, _stopping() as stop:
        store = TokenStore(plane.database.dialect, plane.clock, plane.entropy)
        token = config.data_dir / TOKEN_NAME
        await plane.database.write(lambda tx: local_token(tx, store, token, name="local", scopes=["admin"]))
        listener = bind(config.api.host, config.api.port)
        say(f"the API listens at {address_of(listener)}; its admin token is in {token}")
        await serve(create_app(plane), listener, stop=stop)


def scheduler(
    session: Session, config: ConfigFile = Path(), name: Name = "", data_dir: DataDir = None
) -> None:
    """Run a scheduler alone, until SIGTERM or Ctrl-C: it leads, or stands by until the leader is silent."""
    asyncio.run(_scheduler(load_config(config, data_dir=data_dir), name))
    _emit_end(session)


async def _scheduler(config: Config, name: str) -> None:
    configure_logs()
    with contextlib.closing(await asyncio.to_thread(ControlPlane.open, config)) as plane, _stopping() as stop:
        part = Scheduler(plane, name)
        say(f"the scheduler {part.name} runs")
        await part.run(stop)


def executor(
    session: Session, config: OptionalConfig = None, name: Name = "", concurrency: Concurrency = None
) -> None:
    """Run an executor, until SIGTERM or Ctrl-C: it asks an API for work, over HTTP and from anywhere.

    Results that cannot be delivered wait in its spool, below the data directory, also over a restart.
    """
    data_dir = session.wanted.data_dir
    chosen = load_config(config, data_dir=data_dir) if config else parse_config("", data_dir=data_dir)
    address = session.address()
    if not address.token:
        raise ConfigError("an executor needs a token", fix="standfast token create NAME --scope execute")
    called = name or socket.gethostname()
    options = ExecutorOptions(
        name=called,
        url=address.url,
        token=address.token,
        spool=chosen.data_dir / "executors" / called,
        capacity=concurrency or chosen.executor.concurrency,
        poll_s=chosen.executor.poll_s,
        submit_batch=chosen.executor.submit_batch,
    )
    asyncio.run(_executor(options, chosen))
    _emit_end(session)


async def _executor(options: ExecutorOptions, config: Config) -> None:
    configure_logs()
    async with EpisodeRunner(config.catalogue(), concurrency=options.capacity) as runner:
        await serve_executor(options, runner)


def _emit_end(session: Session) -> None:
    if session.is_json:
        session.emit({"ended": "asked to"}, lambda _: None)


@contextlib.contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and Ctrl-C set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
