"""Who may do what, what is refused unread, and that no reply or log repeats what was sent (I12)."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api_lab import Served, config_of, memory_plane, open_round, plane_of, serving

CANARY = "canary-7f3a9c-secret"
SCOPES = ("read", "execute", "operate", "admin")
#: What each route needs; a route that is not here fails the test below.
NEEDS = {
    ("POST", "/tasks/claim"): "execute",
    ("POST", "/tasks/submit"): "execute",
    ("POST", "/tasks/heartbeat"): "execute",
    ("POST", "/tasks/release"): "execute",
    ("POST", "/executors/register"): "execute",
    ("POST", "/executors/e1/cordon"): "operate",
    ("POST", "/executors/e1/uncordon"): "operate",
    ("POST", "/subjects/0/pause"): "operate",
    ("POST", "/subjects/0/resume"): "operate",
    ("POST", "/tasks/drain"): "operate",
    ("POST", "/tasks/0123456789abcdef/requeue"): "operate",
    ("GET", "/tasks"): "read",
    ("GET", "/tasks/0123456789abcdef"): "read",
    ("GET", "/executors"): "read",
    ("GET", "/rounds"): "read",
    ("GET", "/rounds/latest"): "read",
    ("GET", "/rounds/latest/evidence"): "read",
    ("GET", "/scores/latest"): "read",
    ("GET", "/miners"): "read",
    ("GET", "/miners/1"): "read",
    ("GET", "/publications/latest"): "read",
    ("GET", "/facts"): "read",
    ("GET", "/facts/verify"): "read",
    ("GET", "/status"): "read",
    ("POST", "/tokens"): "admin",
    ("GET", "/tokens"): "admin",
    ("DELETE", "/tokens/x"): "admin",
}
ALLOWS = {"read": {"read"}, "execute": {"execute"}, "operate": {"operate", "read"}, "admin": set(SCOPES)}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    plane = memory_plane(tmp_path)
    open_round(plane)
    with serving(plane) as running:
        yield running
    plane.close()


def test_every_route_needs_its_scope_and_none_is_forgotten(served: Served) -> None:
    with served.bare() as client:
        document = client.get("/openapi.json").json()
    concrete = {"name": "e1", "task_id": "0123456789abcdef", "ref": "latest", "uid": "1"}
    routes = set()
    for path, methods in document["paths"].items():
        if path.startswith("/api/v1"):
            filled = path.removeprefix("/api/v1").format(**concrete)
            filled = filled.replace("/subjects/e1", "/subjects/0").replace("/tokens/e1", "/tokens/x")
            routes |= {(method.upper(), filled) for method in methods}
    assert routes == set(NEEDS)
    with served.client("") as nobody:
        for method, path in NEEDS:
            reply = nobody.request(method, path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "TokenMissing"), path
            assert reply.headers["www-authenticate"] == "Bearer"
    for scope in SCOPES:
        with served.client(scope) as client:
            for (method, path), needed in NEEDS.items():
                if path == "/status" or (path == "/tokens" and method == "POST"):
                    continue  # Slow here (it waits for a leader's beat), and asked about below.
                status = client.request(method, path).status_code
                assert (status == 403) is (needed not in ALLOWS[scope]), (scope, method, path, status)


@pytest.mark.parametrize("token", ["x", "sf_" + "A" * 43, "Bearer", "\xe9"])
def test_a_wrong_token_is_401_and_not_repeated(served: Served, token: str) -> None:
    header = f"Bearer {token}".encode("latin-1")
    with served.bare() as client:
        reply = client.get("/api/v1/executors", headers=[(b"Authorization", header)])
    assert reply.status_code == 401
    assert len(token) < 5 or token not in reply.text


def test_tokens_are_made_once_listed_without_and_revoked_at_once(served: Served) -> None:
    with served.client() as admin:
        made = admin.post("/tokens", json={"name": "ci", "scopes": ["read"]})
        assert made.status_code == 201
        token = made.json()["token"]
        assert admin.post("/tokens", json={"name": "ci", "scopes": ["read"]}).status_code == 409
        listed = admin.get("/tokens")
        assert "ci" in [one["name"] for one in listed.json()["tokens"]]
        assert token not in listed.text
        shown = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"{served.url}/api/v1", headers=shown) as ci:
            assert ci.get("/executors").status_code == 200
            assert ci.post("/tasks/drain", json={"on": True}).status_code == 403
            assert admin.delete("/tokens/ci").status_code == 200
            assert ci.get("/executors").status_code == 401
        facts = admin.get("/facts", params={"newest": True})
        assert [f["kind"] for f in facts.json()["facts"]][-2:] == ["token.created", "token.revoked"]
        assert token not in facts.text


def test_what_cannot_be_recorded_is_not_done(served: Served) -> None:
    """The fact and the deed are one transaction: with the chain's head gone, nothing happens."""
    database = served.plane.database
    trigger = "CREATE TRIGGER no BEFORE INSERT ON fact BEGIN SELECT RAISE(ABORT, 'no'); END"
    database.write_now(lambda tx: tx.rows(trigger))
    with served.client() as admin:
        assert admin.post("/tasks/drain", json={"on": True}).status_code == 422
        assert database.read_now(served.plane.tasks.store.control).is_draining is False


