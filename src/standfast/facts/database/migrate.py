"""Forward-only numbered migrations, one series per capability, as SQL files.

1. A series is ``NNNN_name.DIALECT.sql`` in a package's ``migrations`` folder, applied in order.
2. All that is owed is applied in one transaction; a failure leaves the store as it was.
3. A store that has a number this code does not know is newer than the code, and is refused: older
   code would write rows that the newer rules do not expect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from standfast.facts.database.ports import Database, Dialect, Tx
from standfast.kernel.clock import Clock, iso
from standfast.kernel.errors import StoreError

_FILE = re.compile(r"^(\d{4})_(\w+)\.(sqlite|postgres)\.sql$")
_LEDGER = """CREATE TABLE IF NOT EXISTS schema_migration (
  component TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, applied_at TEXT NOT NULL,
  PRIMARY KEY (component, number))"""

_HAS_LEDGER: Mapping[Dialect, str] = {
    "sqlite": "SELECT 1 FROM sqlite_schema WHERE name = 'schema_migration'",
    "postgres": "SELECT 1 WHERE to_regclass('schema_migration') IS NOT NULL",
}


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one component: (number, name, statements), in order."""

    component: str
    steps: tuple[tuple[int, str, str], ...]

    @classmethod
    def of(cls, package: str, dialect: Dialect) -> Migrations:
        """Read the series of ``package`` for ``dialect``; its numbers start at 1 and have no gap."""
        steps = []
        for path in resources.files(package).joinpath("migrations").iterdir():
            match = _FILE.match(path.name)
            if match and match[3] == dialect:
                steps.append((int(match[1]), match[2], path.read_text("utf-8")))
        steps.sort()
        assert [number for number, _, _ in steps] == list(range(1, len(steps) + 1)), package
        return cls(component=package.rsplit(".", maxsplit=1)[-1], steps=tuple(steps))


def migrate(database: Database, components: Sequence[Migrations], clock: Clock) -> tuple[str, ...]:
    """Apply what is owed and return its names; raise StoreError for a store newer than this code."""

    def work(tx: Tx) -> tuple[str, ...]:
        if tx.dialect == "postgres":
            # Two processes that start together must not both create the tables.
            tx.rows("SELECT pg_advisory_xact_lock(723001)")
        tx.rows(_LEDGER)
        applied = _applied(tx)
        _refuse_newer(components, applied, database.name)
        done = []
        for component in components:
            for number, name, sql in component.steps[applied.get(component.component, 0) :]:
                for statement in split_statements(sql):
                    tx.rows(statement)
                tx.rows(
                    "INSERT INTO schema_migration VALUES (:component, :number, :name, :at)"
                    if tx.dialect == "sqlite"
                    else "INSERT INTO schema_migration VALUES (%(component)s, %(number)s, %(name)s, %(at)s)",
                    {
                        "component": component.component,
                        "number": number,
                        "name": name,
                        "at": iso(clock.wall()),
                    },
                )
                done.append(f"{component.component}/{number:04}_{name}")
        return tuple(done)

    return database.write_now(work)


def schema_findings(tx: Tx, components: Sequence[Migrations]) -> str:
    """Return an empty string when the store has exactly the schema of this code, else what differs."""
    has_ledger = tx.rows(_HAS_LEDGER[tx.dialect])
    applied = _applied(tx) if has_ledger else {}
    for component in components:
        have, want = applied.get(component.component, 0), len(component.steps)
        if have != want:
            return f"{component.component} is at schema {have}, this code needs {want}"
    return ""


def refuse_newer(tx: Tx, components: Sequence[Migrations], name: str) -> None:
    """Raise StoreError where the store ``name``, which has a schema, is newer than this code."""
    _refuse_newer(components, _applied(tx), name)


def split_statements(sql: str) -> list[str]:
    """Split a migration into statements at lines that end with ``;``, keeping BEGIN...END bodies whole."""
    statements, lines, is_body = [], [], False
    for line in sql.splitlines():
        if line.lstrip().startswith("--") or not line.strip():
            continue
        lines.append(line)
        is_body = (is_body or line.rstrip().endswith(("BEGIN", "$$ BEGIN"))) and not line.startswith("END")
        if line.rstrip().endswith(";") and not is_body:
            statements.append("\n".join(lines).rstrip().rstrip(";"))
            lines = []
    assert not lines, f"unfinished statement: {lines[0]}"
    return statements


def _applied(tx: Tx) -> Mapping[str, int]:
    rows = tx.rows("SELECT component, max(number) FROM schema_migration GROUP BY component")
    return {component: int(number) for component, number in rows}


def _refuse_newer(components: Sequence[Migrations], applied: Mapping[str, int], name: str) -> None:
    known = {component.component: len(component.steps) for component in components}
    for component, number in applied.items():
        if number > known.get(component, 0):
            raise StoreError(
                f"the store {name} is newer than this code",
                why=f"it has {component} schema {number}, this version knows {known.get(component, 0)}",
                fix="install the version of standfast that wrote it (or a later one)",
                code="StoreNewer",
            )
