"""Other queues doing the same thing: no-op jobs enqueued beforehand, then claimed and completed, one process.

Each is used as its own documentation shows. What they promise differs, and the table says so: none of them
refuses the result of a worker whose lease was taken away, none has slots per subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True)
class PeerFigure:
    """Jobs per second of one peer, and what it promised while it ran."""

    name: str
    jobs_per_s: float
    promises: str


def huey_sqlite(folder: Path, jobs: int) -> PeerFigure:
    """Run SqliteHuey with fsync: a job is deleted when it is taken, so there is nothing to complete."""
    from huey import SqliteHuey

    queue = SqliteHuey("bench", filename=str(folder / "huey.db"), fsync=True, results=False)

    @queue.task()
    def noop() -> None:
        return None

    for _ in range(jobs):
        noop()
    start, done = time.perf_counter(), 0
    while (task := queue.dequeue()) is not None:
        queue.execute(task)
        done += 1
    assert done == jobs, f"huey ran {done} of {jobs}"
    return PeerFigure(
        "huey, SQLite, fsync", jobs / (time.perf_counter() - start), "no lease: deleted when taken"
    )


def procrastinate_postgres(url: str, jobs: int) -> PeerFigure:
    """Run a worker that stops when the queue is empty, ten jobs at a time."""
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def noop() -> None:
        return None

    async def run() -> float:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            await noop.batch_defer_async(*({} for _ in range(jobs)))
            start = time.perf_counter()
            await app.run_worker_async(
                wait=False, concurrency=10, install_signal_handlers=False, listen_notify=False
            )
            elapsed = time.perf_counter() - start
            left = [job async for job in _jobs(app)]
            assert not left, f"procrastinate left {len(left)} of {jobs}"
            return elapsed

    return PeerFigure(
        "procrastinate, PostgreSQL", jobs / _quietly(run), "lease unfenced; one job per statement"
    )


async def _jobs(app: object) -> object:
    for job in await app.job_manager.list_jobs_async(status="todo"):  # type: ignore[attr-defined]
        yield job


def pgqueuer_postgres(url: str, jobs: int) -> PeerFigure:
    """Run a queue manager that drains the queue in batches of 100."""
    import psycopg
    from pgqueuer import QueueManager
    from pgqueuer.db import PsycopgDriver
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    done, last = 0, 0.0

    async def run() -> float:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        async with connection:
            driver = PsycopgDriver(connection)
            queries = Queries(driver)
            await queries.install()
            manager = QueueManager(queries)

            @manager.entrypoint("noop")
            async def noop(_: object) -> None:
                nonlocal done, last
                done, last = done + 1, time.perf_counter()

            await queries.enqueue(["noop"] * jobs, [None] * jobs, [0] * jobs)
            start = time.perf_counter()
            await manager.run(
                batch_size=100, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1)
            )
            return last - start  # It looks for more for a while before it stops: that is not its speed.

    elapsed = _quietly(run)
    assert done == jobs, f"pgqueuer ran {done} of {jobs}"
    return PeerFigure("pgqueuer, PostgreSQL, batches of 100", jobs / elapsed, "lease unfenced")


def _quietly(run: Callable[[], Awaitable[float]]) -> float:
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return asyncio.run(run())  # type: ignore[arg-type]
    finally:
        logging.disable(logging.NOTSET)
