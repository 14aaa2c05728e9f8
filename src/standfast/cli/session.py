"""What every command has: how to print, which instance is meant, and one way to ask its API."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from standfast.app.instance import Address, Found, Run, Unreadable, Wanted, find, token_of
from standfast.app.stack_look import is_stack
from standfast.cli import output
from standfast.kernel.errors import NotFoundError, StandfastError, TransientError

if TYPE_CHECKING:
    from standfast.app.client import Reply

#: No command waits longer than this for one answer, unless it says so.
CALL_S = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """One call of one command."""

    command: str
    is_json: bool
    wanted: Wanted

    def emit(self, data: object, render: output.Renderer) -> None:
        """Print ``data`` for a machine, or what ``render`` makes of it for a person."""
        if self.is_json:
            output.print_json(output.envelope(self.command, data=data))
        else:
            render(output.printer())

    def fail(self, error: StandfastError) -> None:
        """Print ``error`` for a machine, where one reads; for a person it is printed at the top."""
        if self.is_json:
            output.print_json(output.envelope(self.command, error=output.error_body(error)))

    def found(self) -> Address | Found:
        """Return the instance that is meant; raise where none or several fit."""
        return find(self.wanted, Path.cwd(), os.environ)

    def address(self) -> Address:
        """Return where the API of the meant instance listens, and the token for it.

        Raises TransientError where it does not run.
        """
        found = self.found()
        if isinstance(found, Address):
            return found
        return Address(url_of(found), token_of(self.wanted, found))

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        total_s: float = CALL_S,
    ) -> Any:
        """Make one call to the API and return the JSON that it answered.

        A call that may take long is made only after a short one was answered: an API that hangs is known
        within ``CALL_S``, and its remedy is to look at the process, not to start another one.
        """
        address = self.address()
        try:
            if total_s > CALL_S:
                ask(address, "GET", "/executors")
            return ask(address, method, path, query=query, body=body, total_s=total_s).body
        except TransientError as error:
            if not self.wanted.url and error.exit_code == TransientError.exit_code:
                error.fix = "see what is wrong with it: standfast status"
            raise

    def get(self, path: str, **query: object) -> Any:
        """Return what the API has at ``path``; empty values of ``query`` are left out."""
        return self.call("GET", path, query=query)


def ask(
    address: Address,
    method: str,
    path: str,
    *,
    query: Mapping[str, object] | None = None,
    body: Mapping[str, Any] | None = None,
    total_s: float = CALL_S,
) -> Reply:
    """Make one call to the API at ``address``."""
    wanted = {key: str(value) for key, value in (query or {}).items() if value not in (None, "")}

    # A stack of services has no API to ask, and the client is large.
    from standfast.app.client import ApiClient, ClientLimits  # noqa: PLC0415

    async def exchange() -> Reply:
        limits = ClientLimits(total_s=total_s, connect_s=total_s)
        async with ApiClient(address.url, address.token, limits) as client:
            return await client.call(method, path, query=wanted, body=body)

    reply = asyncio.run(exchange())
    if not reply.is_ours:
        raise TransientError(
            f"what answers at {address.url} is no standfast API",
            why="it does not name itself as one",
            fix="see which program has the port: ss -ltnp",
            code="NotStandfast",
        )
    return reply


def url_of(found: Found) -> str:
    """Return the address that the instance wrote down; raise TransientError where it does not run."""
    run = found.run()
    if isinstance(run, Run) and run.is_alive and run.url:
        return run.url
    if is_stack(found.data_dir, run):
        what = "a stack of services has no API: there are no rounds, tasks or facts to ask for"
        fix = "ask about its services: standfast status, standfast explain SERVICE"
    elif isinstance(run, Run) and run.is_alive:
        what, fix = f"the instance (process {run.process.pid}) is still starting", "standfast status --watch"
    elif isinstance(run, Unreadable):
        what, fix = f"{run.path} cannot be read: {run.why}", "standfast status"
    elif isinstance(run, Run):
        what = f"the instance (process {run.process.pid}, started {run.started_at}) is gone without a goodbye"
        fix = f"start it again: standfast up {run.blueprint}"
    else:
        what, fix = f"no instance runs in {found.data_dir}", "start it: standfast up BLUEPRINT"
    raise TransientError(what, why=found.how, fix=fix, code="NotRunning")


def path_segment(name: str, *, what: str, fix: str) -> str:
    """Return ``name`` if it may stand in the path of a request; NotFoundError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9._:@-]{1,64}", name) or name in (".", ".."):
        raise NotFoundError(f"{name[:64]!r} cannot be the name of a {what}", fix=fix)
    return name
