"""Tasks over HTTP on real stores: batches, classes, leases and what an operator does (K2, K3, K15)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import psycopg
import pytest

from api_lab import Served, config_of, item, open_round, plane_of, serving
from standfast.tasks import upkeep
from standfast.tasks.model import TaskState

ERROR = {"success": False, "score": 0.0, "error": "it broke", "error_code": "Timeout", "fault": "subject"}
OURS = {**ERROR, "fault": "infrastructure"}
KINDS = ("nan", "inf", "nul", "long_id", "unknown", "duplicate", "wrong_owner", "database", "huge", "list")
POISON = {
    "sqlite": "CREATE TRIGGER poison BEFORE UPDATE ON attempt WHEN NEW.error_code = 'Poison' BEGIN"
    " SELECT RAISE(ABORT, 'injected'); END",
    "postgres": """CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.error_code = 'Poison' THEN RAISE EXCEPTION 'injected'; END IF; RETURN NEW; END $$;
      CREATE TRIGGER poison BEFORE UPDATE ON attempt FOR EACH ROW EXECUTE FUNCTION poison()""",
}


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return "sqlite" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> Iterator[Served]:
    episodes = 120 if "kind" in request.fixturenames else 10
    plane = plane_of(config_of(tmp_path, store=store, subjects=2, episodes=episodes))
    open_round(plane)
    with serving(plane) as running:
        yield running
    plane.close()


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as opened:
        yield opened


def claim(client: httpx.Client, count: int, executor: str = "e1") -> list[dict[str, Any]]:
    body = {"executor": executor, "instance": f"{executor}-1", "count": count, "info": {}}
    reply = client.post("/tasks/claim", json=body)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["leases"])


def submit(client: httpx.Client, results: list[Any], executor: str = "e1") -> httpx.Response:
    # Python's own JSON, because httpx refuses to send NaN, and an executor in another language may not.
    body = json.dumps({"executor": executor, "results": results})
    return client.post("/tasks/submit", content=body, headers={"Content-Type": "application/json"})


def give_back(client: httpx.Client, *executors: str) -> None:
    for name in executors:
        client.post("/tasks/release", json={"executor": name, "held": None}).raise_for_status()


def durable(served: Served) -> int:
    """Count done tasks over a connection that the API does not know."""
    statement = f"SELECT count(*) FROM tracking WHERE state = {TaskState.DONE.value}"
    if served.plane.database.dialect == "sqlite":
        connection = apsw.Connection(served.plane.database.name, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return int(connection.execute(statement).fetchone()[0])
        finally:
            connection.close()
    with psycopg.connect(served.plane.config.store.url) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])


def spoil(kind: str, results: list[Any], at: int, foreign: dict[str, Any]) -> tuple[str, int]:
    """Make one item of a good batch bad; return the status and the code that it must get."""
    good = results[at]
    changed: dict[str, tuple[Any, str, int]] = {
        "nan": ({**good, "score": float("nan")}, "invalid", 422),
        "inf": ({**good, "total_reward": float("-inf")}, "invalid", 422),
        "nul": ({**good, **ERROR, "error": "a\0b"}, "invalid", 422),
        "long_id": ({**good, "task_id": "a" * 5_000}, "invalid", 422),
        "unknown": ({**good, "task_id": "0123456789abcdef"}, "unknown", 404),
        "duplicate": (results[(at + 1) % len(results)], "duplicate", 200),
        "wrong_owner": (item(foreign), "stale", 409),
        "database": ({**good, **ERROR, "error_code": "Poison"}, "invalid", 422),
        "huge": ({**good, "steps": 10**400}, "invalid", 422),
        "list": ([1, 2], "invalid", 422),
    }  # fmt: skip
    results[at], status, code = changed[kind]
    return status, code


@pytest.mark.parametrize("kind", KINDS)
def test_k3_one_bad_item_at_any_position_costs_no_other(
    served: Served, client: httpx.Client, kind: str
) -> None:
    if kind == "database":
        served.plane.database.write_now(lambda tx: tx.rows(POISON[tx.dialect]))
    # What is refused before the store is asked cannot depend on the store.
    is_seen_by_store = kind in ("unknown", "duplicate", "wrong_owner", "database")
    is_first = served.plane.database.dialect == "sqlite"
    for at in range(10) if is_seen_by_store or is_first else (0, 5, 9):
        foreign = claim(client, 1, "e2")[0]
        results: list[Any] = [item(lease) for lease in claim(client, 10)]
        assert len(results) == 10
        status, code = spoil(kind, results, at, foreign)
        before = durable(served)
        reply = submit(client, results)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        assert body["accepted"] == durable(served) - before == 9, body
        answers = {answer["index"]: answer for answer in body["items"]}
        assert sorted(answers) == list(range(10))
        # Of two equal items the later one is the duplicate.
        bad = max(at, (at + 1) % 10) if kind == "duplicate" else at
        assert (answers[bad]["status"], answers[bad]["code"]) == (status, code), answers[bad]
        assert {a["status"] for i, a in answers.items() if i != bad} == {"accepted"}
        again = submit(client, results).json()
        assert again["accepted"] == 0
        assert {a["status"] for a in again["items"] if a["index"] != bad} == {"duplicate"}
        assert durable(served) - before == 9
        give_back(client, "e1", "e2")


def test_k3_a_batch_of_only_invalid_items_is_422_and_one_without_shape_too(client: httpx.Client) -> None:
    reply = submit(client, [{"task_id": "x"}, None, 3])
    assert reply.status_code == 422
    assert [one["status"] for one in reply.json()["items"]] == ["invalid"] * 3
    assert reply.json()["accepted"] == 0
    for body in ("", "[]", "{", "[" * 100_000, '{"executor": "e1"}', '{"executor": "e1", "results": []}',
                 '{"executor": "a\\u0000b", "results": [1]}', '{"executor": "e1", "results": [1], "x": 1}',
                 '{"executor": "e1", "results": ' + json.dumps([0] * 501) + "}"):  # fmt: skip
        reply = client.post("/tasks/submit", content=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "RequestInvalid"), body[:60]


def test_k2_each_class_is_stored_counted_and_shown(served: Served, client: httpx.Client) -> None:
    leases = claim(client, 5)
    answers = submit(
        client,
        [
            item(leases[0]),
            item(leases[1], success=False, score=0.0),
            item(leases[2], **ERROR),
            item(leases[3], **OURS),
            item(leases[4], success=True, error="x", error_code="X", fault="subject"),
        ],
    ).json()["items"]
    assert [a["status"] for a in answers] == ["accepted"] * 4 + ["invalid"]
    assert answers[4]["code"] == 422
    view = client.get("/rounds/1").json()
    classes = [cell for subject in view["subjects"] for cell in subject["classes"].values()]
    assert {k: sum(c[k] for c in classes) for k in ("won", "lost", "subject_error")} == {
        "won": 1, "lost": 1, "subject_error": 1,
    }  # fmt: skip
    shown = {a["task_id"]: client.get(f"/tasks/{a['task_id']}").json() for a in answers[:4]}
    states = [shown[lease["task_id"]]["state"] for lease in leases[:4]]
    assert states == ["done", "done", "done", "pending"], "an error of ours is tried again"
    assert shown[leases[3]["task_id"]]["history"][0]["outcome_class"] == "infra_error"


def test_k2_success_alone_with_an_error_is_422(client: httpx.Client) -> None:
    bad = item(claim(client, 1)[0], error="x", error_code="X", fault="infrastructure")
    assert submit(client, [bad]).status_code == 422


def test_k15_the_attempt_counts_at_the_claim_and_the_limit_pauses(
    served: Served, client: httpx.Client
) -> None:
    lease = claim(client, 1)[0]
    task_id = lease["task_id"]
    for attempt in (1, 2, 3):
        assert lease["attempt"] == attempt
        assert submit(client, [item(lease, **OURS)]).json()["accepted"] == 1
        if attempt < 3:
            lease = claim_again(served, client, task_id)
    view = client.get(f"/tasks/{task_id}").json()
    assert (view["state"], len(view["history"])) == ("paused", 3)
    executors = client.get("/executors").json()["executors"]
    assert [one["running"] for one in executors] == [0], "a paused task holds no slot"
    paused = client.get("/tasks", params={"state": "paused"}).json()["tasks"]
    assert [task["task_id"] for task in paused] == [task_id]
    assert client.post(f"/tasks/{task_id}/requeue").status_code == 200
    assert client.get(f"/tasks/{task_id}").json()["state"] == "pending"
    fact = client.get("/facts", params={"kind": "task.requeued"}).json()["facts"][-1]
    assert (fact["subject"], fact["body"]) == (task_id, {"who": "test-admin", "from": "127.0.0.1"})


def claim_again(served: Served, client: httpx.Client, task_id: str) -> dict[str, Any]:
    """Let time pass and claim until the task comes up again; bounded by the round's tasks."""
    served.plane.database.write_now(lambda tx: upkeep.keep(tx, served.plane.tasks, 5.0))
    for _ in range(200):
        leases = claim(client, 12)
        others = [item(lease) for lease in leases if lease["task_id"] != task_id]
        if others:
            submit(client, others)
        if len(others) < len(leases):
            return next(lease for lease in leases if lease["task_id"] == task_id)
    raise AssertionError("the task never came up again")


