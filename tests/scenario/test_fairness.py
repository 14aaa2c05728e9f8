"""What a slow subject costs the others: its own slots and workers, and nothing of theirs."""

from __future__ import annotations

import asyncio
import heapq
from pathlib import Path

import pytest
from network import Network, lost, toml, won

from standfast.tasks.model import Lease

FAST_S, SLOW_S = 1.0, 19.0
SLOW = "4"


async def finish_times(network: Network, *, workers: int) -> dict[str, float]:
    """Run one round with that many workers in virtual time; return when each subject's last episode ended."""
    running: list[tuple[float, int, Lease]] = []
    ended: dict[str, float] = {}
    start = network.clock.now_s
    for _ in range(4_000):  # Each turn is half a second of the deadline at most.
        await network.tick(0.5)
        now = network.clock.now_s
        while running and running[0][0] <= now:
            _, _, lease = heapq.heappop(running)
            network.submit([lost(lease) if lease.subject == SLOW else won(lease)])
            ended[lease.subject] = now - start
        for lease in network.claim(count=workers - len(running)) if len(running) < workers else []:
            needs_s = SLOW_S if lease.subject == SLOW else FAST_S
            heapq.heappush(running, (now + needs_s, lease.token, lease))
        if network.states().get(1, "open") != "open":
            return ended
    raise AssertionError("the round did not end")


def times(folder: Path, *, uids: int, workers: int) -> dict[str, float]:
    text = toml(uids=uids, episodes=12, evaluation="max_rounds = 1")
    return asyncio.run(finish_times(Network(folder, text.replace("120.0", "900.0")), workers=workers))


def test_with_room_for_every_slot_a_slow_subject_delays_nobody(tmp_path: Path) -> None:
    """Five subjects of six slots each, thirty workers."""
    alone = times(tmp_path / "a", uids=4, workers=30)
    beside = times(tmp_path / "b", uids=5, workers=30)
    assert beside[SLOW] > 3 * max(alone.values()), "it must really be slow"
    assert {uid: beside[uid] for uid in alone} == alone


@pytest.mark.parametrize("workers", [5, 10])
def test_with_few_workers_it_takes_no_more_than_its_share(tmp_path: Path, workers: int) -> None:
    """A fifth of the workers is its own share: the others finish as if they had the other four fifths."""
    others = times(tmp_path / "a", uids=4, workers=workers * 4 // 5)
    beside = times(tmp_path / "b", uids=5, workers=workers)
    assert beside[SLOW] > max(beside[uid] for uid in others), "it must really be slow"
    assert max(beside[uid] for uid in others) <= max(others.values()) + 2 * FAST_S
