"""The HTTP face of the validator.

| request | answer |
|---|---|
| GET /live, /ready, /health | 200 while it runs and its account can be read |
| GET /status | every miner's account, and the latest tasks |
| POST /pull | 200 a task; 429 too early or too many open; 403 not registered or not signed; 503 not known |
| POST /results/ID | 200 the feedback, the same one for the same task; 404 unknown, 410 expired |
| POST /failures/ID | the miner gives the task up; answered like a result |

A pull names the tasks that the miner still has: what it lost on the way is given to it again, and is not
issued twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import secrets
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from generation_stack.network.identity import is_signed
from generation_stack.network.registry import Registered, Registry, Wallet
from generation_stack.program.clock import Clock
from generation_stack.program.http import RefusedError, application, json_body
from generation_stack.program.log import Log
from generation_stack.splats.judge import judge
from generation_stack.validator import prompts, rules
from generation_stack.validator.ledger import Issued, Ledger
from generation_stack.validator.rules import Feedback, State, Terms

#: The largest result: a million Gaussians and some.
_MOST_BODY_BYTES = 100_000_000
_GALLERY = 20


class Routes:
    """The handlers over one ledger."""

    def __init__(
        self, ledger: Ledger, registry: Registry, netuid: int, terms: Terms, gallery: Path, log: Log
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._netuid = netuid
        self._terms = terms
        self._gallery = gallery
        self._log = log
        self._clock = Clock()
        self._chance = random.Random(secrets.randbits(64))  # noqa: S311 - prompts, not secrets
        self._began = time.monotonic()

    def application(self) -> web.Application:
        """Return the application with its routes."""
        app = application(body_bytes=_MOST_BODY_BYTES)
        for path in ("/live", "/ready", "/health", "/status"):
            app.router.add_get(path, self.status)
        app.router.add_post("/pull", self.pull)
        app.router.add_post("/results/{id}", self.result)
        app.router.add_post("/failures/{id}", self.failure)
        return app

    async def expire(self) -> None:
        """Close late tasks until cancelled."""
        while True:
            for task in self._ledger.expire(self._terms.cooldown_s * self._terms.penalty):
                self._log.warning("expired", task=task.id, hotkey=task.hotkey)
            await asyncio.sleep(0.25)

    async def status(self, request: web.Request) -> web.Response:
        """Return all accounts."""
        body = {
            "state": "ready",
            "uptime_s": round(time.monotonic() - self._began, 3),
            "netuid": self._netuid,
            "terms": self._terms._asdict(),
            "miners": self._ledger.accounts(),
            "recent": self._ledger.recent(10),
        }
        return web.json_response(body)

    async def pull(self, request: web.Request) -> web.Response:
        """Give out one task."""
        body = await json_body(request)
        have = body.get("have") if isinstance(body, dict) else None
        if not isinstance(have, list) or not all(isinstance(id_, str) for id_ in have):
            raise RefusedError(422, "invalid_input", "have must be a list of task ids")
        hotkey = str(body.get("hotkey", ""))
        parts = ["pull", hotkey, *sorted(have)]
        await self._check(hotkey, str(body.get("public_key", "")), str(body.get("signature", "")), parts)
        opened = self._ledger.open_of(hotkey)
        # Before the cooldown: a task that the miner lost has been waiting long enough.
        lost = next((task for task in opened if task.id not in have), None)
        if lost is not None:
            return web.json_response(self._given(lost))
        self._check_turn(hotkey)
        # A picture takes a moment to draw; somebody else may have used it.
        asked = await asyncio.to_thread(prompts.request, self._chance)
        self._check_turn(hotkey)
        task = self._ledger.issue(secrets.token_hex(8), hotkey, asked, self._terms.deadline_s)
        self._log.info("issued", task=task.id, hotkey=hotkey, asked=asked.get("prompt", "a picture"))
        return web.json_response(self._given(task))

    def _check_turn(self, hotkey: str) -> None:
        wait_s, opened = self._ledger.free_in_s(hotkey), len(self._ledger.open_of(hotkey))
        if wait_s > 0.0:
            self._ledger.early(hotkey)
            raise RefusedError(
                429, "cooldown", f"the cooldown lasts {wait_s:.3f} s more", retry_after_s=wait_s
            )
        if opened >= self._terms.most_open:
            raise RefusedError(429, "open", f"{opened} tasks are open; finish one first", retry_after_s=1.0)

    def _given(self, task: Issued) -> dict[str, Any]:
        left_s = max(0.0, task.deadline - self._clock.now())
        return {"id": task.id, "request": task.request, "deadline_in_s": round(left_s, 3)}

    async def _check(self, hotkey: str, public_key: str, signature: str, parts: list[str]) -> None:
        """Refuse whoever is not registered, or does not sign as the hotkey's own key does."""
        wallet = Wallet("", hotkey, "", self._netuid)
        answer = await asyncio.to_thread(self._registry.look, wallet)
        if answer.registered is Registered.UNKNOWN:
            raise RefusedError(503, "registry", answer.reason, retry_after_s=5.0)
        if answer.registered is Registered.NO:
            raise RefusedError(403, "not_registered", f"{hotkey} is not registered on netuid {self._netuid}")
        if not is_signed(public_key, signature, parts):
            raise RefusedError(403, "signature", "the signature does not fit the request and the public key")
        own = self._registry.public_key(wallet) or self._ledger.key_of(hotkey, public_key)
        if own != public_key:
            raise RefusedError(403, "other_key", f"{hotkey} has another public key here")
        # Miners have an account from the first valid request on, whoever laid their key down.
        self._ledger.key_of(hotkey, public_key)

    async def result(self, request: web.Request) -> web.Response:
        """Judge one result."""
        id_, hotkey = request.match_info["id"], request.headers.get("X-Hotkey", "")
        data = await request.read()
        sha256 = hashlib.sha256(data).hexdigest()
        key, signature = request.headers.get("X-Public-Key", ""), request.headers.get("X-Signature", "")
        await self._check(hotkey, key, signature, ["result", hotkey, id_, sha256])
        task = self._task(id_, hotkey)
        if task.state is not State.OPEN:
            return self._told(task)
        judgement = await asyncio.to_thread(judge, data)
        took_s = self._clock.now() - task.issued_at
        used = self._ledger.task_with(sha256)
        told = rules.feedback(judgement, used_before_by=used, took_s=took_s, terms=self._terms)
        if self._settle(task, told, sha256) and told.state is State.ACCEPTED:
            await asyncio.to_thread(self._show, task, data)
        return self._told(self._task(id_, hotkey))

    async def failure(self, request: web.Request) -> web.Response:
        """Take note that a miner gives a task up."""
        id_, body = request.match_info["id"], await json_body(request)
        fields = body if isinstance(body, dict) else {}
        hotkey, reason = str(fields.get("hotkey", "")), str(fields.get("reason", ""))[:500]
        parts = ["failure", hotkey, id_, reason]
        await self._check(hotkey, str(fields.get("public_key", "")), str(fields.get("signature", "")), parts)
        task = self._task(id_, hotkey)
        if task.state is State.OPEN:
            self._settle(task, rules.given_up(reason, self._terms), "")
        return self._told(self._task(id_, hotkey))

    def _settle(self, task: Issued, told: Feedback, sha256: str) -> bool:
        is_settled = self._ledger.settle(task, told, sha256)
        if is_settled:
            self._log.info(
                str(told.state), task=task.id, hotkey=task.hotkey, score=told.score, reasons=told.reasons
            )
        return is_settled

    def _task(self, id_: str, hotkey: str) -> Issued:
        task = self._ledger.find(id_)
        if task is None or task.hotkey != hotkey:
            raise RefusedError(404, "unknown", f"no task {id_} was issued to {hotkey}")
        return task

    def _told(self, task: Issued) -> web.Response:
        if task.state is State.EXPIRED:
            raise RefusedError(410, "expired", "; ".join(task.reasons))
        account = self._ledger.accounts()[task.hotkey]
        body = {
            "task": task.id,
            "accepted": task.state is State.ACCEPTED,
            "score": task.score,
            "reasons": task.reasons,
            "cooldown_s": task.cooldown_s,
            "average_score": account["average_score"],
        }
        return web.json_response(body)

    def _show(self, task: Issued, data: bytes) -> None:
        """Keep the latest accepted results where a person can look at them."""
        # The account is what counts; a full disk costs the gallery only.
        with contextlib.suppress(OSError):
            self._gallery.mkdir(parents=True, exist_ok=True)
            words = re.sub(r"[^a-z]+", "-", task.request.get("prompt", "picture").lower()).strip("-")[:60]
            (self._gallery / f"{time.time_ns()}-{words}.ply").write_bytes(data)
            for old in sorted(self._gallery.glob("*.ply"))[:-_GALLERY]:
                old.unlink(missing_ok=True)
