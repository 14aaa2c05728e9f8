"""The HTTP face of the model service.

| request | answer |
|---|---|
| GET /live | 200 while the process can answer and its model thread is not deaf; also while it loads |
| GET /ready | 200 while the model is loaded and works, also when its queue is full |
| GET /health | 200 only when a request sent now would be accepted; else 503, with state, reason, since |
| GET /memory | what was measured before, at the peak of and after each of the last 200 requests |
| POST /generate | a PLY file; 422 wrong input, 429 queue full, 503 not ready, 504 not in time |
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from aiohttp import web

from generation_stack.model.engine import BadOutputError, Engine, GenerationTimeoutError
from generation_stack.model.request import MOST_BODY_BYTES, read
from generation_stack.model.standing import State
from generation_stack.program.fields import BadFieldsError
from generation_stack.program.http import RefusedError, application, json_body
from generation_stack.program.log import Log

_CHUNK = 262_144


class Routes:
    """The handlers over one engine."""

    def __init__(self, engine: Engine, log: Log, *, timeout_s: float) -> None:
        self._engine = engine
        self._log = log
        self._timeout_s = timeout_s
        self._began = time.monotonic()

    def application(self) -> web.Application:
        """Return the application with its routes."""
        app = application(body_bytes=MOST_BODY_BYTES)
        app.router.add_get("/live", self.live)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/health", self.health)
        app.router.add_get("/memory", self.memory)
        app.router.add_post("/generate", self.generate)

        async def stop(_: web.Application) -> None:
            await self._engine.stop()

        app.on_shutdown.append(stop)
        return app

    async def live(self, request: web.Request) -> web.Response:
        """Say whether only a restart could help."""
        now = self._engine.standing
        return self._answer(now.state is not State.FAILED)

    async def ready(self, request: web.Request) -> web.Response:
        """Say whether the model works through what it is given."""
        return self._answer(self._engine.standing.serves)

    async def health(self, request: web.Request) -> web.Response:
        """Say whether a request sent now would be accepted."""
        return self._answer(self._engine.standing.state is State.READY)

    def _answer(self, is_well: bool) -> web.Response:
        return web.json_response(self._facts(), status=200 if is_well else 503)

    def _facts(self) -> dict[str, Any]:
        engine, now = self._engine, self._engine.standing
        names = ("accepted", "completed", "failed", "timed_out", "abandoned", "refused", "invalid")
        return {
            "state": now.state,
            "reason": now.reason,
            "since_s": round(engine.since_s, 3),
            "uptime_s": round(time.monotonic() - self._began, 3),
            "backend": engine.backend.name,
            "loaded_s": None if engine.loaded_s is None else round(engine.loaded_s, 3),
            "loads": engine.loads,
            "running": engine.running,
            "open": engine.open,
            "stopping": engine.stopping,
            "capacity": engine.limits.capacity,
            **{name: engine.counts[name] for name in names},
            "memory": engine.measured[-1] if engine.measured else None,
        }

    async def memory(self, request: web.Request) -> web.Response:
        """Return the series; every entry also says that work was done."""
        return web.json_response({"series": list(self._engine.measured)})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Make one result and send it."""
        id_ = secrets.token_hex(6)
        body = await json_body(request)
        try:
            # Unpacking a picture takes a moment; /health must not wait for it.
            asked = await asyncio.to_thread(read, body, self._engine.backend, timeout_s=self._timeout_s)
        except BadFieldsError as error:
            self._engine.counts["invalid"] += 1
            self._log.warning("invalid", id=id_, problems=error.problems)
            raise
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "X-Request-Id": id_})
        try:
            async with self._engine.generation(id_, asked.wish, asked.timeout_s) as made:
                answer.headers["X-Gaussians"] = str(made.count)
                answer.headers["X-Seconds"] = f"{made.seconds:.3f}"
                answer.headers["X-Backend"] = self._engine.backend.name
                await _send(request, answer, made.ply)
        except GenerationTimeoutError as error:
            if answer.prepared and request.transport is not None:
                # Half a file was sent to a reader that is too slow: only a cut tells it so.
                request.transport.abort()
                return answer
            raise RefusedError(504, "timeout", str(error)) from error
        except BadOutputError as error:
            raise RefusedError(500, "bad_output", f"the model made no usable result: {error}") from error
        except (RefusedError, ConnectionError):
            raise
        # The edge to foreign code: what a model raises is an answer, and no end of the service.
        except Exception as error:
            self._log.error("generation_failed", id=id_, reason=f"{type(error).__name__}: {error}")
            raise RefusedError(500, "generation_failed", f"{type(error).__name__}: {error}") from error
        return answer


async def _send(request: web.Request, answer: web.StreamResponse, data: bytes) -> None:
    answer.content_length = len(data)
    await answer.prepare(request)
    view = memoryview(data)
    for start in range(0, len(view), _CHUNK):
        await answer.write(view[start : start + _CHUNK])
    await answer.write_eof()
