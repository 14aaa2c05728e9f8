"""Tests every promise of ``standfast.facts.database`` and of ``FactStore``, for whoever writes an adapter.

Subclass ``DatabaseContract`` and ``FactStoreContract`` in a test module, under names that start with
``Test``, and return a bench from ``bench``; pytest finds the tests. Nothing here needs a plugin.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from standfast.facts.database import Database, Migrations, Tx, migrate, schema_findings
from standfast.facts.database.errors import StatementError
from standfast.facts.model import Broken, Fact, Intact
from standfast.facts.store import FactStore
from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError
from standfast.testing.expect import all_well, at_once, raising

_TABLE = "CREATE TABLE ledger (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount >= 0))"
_TABLE_SQLITE = _TABLE.replace("BIGINT", "INTEGER")
_THREADS = 6
_WAIT_S = 30.0


class StillClock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.instant = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def monotonic(self) -> float:
        """Return the seconds it was put to."""
        return self.seconds

    def wall(self) -> datetime:
        """Return the instant it was put to."""
        return self.instant


class DatabaseBench(Protocol):
    """One empty database, and another way to look at what it really holds."""

    @property
    def database(self) -> Database:
        """The database under test, open."""
        ...

    def fresh(self) -> Database:
        """Return a connection of its own to the same place; the same one where there can be no other."""
        ...


class DatabaseContract:
    """The promises of ``Database``, ``Tx`` and ``migrate``, one test each."""

    #: False for a store whose reads and writes share one connection.
    has_own_readers = True

    def bench(self) -> AbstractContextManager[DatabaseBench]:
        """Return a context that yields an empty bench and clears it away."""
        raise NotImplementedError

    def test_i2_what_write_returned_is_seen_by_a_fresh_connection(self) -> None:
        """A row that was written is there for everybody, at once."""
        with self.bench() as bench:
            _make_table(bench.database)
            assert bench.database.write_now(lambda tx: _put(tx, 1, 5)) is None
            assert bench.fresh().read_now(_rows) == [(1, 5)]

    def test_an_error_that_leaves_the_work_undoes_all_of_it(self) -> None:
        """Also a KeyboardInterrupt: a transaction is whole or it never was."""
        for error in (ValueError("no"), StandfastError("no"), KeyboardInterrupt()):
            with self.bench() as bench:
                _make_table(bench.database)

                def work(tx: Tx, error: BaseException = error) -> None:
                    _put(tx, 1, 5)
                    raise error

                with raising(type(error)):
                    bench.database.write_now(work)
                assert bench.fresh().read_now(_rows) == []
                bench.database.write_now(lambda tx: _put(tx, 2, 6))
                assert bench.fresh().read_now(_rows) == [(2, 6)]

    def test_k3_what_fails_inside_a_savepoint_costs_nothing_outside_it(self) -> None:
        """The statement is named StatementError, its savepoint is undone, the rest stands."""

        def work(tx: Tx) -> None:
            _put(tx, 1, 5)
            with raising(StatementError), tx.savepoint():
                _put(tx, 2, 5)
                _put(tx, 3, -1)
            with tx.savepoint():
                _put(tx, 4, 5)
                with raising(StatementError), tx.savepoint():
                    _put(tx, 1, 7)
            with raising(ValueError), tx.savepoint():
                _put(tx, 5, 5)
                raise ValueError

        with self.bench() as bench:
            _make_table(bench.database)
            bench.database.write_now(work)
            assert bench.fresh().read_now(_rows) == [(1, 5), (4, 5)]

    def test_a_mistake_in_our_own_statement_is_never_blamed_on_the_item(self) -> None:
        """It leaves as it is, so that it is found, and not as a refused value or a store that is away."""
        with self.bench() as bench:
            for mistake in ("SELEC 1", "SELECT nothing FROM nowhere"):
                with raising(Exception) as caught:
                    bench.database.write_now(lambda tx, mistake=mistake: tx.rows(mistake))  # type: ignore[misc]
                assert not isinstance(caught.error, StandfastError), repr(caught.error)

    def test_each_runs_for_every_row_and_returns_what_all_returned(self) -> None:
        """No row is no statement."""

        def work(tx: Tx) -> list[tuple[Any, ...]]:
            assert tx.each(_put_many(tx), []) == []
            return tx.each(_put_many(tx) + " RETURNING id", [(i, i * i) for i in range(300)])

        with self.bench() as bench:
            _make_table(bench.database)
            assert sorted(bench.database.write_now(work)) == [(i,) for i in range(300)]
            assert bench.fresh().read_now(_rows) == [(i, i * i) for i in range(300)]

    def test_writers_meet_and_none_is_lost(self) -> None:
        """Every increment of every thread counts."""

        def increment(tx: Tx) -> None:
            tx.rows("UPDATE ledger SET amount = amount + 1")

        with self.bench() as bench:
            _make_table(bench.database)
            bench.database.write_now(lambda tx: _put(tx, 1, 0))
            works = [lambda: [bench.database.write_now(increment) for _ in range(20)]] * _THREADS
            all_well(at_once(works))
            assert bench.fresh().read_now(_rows) == [(1, 20 * _THREADS)]

    def test_read_is_one_snapshot_and_waits_for_no_writer(self) -> None:
        """What is written meanwhile is not seen, and a writer in mid-transaction holds nobody up."""
        if not self.has_own_readers:
            return
        with self.bench() as bench:
            database = bench.database
            _make_table(database)
            database.write_now(lambda tx: _put(tx, 1, 5))
            is_written, may_end = threading.Event(), threading.Event()

            def write(tx: Tx) -> None:
                _put(tx, 2, 6)
                is_written.set()
                assert may_end.wait(_WAIT_S)

            def read(tx: Tx) -> None:
                assert _rows(tx) == [(1, 5)]
                may_end.set()
                writer.join(_WAIT_S)
                assert _rows(tx) == [(1, 5)]

            writer = threading.Thread(target=database.write_now, args=(write,), daemon=True)
            writer.start()
            assert is_written.wait(_WAIT_S)
            database.read_now(read)
            assert database.read_now(_rows) == [(1, 5), (2, 6)]

    def test_what_only_reads_cannot_write(self) -> None:
        """A view that writes is a mistake, and shows as one."""
        if not self.has_own_readers:
            return
        with self.bench() as bench:
            _make_table(bench.database)
            with raising(StoreError, code="StoreReadOnly"):
                bench.database.read_now(lambda tx: _put(tx, 1, 5))
            assert bench.fresh().read_now(_rows) == []

    def test_write_and_read_do_not_hold_the_loop(self) -> None:
        """The loop turns while a transaction runs."""

        async def check(database: Database) -> None:
            may_end = threading.Event()

            def work(tx: Tx) -> str:
                assert may_end.wait(_WAIT_S)
                _put(tx, 1, 5)
                return "written"

            writing = asyncio.create_task(database.write(work))
            await asyncio.sleep(0)
            may_end.set()
            assert await writing == "written"
            assert await database.read(_rows) == [(1, 5)]
            with raising(ValueError):
                await database.write(_fail)

        with self.bench() as bench:
            _make_table(bench.database)
            asyncio.run(check(bench.database))

    def test_a_closed_store_says_so(self) -> None:
        """Closing twice is no matter; a call after it is a typed refusal."""
        with self.bench() as bench:
            _make_table(bench.database)
            bench.database.close()
            bench.database.close()
            with raising(StoreUnavailableError):
                bench.database.write_now(lambda tx: _put(tx, 1, 5))
            with raising(StoreUnavailableError):
                bench.database.read_now(_rows)
            with raising(StoreUnavailableError):
                asyncio.run(bench.database.write(_rows))

    def test_migrations_are_applied_once_and_in_order(self) -> None:
        """A store behind this code gets what it lacks, one that is level gets nothing."""
        first = (1, "start", "CREATE TABLE a (id INTEGER);\n")
        second = (2, "more", "ALTER TABLE a ADD COLUMN note TEXT;\nCREATE TABLE b (id INTEGER);\n")
        with self.bench() as bench:
            database, clock = bench.database, StillClock()
            assert migrate(database, [_series(first)], clock) == ("trial/0001_start",)
            assert migrate(database, [_series(first)], clock) == ()
            assert migrate(database, [_series(first, second)], clock) == ("trial/0002_more",)
            assert migrate(database, [_series(first, second)], clock) == ()
            assert bench.fresh().read_now(lambda tx: tx.rows("SELECT id, note FROM a")) == []

    def test_a_migration_that_fails_leaves_the_store_as_it_was(self) -> None:
        """Its tables are gone with it, also those of the components before it."""
        good = Migrations("other", ((1, "good", "CREATE TABLE c (id INTEGER);\n"),))
        bad = _series((1, "bad", "CREATE TABLE a (id INTEGER);\nCREATE TABLE a (id INTEGER);\n"))
        with self.bench() as bench:
            with raising(Exception):
                migrate(bench.database, [good, bad], StillClock())
            assert migrate(bench.database, [good], StillClock()) == ("other/0001_good",)
            assert bench.fresh().read_now(lambda tx: schema_findings(tx, [good])) == ""

    def test_a_store_newer_than_the_code_is_refused_untouched(self) -> None:
        """By a higher number, and by a component that this code does not know."""
        first = (1, "start", "CREATE TABLE a (id INTEGER);\n")
        second = (2, "more", "CREATE TABLE b (id INTEGER);\n")
        third = (3, "later", "CREATE TABLE d (id INTEGER);\n")
        stranger = Migrations("stranger", ((1, "start", "CREATE TABLE c (id INTEGER);\n"),))
        with self.bench() as bench:
            migrate(bench.database, [_series(first, second)], StillClock())
            with raising(StoreError, code="StoreNewer") as caught:
                migrate(bench.database, [_series(first), stranger], StillClock())
            assert "trial schema 2" in caught.error.why
            assert migrate(bench.database, [_series(first, second), stranger], StillClock())
            with raising(StoreError, code="StoreNewer"):
                migrate(bench.database, [_series(first, second, third)], StillClock())
            assert "2, this code needs 3" in bench.fresh().read_now(
                lambda tx: schema_findings(tx, [_series(first, second, third)])
            )

    def test_k7_a_store_without_any_schema_is_found_out_not_tripped_over(self) -> None:
        """Somebody emptied it while we ran: readiness says so."""
        series = _series((1, "start", "CREATE TABLE a (id INTEGER);\n"))
        with self.bench() as bench:
            found = bench.database.read_now(lambda tx: schema_findings(tx, [series]))
            assert found == "trial is at schema 0, this code needs 1"

    def test_processes_that_start_together_migrate_once(self) -> None:
        """One of them applies it, the others find it applied."""
        series = _series((1, "start", "CREATE TABLE a (id INTEGER);\n"))
        with self.bench() as bench:
            works = [lambda: migrate(bench.database, [series], StillClock())] * _THREADS
            done = all_well(at_once(works))
            assert sorted(done) == [()] * (_THREADS - 1) + [("trial/0001_start",)]


class FactStoreContract:
    """The promises of ``FactStore``, one test each."""

    def bench(self) -> AbstractContextManager[DatabaseBench]:
        """Return a context that yields an empty bench and clears it away."""
        raise NotImplementedError

    def test_a_fact_is_written_with_what_it_tells_or_neither_is(self) -> None:
        """An error after the fact takes the fact with it, and the chain goes on as if it never was."""
        with self._facts() as (bench, store):

            def work(tx: Tx) -> None:
                store.append(tx, "trial.made", "a", {"n": 1})
                raise ValueError

            with raising(ValueError):
                bench.database.write_now(work)
            assert bench.fresh().read_now(store.verify) == Intact(0, "0" * 64)
            _append(bench, store, 3)
            assert isinstance(bench.fresh().read_now(store.verify), Intact)

    def test_an_empty_chain_is_intact(self) -> None:
        """Nothing happened yet."""
        with self._facts() as (bench, store):
            assert bench.fresh().read_now(store.verify) == Intact(0, "0" * 64)

    def test_facts_read_back_as_they_were_appended(self) -> None:
        """In their order, by page, by kind, and newest."""
        with self._facts() as (bench, store):
            made = _append(bench, store, 7)
            fresh = bench.fresh()
            assert fresh.read_now(store.page) == made
            assert fresh.read_now(lambda tx: store.page(tx, after=2, limit=3)) == made[2:5]
            assert fresh.read_now(lambda tx: store.page(tx, newest=True, limit=2)) == made[5:]
            assert fresh.read_now(lambda tx: store.page(tx, kind="trial.even")) == made[0::2]
            assert fresh.read_now(store.verify) == Intact(7, made[-1].hash)

    def test_a_body_that_is_not_json_is_refused(self) -> None:
        """NaN and objects have no place in a hash chain; nothing of them stays."""
        with self._facts() as (bench, store):
            for body in ({"x": float("nan")}, {"x": float("inf")}, {"x": object()}):
                with raising(ValueError if isinstance(body["x"], float) else TypeError):
                    bench.database.write_now(lambda tx, body=body: store.append(tx, "k", "s", body))  # type: ignore[misc]
            assert bench.fresh().read_now(store.verify) == Intact(0, "0" * 64)

    def test_whatever_json_can_say_hashes_to_the_same_after_a_reading(self) -> None:
        """Number keys, tuples, floats, any script, deep and empty bodies."""
        bodies: list[dict[Any, Any]] = [
            {}, {10: "a", 9: "b"}, {"t": (1, 2)}, {"f": [0.1, 1e300, -0.0, 1.0, 10**30]},
            {"s": "Größe \U0001f600 \u2028 \\ \""}, {"d": [[[[{}]]]]}, {"n": None, "b": True},
        ]  # fmt: skip
        with self._facts() as (bench, store):
            for body in bodies:
                bench.database.write_now(lambda tx, body=body: store.append(tx, "k", "s", body))  # type: ignore[misc]
            assert isinstance(bench.fresh().read_now(store.verify), Intact)

    def test_writers_that_meet_make_one_chain(self) -> None:
        """No two facts follow the same one."""
        with self._facts() as (bench, store):
            all_well(at_once([lambda: _append(bench, store, 5)] * _THREADS))
            found = bench.fresh().read_now(store.verify)
            assert isinstance(found, Intact)
            assert found.count == 5 * _THREADS

    def test_rows_cannot_be_changed_or_removed(self) -> None:
        """The database itself refuses it, and the chain stays intact."""
        with self._facts() as (bench, store):
            _append(bench, store, 3)
            for statement in ("UPDATE fact SET body = '{}' WHERE seq = 2", "DELETE FROM fact WHERE seq = 3"):
                with raising(StatementError):
                    bench.database.write_now(lambda tx, s=statement: tx.rows(s))  # type: ignore[misc]
            assert isinstance(bench.fresh().read_now(store.verify), Intact)

    def test_every_way_to_break_the_chain_is_named_by_its_first_row(self) -> None:
        """Whoever gets past the triggers cannot get past the hashes."""
        for name, (statements, seq, reason) in _BREAKS.items():
            with self._facts() as (bench, store):
                _append(bench, store, 5)

                def damage(tx: Tx, statements: tuple[str, ...] = statements) -> None:
                    for statement in (*_UNPROTECT[tx.dialect], *statements):
                        tx.rows(statement)

                bench.database.write_now(damage)
                found = bench.fresh().read_now(store.verify)
                assert isinstance(found, Broken), name
                assert found.seq == seq, (name, found)
                assert reason in found.reason, (name, found)

    def test_a_chain_longer_than_a_page_is_walked_to_its_end(self) -> None:
        """A break behind the first thousand rows is found too."""
        with self._facts() as (bench, store):
            bench.database.write_now(lambda tx: [store.append(tx, "k", "s", {"n": n}) for n in range(1_100)])
            assert bench.fresh().read_now(store.verify) != Intact(0, "0" * 64)

            def damage(tx: Tx) -> None:
                for statement in (*_UNPROTECT[tx.dialect], "UPDATE fact SET kind = 'x' WHERE seq = 1050"):
                    tx.rows(statement)

            bench.database.write_now(damage)
            found = bench.fresh().read_now(store.verify)
            assert isinstance(found, Broken)
            assert found.seq == 1_050

    @contextmanager
    def _facts(self) -> Iterator[tuple[DatabaseBench, FactStore]]:
        with self.bench() as bench:
            dialect = bench.database.dialect
            migrate(bench.database, [Migrations.of("standfast.facts", dialect)], StillClock())
            yield bench, FactStore(dialect, StillClock())


_UNPROTECT: Mapping[str, tuple[str, ...]] = {
    "sqlite": ("DROP TRIGGER fact_no_update", "DROP TRIGGER fact_no_delete"),
    "postgres": ("DROP TRIGGER fact_no_change ON fact",),
}
_COPY = "INSERT INTO fact (seq, at, kind, subject, body, previous, hash) SELECT "

#: What somebody did to a chain of five, the first row it breaks, and words of the reason.
_BREAKS: Mapping[str, tuple[tuple[str, ...], int, str]] = {
    "changed body": (("UPDATE fact SET body = '{\"n\":9}' WHERE seq = 3",), 3, "content"),
    "changed instant": (("UPDATE fact SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 2",), 2, "content"),
    "changed subject": (("UPDATE fact SET subject = 'someone' WHERE seq = 5",), 5, "content"),
    "changed hash": (("UPDATE fact SET hash = 'abc' WHERE seq = 4",), 4, "content"),
    "blanks in a body": (("UPDATE fact SET body = '{\"n\": 2}' WHERE seq = 3",), 3, "not written as"),
    "a key twice": (('UPDATE fact SET body = \'{"n":7,"n":2}\' WHERE seq = 3',), 3, "not written as"),
    "not JSON": (("UPDATE fact SET body = 'gone' WHERE seq = 4",), 4, "not JSON"),
    "removed row": (("DELETE FROM fact WHERE seq = 3",), 3, "missing"),
    "removed start": (("DELETE FROM fact WHERE seq = 1",), 1, "missing"),
    "removed, and unreadable after it": (
        ("DELETE FROM fact WHERE seq = 2", "UPDATE fact SET body = 'gone' WHERE seq = 3"),
        2,
        "missing",
    ),
    "cut tail": (("DELETE FROM fact WHERE seq >= 4",), 4, "ends at 3"),
    "emptied": (("DELETE FROM fact",), 1, "ends at 0"),
    "reordered": (
        (
            "UPDATE fact SET seq = 99 WHERE seq = 2",
            "UPDATE fact SET seq = 2 WHERE seq = 3",
            "UPDATE fact SET seq = 3 WHERE seq = 99",
        ),
        2,
        "the row before it",
    ),
    "slipped in before the start": (
        (_COPY + "0, at, kind, subject, body, previous, hash FROM fact WHERE seq = 1",),
        0,
        "before the first",
    ),
    "forged at the end": (
        (_COPY + "6, at, kind, subject, body, previous, hash FROM fact WHERE seq = 5",),
        6,
        "the row before it",
    ),
    "head put back": (("UPDATE fact_head SET seq = 4",), 6, "recorded head is 4"),
}


def _append(bench: DatabaseBench, store: FactStore, count: int) -> list[Fact]:
    """Append facts one by one; every other one is of the kind ``trial.even``."""
    kinds = ("trial.even", "trial.odd")
    return [
        bench.database.write_now(lambda tx, n=n: store.append(tx, kinds[n % 2], f"s{n}", {"n": n}))  # type: ignore[misc]
        for n in range(count)
    ]


def _series(*steps: tuple[int, str, str]) -> Migrations:
    return Migrations("trial", steps)


def _make_table(database: Database) -> None:
    database.write_now(lambda tx: tx.rows(_TABLE_SQLITE if tx.dialect == "sqlite" else _TABLE))


def _put(tx: Tx, number: int, amount: int) -> None:
    tx.each(_put_many(tx), [(number, amount)])


def _put_many(tx: Tx) -> str:
    if tx.dialect == "sqlite":
        return "INSERT INTO ledger VALUES (?1, ?2)"
    return "INSERT INTO ledger SELECT * FROM unnest(%s::bigint[], %s::bigint[])"


def _rows(tx: Tx) -> list[tuple[Any, ...]]:
    return tx.rows("SELECT id, amount FROM ledger ORDER BY id")


def _fail(tx: Tx) -> None:
    _put(tx, 9, 9)
    raise ValueError
