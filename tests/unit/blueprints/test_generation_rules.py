"""Rules of the generation blueprint: what a service says of itself, what follows an attempt, who may mine."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from generation_stack.miner import rules as mining
from generation_stack.miner.rules import Step
from generation_stack.model.standing import Facts, State, standing
from generation_stack.network import registry
from generation_stack.network.identity import hotkey_in, is_signed
from generation_stack.network.registry import Answer, FileRegistry, Registered, RegistryError, Wallet, btcli
from generation_stack.program.fields import BadFieldsError, Fields
from generation_stack.splats.judge import Judgement, Objection
from generation_stack.validator import rules as validating
from generation_stack.validator.rules import Terms
from generation_stack.worker.rules import Attempt, Done, Failed, Outcome, Policy, Retry, after, wait_s
from hypothesis import given
from hypothesis import strategies as st

from fixtures_dir import fixture

WALLET = Wallet("validator", "sn17miner2", "~/.bittensor/wallets/", 17)
POLICY = Policy(base_s=0.5, cap_s=8.0)


def attempts(*outcomes: Outcome) -> list[Attempt]:
    return [Attempt(outcome, "said so", float(k), k + 0.5) for k, outcome in enumerate(outcomes)]


@pytest.mark.parametrize("error", ["", "no weights"])
@pytest.mark.parametrize("deaf_s", [0.0, 11.0])
@pytest.mark.parametrize("is_stopping", [False, True])
@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("open_requests", [0, 5])
def test_a000_7_ready_is_said_only_when_nothing_speaks_against_it(
    error: str, deaf_s: float, is_stopping: bool, is_loaded: bool, open_requests: int
) -> None:
    found = standing(Facts(is_loaded, error, is_stopping, open_requests, 5, deaf_s, 10.0))
    assert found.reason
    is_free = is_loaded and open_requests < 5 and not is_stopping
    assert (found.state is State.READY) == (is_free and not error and not deaf_s)
    if error or deaf_s:
        assert found.state is State.FAILED
    elif not is_stopping and not is_loaded:
        assert found.state is State.STARTING


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.DONE])
def test_a000_8_nothing_but_a_usable_result_is_done(outcome: Outcome) -> None:
    follows = after(attempts(outcome), now=1.0, deadline=1_000.0, policy=POLICY, unit=0.5)
    assert not isinstance(follows, Done)
    if outcome is Outcome.INVALID_INPUT:
        assert isinstance(follows, Failed)
        assert "said so" in follows.reason
    else:
        assert isinstance(follows, Retry)


@given(
    st.lists(st.sampled_from([*Outcome]), min_size=1, max_size=40),
    st.floats(0.0, 1_000.0),
    st.floats(0.0, 1_000.0),
    st.floats(0.0, 0.999),
    st.floats(0.0, 60.0),
)
def test_a000_8_every_task_ends_by_its_deadline(
    outcomes: list[Outcome], now: float, left: float, unit: float, asked_s: float
) -> None:
    deadline = now + left
    follows = after(
        attempts(*outcomes), now=now, deadline=deadline, policy=POLICY, unit=unit, asked_s=asked_s
    )
    assert isinstance(follows, Done) == (outcomes[-1] is Outcome.DONE)
    if isinstance(follows, Retry):
        assert now + asked_s <= follows.at <= deadline - POLICY.shortest_s
    if isinstance(follows, Failed):
        assert follows.reason


def test_a000_8_a_task_whose_deadline_has_come_has_failed_with_the_last_reason() -> None:
    made = attempts(Outcome.REFUSED, Outcome.TIMEOUT)
    follows = after(made, now=99.9, deadline=100.0, policy=POLICY, unit=0.0)
    assert isinstance(follows, Failed)
    assert "timeout: said so" in follows.reason
    assert "2 attempts (1 reached the model)" in follows.reason


def test_waits_double_to_the_cap_and_begin_anew_with_another_failure() -> None:
    waits = [wait_s(n, policy=POLICY, unit=1.0) for n in range(1, 8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert wait_s(10**6, policy=POLICY, unit=0.0) == pytest.approx(0.8)
    row = attempts(*[Outcome.LOST] * 6, Outcome.BUSY)
    follows = after(row, now=0.0, deadline=1e4, policy=POLICY, unit=1.0)
    assert isinstance(follows, Retry)
    assert follows.at == pytest.approx(0.5)


def test_results_that_cannot_be_used_are_not_asked_for_again_and_again() -> None:
    bad = Outcome.BAD_OUTPUT
    assert isinstance(after(attempts(bad), now=0, deadline=100, policy=POLICY, unit=0), Retry)
    twice = after(attempts(bad, Outcome.LOST, bad), now=0, deadline=100, policy=POLICY, unit=0)
    assert isinstance(twice, Failed)
    assert "2 results could not be used" in twice.reason


@pytest.mark.parametrize(
    ("state", "left", "validator", "step"),
    [
        ("queued", -100.0, "v", Step.WAIT),
        ("running", 5.0, "v", Step.WAIT),
        ("done", 5.0, "v", Step.SUBMIT),
        ("done", -59.0, "v", Step.SUBMIT),
        ("done", -61.0, "v", Step.FORGET),
        ("failed", 5.0, "v", Step.GIVE_UP),
        ("failed", -61.0, "v", Step.FORGET),
        ("done", 5.0, "gone", Step.FORGET),
        ("running", 5.0, "gone", Step.WAIT),
    ],
)
def test_what_a_miner_owes_follows_from_what_its_worker_has(
    state: str, left: float, validator: str, step: Step
) -> None:
    task = {"state": state, "deadline_in_s": left, "origin": {"validator": validator, "task": "1"}}
    assert mining.owed(task, {"v"}) is step


@pytest.mark.parametrize(
    ("status", "body", "end"),
    [
        (200, {"accepted": True}, "accepted"),
        (200, {"accepted": False}, "rejected"),
        (200, {}, "rejected"),
        (410, {}, "expired"),
        (404, {}, "unknown"),
        (403, {}, ""),
        (429, {}, ""),
        (500, {}, ""),
        (503, {}, ""),
    ],
)
def test_only_a_clear_answer_ends_a_task(status: int, body: dict[str, object], end: str) -> None:
    assert mining.answered(status, body).end == end


def test_the_worker_gets_less_time_than_the_validator_gives() -> None:
    assert mining.worker_deadline_s(120.0) == 115.0
    assert mining.worker_deadline_s(10.0) == pytest.approx(9.5)


@pytest.mark.parametrize(("is_bad", "used"), [*itertools.product([False, True], ["", "another"])])
def test_a000_11_only_fresh_and_usable_results_are_accepted(is_bad: bool, used: str) -> None:
    judgement = Judgement((Objection("truncated", "half"),) if is_bad else (), 5_000, 0.2)
    told = validating.feedback(judgement, used_before_by=used, took_s=1.0, terms=Terms())
    if is_bad or used:
        assert (told.state, told.score) == (validating.State.REJECTED, 0.0)
        assert told.cooldown_s == Terms().cooldown_s * Terms().penalty
        assert len(told.reasons) == is_bad + bool(used)
    else:
        assert told.state is validating.State.ACCEPTED
        assert 0.9 < told.score <= 1.0


def test_a_score_grows_with_what_is_seen_and_falls_with_time() -> None:
    def score(filled: float, took_s: float) -> float:
        return validating.feedback(
            Judgement((), 1, filled), used_before_by="", took_s=took_s, terms=Terms(deadline_s=100.0)
        ).score

    assert score(0.0, 100.0) == 0.5
    assert score(0.15, 0.0) == 1.0
    assert score(0.05, 50.0) < score(0.1, 50.0) < score(0.1, 10.0)


def test_a000_3_the_message_is_the_one_of_the_field_with_the_command_that_clears_it(tmp_path: Path) -> None:
    said = fixture("failures/pub_22_bittensor_not_registered_seed.log").read_text().strip()
    answer = Answer(Registered.NO, "", btcli(WALLET, 9))
    message = f"RuntimeError: {answer.message(WALLET)}"
    assert message.startswith(said.removesuffix("`"))
    assert message.endswith("register --netuid 17 --wallet.name validator --wallet.hotkey sn17miner2`")


def registry_at(folder: Path, text: str | None) -> FileRegistry:
    path = folder / "registry.json"
    if text is not None:
        path.write_text(text)
    return FileRegistry(path)


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", '{"17": ["sn17miner2"]}', '{"x": {}}', '{"17": {"sn17miner2": 1}}', "\ud800"],
)
def test_a000_3_a_registry_that_cannot_be_read_is_unknown_and_never_yes(
    tmp_path: Path, text: str | None
) -> None:
    if text == "\ud800":
        (tmp_path / "registry.json").write_bytes(b"\xff\xfe")
        text = None
    answer = registry_at(tmp_path, text).look(WALLET)
    assert answer.registered is Registered.UNKNOWN
    assert answer.reason
    assert answer.fix


@pytest.mark.parametrize("text", ["{}", '{"17": {}}', '{"18": {"sn17miner2": ""}}', '{"17": {"sn17": ""}}'])
def test_a000_3_nobody_is_registered_by_looking(tmp_path: Path, text: str) -> None:
    there = registry_at(tmp_path, text)
    answer = there.look(WALLET)
    assert answer.registered is Registered.NO
    assert "--register" in answer.fix
    assert "--hotkey sn17miner2" in answer.fix
    assert (tmp_path / "registry.json").read_text() == text


def test_a_person_registers_once_and_others_stay(tmp_path: Path) -> None:
    there = registry_at(tmp_path, '{"17": {"other": "aa"}}')
    there.register(WALLET)
    there.register(WALLET)
    assert there.look(WALLET).registered is Registered.YES
    assert json.loads((tmp_path / "registry.json").read_text()) == {"17": {"other": "aa", "sn17miner2": ""}}
    with pytest.raises(RegistryError, match="no name"):
        there.register(WALLET._replace(hotkey="../x"))


class Sdk:
    """What is used of Bittensor's SDK, in the shape of its versions up to 10, or from 11 on."""

    def __init__(self, *, uid: int | None, is_old: bool) -> None:
        self.asked: list[object] = []
        sdk = self

        class Subtensor:
            def __init__(self, network: str) -> None:
                sdk.asked.append(network)
                if is_old:
                    self.is_hotkey_registered = lambda **given: sdk.note(given) or uid is not None
                else:
                    self.neurons = self
                    self.uid = lambda **given: sdk.note(given) or uid

        class Wallet:
            def __init__(self, name: str, hotkey: str, path: str) -> None:
                self.hotkey = self
                self.ss58_address = f"5{name}{hotkey}"

        names = ("subtensor", "wallet") if is_old else ("Subtensor", "Wallet")
        setattr(self, names[0], Subtensor)
        setattr(self, names[1], Wallet)

    def note(self, given: object) -> None:
        self.asked.append(given)


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize("uid", [None, 0, 226])
def test_both_generations_of_the_sdk_are_asked_the_same(is_old: bool, uid: int | None) -> None:
    sdk = Sdk(uid=uid, is_old=is_old)
    # Uid 0 is somebody.
    assert registry._ask(sdk, "finney", WALLET) is (uid is not None)
    assert sdk.asked == ["finney", {"hotkey_ss58": "5validatorsn17miner2", "netuid": 17}]


