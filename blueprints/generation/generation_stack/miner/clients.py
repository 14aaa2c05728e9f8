"""The miner's ways to its validators and to its worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from generation_stack.network.identity import Hotkey


class UnreachableError(Exception):
    """Somebody did not answer; ``who`` is their address, the text says how it went."""

    def __init__(self, who: str, text: str) -> None:
        super().__init__(text)
        self.who = who


class Reply(NamedTuple):
    """An answer: its status, its JSON, and what it asks to wait."""

    status: int
    body: dict[str, Any]
    retry_after_s: float


class Peer:
    """Somebody at an address who is asked with a bound; every failure is an UnreachableError."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(force_close=True),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, method: str, path: str, **given: Any) -> Reply:
        """Return the JSON answer; ``given`` is what aiohttp takes: json, data, headers."""
        status, content, headers = await self._send(method, path, given)
        try:
            found = json.loads(content) if content else {}
        except ValueError:
            found = {"reason": content[:200].decode("utf-8", "replace")}
        body = found if isinstance(found, dict) else {}
        # The header has whole seconds; our own servers say it better in the body.
        exact, asked = body.get("retry_after_s"), headers.get("Retry-After", "")
        wait_s = float(exact) if isinstance(exact, int | float) else float(asked) if asked.isdigit() else 0.0
        return Reply(status, body, min(wait_s, 3_600.0))

    async def fetch(self, path: str) -> bytes | None:
        """Return the bytes at a path; None where it answers anything but 200."""
        status, content, _ = await self._send("GET", path, {})
        return content if status == 200 else None

    async def _send(self, method: str, path: str, given: Any) -> tuple[int, bytes, Mapping[str, str]]:
        url = self.url + path
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.request(method, url, **given) as answer:
                    return answer.status, await answer.read(), answer.headers
        except TimeoutError as error:
            text = f"{method} {url}: TIMEOUT after {self._timeout_s:g} s"
            raise UnreachableError(self.url, text) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(self.url, f"{method} {url}: {type(error).__name__}: {error}") from error


class Worker(Peer):
    """The gen-worker behind one address."""

    async def is_well(self) -> tuple[bool, str]:
        """Return whether a task sent now would be worked on, and why not."""
        reply = await self.call("GET", "/health")
        return reply.status == 200, str(reply.body.get("reason", ""))

    async def tasks(self) -> list[dict[str, Any]]:
        """Return every task whose end was not acknowledged."""
        reply = await self.call("GET", "/tasks")
        found = reply.body.get("tasks")
        if reply.status != 200 or not isinstance(found, list):
            raise UnreachableError(self.url, f"GET /tasks: {reply.status} {reply.body}")
        return found

    async def add(self, task: dict[str, Any]) -> Reply:
        """Hand a task over."""
        return await self.call("POST", "/tasks", json=task)

    async def result(self, id_: str) -> bytes | None:
        """Return a result."""
        return await self.fetch(f"/tasks/{id_}/result")

    async def acknowledge(self, id_: str) -> None:
        """Say that the end of a task was taken note of."""
        await self.call("POST", f"/tasks/{id_}/ack")


class Validator(Peer):
    """One validator; everything that it is told is signed."""

    def __init__(self, url: str, hotkey: Hotkey, *, timeout_s: float) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self._hotkey = hotkey

    async def pull(self, have: list[str]) -> Reply:
        """Ask for a task; ``have`` are its tasks that the miner still works on."""
        return await self.call("POST", "/pull", json={**self._signed(["pull", *sorted(have)]), "have": have})

    async def submit(self, id_: str, data: bytes) -> Reply:
        """Hand a result in."""
        signed = self._signed(["result", id_, hashlib.sha256(data).hexdigest()])
        headers = {
            "X-Hotkey": signed["hotkey"],
            "X-Public-Key": signed["public_key"],
            "X-Signature": signed["signature"],
        }
        return await self.call("POST", f"/results/{id_}", data=data, headers=headers)

    async def give_up(self, id_: str, reason: str) -> Reply:
        """Tell that a task has failed."""
        said = reason[:500]
        body = {**self._signed(["failure", id_, said]), "reason": said}
        return await self.call("POST", f"/failures/{id_}", json=body)

    def _signed(self, parts: list[str]) -> dict[str, str]:
        key = self._hotkey
        signature = key.sign([parts[0], key.name, *parts[1:]])
        return {"hotkey": key.name, "public_key": key.public_key, "signature": signature}
