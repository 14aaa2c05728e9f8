"""A miner: serves one policy over HTTP for an evaluation network, one session per episode.

Start it with ``python miner.py --policy generalist --port 8101``. It needs aiohttp and nothing of
Standfast, so it may serve as a template: replace what stands in ``policies.py``.

| request | body | reply |
|---|---|---|
| GET /health | | {"status": "healthy", "policy": name, "episodes": open ones, "uptime_seconds": s} |
| POST /reset | {"task_config": {"env_id": ...}, "action_space": {...}, "observation_size": n} | {"status": "ok", "episode_id": ...} |
| POST /act | {"obs": {"proprio": {"state": [...]}}, "episode_id": ...} | {"action": {"continuous": {"u": [...]}, "discrete": {}}} |

SIGTERM and SIGINT finish the requests that are being answered, then stop the server.
"""  # noqa: E501 - a table row cannot be folded

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from collections import OrderedDict
from typing import Any

from aiohttp import web
from controllers import Action
from policies import POLICIES, PolicyFailedError, Session, Task

#: An episode that was never finished is forgotten when this many newer ones have begun.
MAX_SESSIONS = 1_000
#: An observation is a few hundred numbers at most.
MAX_BODY_BYTES = 1_000_000
#: Longest wait for open requests when told to stop.
SHUTDOWN_S = 2.0


class BadRequestError(Exception):
    """The request is not what the protocol says; the server answers 400 with the text."""


class Miner:
    """The handlers of one policy, and its open sessions."""

    def __init__(self, policy: str, *, seed: int | None = None) -> None:
        self._name = policy
        self._policy = POLICIES[policy]
        self._chance = random.Random(seed)  # noqa: S311 - chance for a policy, not for secrets
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._started_at = time.monotonic()

    def application(self) -> web.Application:
        """Return the application with its three routes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_get("/health", self.health)
        application.router.add_post("/reset", self.reset)
        application.router.add_post("/act", self.act)
        return application

    async def health(self, request: web.Request) -> web.Response:
        """Say that the policy is loaded."""
        return web.json_response(
            {
                "status": "healthy",
                "model_loaded": True,
                "policy": self._name,
                "episodes": len(self._sessions),
                "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            }
        )

    async def reset(self, request: web.Request) -> web.Response:
        """Open a session and name it."""
        try:
            task = _task(await _body(request))
        except BadRequestError as error:
            return _refusal(400, str(error))
        episode_id = secrets.token_hex(8)
        # Its own source of chance: two episodes at once must not disturb each other.
        chance = random.Random(self._chance.random())  # noqa: S311
        self._sessions[episode_id] = self._policy(task, chance)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return web.json_response({"status": "ok", "episode_id": episode_id})

    async def act(self, request: web.Request) -> web.Response:
        """Answer one observation with one action."""
        try:
            body = await _body(request)
            session, state = self._session(body), _state(body)
        except BadRequestError as error:
            return _refusal(400, str(error))
        try:
            reply = session.act(state)
        except PolicyFailedError as error:
            return _refusal(500, str(error))
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        return web.json_response({"action": _action(reply.action)})

    def _session(self, body: dict[str, Any]) -> Session:
        session = self._sessions.get(str(body.get("episode_id", "")))
        if session is None:
            raise BadRequestError("there is no such episode_id: call /reset first")
        return session


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def _task(body: dict[str, Any]) -> Task:
    config, space = body.get("task_config"), body.get("action_space")
    if not isinstance(config, dict) or not isinstance(config.get("env_id"), str):
        raise BadRequestError("task_config.env_id must be a string")
    if not isinstance(space, dict) or space.get("kind") not in ("discrete", "continuous"):
        raise BadRequestError("action_space.kind must be 'discrete' or 'continuous'")
    return Task(config["env_id"], space)


def _state(body: dict[str, Any]) -> list[float]:
    found: Any = body
    for key in ("obs", "proprio", "state"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise BadRequestError("obs.proprio.state must be a list of numbers")
    return found


def _action(action: Action) -> dict[str, Any]:
    if isinstance(action, int):
        return {"continuous": {}, "discrete": {"u": action}}
    return {"continuous": {"u": action}, "discrete": {}}


def _refusal(status: int, text: str) -> web.Response:
    return web.json_response({"status": "error", "error": text}, status=status)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Serve one policy of an evaluation network.")
    parser.add_argument("--policy", choices=sorted(POLICIES), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--seed", type=int, help="makes what is random repeatable")
    options = parser.parse_args()
    application = Miner(options.policy, seed=options.seed).application()
    # Handles SIGTERM and SIGINT; the access log would be a line per step.
    try:
        web.run_app(
            application,
            host=options.host,
            port=options.port,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            print=None,
        )
    except OSError as error:
        sys.exit(f"Cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port.")


if __name__ == "__main__":
    main()
