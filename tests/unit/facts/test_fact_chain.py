"""What breaks a chain of facts, with literals only."""

from __future__ import annotations

from standfast.facts.model import GENESIS, Broken, Fact, Intact, fact_hash, verify


def chain(count: int) -> list[Fact]:
    facts: list[Fact] = []
    previous = GENESIS
    for seq in range(1, count + 1):
        row_hash = fact_hash(seq, "t", "k", "s", ({"n": seq}, previous))
        facts.append(Fact(seq, "t", "k", "s", {"n": seq}, previous, row_hash))
        previous = row_hash
    return facts


def broken(facts: list[Fact | Broken], *, head_seq: int = 3, head: str = "") -> Broken:
    found = verify(facts, head_seq=head_seq, head=head or chain(3)[-1].hash)
    assert isinstance(found, Broken)
    return found


def test_a_row_that_cannot_be_read_is_named() -> None:
    one, _, three = chain(3)
    assert broken([one, Broken(2, "its body is not JSON"), three]) == Broken(2, "its body is not JSON")


def test_a_missing_row_is_named_before_what_is_wrong_behind_it() -> None:
    one, *_ = chain(3)
    assert broken([one, Broken(3, "its body is not JSON")]).seq == 2


def test_a_row_that_stands_twice_is_named() -> None:
    one, two, three = chain(3)
    assert broken([one, two, two, three]) == Broken(2, "it stands before the first row")


def test_a_chain_without_its_end_is_broken_behind_its_last_row() -> None:
    assert broken([*chain(2)]).seq == 3


def test_a_chain_that_goes_on_behind_its_head_is_broken() -> None:
    assert broken([*chain(4)]).seq == 5


def test_a_chain_with_another_head_hash_is_broken() -> None:
    assert broken([*chain(3)], head="0" * 63 + "1").seq == 4


def test_a_chain_that_starts_from_something_else_is_broken() -> None:
    other = fact_hash(1, "t", "k", "s", ({"n": 1}, "f" * 64))
    assert broken([Fact(1, "t", "k", "s", {"n": 1}, "f" * 64, other)]).seq == 1


def test_an_empty_chain_with_a_head_is_broken() -> None:
    assert broken([]).seq == 1


def test_an_empty_chain_is_intact() -> None:
    assert verify([], head_seq=0, head=GENESIS) == Intact(0, GENESIS)


def test_a_whole_chain_is_intact() -> None:
    facts = chain(3)
    assert verify(facts, head_seq=3, head=facts[-1].hash) == Intact(3, facts[-1].hash)


def test_the_hash_covers_every_field() -> None:
    told = [(1, "t", "k", "s", ({"n": 1}, GENESIS))]
    told += [(2, "t", "k", "s", ({"n": 1}, GENESIS)), (1, "u", "k", "s", ({"n": 1}, GENESIS))]
    told += [(1, "t", "l", "s", ({"n": 1}, GENESIS)), (1, "t", "k", "r", ({"n": 1}, GENESIS))]
    told += [(1, "t", "k", "s", ({"n": 2}, GENESIS)), (1, "t", "k", "s", ({"n": 1}, "1" * 64))]
    assert len({fact_hash(*one) for one in told}) == len(told)
