"""The HTTP face of the worker.

| request | answer |
|---|---|
| GET /live, /ready | 200 while the worker runs and its journal can be read |
| GET /health | 200 only when a task sent now would be accepted and the model is ready for it |
| GET /status | counts of every state, what is open, and what was last seen of the model |
| POST /tasks | 202 once the task is on disk; 409 the id was another task; 429 too many are open |
| GET /tasks | what nobody has acknowledged; `?all=1` what is known |
| GET /tasks/ID, /tasks/ID/result | one task; its PLY file once it is done |
| POST /tasks/ID/ack | its end was taken note of; the result is forgotten |
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from aiohttp import web

from generation_stack.program.clock import Clock
from generation_stack.program.http import RefusedError, application, json_body
from generation_stack.program.log import Log
from generation_stack.worker import task as tasks
from generation_stack.worker.journal import ConflictError, Journal
from generation_stack.worker.runner import Runner
from generation_stack.worker.task import State, Task

_MOST_BODY_BYTES = 8_000_000
#: Ends that nobody has taken note of, per task that may be open; beyond it there is no room for more.
_MOST_WAITING = 20


class Routes:
    """The handlers over one journal."""

    def __init__(self, journal: Journal, runner: Runner, clock: Clock, log: Log, *, most_open: int) -> None:
        self._journal = journal
        self._runner = runner
        self._clock = clock
        self._log = log
        self._most_open = most_open
        self._began = time.monotonic()

    def application(self) -> web.Application:
        """Return the application with its routes."""
        app = application(body_bytes=_MOST_BODY_BYTES)
        for path in ("/live", "/ready"):
            app.router.add_get(path, self.ready)
        app.router.add_get("/health", self.health)
        app.router.add_get("/status", self.status)
        app.router.add_post("/tasks", self.add)
        app.router.add_get("/tasks", self.list)
        app.router.add_get("/tasks/{id}", self.show)
        app.router.add_get("/tasks/{id}/result", self.result)
        app.router.add_post("/tasks/{id}/ack", self.acknowledge)
        return app

    async def ready(self, request: web.Request) -> web.Response:
        """Say that tasks are taken; the counts are read to prove it."""
        return web.json_response(self._facts())

    async def health(self, request: web.Request) -> web.Response:
        """Say whether work would flow now."""
        facts = self._facts()
        is_well = self._runner.seen.is_ready and facts["open"] < self._most_open
        return web.json_response(facts, status=200 if is_well else 503)

    async def status(self, request: web.Request) -> web.Response:
        """Return all counts."""
        return web.json_response(self._facts())

    def _facts(self) -> dict[str, Any]:
        counts, seen = self._journal.counts(), self._runner.seen
        opened = counts[State.QUEUED] + counts[State.RUNNING]
        return {
            "state": "ready" if seen.is_ready else "waiting",
            "reason": "" if seen.is_ready else f"the model is {seen.state}: {seen.reason}",
            "uptime_s": round(time.monotonic() - self._began, 3),
            "accepted": counts.total(),
            **{state: counts[state] for state in State},
            "open": opened,
            "capacity": self._most_open,
            "in_hand": sorted(self._runner.in_hand),
            "model": {
                "state": seen.state,
                "reason": seen.reason,
                "seen_s_ago": round(time.monotonic() - self._runner.seen_at, 3),
            },
        }

    async def add(self, request: web.Request) -> web.Response:
        """Accept a task."""
        task = tasks.read(await json_body(request), now=self._clock.now())
        try:
            if self._journal.find(task.id) is None:
                self._check_room()
            kept = self._journal.add(task)
        except ConflictError as error:
            raise RefusedError(409, "conflict", str(error)) from error
        except sqlite3.Error as error:
            self._log.error("journal", reason=str(error))
            raise RefusedError(503, "journal", f"the task could not be kept: {error}") from error
        if kept is task:
            self._log.info("accepted", id=task.id, deadline_s=round(task.deadline - task.accepted_at, 3))
            self._runner.wake()
        return web.json_response(kept.view(self._clock.now()), status=202 if kept is task else 200)

    def _check_room(self) -> None:
        if self._facts()["open"] >= self._most_open:
            reason = f"{self._most_open} tasks are open; that is all this worker takes"
            raise RefusedError(429, "busy", reason, retry_after_s=2.0)
        waiting = self._journal.unacknowledged_count()
        if waiting >= self._most_open * _MOST_WAITING:
            reason = f"{waiting} ends wait to be acknowledged: POST /tasks/ID/ack"
            raise RefusedError(429, "unacknowledged", reason, retry_after_s=10.0)

    async def list(self, request: web.Request) -> web.Response:
        """Return tasks, the oldest first."""
        found = self._journal.every() if request.query.get("all") == "1" else self._journal.unacknowledged()
        return web.json_response({"tasks": [task.view(self._clock.now()) for task in found]})

    async def show(self, request: web.Request) -> web.Response:
        """Return one task."""
        return web.json_response(self._task(request).view(self._clock.now()))

    async def result(self, request: web.Request) -> web.Response:
        """Return the result of a task that is done."""
        task = self._task(request)
        if task.state is not State.DONE:
            raise RefusedError(409, str(task.state), task.reason or f"the task is {task.state}")
        data = self._journal.result(task)
        if data is None:
            raise RefusedError(410, "forgotten", "the result was acknowledged and is forgotten")
        return web.Response(body=data, content_type="application/octet-stream")

    async def acknowledge(self, request: web.Request) -> web.Response:
        """Take note that somebody has taken note."""
        task = self._task(request)
        if task.state not in (State.DONE, State.FAILED):
            raise RefusedError(409, str(task.state), f"the task is {task.state}; only an end is acknowledged")
        self._journal.acknowledge(task)
        return web.json_response({"id": task.id, "acknowledged": True})

    def _task(self, request: web.Request) -> Task:
        task = self._journal.find(request.match_info["id"])
        if task is None:
            raise RefusedError(404, "unknown", f"there is no task {request.match_info['id']}")
        return task
