"""What several tiers of tests share: a real PostgreSQL, started once where it can be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres_server import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL for all tests that only use it; those that break one start their own."""
    try:
        context = running_postgres()
        server = context.__enter__()
    except Exception as error:
        pytest.skip(f"no PostgreSQL can be started here: {error}")
    server.forgo_durability()
    yield server
    context.__exit__(None, None, None)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Yield the address of a database that only this test has."""
    url = postgres_server.make_database()
    yield url
    postgres_server.drop_database(url)
