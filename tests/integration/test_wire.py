"""Executors and validators that know only kinitro's wire, against a real API on real stores (K18, K2, K3)."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from api_lab import Served, serving
from fixtures_dir import fixtures_root
from openapi_shapes import Shapes
from standfast.app.plane import ControlPlane
from standfast.tasks import upkeep
from standfast.tasks.model import TaskState
from wire_lab import CARTPOLE, PENDULUM, Leader, WireClient, broke, lost, result, wire_config

KINDS = (
    "nan",
    "inf",
    "nul",
    "long_id",
    "unknown",
    "guessed",
    "duplicate",
    "wrong_owner",
    "huge",
    "list",
    "both",
)
OPENAPI = "evaluation/wire/kinitro_openapi.json"


@pytest.fixture
def network(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Served, Leader]]:
    """Serve a network of two subjects with an open round; in memory unless the test asks for a file."""
    store = getattr(request, "param", "sqlite::memory:")
    plane = ControlPlane.open(wire_config(tmp_path, store=store, subjects=2, episodes=30, timeout_s=91.0))
    leader = Leader(plane)
    leader.turn()
    with serving(plane) as served:
        yield served, leader
    plane.close()


@pytest.fixture
def served(network: tuple[Served, Leader]) -> Served:
    return network[0]


@pytest.fixture
def client(served: Served) -> Iterator[WireClient]:
    with WireClient(served) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireClient]:
    """Serve a network for tests that change nothing in it."""
    plane = ControlPlane.open(wire_config(tmp_path_factory.mktemp("shared"), store="sqlite::memory:"))
    Leader(plane).turn()
    with serving(plane) as running, WireClient(running) as opened:
        yield opened
    plane.close()


def durable(served: Served) -> int:
    """Count done tasks over a connection that the API does not know."""
    connection = apsw.Connection(served.plane.database.name, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        statement = f"SELECT count(*) FROM tracking WHERE state = {TaskState.DONE.value}"
        return int(connection.execute(statement).fetchone()[0])
    finally:
        connection.close()


def spoil(kind: str, results: list[Any], at: int, foreign: Mapping[str, Any]) -> str:
    """Make one result of a good batch bad; return the status that it must get."""
    good = results[at]
    uuid = good["task_uuid"]
    guessed = uuid[:-1] + ("0" if uuid[-1] != "0" else "1")
    changed: dict[str, tuple[Any, str]] = {
        "nan": ({**good, "score": float("nan")}, "invalid"),
        "inf": ({**good, "total_reward": float("-inf")}, "invalid"),
        "nul": ({**good, "success": False, "error": "a\0b"}, "invalid"),
        "long_id": ({**good, "task_uuid": "a" * 5_000}, "invalid"),
        "unknown": ({**good, "task_uuid": "00ffffff-ffff-4000-8000-000000000000"}, "unknown"),
        "guessed": ({**good, "task_uuid": guessed}, "unknown"),
        "duplicate": (results[(at + 1) % len(results)], "duplicate"),
        "wrong_owner": (result(foreign), "stale"),
        "huge": ({**good, "timesteps": 10**400}, "invalid"),
        "list": ([1, 2], "invalid"),
        "both": ({**good, "error": "and yet"}, "invalid"),
    }
    results[at], status = changed[kind]
    return status


@pytest.mark.parametrize("network", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_k18_k3_one_bad_result_at_any_position_costs_no_other(
    served: Served, client: WireClient, kind: str
) -> None:
    with WireClient(served, executor_id="e2") as other:
        for at in (0, 4, 9):
            foreign = other.fetch(1)["tasks"][0]
            results: list[Any] = [result(task) for task in client.fetch(10)["tasks"]]
            assert len(results) == 10
            left = results[at]
            status = spoil(kind, results, at, foreign)
            before = durable(served)
            reply = client.submit(results)
            assert (reply["accepted"], reply["rejected"], len(reply["errors"])) == (9, 1, 1), reply
            assert durable(served) - before == 9
            bad = max(at, (at + 1) % 10) if kind == "duplicate" else at
            assert [i for i, item in enumerate(reply["items"]) if item["status"] != "accepted"] == [bad]
            assert reply["items"][bad]["status"] == status
            again = client.submit(results)
            assert (again["accepted"], durable(served) - before) == (0, 9)
            assert {item["status"] for i, item in enumerate(again["items"]) if i != bad} == {"duplicate"}
            assert client.submit([left])["accepted"] == 1
            assert other.submit([result(foreign)])["accepted"] == 1


def test_k18_k2_only_what_is_said_to_be_the_miners_is(served: Served, client: WireClient) -> None:
    tasks = client.fetch(5)["tasks"]
    said = [
        result(tasks[0]), lost(tasks[1]), broke(tasks[2]), {**broke(tasks[3]), "fault": "subject"},
        {**result(tasks[4]), "error": "x"},
    ]  # fmt: skip
    assert client.submit(said)["accepted"] == 4
    with served.client("read") as reader:
        shown = [reader.get(f"/tasks/{task['task_id']}").json() for task in tasks]
    assert [one["state"] for one in shown] == ["done", "done", "pending", "done", "leased"]
    classes = [one["history"][0]["outcome_class"] for one in shown[:4]]
    assert classes == ["won", "lost", "infra_error", "subject_error"]
    assert [one["history"][0]["attempt_id"] for one in shown] == [task["task_uuid"] for task in tasks]


def test_k18_k15_ten_episodes_of_91_seconds_in_a_row_are_accepted(
    network: tuple[Served, Leader], client: WireClient
) -> None:
    """What starves kinitro's sequential executor: nothing is heard of it until the whole batch is done."""
    served, _ = network
    tasks = client.fetch(10)["tasks"]
    assert {task["ttl_s"] for task in tasks} == {11 * 91.0 + 30.0}
    plane = served.plane
    reaped = [
        plane.database.write_now(lambda tx: upkeep.keep(tx, plane.tasks, 7.0)).reaped for _ in range(130)
    ]
    assert sum(reaped) == 0
    assert client.submit([result(task) for task in tasks])["accepted"] == 10


