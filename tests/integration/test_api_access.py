"""A request's transaction ends for its caller, and what nobody waits for any more does not happen."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from api_lab import config_of, plane_of, serving
from standfast.api.access import StoreAccess
from standfast.facts.database import Tx
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.clock import SystemClock
from standfast.kernel.errors import StoreUnavailableError


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    opened = SqliteDatabase(tmp_path / "store.db")
    opened.write_now(lambda tx: tx.rows("CREATE TABLE t (x INTEGER)"))
    return opened


def count(database: SqliteDatabase) -> int:
    return int(database.read_now(lambda tx: tx.rows("SELECT count(*) FROM t"))[0][0])


def test_k7_a_write_that_is_too_slow_is_refused_in_time_and_undone(database: SqliteDatabase) -> None:
    release, ended = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        tx.rows("INSERT INTO t VALUES (1)")
        release.wait(10)
        ended.set()

    async def play() -> float:
        access = StoreAccess(database, SystemClock(), limit_s=0.3)
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError) as caught:
            await access.write(slow)
        took_s = time.monotonic() - started
        assert caught.value.code == "StoreSlow"
        assert access.failing is caught.value
        release.set()
        await access.write(lambda tx: tx.rows("INSERT INTO t VALUES (2)"), limit_s=5.0)
        assert access.failing is None
        return took_s

    assert asyncio.run(play()) < 1.0
    assert ended.is_set()
    assert database.read_now(lambda tx: tx.rows("SELECT x FROM t")) == [(2,)]
    database.close()


def test_k7_what_was_not_begun_when_its_caller_left_is_never_begun(database: SqliteDatabase) -> None:
    release = threading.Event()

    async def play() -> None:
        access = StoreAccess(database, SystemClock(), limit_s=0.2)
        blocking = asyncio.ensure_future(access.write(lambda _: release.wait(10), limit_s=5.0))
        await asyncio.sleep(0.05)
        with pytest.raises(StoreUnavailableError):
            await access.write(lambda tx: tx.rows("INSERT INTO t VALUES (1)"))
        release.set()
        await blocking

    asyncio.run(play())
    database.close()
    again = SqliteDatabase(database.name)
    assert count(again) == 0
    again.close()


def test_k7_beyond_its_bound_a_request_is_refused_at_once(database: SqliteDatabase) -> None:
    release = threading.Event()

    async def play() -> None:
        access = StoreAccess(database, SystemClock(), limit_s=5.0, most=3)
        held = [asyncio.ensure_future(access.write(lambda _: release.wait(10))) for _ in range(3)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError) as caught:
            await access.read(count_of)
        assert (caught.value.code, time.monotonic() - started < 0.1) == ("StoreBusy", True)
        release.set()
        await asyncio.gather(*held)
        assert await access.read(count_of) == 0
        assert access.errors == {"StoreBusy": 1}

    asyncio.run(play())
    database.close()


def count_of(tx: Tx) -> int:
    return int(tx.rows("SELECT count(*) FROM t")[0][0])


def test_k7_a_full_store_is_not_ready_until_a_write_works_again(tmp_path: Path) -> None:
    plane = plane_of(config_of(tmp_path))
    register = {"executor": "e1", "instance": "i1", "info": {"note": "x" * 7_000}}
    with serving(plane) as served, served.client() as client, served.bare() as bare:
        writer = plane.database._writer  # type: ignore[attr-defined]
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")
        reply = client.post("/executors/register", json=register)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "StoreFull")
        assert reply.json()["error"]["fix"]
        ready = bare.get("/health/ready")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "StoreFull")
        assert bare.get("/health/live").status_code == 200
        assert client.get("/executors").status_code == 200, "reading goes on"
        writer.execute("PRAGMA max_page_count = 1000000")
        client.post("/executors/register", json=register).raise_for_status()
        assert bare.get("/health/ready").status_code == 200
    plane.close()
