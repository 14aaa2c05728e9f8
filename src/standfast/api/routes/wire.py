"""Kinitro's routes, for executors and validators that were written for it (K18).

1. Paths, status codes and shapes are kinitro's, those of errors too: ``{"detail": ...}``.
2. Only fetching and submitting need a token, of scope execute: validators of kinitro show none. What the
   others show is what a network publishes anyway; ``api.kinitro = false`` takes all of them away.
3. No reply repeats text that was sent, except names of attempts that have their shape (I12).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from standfast import __version__
from standfast.api.auth import authorize
from standfast.api.context import ContextDep
from standfast.api.errors import SCOPE_MISSING, status_of
from standfast.api.lenient import inlined_schema, lenient_json
from standfast.api.models import MAX_RESULTS
from standfast.api.wire_models import (
    EnvironmentInfo,
    HealthResponse,
    MinerInfo,
    ScoresResponse,
    StatusResponse,
    TaskFetchRequest,
    TaskFetchResponse,
    TaskPoolStats,
    TaskSubmitRequest,
    TaskSubmitResponse,
    WeightsResponse,
)
from standfast.app import wire, wire_views
from standfast.app.tokens import redact
from standfast.kernel.errors import AuthError, NotFoundError, StandfastError
from standfast.kernel.verdict import Verdict

_bearer = HTTPBearer(auto_error=False, description="A token of scope execute.")
_MOST_PROBLEMS = 5
_UNAUTHORIZED = {"TokenMissing": "Missing authorization header", "TokenUnknown": "Invalid API key"}


class WireRoute(APIRoute):
    """A route whose errors have kinitro's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with what it raises turned into a reply."""
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _unprocessable(error.errors())
            except HTTPException as error:
                return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
            except StandfastError as error:
                if status_of(error) == 500:
                    raise  # A bug: told by an id only, as everywhere.
                return _refusal(error)

        return answered


def _refusal(error: StandfastError) -> JSONResponse:
    status = status_of(error)
    detail = error.what if isinstance(error, NotFoundError) else str(error)
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"detail": redact(detail)}, status, headers=headers)


def _unprocessable(problems: Sequence[Mapping[str, Any]]) -> JSONResponse:
    return JSONResponse({"detail": [_problem(one) for one in problems[:_MOST_PROBLEMS]]}, 422)


