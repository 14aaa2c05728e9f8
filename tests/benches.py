"""Benches of each store for contracts: in memory, in a SQLite file, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postgres_server import PostgresServer
from standfast.facts.database import Database
from standfast.facts.database.postgres import PostgresDatabase
from standfast.facts.database.sqlite import SqliteDatabase


class Bench:
    """A database and what else was opened to look at it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.opened: list[Database] = []

    def fresh(self) -> Database:
        return self.database

    def clear(self) -> None:
        for opened in [*self.opened, self.database]:
            opened.close()


class MemoryBenches:
    """Every bench is a memory of its own."""

    has_own_readers = False

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        bench = Bench(SqliteDatabase(":memory:"))
        try:
            yield bench
        finally:
            bench.clear()


class FileBench(Bench):
    def fresh(self) -> Database:
        self.opened.append(SqliteDatabase(self.database.name, read_only=True))
        return self.opened[-1]


class FileBenches:
    """Every bench is a file of its own."""

    @pytest.fixture(autouse=True)
    def _give_folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._make_folder = tmp_path_factory.mktemp

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        folder: Path = self._make_folder("store")
        bench = FileBench(SqliteDatabase(folder / "standfast.db"))
        try:
            yield bench
        finally:
            bench.clear()


class PostgresBench(Bench):
    def __init__(self, url: str) -> None:
        super().__init__(PostgresDatabase(url))
        self._url = url

    def fresh(self) -> Database:
        self.opened.append(PostgresDatabase(self._url))
        return self.opened[-1]


class PostgresBenches:
    """Every bench is a database of its own on the session's server."""

    @pytest.fixture(autouse=True)
    def _give_server(self, postgres_server: PostgresServer) -> None:
        self._server = postgres_server

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        url = self._server.make_database()
        bench = PostgresBench(url)
        try:
            yield bench
        finally:
            bench.clear()
            self._server.drop_database(url)
