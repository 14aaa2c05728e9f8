"""What one may look at: one serializer, one pass, latency under a blocked publisher, and the status."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import httpx
import pytest

from api_lab import Served, config_of, item, memory_plane, open_round, plane_of, serving
from standfast.app import views
from standfast.evaluation.plan import PlannedEnvironment
from standfast.facts.database import Tx
from standfast.facts.database.sqlite import SqliteTx
from standfast.publication.document import Document
from standfast.publication.model import Published
from standfast.tasks import upkeep
from standfast.tasks.upkeep import Leadership

T = TypeVar("T")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    plane = plane_of(config_of(tmp_path, subjects=3, episodes=4))
    with serving(plane, with_scheduler=True) as running:
        yield running
    plane.close()


def work_off(client: httpx.Client, *, executor: str = "e1", until_round: int = 1) -> None:
    """Claim and win everything until a round is published; bounded by time."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        body = {"executor": executor, "instance": "i1", "count": 50, "info": {"capacity": 50}}
        leases = client.post("/tasks/claim", json=body).json()["leases"]
        results = [
            item(one) if one["subject"] != "2" else item(one, success=False, score=0) for one in leases
        ]
        if results:
            client.post("/tasks/submit", json={"executor": executor, "results": results}).raise_for_status()
        states = {one["round"]: one["state"] for one in client.get("/rounds").json()["rounds"]}
        if states.get(until_round) in ("published", "withheld"):
            return
        time.sleep(0.05)
    raise AssertionError("the round did not end")


def test_k12_every_reply_with_scores_comes_from_one_serializer(served: Served) -> None:
    with served.client() as client:
        work_off(client)
        latest, first = client.get("/scores/latest").json(), client.get("/scores/1").json()
        view = client.get("/rounds/1").json()
        miners = {str(one["uid"]): one for one in client.get("/miners").json()["miners"]}
        publication = client.get("/publications/latest").json()
        evidence = client.get("/rounds/1/evidence").json()
    assert latest == first
    for one in first["scores"]:
        assert one["weight"] == view["result"]["weights"].get(one["uid"], 0.0)
        assert one["rates"] == view["result"]["rates"][one["uid"]] == miners[one["uid"]]["rates"]
        assert set(one) == {"uid", "hotkey", "rates", "share", "carried_from", "points", "weight"}
    assert publication["epoch"] == 1
    assert evidence["recorded"]["evidence_sha256"] == view["evidence_sha256"]


def spent_on_miners(subjects: int, environments: int, tmp_path: Path) -> int:
    """Return how many calls it takes to list the miners of a scored round of that size."""
    plane = memory_plane(tmp_path / f"{subjects}-{environments}", subjects=subjects, episodes=1)
    open_round(plane)
    row = plane.database.read_now(lambda tx: plane.rounds.newest(tx, 1))[0]
    names = [f"env-{n}" for n in range(environments)]
    rates = {s.name: dict.fromkeys(names, 0.5) for s in row.plan.subjects}
    result: dict[str, Any] = {"rates": rates, "weights": {s.name: 1 / subjects for s in row.plan.subjects}}
    assert isinstance(row.plan.environments[0], PlannedEnvironment)
    slots = {one.name: one for one in plane.database.read_now(plane.tasks.store.subjects)}
    listed, calls = calls_of(lambda: views.miners_of(row, slots, result))
    assert len(listed) == subjects
    plane.close()
    return calls


def calls_of(work: Callable[[], T]) -> tuple[T, int]:
    """Return what ``work`` returns and how many calls, of Python and of C, this thread made for it."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        result = work()
    finally:
        sys.setprofile(None)
    return result, calls


def test_k13_miners_are_listed_in_one_pass(tmp_path: Path) -> None:
    small, large = spent_on_miners(256, 9, tmp_path), spent_on_miners(512, 9, tmp_path)
    assert large < 2.1 * small, (small, large)
    wide = spent_on_miners(256, 18, tmp_path)
    assert wide < 2.1 * small, (small, wide)


def test_k13_miners_over_http_do_one_query_each_not_one_per_subject(tmp_path: Path) -> None:
    asked = {}
    for subjects in (256, 512):
        plane = memory_plane(tmp_path / str(subjects), subjects=subjects, episodes=1)
        open_round(plane)
        with serving(plane) as served, served.client() as client:
            with mock.patch.object(SqliteTx, "rows", autospec=True, side_effect=SqliteTx.rows) as rows:
                assert len(client.get("/miners").json()["miners"]) == subjects
            asked[subjects] = rows.call_count
        plane.close()
    assert asked[256] == asked[512], asked
    assert 0 < asked[256] < 20, asked


class StuckChain:
    """A publisher whose call to the chain blocks its thread until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    async def read_back(self) -> Published | None:
        return None

    async def publish(self, document: Document) -> None:
        self.entered.set()
        await asyncio.to_thread(self.release.wait, 30.0)


