"""Each publisher keeps each promise of ``Publisher``; the HTTP one is tried against a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.kernel.errors import AuthError, RefusedError
from standfast.publication.adapters.file import LATEST, FilePublisher
from standfast.publication.adapters.http import HttpLimits, HttpPublisher
from standfast.publication.adapters.keys import SigningKey
from standfast.publication.adapters.signing import (
    MemoryNonces,
    RequestSigner,
    SignableRequest,
    SignatureRefusedError,
    verify,
)
from standfast.publication.decide import fence
from standfast.publication.document import Document, DocumentError, parse, published_of, render
from standfast.publication.ports import (
    AlreadyThere,
    PublicationRefusedError,
    PublisherUnavailableError,
    PublisherUnusableError,
)
from standfast.testing.publisher_contract import PublisherBench, PublisherContract, good_document


class FileBench:
    """A directory that does not exist yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def publisher(self) -> FilePublisher:
        return FilePublisher(self.directory)

    def damage(self) -> None:
        newest = max(path for path in self.directory.glob("*.json") if path.name != LATEST)
        data = newest.read_bytes()
        newest.write_bytes(data[: len(data) // 2])


class TestFilePublisher(PublisherContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "published" / "weights"

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[PublisherBench]:
        yield FileBench(self.directory)


class Receiver:
    """The other side of the HTTP publisher: verifies signatures and applies the fence."""

    def __init__(self) -> None:
        self.key = SigningKey(Ed25519PrivateKey.generate(), keyid="leader-1")
        self.nonces = MemoryNonces()
        self.held: Document | None = None
        self.is_damaged = False
        self.replies_to_lose = 0
        self.forgets = False
        self.reason = ""
        self.refused_codes: list[str] = []
        self.port = 0

    def publisher(self, key: SigningKey | None = None) -> HttpPublisher:
        signer = RequestSigner(key or self.key, clock=SystemClock(), entropy=SystemEntropy())
        url = f"http://127.0.0.1:{self.port}/v1/weights%20of/3?net=3&b=%2F"
        return HttpPublisher(url, signer=signer, limits=HttpLimits(total_s=10))

    def damage(self) -> None:
        self.is_damaged = True

    async def handle(self, request: web.Request) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        received = SignableRequest(
            method=request.method,
            authority=f"127.0.0.1:{self.port}",
            path=path,
            query=query,
            headers=tuple(request.headers.items()),
            body=await request.read(),
        )
        try:
            await verify(
                received, keys={"leader-1": self.key.public}, nonces=self.nonces, now=SystemClock().wall()
            )
        except SignatureRefusedError as error:
            self.refused_codes.append(error.code)
            return web.json_response({"reason": error.code}, status=401)
        return self.get() if request.method == "GET" else self.post(received.body, request)

    def get(self) -> web.Response:
        if self.is_damaged:
            return web.Response(body=b'{"schema": "standfast.publication/1"')
        if self.held is None:
            return web.Response(status=204)
        return web.Response(body=render(self.held), content_type="application/json")

    def post(self, body: bytes, request: web.Request) -> web.Response:
        try:
            document = parse(body)
        except DocumentError as error:
            return web.json_response({"reason": error.code}, status=422)
        if self.is_damaged:
            return web.Response(status=500)
        held = published_of(self.held) if self.held else None
        objections = fence(document, held)
        if objections or self.reason:
            reason = self.reason or objections[0].reason.value
            return web.Response(body=json.dumps({"reason": reason}), status=409)
        is_new = held is None or held.epoch < document.epoch
        if is_new and not self.forgets:
            self.held = document
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=201 if is_new else 200)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Serve a receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()


class TestHttpPublisher(PublisherContract):
    @asynccontextmanager
    async def bench(self) -> AsyncIterator[PublisherBench]:
        async with receiving() as receiver:
            yield receiver

    def test_i7_a_lost_reply_is_made_good_by_sending_again(self) -> None:
        async def check(receiver: PublisherBench) -> None:
            assert isinstance(receiver, Receiver)
            receiver.replies_to_lose = 1
            document = good_document()
            with pytest.raises(PublisherUnavailableError):
                await receiver.publisher().publish(document)
            assert receiver.held == document, "the fault landed: it arrived and the reply was lost"
            assert await receiver.publisher().publish(document) == AlreadyThere(published_of(document))

        self._run(check)

    def test_r9_another_key_under_a_known_name_is_refused(self) -> None:
        async def check(receiver: PublisherBench) -> None:
            assert isinstance(receiver, Receiver)
            forger = SigningKey(Ed25519PrivateKey.generate(), keyid="leader-1")
            stranger = SigningKey(Ed25519PrivateKey.generate(), keyid="stranger")
            for key in (forger, stranger):
                with pytest.raises(AuthError):
                    await receiver.publisher(key).publish(good_document())
                with pytest.raises(AuthError):
                    await receiver.publisher(key).read_back()
            assert receiver.held is None
            assert receiver.refused_codes == ["SignatureInvalid"] * 2 + ["UnknownKey"] * 2

        self._run(check)

    def test_k17_an_acknowledgement_without_the_document_is_found_out(self) -> None:
        async def check(receiver: PublisherBench) -> None:
            assert isinstance(receiver, Receiver)
            receiver.forgets = True
            with pytest.raises(PublisherUnusableError) as found:
                await receiver.publisher().publish(good_document())
            assert found.value.code == "ReadBackMismatch"

        self._run(check)

    @pytest.mark.parametrize("reason", ["Other", "WrongSum", "a" * 5000])
    def test_r9_a_conflict_for_a_reason_unknown_here_is_still_a_refusal(self, reason: str) -> None:
        async def check(receiver: PublisherBench) -> None:
            assert isinstance(receiver, Receiver)
            receiver.reason = reason
            with pytest.raises(RefusedError) as found:
                await receiver.publisher().publish(good_document())
            assert not isinstance(found.value, PublicationRefusedError)
            assert found.value.code == "PublisherConflict"
            assert reason not in str(found.value)

        self._run(check)