def test_k15_a_superseded_token_is_refused_even_from_the_same_executor(client: httpx.Client) -> None:
    lease = claim(client, 1)[0]
    register = {"executor": "e1", "instance": "e1-2", "info": {}}
    assert client.post("/executors/register", json=register).json()["requeued"] == 1
    answer = submit(client, [item(lease)]).json()["items"][0]
    assert (answer["status"], answer["code"]) == ("expired", 409)
    assert client.get(f"/tasks/{lease['task_id']}").json()["late_reports"]


def test_k15_slots_hold_for_several_executors(client: httpx.Client) -> None:
    taken = [lease for n in range(4) for lease in claim(client, 12, f"e{n}")]
    per_subject = {s: sum(lease["subject"] == s for lease in taken) for s in ("0", "1")}
    assert per_subject == {"0": 6, "1": 6}


def test_k1_the_seed_of_an_open_round_is_not_shown(client: httpx.Client) -> None:
    lease = claim(client, 1)[0]
    assert "seed" in lease["spec"]
    assert "seed" not in client.get(f"/tasks/{lease['task_id']}").json()["spec"]
    assert all("seed" not in task["spec"] for task in client.get("/tasks").json()["tasks"])
    assert client.get("/rounds/1").json()["secret"] is None


def test_heartbeat_tells_what_is_lost_and_what_an_operator_wants(client: httpx.Client) -> None:
    leases = claim(client, 2)
    held = [{"task_id": lease["task_id"], "token": lease["token"]} for lease in leases]
    held.append({"task_id": "0123456789abcdef", "token": 77})
    beat = {"executor": "e1", "instance": "e1-1", "info": {"running": 2}, "held": held}
    assert client.post("/tasks/heartbeat", json=beat).json() == {
        "lost": ["0123456789abcdef"], "cordoned": False, "draining": False,
    }  # fmt: skip
    assert client.post("/executors/e1/cordon").status_code == 200
    assert client.post("/tasks/drain", json={"on": True}).status_code == 200
    told = client.post("/tasks/heartbeat", json=beat).json()
    assert (told["cordoned"], told["draining"]) == (True, True)
    reply = client.post("/tasks/claim", json={"executor": "e1", "instance": "e1-1", "count": 1}).json()
    assert (reply["leases"], "drain" in reply["reason"]) == ([], True)
    client.post("/tasks/drain", json={"on": False}).raise_for_status()
    reply = client.post("/tasks/claim", json={"executor": "e1", "instance": "e1-1", "count": 1}).json()
    assert "cordoned" in reply["reason"]
    client.post("/executors/e1/uncordon").raise_for_status()
    client.post("/subjects/0/pause").raise_for_status()
    assert {lease["subject"] for lease in claim(client, 12)} == {"1"}
    client.post("/subjects/0/resume").raise_for_status()
    assert "0" in {lease["subject"] for lease in claim(client, 12)}
    facts = client.get("/facts", params={"newest": True}).json()["facts"]
    assert [fact["kind"] for fact in facts if "who" in fact["body"]] == [
        "executor.cordoned", "tasks.drained", "tasks.resumed", "executor.uncordoned", "subject.paused",
        "subject.resumed",
    ]  # fmt: skip
    assert client.get("/facts/verify").json()["is_intact"] is True