def test_options_of_btcli_follow_its_version() -> None:
    assert btcli(WALLET, 11).endswith("--netuid 17 --wallet validator --wallet-hotkey sn17miner2")


def test_a_signature_is_for_one_key_and_one_list_of_texts(tmp_path: Path) -> None:
    key, other = hotkey_in(tmp_path, "one"), hotkey_in(tmp_path, "two")
    signature = key.sign(["result", "ab", "c"])
    assert is_signed(key.public_key, signature, ["result", "ab", "c"])
    assert hotkey_in(tmp_path, "one").public_key == key.public_key
    assert (tmp_path / "one.key").stat().st_mode & 0o777 == 0o600
    # The last byte of a signature is small: zero is one of sixteen that it may be.
    spoilt = f"{signature[:-2]}{int(signature[-2:], 16) ^ 1:02x}"
    for public_key, said, parts in (
        (other.public_key, signature, ["result", "ab", "c"]),
        (key.public_key, signature, ["result", "a", "bc"]),
        (key.public_key, spoilt, ["result", "ab", "c"]),
        (key.public_key, "", ["result", "ab", "c"]),
        ("no hex", signature, ["result", "ab", "c"]),
        ("", signature, ["result", "ab", "c"]),
    ):
        assert not is_signed(public_key, said, parts)


def read_whole(body: object) -> int:
    fields = Fields(body, ("n",))
    number = fields.whole("n", 0, 10)
    fields.finish()
    return number


@pytest.mark.parametrize(
    "body", [None, [], "x", {"n": True}, {"n": 1.5}, {"n": 11}, {"n": "1"}, {"m": 1}, {}]
)
def test_fields_are_read_strictly(body: object) -> None:
    with pytest.raises(BadFieldsError) as refused:
        read_whole(body)
    assert refused.value.problems
    assert read_whole({"n": 10}) == 10


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, 1e9, "5", True])
def test_seconds_are_numbers_within_bounds(value: object) -> None:
    fields = Fields({"s": value}, ("s",))
    fields.seconds("s", 0.05, 3_600.0)
    with pytest.raises(BadFieldsError, match="s must be a number of seconds"):
        fields.finish()