def test_k14_a_blocked_chain_call_slows_no_request_and_stops_no_lease(tmp_path: Path) -> None:
    chain = StuckChain()
    plane = plane_of(config_of(tmp_path, subjects=2, episodes=2, rounds=2))
    with serving(plane, with_scheduler=True, publisher=chain) as served, served.client() as client:  # type: ignore[arg-type]
        done = threading.Thread(target=lambda: play_until(served.client(), chain.entered))
        done.start()
        try:
            assert chain.entered.wait(20)
            before = plane.database.read_now(plane.tasks.store.control).now_ms
            took, until = [], time.monotonic() + 10.0
            while time.monotonic() < until:
                started = time.perf_counter()
                client.get("/executors").raise_for_status()
                took.append(time.perf_counter() - started)
                time.sleep(0.02)
            after = plane.database.read_now(plane.tasks.store.control).now_ms
        finally:
            chain.release.set()
            done.join(20)
    plane.close()
    p99 = sorted(took)[int(len(took) * 0.99)]
    assert p99 < 0.1, p99
    assert after - before > 8_000, "the lease clock goes on"


def play_until(client: httpx.Client, over: threading.Event) -> None:
    with client:
        for _ in range(600):
            if over.is_set():
                return
            body = {"executor": "e1", "instance": "i1", "count": 10, "info": {}}
            leases = client.post("/tasks/claim", json=body).json()["leases"]
            if leases:
                results = [item(one) for one in leases]
                client.post("/tasks/submit", json={"executor": "e1", "results": results})
            time.sleep(0.05)


def problems(client: httpx.Client) -> dict[str, Mapping[str, Any]]:
    """Return what a status complains about, by reason, asked until something is there; at most 10 s."""
    until = time.monotonic() + 10.0
    while True:
        status = client.get("/status").json()
        found = {f["reason"]: f for f in status["findings"] if f["verdict"] in ("FAIL", "UNKNOWN")}
        if found or time.monotonic() > until:
            return found
        time.sleep(0.2)


def beat(client: httpx.Client, **info: Any) -> None:
    body = {"executor": "e1", "instance": "i1", "info": {"pid": 4711, "host": "rig-1", **info}, "held": []}
    client.post("/tasks/heartbeat", json=body).raise_for_status()


def test_the_status_of_a_working_instance_passes_and_has_its_numbers(served: Served) -> None:
    served.services.append({"name": "miner-1", "state": "ready"})
    with served.client() as client:
        work_off(client)
        beat(client)
        status = client.get("/status").json()
    assert status["verdict"] == "PASS", status["findings"]
    assert status["last_round"]["state"] == "published"
    assert status["publication"]["epoch"] == 1
    assert (status["leader"]["name"], status["store"]["is_up"]) == ("test-scheduler", True)
    assert [one["name"] for one in status["executors"]] == ["e1"]
    assert status["counts"]["total"] == 12


def test_a_silent_executor_is_named_within_10_s(served: Served) -> None:
    with served.client() as client:
        client.post("/tasks/claim", json={"executor": "e1", "instance": "i1", "count": 2, "info": {"pid": 1}})
        beat(client)
        assert not [r for r in problems_now(client) if r.startswith("Executor")]
        found = wait_for(client, "ExecutorSilent")
    assert "process 4711 on rig-1" in found["message"]
    assert "ps -o" in found["remedy"]


def problems_now(client: httpx.Client) -> list[str]:
    return [f["reason"] for f in client.get("/status").json()["findings"] if f["verdict"] == "FAIL"]


def wait_for(client: httpx.Client, reason: str, within_s: float = 10.0) -> Mapping[str, Any]:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for finding in client.get("/status").json()["findings"]:
            if finding["reason"] == reason:
                return dict(finding)
        time.sleep(0.2)
    raise AssertionError(f"{reason} was not said within {within_s} s")


def test_an_executor_in_trouble_says_what(served: Served) -> None:
    with served.client() as client:
        beat(client, last_error="spool: SpoolDiskFull: reports cannot be kept", spooled=3)
        found = wait_for(client, "ExecutorTroubled")
    assert "SpoolDiskFull" in found["message"]


def test_nobody_leads_and_a_leader_that_hangs_are_told_apart(tmp_path: Path) -> None:
    plane = plane_of(config_of(tmp_path))
    with serving(plane) as served, served.client() as client:
        assert "NobodyLeads" in problems_now(client)
        leadership = Leadership(plane.tasks, "other-process", takeover_s=1.0)

        def lead(tx: Tx) -> None:
            leadership.campaign(tx, 0.0)
            leadership.hold(tx)
            upkeep.keep(tx, plane.tasks, 0.1)

        stop = threading.Event()

        def beats() -> None:
            while not stop.wait(0.1):
                plane.database.write_now(lead)

        beating = threading.Thread(target=beats)
        beating.start()
        try:
            time.sleep(0.3)
            status = client.get("/status").json()
            assert [f["reason"] for f in status["findings"] if f["check"] == "scheduler"] == ["LeaderTicks"]
        finally:
            stop.set()
            beating.join()
        found = wait_for(client, "LeaderSilent")
    assert "other-process" in found["message"]
    plane.close()


def test_metrics_count_tasks_disjointly_and_hold_no_secret(served: Served) -> None:
    with served.client() as client, served.bare() as bare:
        work_off(client)
        text = bare.get("/metrics").text
    assert bare.is_closed
    tasks = [line for line in text.splitlines() if line.startswith("standfast_tasks{")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in tasks) == 12
    for name in ("standfast_store_up 1.0", 'standfast_outcomes{class="won"} 8.0', "standfast_round 1.0"):
        assert name in text, name
    assert "standfast_publication_epoch 1.0" in text
    assert all(token not in text for token in served.tokens.values())
