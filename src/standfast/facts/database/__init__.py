"""The database that facts and every other capability's tables live in: SQLite or PostgreSQL."""

from standfast.facts.database.migrate import Migrations, migrate, refuse_newer, schema_findings
from standfast.facts.database.ports import Database, Tx
from standfast.facts.database.queries import Queries, load_queries

__all__ = [
    "Database",
    "Migrations",
    "Queries",
    "Tx",
    "load_queries",
    "migrate",
    "refuse_newer",
    "schema_findings",
]