def test_what_is_not_there_is_404_and_says_where_to_look(client: httpx.Client) -> None:
    for method, path in (
        ("GET", "/tasks/0123456789abcdef"), ("POST", "/tasks/0123456789abcdef/requeue"),
        ("POST", "/executors/nobody/cordon"), ("POST", "/subjects/99/pause"), ("GET", "/rounds/99"),
        ("GET", "/scores/99"), ("GET", "/publications/latest"), ("DELETE", "/tokens/none"),
    ):  # fmt: skip
        reply = client.request(method, path)
        assert reply.status_code == 404, (path, reply.text)
        error = reply.json()["error"]
        assert set(error) == {"code", "what", "why", "fix", "since"}
        assert error["fix"], path


def test_k20_a_miner_sees_whether_it_is_reached_and_why_each_episode_failed(client: httpx.Client) -> None:
    assert client.get("/miners/0").json()["reachable"]["verdict"] == "UNKNOWN"
    leases = claim(client, 12)
    of_0 = [lease for lease in leases if lease["subject"] == "0"]
    refused = {**ERROR, "error_code": "SubjectRefused", "error": "connection refused"}
    submit(client, [item(lease, **refused) for lease in of_0])
    view = client.get("/miners/0").json()
    assert (view["reachable"]["verdict"], view["reachable"]["reason"]) == ("FAIL", "SubjectRefused")
    assert view["errors"] == [
        {"code": "SubjectRefused", "count": 6, "meaning": "its host refused the connection"}
    ]
    failed = [one for one in view["episodes"] if one["error_code"]]
    assert len(failed) == 6
    assert {one["error"] for one in failed} == {"connection refused"}
    assert "seed" not in json.dumps(view)
    assert (view["queue"]["mine"], view["queue"]["running"]) == (4, 0)
    submit(client, [item(lease) for lease in leases if lease["subject"] == "1"])
    assert client.get("/miners/1", params={"round": "1"}).json()["reachable"]["verdict"] == "PASS"
    assert client.get("/miners/7").status_code == 404