def test_k18_a_lease_that_ran_out_cannot_speak_for_the_next(
    network: tuple[Served, Leader], client: WireClient
) -> None:
    _, leader = network
    (task,) = client.fetch(1)["tasks"]
    leader.turn(500.0)
    reply = client.submit([result(task)])
    assert (reply["accepted"], reply["rejected"], reply["items"][0]["status"]) == (0, 1, "expired")
    assert reply["errors"] == [f"Task {task['task_uuid']}: not found or not assigned to executor"]


def test_k18_our_lease_fields_work_at_our_own_routes(served: Served, client: WireClient) -> None:
    task = client.fetch(1)["tasks"][0]
    held = {"task_id": task["task_id"], "token": task["token"]}
    with served.client("execute") as ours:
        body = {"executor": "e1", "instance": "i", "held": [held], "info": {}}
        assert ours.post("/tasks/heartbeat", json=body).json()["lost"] == []
        gone = ours.post("/tasks/release", json={"executor": "e1", "held": [held]})
        assert gone.json() == {"released": 1}


def test_k18_an_executor_gets_only_the_environments_that_it_names(tmp_path: Path, postgres_url: str) -> None:
    for store in ("sqlite", postgres_url):
        config = wire_config(
            tmp_path / store[:6], store=store, subjects=3, environments=(CARTPOLE, PENDULUM), episodes=2
        )
        config.data_dir.mkdir(parents=True, exist_ok=True)
        plane = ControlPlane.open(config)
        Leader(plane).turn()
        with serving(plane) as served, WireClient(served) as client:
            assert client.fetch(100, ["metaworld/reach-v3"])["tasks"] == []
            first = client.fetch(4, [PENDULUM, "metaworld/reach-v3"])
            assert [task["env_id"] for task in first["tasks"]] == [PENDULUM] * 4
            assert first["total_pending"] == 8
            rest = client.fetch(100, [PENDULUM])["tasks"]
            assert [task["env_id"] for task in rest] == [PENDULUM] * 2, "all that is left, whoever's it is"
            seeds = Counter((task["env_id"], task["seed"]) for task in first["tasks"] + rest)
            assert set(seeds.values()) == {3}, "every miner gets the same episodes (K1 d)"
            none = client.fetch(100, [PENDULUM])
            assert (none["tasks"], none["reason"]) == ([], "no task is waiting")
            assert client.submit([result(task) for task in rest])["accepted"] == 2
        plane.close()


