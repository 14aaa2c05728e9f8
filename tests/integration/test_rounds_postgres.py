"""Rounds on a real PostgreSQL: the same statements in the other dialect, and two schedulers at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scenario"))

from network import Network, broke, lost, toml, won

from standfast.app import views
from standfast.app.verify import verify_evidence
from standfast.facts.database.postgres import PostgresDatabase
from standfast.facts.model import Intact
from standfast.kernel.errors import StaleTokenError
from standfast.kernel.verdict import Verdict
from standfast.tasks import operate
from standfast.tasks.model import Lease


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(postgres_url)
    yield opened
    opened.close()


def first_wins(lease: Lease) -> dict[str, object]:
    return won(lease) if lease.subject == "0" else lost(lease)


def test_k1_k5_rounds_run_are_published_and_verify(tmp_path: Path, database: PostgresDatabase) -> None:
    network = Network(tmp_path, toml(evaluation="keep_rounds = 1"), database=database)
    asyncio.run(network.play(first_wins, until=lambda: network.states().get(3) == "published"))
    plane = network.plane
    evidence = database.read_now(lambda tx: views.round_evidence(tx, plane, "latest"))
    assert [f.verdict for f in verify_evidence(evidence)] == [Verdict.PASS] * 6
    assert isinstance(database.read_now(plane.facts.verify), Intact)
    assert [m["uid"] for m in database.read_now(lambda tx: views.miners_view(tx, plane))] == [0, 1, 2]
    assert len(database.read_now(lambda tx: views.rounds_list(tx, plane, 10))) >= 3
    assert database.read_now(lambda tx: views.publication_view(tx, plane))["epoch"] == 3
    assert database.read_now(lambda tx: views.scores_view(tx, plane, "1"))["scores"][0]["weight"] == 1.0
    network.write(plane.rounds.prune)
    assert database.read_now(lambda tx: operate.task_list(tx, plane.tasks, "round-000001")) == []


def test_k5_deadline_requeue_and_views(tmp_path: Path, database: PostgresDatabase) -> None:
    network = Network(tmp_path, toml(tasks="max_attempts = 1"), database=database)
    play = lambda lease: broke(lease) if lease.subject == "2" else first_wins(lease)  # noqa: E731
    asyncio.run(network.play(play, turns=6))
    plane = network.plane
    paused = database.read_now(lambda tx: operate.task_list(tx, plane.tasks, "round-000001", state="paused"))
    assert paused
    network.write(lambda tx: operate.requeue(tx, plane.tasks, paused[0]["task_id"]))
    view = database.read_now(lambda tx: operate.task_view(tx, plane.tasks, paused[0]["task_id"]))
    assert (view["state"], len(view["history"])) == ("pending", 1)
    asyncio.run(network.play(play, until=lambda: network.states().get(1) == "published"))
    view = database.read_now(lambda tx: views.round_view(tx, plane, "1"))
    assert view["code"] == "Partial"
    assert view["counts"]["dead"] == 8


def test_two_schedulers_lead_one_after_the_other(tmp_path: Path, database: PostgresDatabase) -> None:
    first = Network(tmp_path, toml(), database=database)
    asyncio.run(first.tick())
    second = Network(tmp_path, toml(), seed=2, database=database)
    second.scheduler.name = second.scheduler._leadership._name = "scheduler-2"
    asyncio.run(second.tick())
    assert not second.scheduler.state["is_leader"]
    asyncio.run(second.tick(11.0))
    assert second.scheduler.state["is_leader"]
    with pytest.raises(StaleTokenError):
        asyncio.run(first.scheduler.tick())
