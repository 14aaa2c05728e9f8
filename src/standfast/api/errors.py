"""Turns errors into replies: a status by what the caller can do, and a body that says it.

1. The body is ``{"error": {"code", "what", "why", "fix", "since"}}``, for every status from 400 on.
2. No reply repeats what was sent: what is wrong is named by its place, never by its value (I12).
3. A bug is told by an id that stands in the log beside its traceback; nothing of our inside goes out.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from standfast.app.tokens import redact
from standfast.facts.database.errors import StatementError
from standfast.kernel.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    NotFoundError,
    RefusedError,
    StandfastError,
    StoreError,
    TransientError,
    UnhealthyError,
)

log = structlog.get_logger(__name__)
#: The code of an AuthError whose caller is known but may not do this.
SCOPE_MISSING = "ScopeMissing"
#: First match wins; a subclass stands before its parent.
_STATUSES: Sequence[tuple[type[StandfastError], int]] = (
    (AuthError, 401),
    (NotFoundError, 404),
    (RefusedError, 409),
    (ConflictError, 409),
    (ConfigError, 422),
    (StatementError, 422),
    (TransientError, 503),
    (StoreError, 503),
    (UnhealthyError, 503),
)
_PLAIN: Mapping[int, tuple[str, str, str]] = {
    400: ("BadRequest", "the request is not readable", "send JSON as /openapi.json describes it"),
    404: ("NotFound", "there is nothing at this address", "GET /openapi.json lists what there is"),
    405: ("MethodNotAllowed", "this address does not take this method", "GET /openapi.json lists them"),
}
_LARGEST_LOC = 5


def status_of(error: StandfastError) -> int:
    """Return the HTTP status of an error."""
    if error.code == SCOPE_MISSING:
        return 403
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def body_of(error: StandfastError) -> dict[str, Any]:
    """Return the reply's body for an error."""
    return error_body(error.code, error.what, error.why, error.fix, since=error.since)


def error_body(code: str, what: str, why: str, fix: str, *, since: str = "") -> dict[str, Any]:
    """Return the one shape that every error reply has."""
    said = {"code": code, "what": what, "why": why, "fix": fix, "since": since}
    return {"error": {key: redact(text) for key, text in said.items()}}


def reply_to(error: StandfastError) -> JSONResponse:
    """Return the whole reply for an error."""
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = "1"
    return JSONResponse(body_of(error), status, headers=headers)


def reply_to_bug(error: Exception, path: str) -> JSONResponse:
    """Log ``error`` under a new id and return a reply that names only the id."""
    bug_id = secrets.token_hex(6)
    trace = redact("".join(traceback.format_exception(error)))
    log.error("bug", id=bug_id, path=path, kind=type(error).__name__, trace=trace)
    return JSONResponse(
        error_body(
            "Bug", "this is a fault of ours, not of the request", f"it is in the API's log under {bug_id}",
            f"send the log lines around {bug_id} to the maintainers",
        ),
        500,
    )  # fmt: skip


def invalid(problems: Sequence[str]) -> JSONResponse:
    """Return the reply for a request that does not have the documented shape."""
    body = error_body(
        "RequestInvalid", "the request does not have the shape that is documented",
        "; ".join(problems), "compare it with /openapi.json",
    )  # fmt: skip
    return JSONResponse(body, 422)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error in this way."""
    app.add_exception_handler(StandfastError, _on_standfast)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_standfast(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StandfastError)
    if status_of(error) == 500:
        return reply_to_bug(error, request.url.path)
    return reply_to(error)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return invalid([problem_of(detail) for detail in error.errors()[:_LARGEST_LOC]])


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, what, fix = _PLAIN.get(error.status_code, ("RequestRefused", "the request was refused", ""))
    return JSONResponse(error_body(code, what, "", fix), error.status_code, headers=error.headers)


def problem_of(detail: Mapping[str, Any]) -> str:
    """Say what is wrong with a request, and where, without a word of what it holds.

    The last part of the place of an unknown key is that key, which the caller chose.
    """
    place = list(detail.get("loc", ()))
    kind = detail.get("type", "")
    if kind == "extra_forbidden":
        return f"{_dotted(place[:-1])}: a key that is not known"
    if kind.startswith("json"):
        return "the body is not JSON"
    return f"{_dotted(place)}: {detail.get('msg', 'not valid')}"


def _dotted(place: Sequence[Any]) -> str:
    return ".".join(str(part) for part in place) or "body"