def test_k18_fetching_and_submitting_need_a_token_and_looking_does_not(served: Served) -> None:
    posts = (
        ("/v1/tasks/fetch", {"executor_id": "e1"}),
        ("/v1/tasks/submit", {"executor_id": "e1", "results": []}),
    )
    for path, body in posts:
        with served.bare() as http:
            none = http.post(path, json=body)
            wrong = http.post(path, json=body, headers={"Authorization": "Bearer sf_wrong"})
            reader = {"Authorization": f"Bearer {served.tokens['read']}"}
            denied = http.post(path, json=body, headers=reader)
            allowed = {"Authorization": f"Bearer {served.tokens['execute']}"}
            assert http.post(path, json=body, headers=allowed).status_code == 200
        assert (none.status_code, none.json()) == (401, {"detail": "Missing authorization header"})
        assert (wrong.status_code, wrong.json()) == (401, {"detail": "Invalid API key"})
        assert none.headers["www-authenticate"] == "Bearer"
        assert denied.status_code == 403
        assert served.tokens["read"] not in denied.text
    with WireClient(served, scope="") as anybody:
        for path in ("/health", "/v1/status", "/v1/miners", "/v1/environments", "/v1/tasks/stats"):
            assert anybody.get(path).status_code == 200, path
        assert "seed" not in anybody.get("/v1/tasks/stats").text


def test_k18_kinitros_routes_can_be_switched_off(tmp_path: Path) -> None:
    plane = ControlPlane.open(wire_config(tmp_path, kinitro="false"))
    with serving(plane) as served, served.bare() as http:
        for path in ("/v1/status", "/v1/weights/latest", "/health"):
            assert http.get(path).status_code == 404
        assert http.get("/health/live").status_code == 200
    plane.close()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/tasks/fetch", "{"),
        ("/v1/tasks/fetch", '{"batch_size": 5}'),
        ("/v1/tasks/fetch", '{"executor_id": "CANARY", "batch_size": "CANARY"}'),
        ("/v1/tasks/fetch", '{"executor_id": "CANARY", "env_ids": "CANARY"}'),
        ("/v1/tasks/fetch", '{"executor_id": "CANARY", "batch_size": Infinity}'),
        ("/v1/tasks/submit", "[" * 100_000),
        ("/v1/tasks/submit", '["CANARY"]'),
        ("/v1/tasks/submit", '{"executor_id": ["CANARY"], "results": []}'),
        ("/v1/tasks/submit", '{"executor_id": "e1", "results": {"CANARY": 1}}'),
        ("/v1/tasks/submit", '{"executor_id": "e1", "results": ' + json.dumps(["CANARY"] * 501) + "}"),
    ],
)
def test_k18_i12_a_wrong_whole_is_422_and_is_not_repeated(
    shared: WireClient, path: str, content: str
) -> None:
    reply = shared.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422, reply.text
    assert all({"type", "loc", "msg"} <= set(problem) for problem in reply.json()["detail"])
    assert "CANARY" not in reply.text


def test_k18_i12_a_wrong_result_is_not_repeated(shared: WireClient) -> None:
    bad = [{"task_uuid": "CANARY"}, {"CANARY": "CANARY"}, "CANARY"]
    reply = shared.post_results(bad)
    assert (reply.status_code, reply.json()["rejected"]) == (200, 3)
    assert "CANARY" not in reply.text
    assert shared.submit([]) == {"accepted": 0, "rejected": 0, "errors": [], "items": []}


@pytest.mark.parametrize("number", ["0", "-1", "9007199254740993", "9" * 400])
def test_k18_numbers_that_name_nothing_are_404(shared: WireClient, number: str) -> None:
    for path in ("/v1/weights", "/v1/scores"):
        assert shared.get(f"{path}/{number}").status_code == 404
        assert shared.get(f"{path}/x").status_code == 422
    stats = shared.get(f"/v1/tasks/stats?cycle_id={number}").json()
    assert (stats["total_tasks"], stats["current_cycle_id"]) == (0, int(number))


def test_k18_k7_a_store_that_is_gone_is_503_and_never_ok(tmp_path: Path) -> None:
    plane = ControlPlane.open(wire_config(tmp_path))
    with serving(plane) as served, WireClient(served) as client:
        assert client.get("/health").json()["database"] == "connected"
        plane.database.close()
        for _ in range(2):
            health = client.get("/health")
            assert (health.status_code, health.json()["database"]) == (503, "disconnected")
        replies = [
            client.get("/v1/weights/latest"),
            client.http.post("/v1/tasks/fetch", json={"executor_id": "e1"}),
        ]
        assert [reply.status_code for reply in replies] == [503, 503]
        assert all(isinstance(reply.json()["detail"], str) for reply in replies)


class Validator(WireClient):
    """Polls for weights and keeps those of a newer block, as kinitro's validator does."""

    def poll(self, last_block: int) -> dict[str, Any] | None:
        reply = self.get("/v1/weights/latest")
        if reply.status_code == 404:
            return None
        assert reply.status_code == 200, reply.text
        return dict(reply.json()) if reply.json()["block_number"] > last_block else None


