"""Tests every promise of ``standfast.publication.ports.Publisher``, for whoever writes an adapter.

Subclass ``PublisherContract`` in a test module, under a name that starts with ``Test``, and return a
bench from ``bench``; pytest finds the tests. Nothing here needs a plugin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from standfast.kernel.errors import AuthError, ConfigError, StaleTokenError, StoreError, TransientError
from standfast.publication.document import Document, document_of, published_of
from standfast.publication.model import Candidate, ObjectionReason
from standfast.publication.ports import (
    AlreadyThere,
    PublicationRefusedError,
    Publisher,
    Sent,
    StaleLeaderError,
)

_E = TypeVar("_E", bound=Exception)

#: Three subjects whose u16 weights are the exact largest-remainder rounding of their weights.
WEIGHTS: Mapping[str, float] = {"0": 0.5, "1": 0.3, "2": 0.2}
U16: Mapping[str, int] = {"0": 32_768, "1": 19_660, "2": 13_107}


def good_candidate(*, epoch: int = 1, leader_term: int = 1, round_id: str = "") -> Candidate:
    """Return a candidate that the gate has no objection to, given evidence ``"e" * 64`` for it."""
    return Candidate(
        epoch=epoch,
        round_id=round_id or f"round-{epoch}",
        weights=dict(WEIGHTS),
        u16=dict(U16),
        hotkeys={uid: f"hotkey-of-{uid}" for uid in WEIGHTS},
        evidence_sha256="e" * 64,
        leader_term=leader_term,
        computed_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    )


def good_document(*, epoch: int = 1, leader_term: int = 1, round_id: str = "") -> Document:
    """Return the document of ``good_candidate``; another ``round_id`` is other content."""
    return document_of(good_candidate(epoch=epoch, leader_term=leader_term, round_id=round_id))


class PublisherBench(Protocol):
    """One place to publish to, empty at first, that can be opened several times and be damaged."""

    def publisher(self) -> Publisher:
        """Return a fresh publisher of the same place, as another process would have."""
        ...

    def damage(self) -> None:
        """Make what the place holds unreadable."""
        ...


class PublisherContract:
    """The promises of ``Publisher``, one test each."""

    def bench(self) -> AbstractAsyncContextManager[PublisherBench]:
        """Return a context that yields an empty bench and clears it away."""
        raise NotImplementedError

    def test_k17_nothing_published_reads_back_as_none(self) -> None:
        """None stands for "never published", and for that alone."""

        async def check(bench: PublisherBench) -> None:
            assert await bench.publisher().read_back() is None

        self._run(check)

    def test_k17_what_was_sent_is_read_back_by_another_process(self) -> None:
        """What ``publish`` returned for is there for everybody."""

        async def check(bench: PublisherBench) -> None:
            document = good_document()
            assert await bench.publisher().publish(document) == Sent(published_of(document))
            assert await bench.publisher().read_back() == published_of(document)

        self._run(check)

    def test_i7_the_same_again_is_already_there(self) -> None:
        """A call whose answer was lost is simply made again."""

        async def check(bench: PublisherBench) -> None:
            document = good_document()
            await bench.publisher().publish(document)
            for _ in range(3):
                assert await bench.publisher().publish(document) == AlreadyThere(published_of(document))

        self._run(check)

    def test_i7_the_same_from_the_next_leader_is_already_there(self) -> None:
        """A leader that takes over in mid-publication is told so, under the term it was sent with."""

        async def check(bench: PublisherBench) -> None:
            first = good_document(leader_term=3)
            await bench.publisher().publish(first)
            outcome = await bench.publisher().publish(replace(first, leader_term=4))
            assert outcome == AlreadyThere(published_of(first))

        self._run(check)

    def test_k17_the_next_epoch_follows_also_over_a_gap(self) -> None:
        """A publisher that was unreachable for a while takes the next one it is given."""

        async def check(bench: PublisherBench) -> None:
            for epoch in (1, 2, 7):
                document = good_document(epoch=epoch)
                assert await bench.publisher().publish(document) == Sent(published_of(document))
                assert await bench.publisher().read_back() == published_of(document)

        self._run(check)

    def test_r9_a_lower_epoch_is_refused_and_the_last_stays(self) -> None:
        """An epoch that was rolled back never comes out."""
        self._refuses(
            good_document(epoch=5), good_document(epoch=4), reason=ObjectionReason.EPOCH_ROLLED_BACK
        )

    def test_r9_a_second_value_for_an_epoch_is_refused_and_the_first_stays(self) -> None:
        """One epoch has one content."""
        self._refuses(good_document(), good_document(round_id="another"), reason=ObjectionReason.EPOCH_TAKEN)

    def test_r9_a_second_value_is_refused_under_a_higher_term_too(self) -> None:
        """Leading does not allow anybody to rewrite what was published."""
        self._refuses(
            good_document(),
            good_document(round_id="another", leader_term=9),
            reason=ObjectionReason.EPOCH_TAKEN,
        )

    def test_r9_a_stale_leader_is_refused_and_told_to_stop(self) -> None:
        """Fencing: who leads under a lower term cannot publish, not even the next epoch."""
        error = self._refuses(
            good_document(epoch=5, leader_term=8),
            good_document(epoch=6, leader_term=7),
            reason=ObjectionReason.STALE_LEADER,
        )
        assert isinstance(error, StaleLeaderError)
        assert isinstance(error, StaleTokenError)

    def test_r9_a_refusal_leaves_by_exit_code_5(self) -> None:
        """A closed gate is exit code 5, also for a stale leader."""
        for worse in (good_document(epoch=4, leader_term=8), good_document(epoch=6, leader_term=7)):
            error = self._refuses(good_document(epoch=5, leader_term=8), worse)
            assert error.exit_code == 5

    def test_i7_of_two_writers_of_one_epoch_exactly_one_wins(self) -> None:
        """The other is refused, and what is read back is the winner's."""

        async def check(bench: PublisherBench) -> None:
            rivals = [good_document(round_id=f"by-{name}") for name in ("a", "b", "c", "d")]
            outcomes = await asyncio.gather(
                *(bench.publisher().publish(rival) for rival in rivals), return_exceptions=True
            )
            sent = [outcome for outcome in outcomes if isinstance(outcome, Sent)]
            refused = [outcome for outcome in outcomes if isinstance(outcome, PublicationRefusedError)]
            assert len(sent) == 1, outcomes
            assert len(refused) == len(rivals) - 1, outcomes
            assert await bench.publisher().read_back() == sent[0].published

        self._run(check)

    def test_i1_what_cannot_be_read_raises_and_is_never_none(self) -> None:
        """Unreadable is not "never published"; publishing over it is refused as well."""

        async def check(bench: PublisherBench) -> None:
            await bench.publisher().publish(good_document())
            bench.damage()
            known = (TransientError, StoreError, AuthError, ConfigError)
            await _raises(known, bench.publisher().read_back())
            await _raises(known, bench.publisher().publish(good_document(epoch=2)))

        self._run(check)

    def _refuses(
        self, held: Document, worse: Document, *, reason: ObjectionReason | None = None
    ) -> PublicationRefusedError:
        caught: list[PublicationRefusedError] = []

        async def check(bench: PublisherBench) -> None:
            await bench.publisher().publish(held)
            caught.append(await _raises((PublicationRefusedError,), bench.publisher().publish(worse)))
            assert await bench.publisher().read_back() == published_of(held)

        self._run(check)
        assert reason is None or caught[0].code == reason.value
        return caught[0]

    def _run(self, check: Callable[[PublisherBench], Awaitable[None]]) -> None:
        async def on_bench() -> None:
            async with self.bench() as bench:
                await check(bench)

        asyncio.run(on_bench())


async def _raises(kinds: tuple[type[_E], ...], call: Awaitable[object]) -> _E:
    try:
        answer = await call
    except kinds as error:
        return error
    raise AssertionError(f"answered {answer!r} where one of {[kind.__name__ for kind in kinds]} was due")
