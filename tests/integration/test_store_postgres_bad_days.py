"""PostgreSQL on its bad days: stopped, hung, restarted, full of clients, slow, unwilling (K7)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from postgres_server import PostgresServer, running_postgres
from standfast.facts.database import Tx
from standfast.facts.database.postgres import PostgresDatabase, PostgresLimits
from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError
from standfast.testing.expect import at_once

LIMITS = PostgresLimits(connections=4, connect_s=2, checkout_s=1.0, statement_s=1.0, answer_s=1.5)
SLACK_S = 1.5  # The machine may be busy; the limits must be met all the same, give or take this.


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Start a server that these tests may break; each leaves it running."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(running_postgres())
        except Exception as error:
            pytest.skip(f"no PostgreSQL can be started here: {error}")
        yield started


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.make_database()


@pytest.fixture
def database(url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(url, LIMITS)
    opened.write_now(lambda tx: tx.rows("CREATE TABLE t (id bigint PRIMARY KEY)"))
    yield opened
    opened.close()


def put(number: int) -> Callable[[Tx], Any]:
    return lambda tx: tx.rows(f"INSERT INTO t VALUES ({number})")


def count(tx: Tx) -> int:
    return int(tx.rows("SELECT count(*) FROM t")[0][0])


def refused(call: Callable[[], Any], *, within_s: float) -> StoreUnavailableError:
    """Return the typed refusal of ``call``, which must come in time."""
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        call()
    assert time.monotonic() - start < within_s + SLACK_S
    assert caught.value.fix
    return caught.value


def test_k7_a_stopped_server_is_said_to_be_away_on_the_first_call_and_on_every_other(
    server: PostgresServer, database: PostgresDatabase, url: str
) -> None:
    database.write_now(put(1))
    server.stop()
    try:
        for _ in range(5):
            error = refused(lambda: database.write_now(put(2)), within_s=0.5)
            assert error.code == "StoreAway"
            assert "start the database server" in error.fix
            assert refused(lambda: database.read_now(count), within_s=0.5).code == "StoreAway"
        assert refused(lambda: PostgresDatabase(url, LIMITS), within_s=0.5).code == "StoreAway"
    finally:
        server.start()
    assert database.read_now(count) == 1
    database.write_now(put(2))
    assert database.read_now(count) == 2


def test_k7_a_server_that_hangs_is_a_typed_refusal_within_the_limits(
    server: PostgresServer, database: PostgresDatabase, url: str
) -> None:
    database.write_now(put(1))
    server.freeze()
    try:
        assert refused(lambda: database.write_now(put(2)), within_s=1.5).code == "StoreAway"
        assert refused(lambda: database.read_now(count), within_s=2.0).code == "StoreAway"
        outcomes = at_once([lambda: database.read_now(count)] * 6)
        assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes), outcomes
    finally:
        server.thaw()
    assert database.read_now(count) in (1, 2)  # What was cut off before its answer may have been done.
    database.write_now(put(3))


def test_k7_a_server_that_was_restarted_between_two_calls_is_simply_used(
    server: PostgresServer, database: PostgresDatabase
) -> None:
    at_once([lambda: database.write_now(lambda tx: tx.rows("SELECT pg_sleep(0.1)"))] * 4)
    server.stop()
    server.start()
    for number in range(5):
        database.write_now(put(number))
    assert database.read_now(count) == 5


def test_i2_a_connection_that_is_cut_in_mid_transaction_leaves_nothing_half_done(
    server: PostgresServer, database: PostgresDatabase
) -> None:
    def work(tx: Tx) -> None:
        put(1)(tx)
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'trial%'")
        put(2)(tx)

    assert refused(lambda: database.write_now(work), within_s=1.0).code == "StoreAway"
    assert database.read_now(count) == 0
    database.write_now(put(1))


def test_k7_a_server_with_too_many_clients_says_so_and_recovers(server: PostgresServer, url: str) -> None:
    crowd: list[psycopg.Connection[Any]] = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            # Ends: a server has room for a hundred clients unless it is told otherwise.
            while len(crowd) < 500:
                crowd.append(psycopg.connect(server.url))
        error = refused(lambda: PostgresDatabase(url, LIMITS), within_s=1.0)
    finally:
        for connection in crowd:
            connection.close()
    assert "too many clients" in error.why
    assert "max_connections" in error.fix
    database = _eventually(lambda: PostgresDatabase(url, LIMITS))
    database.close()


def test_k7_connections_that_are_all_in_use_are_a_refusal_in_time(database: PostgresDatabase) -> None:
    may_end, are_in = threading.Event(), threading.Barrier(LIMITS.connections + 1)

    def hold(tx: Tx) -> None:
        tx.rows("SELECT 1")
        are_in.wait(20)
        may_end.wait(20)

    threads = [threading.Thread(target=database.write_now, args=(hold,)) for _ in range(LIMITS.connections)]
    for thread in threads:
        thread.start()
    are_in.wait(20)
    error = refused(lambda: database.read_now(count), within_s=1.0)
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert error.code == "StoreBusy"
    assert "connections" in error.fix
    assert database.read_now(count) == 0


def test_a_statement_without_an_end_is_cut_off(database: PostgresDatabase) -> None:
    error = refused(lambda: database.write_now(lambda tx: tx.rows("SELECT pg_sleep(60)")), within_s=1.0)
    assert "statement timeout" in error.why
    database.write_now(put(1))


def test_waiting_for_a_row_has_an_end(database: PostgresDatabase) -> None:
    database.write_now(put(1))
    is_locked, may_end = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        tx.rows("SELECT 1 FROM t FOR UPDATE")
        is_locked.set()
        may_end.wait(20)

    thread = threading.Thread(target=database.write_now, args=(hold,))
    thread.start()
    assert is_locked.wait(20)
    error = refused(lambda: database.write_now(lambda tx: tx.rows("UPDATE t SET id = 2")), within_s=1.0)
    may_end.set()
    thread.join(20)
    assert "pg_stat_activity" in error.fix


def test_two_that_wait_for_each_other_are_parted_and_one_may_try_again(url: str) -> None:
    database = PostgresDatabase(url, PostgresLimits(connections=4, statement_s=10.0))
    database.write_now(lambda tx: tx.rows("CREATE TABLE t (id bigint PRIMARY KEY, n bigint DEFAULT 0)"))
    for number in (1, 2):
        database.write_now(lambda tx, number=number: tx.rows(f"INSERT INTO t VALUES ({number})"))
    both_hold = threading.Barrier(2)

    def cross(first: int, second: int) -> None:
        def work(tx: Tx) -> None:
            tx.rows(f"UPDATE t SET n = n + 1 WHERE id = {first}")
            both_hold.wait(20)
            tx.rows(f"UPDATE t SET n = n + 1 WHERE id = {second}")

        database.write_now(work)

    outcomes = at_once([lambda: cross(1, 2), lambda: cross(2, 1)])
    errors = [outcome for outcome in outcomes if outcome is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], StoreUnavailableError)
    assert database.read_now(lambda tx: tx.rows("SELECT sum(n) FROM t")) == [(2,)]
    database.close()


def test_a_store_that_may_only_be_read_says_so(server: PostgresServer, url: str) -> None:
    name = url.split("?", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]
    server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = PostgresDatabase(url, LIMITS)
    with pytest.raises(StoreError) as caught:
        database.write_now(lambda tx: tx.rows("CREATE TABLE t (id bigint)"))
    assert caught.value.code == "StoreReadOnly"
    database.close()


@pytest.mark.parametrize("wrong", ["/nothing?", "//nobody@/"])
def test_a_store_that_does_not_know_us_is_no_matter_of_waiting(server: PostgresServer, wrong: str) -> None:
    url = server.url
    url = url.replace("/postgres?", wrong) if "?" in wrong else url.replace("//postgres:@/", wrong)
    with pytest.raises(StoreError) as caught:
        PostgresDatabase(url, LIMITS)
    assert caught.value.code == "StoreRefusedUs"
    assert "[store] url" in caught.value.fix


def test_k7_an_address_that_takes_calls_and_is_silent_is_a_refusal_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/x"
        error = refused(lambda: PostgresDatabase(url, LIMITS), within_s=2.0)
    assert "hunter2" not in str(error)


def test_i12_no_refusal_repeats_a_password(server: PostgresServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    error = refused(
        lambda: PostgresDatabase(f"postgresql://u:hunter2@127.0.0.1:{port}/x", LIMITS), within_s=1.0
    )
    assert "hunter2" not in f"{error!r} {error} {error.why} {error.fix}"


def test_opening_and_closing_leaves_no_connection_behind(server: PostgresServer, url: str) -> None:
    for _ in range(20):
        database = PostgresDatabase(url, LIMITS)
        at_once([lambda database=database: database.read_now(lambda tx: tx.rows("SELECT 1"))] * 4)
        database.close()
    name = url.split("?", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]
    seen = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"

    def is_alone() -> bool:
        with psycopg.connect(server.url) as connection:
            row = connection.execute(seen.encode()).fetchone()
            return row is not None and row[0] == 0

    assert _eventually(is_alone)


def _eventually(call: Callable[[], Any]) -> Any:
    """Return what ``call`` says once it is true and no refusal; within 10 s."""
    deadline = time.monotonic() + 10
    while True:
        try:
            if answer := call():
                return answer
        except StandfastError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
