"""Statements and migrations as files, PostgreSQL's array literals, and messages without secrets."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from standfast.facts.database import Migrations, load_queries
from standfast.facts.database.migrate import split_statements
from standfast.facts.database.ports import Dialect
from standfast.facts.database.postgres import array_literal, without_secret

ROOT = Path(str(resources.files("standfast")))
PACKAGES = sorted(f"standfast.{folder.parent.name}" for folder in ROOT.glob("*/sql"))
WITH_TABLES = sorted(f"standfast.{folder.parent.name}" for folder in ROOT.glob("*/migrations"))


USED = re.compile(r"""sql\["(\w+)"\]""")


#: A supervisor's memory is its host's own file: it must be there before any server is.
OF_HOST = "standfast.services"
SHARED = [name for name in PACKAGES if name != OF_HOST]


def used(*, adapters_of: str = "") -> set[str]:
    """Return the statements that the code names: in the adapters of one dialect, or everywhere else."""
    names: set[str] = set()
    for path in ROOT.rglob("*.py"):
        if path.is_relative_to(ROOT / "services"):
            continue
        is_adapter = path.parent.name == "adapters" and path.stem in ("sqlite", "postgres")
        if path.stem == adapters_of if is_adapter else not adapters_of:
            names.update(USED.findall(path.read_text("utf-8")))
    return names


def all_names(dialect: Dialect) -> set[str]:
    return {name for package in PACKAGES for name in load_queries(package, dialect)}


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_statement_that_the_code_names_is_there(dialect: Dialect) -> None:
    assert used() | used(adapters_of=dialect) <= all_names(dialect)


@pytest.mark.parametrize("package", [name for name in SHARED if name != "standfast.tasks"])
def test_both_dialects_have_the_same_statements(package: str) -> None:
    assert set(load_queries(package, "sqlite")) == set(load_queries(package, "postgres"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_statement_is_written_twice_in_one_file(package: str) -> None:
    for file in (resources.files(package) / "sql").iterdir():
        names = re.findall(r"^-- name: (\w+)$", file.read_text("utf-8"), re.MULTILINE)
        assert len(names) == len(set(names)), file.name


@pytest.mark.parametrize("package", [name for name in WITH_TABLES if name != OF_HOST])
def test_both_dialects_have_the_same_migrations(package: str) -> None:
    sqlite, postgres = (Migrations.of(package, dialect) for dialect in ("sqlite", "postgres"))
    assert sqlite.component == postgres.component == package.rsplit(".", maxsplit=1)[-1]
    assert [step[:2] for step in sqlite.steps] == [step[:2] for step in postgres.steps]
    assert sqlite.steps


def test_every_statement_of_the_hosts_own_store_is_there_and_used() -> None:
    named = {
        name for path in (ROOT / "services").rglob("*.py") for name in USED.findall(path.read_text("utf-8"))
    }
    put = {
        name
        for path in (ROOT / "services").rglob("*.py")
        for name in re.findall(r"""_put\("(\w+)\"""", path.read_text("utf-8"))
    }
    there = set(load_queries(OF_HOST, "sqlite"))
    assert named | put <= there
    assert Migrations.of(OF_HOST, "sqlite").steps


def test_parameters_are_translated_and_casts_are_not() -> None:
    statements = load_queries("standfast.tasks", "postgres")
    assert "%(batch)s" in statements["list_tasks"]
    assert "::text" in statements["list_tasks"]
    assert not re.search(r"(?<!:):[a-z]", statements["grant"])


def test_a_migration_is_split_at_its_statements_and_bodies_stay_whole() -> None:
    sql = (
        "-- why\nCREATE TABLE a (\n  id INTEGER\n);\n\nCREATE TRIGGER t BEFORE UPDATE ON a BEGIN\n"
        "  SELECT 1;\n  SELECT 2;\nEND;\n"
        "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN\n  RETURN NEW;\nEND $$;\nDROP TABLE a;\n"
    )
    assert [statement.split()[1] for statement in split_statements(sql)] == [
        "TABLE",
        "TRIGGER",
        "FUNCTION",
        "TABLE",
    ]


def test_a_migration_that_does_not_end_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="unfinished"):
        split_statements("CREATE TABLE a (\n  id INTEGER\n)\n")


def test_an_array_is_written_as_postgresql_reads_it() -> None:
    assert array_literal([1, -2, None]) == "{1,-2,NULL}"
    assert array_literal(['a"b', "c\\d", "{,}", "", "NULL"]) == '{"a\\"b","c\\\\d","{,}","","NULL"}'
    assert array_literal([]) == "{}"
    assert array_literal([True]) == "{1}"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://user:secret@db.example:5433/x?password=secret", "postgresql://db.example:5433/x"),
        ("postgresql:///x?host=/run/secret", "postgresql://local socket/x"),
    ],
)
def test_i12_a_store_is_named_without_its_secrets(url: str, name: str) -> None:
    assert without_secret(url) == name
    assert "secret" not in without_secret(url)
