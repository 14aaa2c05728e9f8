"""The API's client against servers that fail in every way: a typed error within the total, always (K6)."""

from __future__ import annotations

import asyncio
import time

import pytest

from broken_servers import BEHAVIOURS, black_hole, broken, unused_port
from standfast.app.client import ApiClient, ClientLimits, Reply, checked_url, error_of
from standfast.app.tokens import new_token
from standfast.kernel.clock import SystemEntropy
from standfast.kernel.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    NotFoundError,
    RefusedError,
    StandfastError,
    TransientError,
)

TOKEN = new_token(SystemEntropy())
LIMITS = ClientLimits(total_s=1.0, connect_s=0.8, reply_bytes=1_000_000)


def ask(url: str) -> tuple[StandfastError, float]:
    """Make one call that fails; return the error and how long it took."""

    async def call() -> None:
        async with ApiClient(url, TOKEN, LIMITS) as client:
            await client.post("/tasks/claim", {"executor": "e1", "note": "x" * 100})

    started = time.monotonic()
    with pytest.raises(StandfastError) as caught:
        asyncio.run(call())
    return caught.value, time.monotonic() - started


def check(error: StandfastError, took_s: float) -> None:
    assert took_s < LIMITS.total_s + 0.7
    told = f"{error} {error.__cause__!r} {error.__context__!r}"
    assert TOKEN not in told
    assert "xxxx" not in told
    assert error.fix or error.code in ("Bug", "StoreAway", "TokenUnknown", "ScopeMissing"), error


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_k6_a_server_that_misbehaves_is_a_typed_error_in_time(name: str) -> None:
    behaviour, code = BEHAVIOURS[name]
    with broken(behaviour) as url:
        error, took_s = ask(url)
    assert error.code == code, error
    assert isinstance(error, AuthError if name.startswith("40") else TransientError)
    check(error, took_s)


def test_k6_a_server_that_refuses_is_a_typed_error_at_once() -> None:
    error, took_s = ask(f"http://127.0.0.1:{unused_port()}")
    assert (error.code, took_s < 0.5) == ("ApiUnreachable", True)
    check(error, took_s)


def test_k6_a_black_hole_is_a_typed_error_in_time() -> None:
    with black_hole() as url:
        error, took_s = ask(url)
    assert error.code in ("ApiTimeout", "ApiUnreachable")
    assert took_s > 0.5, "the fault did not land"
    check(error, took_s)


def test_k6_a_name_that_does_not_resolve_is_a_typed_error() -> None:
    error, took_s = ask("http://no-such-host.invalid:8321")
    assert error.code in ("ApiUnreachable", "ApiTimeout")
    check(error, took_s)


def test_a_token_goes_to_no_other_address_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with broken(BEHAVIOURS["500"][0]) as proxy, broken(BEHAVIOURS["503"][0]) as url:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        error, _ = ask(url)
    assert error.code == "StoreAway"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8321",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://u:p@h",
        "http://h/?a=b",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_url(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (409, "Refused", RefusedError),
        (409, "SomethingNew", ConflictError),
        (403, "ScopeMissing", AuthError),
        (413, "RequestTooLarge", RefusedError),
        (422, "RequestInvalid", ConfigError),
        (503, "StoreSlow", TransientError),
        (500, "Bug", TransientError),
    ],
)
def test_an_error_keeps_its_kind_on_the_way(status: int, code: str, kind: type[StandfastError]) -> None:
    body = {"error": {"code": code, "what": "w\x1b[31m", "why": TOKEN, "fix": "f", "since": "s"}}
    error = error_of(Reply(status, body), "http://h")
    assert (type(error).__mro__[1] is kind or type(error) is kind, error.code) == (True, code)
    assert TOKEN not in str(error)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("items", [None, [], [{"index": 1}], [{"index": 0}, {"index": 1}], ["x"], {"0": {}}])
def test_k6_a_batch_counts_as_answered_only_by_one_answer_per_item(items: object) -> None:
    import json

    from broken_servers import reply, says

    async def call(url: str) -> None:
        async with ApiClient(url, TOKEN, LIMITS) as client:
            await client.submit("e1", [{"task_id": "x"}])

    answer = reply("200 OK", json.dumps({"accepted": 1, "items": items}).encode())
    with broken(says(answer)) as url, pytest.raises(TransientError) as caught:
        asyncio.run(call(url))
    assert caught.value.code == "ApiReplyUnexpected"