def _problem(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return one problem without what was sent, except a number: that is what tells somebody his mistake."""
    problem = {"type": raw["type"], "loc": list(raw["loc"]), "msg": raw["msg"]}
    given = raw.get("input")
    if isinstance(given, int) and abs(given) < 2**53:
        problem["input"] = given
    bounds = {name: value for name, value in raw.get("ctx", {}).items() if isinstance(value, int)}
    return {**problem, "ctx": bounds} if bounds else problem


async def _executor(
    context: ContextDep, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    try:
        await authorize(context.book, shown.credentials if shown else "", "execute")
    except AuthError as error:
        if error.code == SCOPE_MISSING:
            raise HTTPException(403, str(error)) from None
        detail = _UNAUTHORIZED[error.code]
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"}) from None


router = APIRouter(tags=["kinitro"], route_class=WireRoute)
_NEEDS_TOKEN = [Depends(_executor)]


@router.get("/health", response_model=HealthResponse)
async def health(context: ContextDep) -> JSONResponse:
    """Say whether work may be sent here; 503 within 2 s where the store does not answer (K7)."""
    finding = await context.probe.look()
    if finding.verdict is Verdict.PASS:
        return JSONResponse({"status": "ok", "version": __version__, "database": "connected"})
    body = {"status": "unavailable", "version": __version__, "database": "disconnected"}
    return JSONResponse(body, 503, headers={"Retry-After": "1"})


@router.get("/v1/status", response_model=StatusResponse)
async def show_status(context: ContextDep) -> JSONResponse:
    """Show the current round and the last one that has scores."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.status(tx, context.plane)))


@router.get("/v1/weights/latest", response_model=WeightsResponse)
async def latest_weights(context: ContextDep) -> JSONResponse:
    """Show the last publication, by its number (K17)."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.weights(tx, context.plane, None)))


@router.get("/v1/weights/{block_number}", response_model=WeightsResponse)
async def weights_of_block(block_number: int, context: ContextDep) -> JSONResponse:
    """Show the publication of that number."""
    found = await context.access.read(lambda tx: wire_views.weights(tx, context.plane, block_number))
    return JSONResponse(found)


@router.get("/v1/scores/latest", response_model=ScoresResponse)
async def latest_scores(context: ContextDep) -> JSONResponse:
    """Show the scores of the newest round that has any."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.scores(tx, context.plane, None)))


@router.get("/v1/scores/{cycle_id}", response_model=ScoresResponse)
async def scores_of_cycle(cycle_id: int, context: ContextDep) -> JSONResponse:
    """Show the scores of one round."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.scores(tx, context.plane, cycle_id)))


@router.get("/v1/miners", response_model=list[MinerInfo])
async def list_miners(context: ContextDep) -> JSONResponse:
    """List the miners that have rates."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.miners(tx, context.plane)))


@router.get("/v1/environments", response_model=list[EnvironmentInfo])
async def list_environments(context: ContextDep) -> JSONResponse:
    """List the environments."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.environments(tx, context.plane)))


@router.get("/v1/tasks/stats", response_model=TaskPoolStats)
async def task_stats(context: ContextDep, cycle_id: int | None = None) -> JSONResponse:
    """Show how the tasks of a round stand; of the open one where none is named."""
    return JSONResponse(await context.access.read(lambda tx: wire_views.stats(tx, context.plane, cycle_id)))


@router.post("/v1/tasks/fetch", response_model=TaskFetchResponse, dependencies=_NEEDS_TOKEN)
async def fetch_tasks(body: TaskFetchRequest, context: ContextDep) -> JSONResponse:
    """Lease up to ``batch_size`` tasks to an executor, for as long as running all of them may take."""
    name = wire.executor_name(body.executor_id)
    asked = wire_views.Fetch(name, body.batch_size, tuple(body.env_ids or ()))
    return JSONResponse(await context.access.write(lambda tx: wire_views.fetch(tx, context.plane, asked)))


@router.post(
    "/v1/tasks/submit",
    response_model=TaskSubmitResponse,
    dependencies=_NEEDS_TOKEN,
    responses={422: {"description": "The batch as a whole does not have the documented shape."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": inlined_schema(TaskSubmitRequest)}},
        }
    },
)
async def submit_tasks(request: Request, context: ContextDep) -> JSONResponse:
    """Store a batch of results; 200 with an answer for each, whatever is wrong with some of them (K3)."""
    executor_id, raw = _batch_of(await request.body())
    name = wire.executor_name(executor_id)
    results = [wire.read_result(one) for one in raw]
    reply = await context.access.write(lambda tx: wire_views.submit(tx, context.plane, name, results))
    return JSONResponse(reply)


def _batch_of(raw: bytes) -> tuple[str, list[Any]]:
    """Return the executor and the results of a batch; RequestValidationError for a wrong whole."""
    try:
        body = lenient_json(raw)
    except ValueError:
        raise _wrong("json_invalid", ("body",), "JSON decode error") from None
    if not isinstance(body, dict):
        raise _wrong("dict_type", ("body",), "Input should be a valid dictionary")
    executor_id, results = body.get("executor_id"), body.get("results")
    if not isinstance(executor_id, str):
        raise _wrong("string_type", ("body", "executor_id"), "Input should be a valid string")
    if not isinstance(results, list):
        raise _wrong("list_type", ("body", "results"), "Input should be a valid list")
    if len(results) > MAX_RESULTS:
        raise _wrong("too_long", ("body", "results"), f"List should have at most {MAX_RESULTS} items")
    return executor_id, results


def _wrong(kind: str, loc: tuple[str, ...], msg: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": loc, "msg": msg}])
