"""Readiness tells the truth within 2 s, whatever the store does; liveness never asks it (K7)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from api_lab import Served, config_of, plane_of, serving
from postgres_server import PostgresServer, running_postgres
from standfast.app.plane import ControlPlane
from standfast.facts.database import Tx
from standfast.facts.database.postgres import PostgresDatabase, PostgresLimits

T = TypeVar("T")
LIMITS = PostgresLimits(connections=4, connect_s=2, checkout_s=1.0, statement_s=4.0, answer_s=6.0)
WITHIN_S = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL that these tests may break."""
    with running_postgres() as own:
        yield own


@pytest.fixture
def plane(server: PostgresServer, tmp_path: Path) -> Iterator[ControlPlane]:
    opened = plane_of(config_of(tmp_path, store=server.make_database()), limits=LIMITS)
    yield opened
    opened.close()


@pytest.fixture
def served(plane: ControlPlane) -> Iterator[Served]:
    with serving(plane) as running:
        yield running


def ready(client: httpx.Client) -> tuple[int, dict[str, Any]]:
    """Ask once; whatever is answered must come within 2 s."""
    started = time.monotonic()
    reply = client.get("/health/ready")
    assert time.monotonic() - started < WITHIN_S
    alive_at = time.monotonic()
    assert client.get("/health/live").status_code == 200
    assert time.monotonic() - alive_at < 0.5, "liveness must not wait for the store"
    return reply.status_code, reply.json()


def refused(client: httpx.Client) -> dict[str, Any]:
    status, body = ready(client)
    assert status == 503, body
    assert body["status"] == "not_ready"
    error = body["error"]
    assert error["why"].startswith("store: "), "the dependency is named"
    assert error["fix"]
    return dict(error)


def recovers(client: httpx.Client, within_s: float = 20.0) -> None:
    """Wait until it is ready by itself; bounded."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if ready(client)[0] == 200:
            return
        time.sleep(0.1)
    raise AssertionError("it did not become ready by itself")


@pytest.mark.parametrize("is_asked_before", [False, True], ids=["first-call", "later-call"])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_k7_database_gone(server: PostgresServer, served: Served, how: str, is_asked_before: bool) -> None:
    with served.bare() as client, served.client(timeout_s=15.0) as caller:
        assert client.get("/health/live").status_code == 200
        if is_asked_before:
            assert ready(client)[0] == 200
        break_, mend = (server.stop, server.start) if how == "stopped" else (server.freeze, server.thaw)
        break_()
        try:
            for _ in range(4):
                refused(client)
            started = time.monotonic()
            status = caller.get("/status").json()
            assert time.monotonic() - started < 8.0
            assert status["verdict"] == "FAIL"
            assert [f["check"] for f in status["findings"] if f["verdict"] == "FAIL"] == ["store"]
            reply = caller.get("/executors")
            assert reply.status_code == 503
            assert reply.json()["error"]["fix"]
            assert "standfast_store_up 0.0" in client.get("/metrics").text
        finally:
            mend()
        recovers(client)
        assert caller.get("/executors").status_code == 200
        assert "standfast_store_up 1.0" in client.get("/metrics").text


def test_k7_i13_many_questions_make_one_probe_of_a_store_that_hangs(
    server: PostgresServer, tmp_path: Path
) -> None:
    config = config_of(tmp_path, store=server.make_database())
    counting = CountingDatabase(config.store.url, LIMITS)
    plane = plane_over(counting, config)
    with serving(plane) as served, served.bare() as client:
        assert ready(client)[0] == 200
        server.freeze()
        try:
            before = counting.reads
            with ThreadPoolExecutor(10) as pool:
                replies = list(pool.map(lambda _: httpx.get(f"{served.url}/health/ready"), range(10)))
            assert {reply.status_code for reply in replies} == {503}
            assert counting.reads - before == 1
        finally:
            server.thaw()
        recovers(client)
    plane.close()


class CountingDatabase(PostgresDatabase):
    """Counts the reads that were asked for."""

    reads = 0

    async def read(self, work: Callable[[Tx], T]) -> T:
        self.reads += 1
        return await super().read(work)


def plane_over(database: PostgresDatabase, config: Any) -> ControlPlane:
    from standfast.kernel.clock import SystemClock, SystemEntropy

    return ControlPlane.on(database, config, SystemClock(), SystemEntropy())


def test_k7_another_schema_is_not_ready(served: Served) -> None:
    database = served.plane.database
    insert = "INSERT INTO schema_migration VALUES ('tasks', 99, 'future', '2026-01-01T00:00:00Z')"
    with served.bare() as client:
        assert ready(client)[0] == 200
        database.write_now(lambda tx: tx.rows(insert))
        error = refused(client)
        assert (error["code"], "tasks is at schema 99" in error["why"]) == ("SchemaMismatch", True)
        database.write_now(lambda tx: tx.rows("DELETE FROM schema_migration WHERE number = 99"))
        assert ready(client)[0] == 200
        database.write_now(lambda tx: tx.rows("ALTER TABLE schema_migration RENAME TO elsewhere"))
        assert refused(client)
        database.write_now(lambda tx: tx.rows("ALTER TABLE elsewhere RENAME TO schema_migration"))
        assert ready(client)[0] == 200


def test_k7_an_exhausted_pool_is_not_ready(served: Served) -> None:
    database, release = served.plane.database, threading.Event()
    with served.bare() as client, ThreadPoolExecutor(LIMITS.connections) as pool:
        assert ready(client)[0] == 200
        holders = [
            pool.submit(database.write_now, lambda _: release.wait(20)) for _ in range(LIMITS.connections)
        ]
        try:
            time.sleep(0.3)
            assert refused(client)["code"] in ("StoreBusy", "StoreSilent")
            assert refused(client)
        finally:
            release.set()
        for holder in holders:
            holder.result(10)
        recovers(client)


def test_k7_a_sqlite_store_whose_readers_are_stuck_is_not_ready(tmp_path: Path) -> None:
    plane, release = plane_of(config_of(tmp_path)), threading.Event()
    with serving(plane) as served, served.bare() as client, contextlib.ExitStack() as held:
        assert ready(client)[0] == 200
        with served.client() as caller:
            caller.get("/executors").raise_for_status()
        pool = held.enter_context(ThreadPoolExecutor(2))
        held.callback(release.set)
        for _ in range(2):
            pool.submit(plane.database._read_pool.submit(release.wait, 20).result)  # type: ignore[attr-defined]
        time.sleep(0.2)
        assert refused(client)["code"] == "StoreSilent"
        release.set()
        recovers(client)
    plane.close()
