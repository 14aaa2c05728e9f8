"""The one thread that a model lives in: models are not made for two, and some only work in the first."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class ModelThread:
    """Runs jobs one after the other, in the order in which they came.

    The thread is a daemon: work that never comes back cannot keep the process from ending.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def submit(self, job: Callable[[], _T]) -> asyncio.Future[_T]:
        """Run ``job`` when its turn comes; cancelling the future does not stop it."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    def tell(self, what: Callable[[_T], None], about: _T) -> None:
        """Call ``what`` in the loop's own thread; for jobs."""
        try:
            self._loop.call_soon_threadsafe(what, about)
        except RuntimeError:
            return  # The loop is closed: nobody is left to be told.

    def _work(self) -> None:
        while True:
            job, future = self._jobs.get()
            try:
                result, error = job(), None
            except BaseException as raised:  # noqa: BLE001 - it is handed to whoever waits
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # The loop is closed: the process ends.
            # The next job may be long in coming; what this one made must not be kept until then.
            del job, future, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
