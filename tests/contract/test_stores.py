"""Each store keeps each promise: in memory, in a SQLite file, on a real PostgreSQL."""

from __future__ import annotations

from benches import FileBenches, MemoryBenches, PostgresBenches
from standfast.testing.store_contract import DatabaseContract, FactStoreContract
from standfast.testing.task_contract import TaskContract


class TestMemoryDatabase(MemoryBenches, DatabaseContract): ...


class TestSqliteDatabase(FileBenches, DatabaseContract): ...


class TestPostgresDatabase(PostgresBenches, DatabaseContract): ...


class TestMemoryFacts(MemoryBenches, FactStoreContract): ...


class TestSqliteFacts(FileBenches, FactStoreContract): ...


class TestPostgresFacts(PostgresBenches, FactStoreContract): ...


class TestMemoryTasks(MemoryBenches, TaskContract): ...


class TestSqliteTasks(FileBenches, TaskContract): ...


class TestPostgresTasks(PostgresBenches, TaskContract): ...
