"""Clients that know nothing but kinitro's wire, and a network for them that moves only when told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from api_lab import Served
from standfast.app.config import Config, parse_config
from standfast.app.plane import ControlPlane
from standfast.app.scheduler import Scheduler
from standfast.facts.database import Tx

INTERVAL_S, DEADLINE_S = 3_600.0, 600.0
TOML = """
[store]
url = "{store}"
[api]
kinitro = {kinitro}
[scheduler]
tick_s = 0.1
[tasks]
lease_ttl_s = {ttl_s}
heartbeat_s = 1.0
retry_base_s = 0.05
retry_cap_s = 0.1
executor_silent_s = 2.0
[evaluation]
interval_s = {interval_s}
deadline_s = {deadline_s}
on_deadline = "fail"
[evaluation.limits]
timeout_s = {timeout_s}
reset_s = 1.0
act_s = 0.5
subject_budget_s = 1.5
"""
ENVIRONMENT = '[[evaluation.environments]]\nid = "{id}"\nepisodes = {episodes}\nrotate = 0\n'
SUBJECT = '[[subjects]]\nuid = {uid}\nhotkey = "5Hot{uid}"\nendpoint = "http://127.0.0.1:9"\n'
CARTPOLE, PENDULUM = "classic/cartpole", "classic/pendulum"


def wire_config(
    folder: Path,
    *,
    store: str = "sqlite",
    subjects: int = 5,
    environments: Sequence[str] = (CARTPOLE,),
    episodes: int = 1,
    **changed: Any,
) -> Config:
    """Return a network whose data lies in ``folder``."""
    values = {"ttl_s": 30.0, "timeout_s": 2.0, "kinitro": "true"}
    values |= {"interval_s": INTERVAL_S, "deadline_s": DEADLINE_S, **changed}
    text = TOML.format(store=store, **values)
    text += "".join(ENVIRONMENT.format(id=name, episodes=episodes) for name in environments)
    text += "".join(SUBJECT.format(uid=uid) for uid in range(1, subjects + 1))
    return parse_config(text, source=folder / "standfast.toml")


class Leader:
    """A scheduler whose lease clock moves only when told."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._scheduler = Scheduler(plane, "leader")

    def turn(self, seconds: float = 0.0) -> None:
        """Let ``seconds`` of lease time pass, then do what is owed, publishing included."""
        store = self._plane.tasks.store

        def work(tx: Tx) -> None:
            now_ms = store.control(tx).now_ms + int(seconds * 1000)
            tx.rows(store.sql["set_now"], {"now_ms": now_ms})

        self._plane.database.write_now(work)
        asyncio.run(self._do())

    async def _do(self) -> None:
        await self._scheduler.tick()
        while await self._scheduler._publish():
            pass


class WireClient:
    """What kinitro's executor and validator do over HTTP; every reply goes to ``seen``."""

    def __init__(
        self,
        served: Served,
        *,
        executor_id: str = "e1",
        scope: str = "execute",
        seen: Callable[[httpx.Response], None] | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {served.tokens[scope]}"} if scope else {}
        self.http = httpx.Client(base_url=served.url, headers=headers, timeout=20.0, trust_env=False)
        self.executor_id = executor_id
        self._seen = seen or (lambda _: None)

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str) -> httpx.Response:
        reply = self.http.get(path)
        self._seen(reply)
        return reply

    def fetch(self, count: int = 10, environments: Sequence[str] | None = None) -> dict[str, Any]:
        """Fetch as the executor does: ``env_ids`` is there only where it filters."""
        body: dict[str, Any] = {"executor_id": self.executor_id, "batch_size": count}
        if environments:
            body["env_ids"] = list(environments)
        reply = self.http.post("/v1/tasks/fetch", json=body)
        assert reply.status_code == 200, reply.text
        self._seen(reply)
        return dict(reply.json())

    def post_results(self, results: Sequence[Any]) -> httpx.Response:
        # Python's own JSON, because httpx refuses to send NaN, and an executor in another language may not.
        body = json.dumps({"executor_id": self.executor_id, "results": list(results)})
        reply = self.http.post("/v1/tasks/submit", content=body, headers={"Content-Type": "application/json"})
        self._seen(reply)
        return reply

    def submit(self, results: Sequence[Any]) -> dict[str, Any]:
        reply = self.post_results(results)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())


def result(task: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Return the dump of a won TaskResult, with every field as the executor sends it."""
    said = {
        "task_uuid": task["task_uuid"], "success": True, "score": 1.0, "total_reward": 3.5, "timesteps": 120,
        "error": None, "verification_passed": None, "verification_score": None,
    }  # fmt: skip
    return {**said, **changed}


def lost(task: Mapping[str, Any]) -> dict[str, Any]:
    return result(task, success=False, score=0.0)


def broke(task: Mapping[str, Any], error: str = "Evaluation timeout") -> dict[str, Any]:
    return result(task, success=False, score=0.0, error=error)
