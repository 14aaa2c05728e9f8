"""A proxy between executors and the API that records every answer to a result, before it passes it on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

Key = tuple[str, int]


class Recorder:
    """Runs the proxy on a thread of its own; ``acknowledged`` holds what was answered as stored."""

    def __init__(self, api_port: int, port: int) -> None:
        self._target = f"http://127.0.0.1:{api_port}"
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)
        self.acknowledged: dict[Key, dict[str, Any]] = {}
        self.accepted_times: Counter[Key] = Counter()
        self.statuses: Counter[str] = Counter()

    def __enter__(self) -> Recorder:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        application = web.Application(client_max_size=64_000_000)
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() in ("authorization", "content-type")}
        url = f"{self._target}{request.path_qs}"
        try:
            async with self._session.request(request.method, url, data=body, headers=headers) as reply:
                answer = await reply.read()
                if request.path.endswith("/tasks/submit") and reply.status == 200:
                    self._record(json.loads(body), json.loads(answer))
                return web.Response(body=answer, status=reply.status, content_type=reply.content_type)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return web.Response(status=502, text="the API does not answer")

    def _record(self, asked: dict[str, Any], answered: dict[str, Any]) -> None:
        for item, answer in zip(asked["results"], answered["items"], strict=True):
            key = (item["task_id"], item["token"])
            self.statuses[answer["status"]] += 1
            if answer["status"] in ("accepted", "duplicate"):
                self.acknowledged.setdefault(key, item)
            self.accepted_times[key] += answer["status"] == "accepted"
