"""A real API on a real store for tests: uvicorn on a free port, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from standfast.api.app import create_app
from standfast.api.serve import address_of, bind, serve
from standfast.app.config import Config, parse_config
from standfast.app.plane import ControlPlane
from standfast.app.scheduler import Scheduler
from standfast.app.tokens import TokenStore
from standfast.facts.database import Database, Tx
from standfast.facts.database.postgres import PostgresDatabase, PostgresLimits
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.publication.ports import Publisher

TOML = """
[store]
url = "{store}"
[api]
require_tokens = true
[scheduler]
tick_s = 0.1
[tasks]
lease_ttl_s = {ttl_s}
heartbeat_s = {heartbeat_s}
retry_base_s = 0.05
retry_cap_s = 0.1
executor_silent_s = {silent_s}
[evaluation]
interval_s = 0.0
deadline_s = 600.0
max_rounds = {rounds}
[evaluation.limits]
timeout_s = 2.0
reset_s = 1.0
act_s = 0.5
subject_budget_s = 1.5
[[evaluation.environments]]
id = "classic/cartpole"
episodes = {episodes}
rotate = 1
"""
SUBJECT = '[[subjects]]\nuid = {uid}\nhotkey = "hk{uid}"\nendpoint = "{endpoint}"\n'


def config_of(
    folder: Path,
    *,
    store: str = "sqlite",
    subjects: int = 2,
    episodes: int = 10,
    endpoint: str = "http://127.0.0.1:9",
    **changed: Any,
) -> Config:
    """Return a configuration whose data lies in ``folder``."""
    values = {"ttl_s": 30.0, "heartbeat_s": 1.0, "silent_s": 2.0, "rounds": 1, **changed}
    text = TOML.format(store=store, episodes=episodes, **values)
    text += "".join(SUBJECT.format(uid=uid, endpoint=endpoint) for uid in range(subjects))
    return parse_config(text, source=folder / "standfast.toml")


def plane_of(config: Config, *, limits: PostgresLimits | None = None) -> ControlPlane:
    """Open the store of ``config``, with tighter limits where a test breaks it."""
    if limits is None:
        return ControlPlane.open(config)
    database: Database = PostgresDatabase(config.store.url, limits)
    return ControlPlane.on(database, config, SystemClock(), SystemEntropy())


def open_round(plane: ControlPlane) -> None:
    """Open a round as a leader would."""

    def work(tx: Tx) -> None:
        tx.rows(plane.tasks.store.sql["lead"], {"leader": "test", "term": 0, "beat": 0, "floor": 0})
        plane.rounds.open_due(tx)

    plane.database.write_now(work)


@dataclass
class Served:
    """A running API; ``tokens`` has one per scope."""

    url: str
    plane: ControlPlane
    tokens: Mapping[str, str]
    scheduler: Scheduler | None = None
    services: list[Mapping[str, Any]] = field(default_factory=list)

    def client(self, scope: str = "admin", *, timeout_s: float = 20.0) -> httpx.Client:
        """Return a client with a token of ``scope``, whose addresses start below /api/v1."""
        headers = {"Authorization": f"Bearer {self.tokens[scope]}"} if scope else {}
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers=headers, timeout=timeout_s, trust_env=False
        )

    def bare(self, *, timeout_s: float = 20.0) -> httpx.Client:
        """Return a client without a token, whose addresses start at the root."""
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)


@contextlib.contextmanager
def serving(
    plane: ControlPlane,
    *,
    with_scheduler: bool = False,
    publisher: Publisher | None = None,
    port: int = 0,
) -> Iterator[Served]:
    """Serve ``plane`` until the block ends; the plane stays open."""
    served = Served("", plane, _tokens(plane))
    if with_scheduler:
        served.scheduler = Scheduler(plane, "test-scheduler", publisher=publisher)
    state: Callable[[], Mapping[str, Any]] = (lambda: served.scheduler.state) if served.scheduler else dict
    app = create_app(plane, scheduler_state=state, services_state=lambda: served.services)
    listener = bind("127.0.0.1", port)
    served.url = address_of(listener)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(app, listener, stop=stop))
            if served.scheduler is not None:
                group.create_task(served.scheduler.run(stop))

    failed: list[BaseException] = []

    def body() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:
            failed.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=body, name="api-under-test")
    thread.start()
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive(), "the API did not stop"
        assert not failed, failed


def _tokens(plane: ControlPlane) -> dict[str, str]:
    store = TokenStore(plane.database.dialect, plane.clock, plane.entropy)
    scopes = ("read", "execute", "operate", "admin")
    return plane.database.write_now(lambda tx: {s: store.install(tx, f"test-{s}", [s]) for s in scopes})


def memory_plane(folder: Path, **changed: Any) -> ControlPlane:
    """Return a plane on a store in memory: as fast as it gets, for what does not depend on the store."""
    config = config_of(folder, store="sqlite::memory:", **changed)
    return ControlPlane.on(SqliteDatabase(":memory:"), config, SystemClock(), SystemEntropy())


def item(lease: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Return a good result for ``lease``."""
    said = {"task_id": lease["task_id"], "token": lease["token"], "success": True, "score": 1.0, "steps": 3}
    return {**said, **changed}
