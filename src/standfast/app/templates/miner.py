"""A miner to start from: serves one policy over HTTP. Replace what ``careful`` does.

GET /health says that it is ready. POST /reset begins an episode and tells its environment. POST /act has
the observation and answers with the action: an index where the space is discrete, numbers where it is
continuous. It needs aiohttp and nothing of Standfast.
"""

from __future__ import annotations

import argparse
import random
import secrets
from typing import Any

from aiohttp import web

#: An episode that was never finished is forgotten when this many newer ones have begun.
MAX_EPISODES = 1_000


def careful(environment: str, state: list[float]) -> int:
    """Return the action of a policy that knows its environments."""
    if environment == "classic/cartpole":
        # Push towards where the pole falls; the cart's own motion keeps it near the middle.
        return 1 if state[2] + 0.3 * state[3] + 0.03 * state[0] + 0.06 * state[1] > 0 else 0
    # The mountain car: push the way it moves, and every push adds energy.
    return 2 if state[1] >= 0 else 0


def guessing(environment: str, state: list[float]) -> int:
    """Return one of the first two actions by chance."""
    return random.randrange(2)


POLICIES = {"careful": careful, "guessing": guessing}


class Miner:
    """The three routes, and the environment of each open episode."""

    def __init__(self, policy: str) -> None:
        self._decide = POLICIES[policy]
        self._episodes: dict[str, str] = {}

    async def health(self, request: web.Request) -> web.Response:
        """Say that it serves."""
        return web.json_response({"status": "healthy"})

    async def reset(self, request: web.Request) -> web.Response:
        """Begin an episode."""
        body: dict[str, Any] = await request.json()
        episode = secrets.token_hex(8)
        self._episodes[episode] = body["task_config"]["env_id"]
        if len(self._episodes) > MAX_EPISODES:
            self._episodes.pop(next(iter(self._episodes)))
        return web.json_response({"status": "ok", "episode_id": episode})

    async def act(self, request: web.Request) -> web.Response:
        """Answer an observation with an action."""
        body: dict[str, Any] = await request.json()
        action = self._decide(self._episodes[body["episode_id"]], body["obs"]["proprio"]["state"])
        return web.json_response({"action": {"continuous": {}, "discrete": {"u": action}}})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Serve one policy.")
    parser.add_argument("--policy", choices=sorted(POLICIES), required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    miner, application = Miner(options.policy), web.Application()
    application.router.add_get("/health", miner.health)
    application.router.add_post("/reset", miner.reset)
    application.router.add_post("/act", miner.act)
    web.run_app(application, host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
