"""Small words for shipped contracts, so that they need no test framework."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from standfast.kernel.errors import StandfastError

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")
_JOIN_S = 60.0


class Caught(Generic[E]):
    """What ``raising`` caught, once its block is over."""

    error: E


@contextlib.contextmanager
def raising(kind: type[E], *, code: str = "") -> Iterator[Caught[E]]:
    """Fail unless the block raises ``kind``, with ``code`` where one is named."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"nothing was raised where {kind.__name__} was due")
    if code:
        assert isinstance(caught.error, StandfastError)
        assert caught.error.code == code, repr(caught.error)


def at_once(works: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Run each in a thread of its own, all let go at the same moment; return what each returned or raised."""
    outcomes: list[T | BaseException] = [AssertionError("it did not end")] * len(works)
    start = threading.Barrier(len(works))

    def run(index: int, work: Callable[[], T]) -> None:
        start.wait()
        try:
            outcomes[index] = work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who judges it
            outcomes[index] = error

    threads = [
        threading.Thread(target=run, args=(index, work), daemon=True) for index, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_JOIN_S)
    return outcomes


def all_well(outcomes: Sequence[T | BaseException]) -> list[T]:
    """Return the outcomes, or raise the first that is an error."""
    good: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        good.append(outcome)
    return good
