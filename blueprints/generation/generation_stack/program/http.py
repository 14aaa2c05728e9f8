"""The web server of a program: refusals in one form, strict bodies, and an end in order."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from generation_stack.program.fields import BadFieldsError
from generation_stack.program.log import Log


class Listen(NamedTuple):
    """Where a program listens; port 0 takes any free one."""

    host: str
    port: int


class RefusedError(Exception):
    """A request is answered with ``status`` and a body that says why."""

    def __init__(self, status: int, error: str, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.retry_after_s = retry_after_s


def refusal(error: RefusedError) -> web.Response:
    """Return the answer to a request that is refused."""
    body: dict[str, Any] = {"error": error.error, "reason": str(error)}
    headers = {}
    if error.retry_after_s:
        # The header has whole seconds; zero would mean at once.
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
        body["retry_after_s"] = round(error.retry_after_s, 3)
    return web.json_response(body, status=error.status, headers=headers)


@web.middleware
async def explained(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer every refusal as JSON, those of the web server too."""
    try:
        return await handler(request)
    except RefusedError as error:
        return refusal(error)
    except BadFieldsError as error:
        body = {"error": "invalid_input", "reason": str(error), "problems": error.problems}
        return web.json_response(body, status=422)
    except web.HTTPException as error:
        return refusal(
            RefusedError(error.status, (error.reason or "error").lower().replace(" ", "_"), error.text or "")
        )


async def json_body(request: web.Request) -> Any:
    """Return the body of a request as JSON."""
    try:
        return json.loads(await request.read())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "not_json", f"the body is not JSON: {error}") from error


def application(*, body_bytes: int) -> web.Application:
    """Return an application that reads bodies of at most ``body_bytes``."""
    return web.Application(client_max_size=body_bytes, middlewares=[explained])


async def serve(
    app: web.Application, listen: Listen, log: Log, *, stop: asyncio.Event, drain_s: float
) -> None:
    """Serve until ``stop``; requests that are being answered then have ``drain_s`` to end.

    A client that goes away cancels its request: work that nobody waits for any more is not done.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=drain_s)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        try:
            await site.start()
        except OSError as error:
            reason = f"Cannot listen on {listen.host}:{listen.port}: {error.strerror}. Choose another --port."
            raise SystemExit(reason) from error
        port = runner.addresses[0][1]
        log.info("listening", host=listen.host, port=port)
        await stop.wait()
        log.info("stopping", reason="asked to")
    finally:
        await runner.cleanup()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def run(main: Callable[[], Awaitable[int]]) -> None:
    """Run a program to its end and exit with its code."""

    async def body() -> int:
        return await main()

    sys.exit(asyncio.run(body()))
