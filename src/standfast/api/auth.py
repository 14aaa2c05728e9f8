"""Who is calling, and whether they may: a bearer token against the hashes in the store.

1. What the store says about tokens is kept for a moment, so that a request costs no extra look; a token
   that was revoked elsewhere stops working within that moment.
2. While the store does not answer, the last known tokens still count for a while. Otherwise nobody could
   ask what is wrong exactly when something is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from standfast.api.access import StoreAccess
from standfast.api.errors import SCOPE_MISSING
from standfast.app.tokens import Caller, KnownToken, TokenStore, allowed_by, find_caller
from standfast.kernel.clock import Clock
from standfast.kernel.errors import AuthError, StoreError, StoreUnavailableError

FRESH_S, KEPT_S, _LOOK_S = 2.0, 600.0, 1.0
ANYBODY = Caller("anybody", allowed_by(["admin"]))
"""Who calls where no tokens are required; the configuration allows that on loopback only."""

_bearer = HTTPBearer(auto_error=False, description="A token that `standfast token create` printed.")


class TokenBook:
    """The tokens as last seen; one look at the store at a time, and each is bounded."""

    def __init__(
        self, tokens: TokenStore, access: StoreAccess, clock: Clock, *, is_required: bool = True
    ) -> None:
        self.is_required = is_required
        self._tokens = tokens
        self._access = access
        self._clock = clock
        self._known: tuple[KnownToken, ...] | None = None
        self._seen_at = self._tried_at = 0.0
        self._looking = asyncio.Lock()

    async def caller(self, token: str) -> Caller | None:
        """Return whose ``token`` it is; StoreUnavailableError where that has not been known for long."""
        await self._refresh()
        assert self._known is not None
        return find_caller(self._known, token)

    async def learn(self) -> None:
        """Look before anybody asks, so that whoever comes while the store is away is known."""
        with contextlib.suppress(StoreUnavailableError, StoreError):
            await self._refresh()

    def forget(self) -> None:
        """Look again at the next request: a token was made or revoked here."""
        self._seen_at = self._tried_at = float("-inf")

    async def _refresh(self) -> None:
        async with self._looking:
            now = self._clock.monotonic()
            is_fresh = self._known is not None and now - max(self._seen_at, self._tried_at) < FRESH_S
            if is_fresh:
                return
            self._tried_at = now
            try:
                self._known = await self._access.read(self._tokens.known, limit_s=_LOOK_S)
            except (StoreUnavailableError, StoreError):
                if self._known is None or now - self._seen_at > KEPT_S:
                    raise
                return
            self._seen_at = self._tried_at = self._clock.monotonic()


def needs(scope: str) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """Return the dependency that lets a request through when its token allows ``scope``."""

    async def allowed(
        request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        book: TokenBook = request.app.state.context.book
        return await authorize(book, shown.credentials if shown else "", scope)

    return allowed


async def authorize(book: TokenBook, token: str, scope: str) -> Caller:
    """Return who calls with ``token``; AuthError where nobody does, or somebody who may not."""
    if not book.is_required:
        return ANYBODY
    if not token:
        raise AuthError(
            "this needs a token", why="the request shows none",
            fix="send 'Authorization: Bearer TOKEN' (standfast token create)", code="TokenMissing",
        )  # fmt: skip
    caller = await book.caller(token)
    if caller is None:
        raise AuthError(
            "this token is not valid", why="it is unknown here, or was revoked",
            fix="use one that is: standfast token ls, standfast token create", code="TokenUnknown",
        )  # fmt: skip
    if not caller.may(scope):
        raise AuthError(
            f"the token {caller.name} may not do this", why=f"it lacks the scope {scope}",
            fix=f"use a token with the scope {scope}: standfast token create --scope {scope}",
            code=SCOPE_MISSING,
        )  # fmt: skip
    return caller


ReaderDep = Annotated[Caller, Depends(needs("read"))]
ExecutorDep = Annotated[Caller, Depends(needs("execute"))]
OperatorDep = Annotated[Caller, Depends(needs("operate"))]
AdminDep = Annotated[Caller, Depends(needs("admin"))]