def canary_requests() -> list[tuple[str, str, dict[str, object]]]:
    nested = {"executor": CANARY + " \n", "instance": CANARY, "count": CANARY, CANARY: CANARY}
    bodies = (json.dumps(nested), CANARY, json.dumps({"info": {CANARY: [CANARY]}, "x": CANARY}))
    posted: list[tuple[str, str, dict[str, object]]] = [
        ("POST", path, {"content": body}) for method, path in NEEDS if method == "POST" for body in bodies
    ]
    got: list[tuple[str, str, dict[str, object]]] = [
        ("GET", path, {"params": {"limit": CANARY, "state": CANARY, "round": CANARY, "after": CANARY}})
        for method, path in NEEDS
        if method == "GET" and path not in ("/status", "/facts/verify")
    ]
    return (
        posted
        + got
        + [
            ("GET", f"/tasks/{CANARY}", {}),
            ("GET", f"/rounds/{CANARY}", {}),
            ("GET", f"/{CANARY}", {}),
            ("POST", f"/tasks/{CANARY}/requeue", {}),
            ("PUT", "/tasks", {"content": CANARY}),
            ("GET", "/executors", {"headers": {"Cookie": CANARY, "X-Secret": CANARY}}),
        ]
    )


def test_i12_no_reply_and_no_log_repeats_what_was_sent(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    with served.client() as client:
        for method, path, more in canary_requests():
            reply = client.request(method, path, **more)  # type: ignore[arg-type]
            assert reply.status_code < 500, (method, path)
            assert CANARY not in reply.text, (method, path, reply.text)
            assert CANARY not in str(reply.headers)
        metrics = client.get(f"{served.url}/metrics").text
    assert CANARY not in metrics
    out, err = capfd.readouterr()
    assert CANARY not in out + err
    assert all(token not in out + err for token in served.tokens.values())


def test_r10_no_garbage_is_a_fault_of_ours(served: Served) -> None:
    dice = random.Random(7)
    words: list[object] = [None, True, -1, 0, 2**70, 1.5, "", "a", "\0", "\ud800", "x" * 300, [], {}, [[]]]
    keys = [
        "executor",
        "instance",
        "count",
        "info",
        "held",
        "results",
        "task_id",
        "token",
        "on",
        "name",
        "scopes",
    ]
    names, values = ["limit", "state", "round", "after", "kind"], ["-1", "x", "\0", "9" * 40]

    def value(depth: int) -> object:
        if depth == 0 or dice.random() < 0.5:
            return dice.choice(words)
        if dice.random() < 0.5:
            return [value(depth - 1) for _ in range(dice.randrange(3))]
        return {dice.choice(keys): value(depth - 1) for _ in range(dice.randrange(4))}

    paths = [(method, path) for method, path in NEEDS if path not in ("/status", "/facts/verify")]
    with served.client() as client:
        for _ in range(600):
            method, path = dice.choice(paths)
            body = json.dumps({dice.choice(keys): value(3) for _ in range(dice.randrange(5))})
            if dice.random() < 0.2:
                body = body[: dice.randrange(len(body) + 1)]
            query = {dice.choice(names): dice.choice(values)}
            reply = client.request(method, path, content=body, params=query)
            assert reply.status_code < 500, (method, path, body, reply.text)


def test_a_bug_tells_nothing_but_an_id_that_the_log_has(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    register = {"executor": "e1", "instance": "i1", "info": {}}
    damage = "UPDATE executor SET info = '{damaged sf_" + "A" * 43 + "'"
    with served.client() as client:
        client.post("/executors/register", json=register).raise_for_status()
        served.plane.database.write_now(lambda tx: tx.rows(damage))
        reply = client.get("/executors")
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "Bug")
        assert "Traceback" not in reply.text
        assert "JSONDecode" not in reply.text
        bug_id = reply.json()["error"]["why"].rsplit(" ", 1)[-1]
        assert client.post("/executors/register", json=register).status_code == 200
    out, err = capfd.readouterr()
    assert bug_id in out + err
    assert "JSONDecodeError" in out + err
    assert "sf_AAAA" not in out + err


def test_other_hosts_and_origins_are_refused(served: Served) -> None:
    with served.client() as client:
        for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{served.url.rsplit(':')[-1]}"}):
            reply = client.get("/executors", headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "HostRefused")
        reply = client.post("/tasks/drain", json={"on": True}, headers={"Origin": "https://evil.example"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "OriginRefused")
        for name in ("x-content-type-options", "content-security-policy", "cache-control", "x-frame-options"):
            assert reply.headers[name]


def raw(served: Served, head: str, *bodies: bytes) -> tuple[bytes, int]:
    """Send a request by hand; return the reply and how many bytes of the body were taken."""
    host, port = served.url.removeprefix("http://").split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"{head}\r\nHost: {host}\r\nAuthorization: Bearer {served.tokens['execute']}\r\n\r\n".encode()
        )
        connection.settimeout(0.05)
        reply = b""
        for body in bodies:
            try:
                connection.sendall(body)
                sent += len(body)
                reply = connection.recv(65_536)
            except TimeoutError:
                pass
            except OSError:
                break
            if reply:
                break
        connection.settimeout(20)
        # The body of a reply may come in a packet of its own; the server closes after it.
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                reply += part
        return reply, sent


def test_a_hundred_megabytes_are_refused_before_they_are_read(served: Served) -> None:
    head = "POST /api/v1/tasks/submit HTTP/1.1\r\nContent-Type: application/json\r\n"
    reply, sent = raw(served, head + "Content-Length: 100000000", b"x" * 1000)
    assert b" 413 " in reply.splitlines()[0]
    assert sent <= 1000
    chunk = b"%x\r\n" % 500_000 + b"x" * 500_000 + b"\r\n"
    reply, sent = raw(served, head + "Transfer-Encoding: chunked", *[chunk] * 200)
    assert b" 413 " in reply.splitlines()[0]
    assert b"RequestTooLarge" in reply
    assert sent < 20_000_000


def test_replies_on_a_kept_connection_come_at_once(tmp_path: Path) -> None:
    plane = plane_of(config_of(tmp_path))
    with serving(plane) as served, served.bare() as client:
        client.get("/health/live")
        took = []
        for _ in range(20):
            started = time.perf_counter()
            client.get("/health/live")
            took.append(time.perf_counter() - started)
    plane.close()
    # With Nagle's algorithm every one of them takes 40 ms.
    assert sorted(took)[10] < 0.03
