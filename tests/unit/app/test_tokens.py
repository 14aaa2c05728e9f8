"""Tokens: what they allow, how they are kept, and that they do not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from standfast.app.tokens import (
    SCOPES,
    KnownToken,
    TokenStore,
    allowed_by,
    find_caller,
    local_token,
    new_token,
    read_token,
    redact,
    token_sha256,
    write_token,
)
from standfast.facts.database import Migrations, migrate
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.kernel.errors import ConfigError, ConflictError, NotFoundError

CLOCK, ENTROPY = SystemClock(), SystemEntropy()


@pytest.fixture
def database() -> SqliteDatabase:
    opened = SqliteDatabase(":memory:")
    migrate(opened, [Migrations.of("standfast.facts", "sqlite")], CLOCK)
    return opened


@pytest.fixture
def store() -> TokenStore:
    return TokenStore("sqlite", CLOCK, ENTROPY)


def known(name: str, token: str, *scopes: str, revoked_at: str | None = None) -> KnownToken:
    return KnownToken(name, token_sha256(token), scopes, "2026-01-01T00:00:00Z", revoked_at)


def test_an_unknown_or_revoked_token_is_nobody() -> None:
    token = new_token(ENTROPY)
    tokens = [known("old", token, "admin", revoked_at="2026-01-02T00:00:00Z")]
    assert find_caller(tokens, token) is None
    assert find_caller([known("other", new_token(ENTROPY), "admin")], token) is None
    assert find_caller([], "") is None


@pytest.mark.parametrize(
    ("scope", "allows"),
    [
        ("read", {"read"}),
        ("execute", {"execute"}),
        ("operate", {"operate", "read"}),
        ("admin", set(SCOPES)),
    ],
)
def test_a_scope_allows_exactly_this(scope: str, allows: set[str]) -> None:
    token = new_token(ENTROPY)
    caller = find_caller([known("me", token, scope)], token)
    assert caller is not None
    assert {each for each in SCOPES if caller.may(each)} == allows


def test_a_scope_that_is_not_known_allows_nothing() -> None:
    assert allowed_by(["root"]) == frozenset()


def test_tokens_are_long_different_and_stored_as_hashes(database: SqliteDatabase, store: TokenStore) -> None:
    token = database.write_now(lambda tx: store.create(tx, "ci", ["read"]))
    assert len(token) == 46
    assert token != new_token(ENTROPY)
    kept = str(database.read_now(lambda tx: tx.rows("SELECT * FROM api_token")))
    assert token not in kept
    assert token_sha256(token) in kept
    shown = database.read_now(store.known)[0].as_dict()
    assert token_sha256(token) not in str(shown)


def test_a_name_is_never_given_twice(database: SqliteDatabase, store: TokenStore) -> None:
    database.write_now(lambda tx: store.create(tx, "ci", ["read"]))
    with pytest.raises(ConflictError):
        database.write_now(lambda tx: store.create(tx, "ci", ["read"]))
    database.write_now(lambda tx: store.revoke(tx, "ci"))
    with pytest.raises(ConflictError):
        database.write_now(lambda tx: store.create(tx, "ci", ["read"]))
    with pytest.raises(NotFoundError):
        database.write_now(lambda tx: store.revoke(tx, "ci"))


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "root"]])
def test_scopes_that_do_not_exist_are_refused(
    database: SqliteDatabase, store: TokenStore, scopes: list[str]
) -> None:
    with pytest.raises(ConfigError):
        database.write_now(lambda tx: store.create(tx, "ci", scopes))


def test_the_instances_own_token_is_kept_and_replaced_where_others_could_read_it(
    tmp_path: Path, database: SqliteDatabase, store: TokenStore
) -> None:
    path = tmp_path / "data" / "token"

    def ask() -> str:
        return database.write_now(
            lambda tx: local_token(tx, store, path, name="local-admin", scopes=["admin"])
        )

    first = ask()
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask() == first == read_token(path)
    path.chmod(0o644)
    assert read_token(path) == ""
    second = ask()
    assert second != first
    tokens = database.read_now(store.known)
    assert find_caller(tokens, first) is None
    assert find_caller(tokens, second) is not None


def test_a_token_file_of_another_store_is_replaced(
    tmp_path: Path, database: SqliteDatabase, store: TokenStore
) -> None:
    path = tmp_path / "token"
    write_token(path, new_token(ENTROPY))
    token = database.write_now(lambda tx: local_token(tx, store, path, name="local-admin", scopes=["admin"]))
    assert find_caller(database.read_now(store.known), token) is not None
    path.write_text("not a token\n")
    assert read_token(path) == ""


def test_a_token_in_a_text_of_others_does_not_show() -> None:
    token = new_token(ENTROPY)
    assert token not in redact(f"bad header: Bearer {token}, twice {token}")
