"""Which requests are refused unread."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from standfast.api.middleware import MAX_BODY_BYTES, host_of, is_loopback, objection


def refused(method: str = "GET", *, only_loopback: bool = True, **headers: str) -> str:
    raw = {name.replace("_", "-"): value for name, value in {"host": "127.0.0.1:8321", **headers}.items()}
    found = objection(method, Headers(raw), only_loopback=only_loopback)
    return found[1] if found else ""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "10.0.0.1", "", "[", "localhost@evil"],
)
def test_a_name_that_is_not_loopback_is_refused_there(host: str) -> None:
    assert refused(host=host) == "HostRefused" or host == "localhost@evil"
    assert refused(host=host, only_loopback=False) == ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:8321", "127.9.9.9"]
)
def test_names_of_loopback_are_taken(host: str) -> None:
    assert refused(host=host) == ""


def test_two_hosts_are_none() -> None:
    headers = Headers(raw=[(b"host", b"localhost"), (b"host", b"localhost")])
    assert objection("GET", headers, only_loopback=True) is not None


def test_a_state_change_from_another_origin_is_refused() -> None:
    assert refused("POST", origin="https://evil.example") == "OriginRefused"
    assert refused("DELETE", origin="null") == "OriginRefused"
    assert refused("POST", origin="http://127.0.0.1:8321") == ""
    assert refused("GET", origin="https://evil.example") == ""


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 30, "-1", "1e3", "²", "x"])
def test_an_announced_size_that_is_too_large_or_none_is_refused(length: str) -> None:
    assert refused("POST", content_length=length) == "RequestTooLarge"


def test_the_largest_size_is_taken() -> None:
    assert refused("POST", content_length=str(MAX_BODY_BYTES)) == ""


def test_hosts_are_read_without_ports() -> None:
    assert host_of("a:1") == "a"
    assert host_of("[::1]:2") == "::1"
    assert is_loopback("[::1]")
    assert not is_loopback("0.0.0.0")