def sequential(served: Served, stop: threading.Event, seen: list[httpx.Response]) -> None:
    """Run whole batches and report each at its end; miner 1 always wins, and one episode breaks at first."""
    has_broken = False
    with WireClient(served, executor_id="executor-1a2b3c4d", seen=seen.append) as client:
        while not stop.is_set():
            results = []
            for task in client.fetch(10)["tasks"]:
                if not has_broken:
                    has_broken = True
                    results.append(broke(task, "Docker is gone"))
                else:
                    results.append(result(task) if task["miner_uid"] == 1 else lost(task))
            if results:
                client.submit(results)
            stop.wait(0.05)


def concurrent(served: Served, stop: threading.Event, seen: list[httpx.Response]) -> None:
    """Fetch for one family and report one by one."""
    with WireClient(served, executor_id="a family's worker", seen=seen.append) as client:
        while not stop.is_set():
            for task in client.fetch(4, [PENDULUM])["tasks"]:
                client.submit([result(task) if task["miner_uid"] == 1 else lost(task)])
            stop.wait(0.05)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return "sqlite" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def test_k18_executors_and_validators_of_kinitro_run_rounds_to_publication(
    tmp_path: Path, store: str
) -> None:
    config = wire_config(
        tmp_path, store=store, subjects=3, environments=(CARTPOLE, PENDULUM), episodes=4, interval_s=0.5
    )
    plane = ControlPlane.open(config)
    seen: list[httpx.Response] = []
    stop = threading.Event()
    with (
        serving(plane, with_scheduler=True) as served,
        Validator(served, scope="", seen=seen.append) as validator,
    ):
        assert validator.get("/health").status_code == 200
        workers = [
            threading.Thread(target=work, args=(served, stop, seen)) for work in (sequential, concurrent)
        ]
        for worker in workers:
            worker.start()
        try:
            submitted = follow(validator, rounds=2)
        finally:
            stop.set()
            for worker in workers:
                worker.join(20)
        blocks = [weights["block_number"] for weights in submitted]
        assert blocks == sorted(set(blocks)), "each publication has a number above the last"
        assert all(weights["weights"] == {"1": 1.0} for weights in submitted)
        assert all(weights["hotkeys"] == {"1": "5Hot1"} for weights in submitted)
        check_scores(validator, submitted[0])
        shapes = Shapes(validator.http.get("/openapi.json").json())
        if root := fixtures_root():
            judge(Shapes(json.loads((root / OPENAPI).read_text())), seen)
        judge(shapes, seen)
    plane.close()


def follow(validator: Validator, *, rounds: int) -> list[dict[str, Any]]:
    """Poll until so many publications were seen; bounded by time."""
    found: list[dict[str, Any]] = []
    until = time.monotonic() + 30
    while len(found) < rounds:
        assert time.monotonic() < until, validator.get("/v1/status").text
        newer = validator.poll(found[-1]["block_number"] if found else 0)
        if newer is not None:
            found.append(newer)
        time.sleep(0.05)
    return found


def check_scores(validator: Validator, weights: Mapping[str, Any]) -> None:
    scores = validator.get(f"/v1/scores/{weights['cycle_id']}").json()
    assert scores["cycle"]["status"] == "completed"
    assert scores["cycle"]["block_number"] == weights["block_number"]
    assert {(s["uid"], s["success_rate"]) for s in scores["scores"]} == {(1, 1.0), (2, 0.0), (3, 0.0)}
    counted = {(s["episodes_completed"], s["episodes_failed"]) for s in scores["scores"]}
    assert counted == {(4, 0)}, "what broke was run again, and counts once"
    assert validator.get(f"/v1/weights/{weights['block_number']}").json() == weights
    status = validator.get("/v1/status").json()
    assert (status["total_miners_evaluated"], status["environments"]) == (3, [CARTPOLE, PENDULUM])
    assert {miner["uid"] for miner in validator.get("/v1/miners").json()} == {1, 2, 3}


def judge(shapes: Shapes, seen: list[httpx.Response]) -> None:
    """Hold every reply to its description."""
    judged = Counter[str]()
    for reply in seen:
        if reply.status_code == 200:
            path = reply.request.url.path
            schema = shapes.reply_schema(reply.request.method, path, 200)
            assert list(shapes.flaws(schema, reply.json())) == [], path
            judged[path] += 1
    assert judged["/v1/tasks/fetch"] > 3
    assert judged["/v1/tasks/submit"] > 3
