from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.evaluation.environments import BUILTIN, ActionSpace, ContinuousActions, DiscreteActions
from standfast.evaluation.episode.blame import MishapError
from standfast.evaluation.episode.rules import (
    MAX_TEXT,
    SubjectNetworks,
    action_of,
    address_objection,
    check_limits,
    check_observation,
    check_reward,
    check_spec,
    episode_id_of,
    one_line,
    parse_reply,
)
from standfast.evaluation.model import EpisodeLimits, EpisodeSpec, Fault
from standfast.kernel.errors import ConfigError

TWO = ContinuousActions((-1.0, 0.0), (1.0, 5.0))
THREE = DiscreteActions(3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def continuous(value: object) -> dict[str, object]:
    return {"action": {"continuous": {"u": value}, "discrete": {}}}


def discrete(value: object) -> dict[str, object]:
    return {"action": {"continuous": {}, "discrete": {"u": value}}}


def refusal(call: object, *args: object) -> str:
    with pytest.raises(MishapError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.failure.code


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 1.0, "1", [], [0.5], [0.5, 0.5, 0.5], ["0.5", 0.5], [True, 0.5], [None, 0.5],
        [[0.5], 0.5], {"0": 0.5, "1": 0.5},
    ],
)  # fmt: skip
def test_k2_an_action_of_the_wrong_shape_or_type_is_the_subjects_error(value: object) -> None:
    assert refusal(action_of, continuous(value), TWO) == "SubjectActionInvalid"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_k2_an_action_that_is_not_finite_is_the_subjects_error(value: float) -> None:
    assert refusal(action_of, continuous([0.5, value]), TWO) == "SubjectActionNotFinite"


@pytest.mark.parametrize("value", [None, True, "1", 1.0, 1.5, [1], -1, 3, 10**400])
def test_k2_a_choice_that_is_none_of_the_choices_is_the_subjects_error(value: object) -> None:
    assert refusal(action_of, discrete(value), THREE) == "SubjectActionInvalid"


@pytest.mark.parametrize(
    "reply",
    [None, [], "ok", {}, {"action": None}, {"action": {"continuous": []}}, {"action": {"continuous": {}}}],
)
def test_k2_a_reply_without_an_action_is_the_subjects_error(reply: object) -> None:
    assert refusal(action_of, reply, TWO) == "SubjectActionInvalid"


def test_an_action_is_saturated_at_its_bounds_whatever_its_size() -> None:
    assert action_of(continuous([-7, 10**400]), TWO) == (-1.0, 5.0)
    assert action_of(continuous([0.25, 1e308]), TWO) == (0.25, 5.0)
    assert action_of(discrete(2), THREE) == 2


@given(reply=JSON)
def test_no_reply_crashes_the_rules(reply: object) -> None:
    for space in (TWO, THREE):
        assert is_action_or_the_subjects_fault(reply, space)


def is_action_or_the_subjects_fault(reply: object, space: ActionSpace) -> bool:
    try:
        return isinstance(action_of(reply, space), int | tuple)
    except MishapError as error:
        return error.failure.fault is Fault.SUBJECT


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_every_finite_vector_becomes_an_action_inside_the_bounds(values: list[float]) -> None:
    first, second = action_of(continuous(values), TWO)  # type: ignore[misc]
    assert -1.0 <= first <= 1.0
    assert 0.0 <= second <= 5.0


@pytest.mark.parametrize(
    "raw",
    [b"", b"hello", b"{", b'{"a": NaN}', b"[Infinity]", b"\xff\xfe\x00", b"[" * 200_000, b"1" * 5000],
)
def test_k2_a_reply_that_is_not_json_is_the_subjects_error(raw: bytes) -> None:
    assert refusal(parse_reply, raw) == "SubjectReplyNotJson"


def test_k2_a_number_that_overflows_to_infinity_is_found_in_the_action() -> None:
    reply = parse_reply(json.dumps(continuous([0.0, 1])).replace("1]", "1e999]").encode())
    assert refusal(action_of, reply, TWO) == "SubjectActionNotFinite"


@pytest.mark.parametrize(
    "reply",
    [
        None, [], {}, {"status": "no"}, {"status": None}, {"status": "ok", "episode_id": True},
        {"status": "ok", "episode_id": 1.5}, {"status": "ok", "episode_id": "x" * 201},
        {"status": "ok", "episode_id": ["x"]},
    ],
)  # fmt: skip
def test_k2_a_wrong_reply_to_reset_is_the_subjects_error(reply: object) -> None:
    assert refusal(episode_id_of, reply) == "SubjectResetInvalid"


@pytest.mark.parametrize("episode_id", [None, "abc", 7, ""])
def test_a_subject_names_its_session_or_does_not(episode_id: object) -> None:
    assert episode_id_of({"status": "ok", "episode_id": episode_id}) == episode_id
    assert episode_id_of({"status": "ok"}) is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([0.0, math.nan], "EnvironmentNotFinite"),
        ([0.0, math.inf], "EnvironmentNotFinite"),
        ([0.0], "EnvironmentMalformed"),
        ([0.0, 1.0, 2.0], "EnvironmentMalformed"),
        (["a", "b"], "EnvironmentMalformed"),
        ([10**400, 0], "EnvironmentMalformed"),
        (None, "EnvironmentMalformed"),
        (3.0, "EnvironmentMalformed"),
    ],
)
def test_i6_a_bad_observation_is_never_the_subjects_doing(value: object, code: str) -> None:
    with pytest.raises(MishapError) as caught:
        check_observation(value, 2)
    assert caught.value.failure.code == code
    assert caught.value.failure.fault is Fault.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("value", "code"),
    [(math.nan, "EnvironmentNotFinite"), (-math.inf, "EnvironmentNotFinite"), ("x", "EnvironmentMalformed")],
)
def test_i6_a_bad_reward_is_never_the_subjects_doing(value: object, code: str) -> None:
    with pytest.raises(MishapError) as caught:
        check_reward(value)
    assert caught.value.failure.code == code
    assert caught.value.failure.fault is Fault.INFRASTRUCTURE


def test_k9_the_default_limits_are_possible() -> None:
    check_limits(EpisodeLimits())


@pytest.mark.parametrize(
    "limits",
    [
        {"timeout_s": 0.0}, {"timeout_s": -1.0}, {"timeout_s": math.nan}, {"timeout_s": math.inf},
        {"timeout_s": 1e9}, {"act_s": 0.0}, {"act_s": math.nan}, {"reset_s": math.inf},
        {"reply_bytes": 0}, {"reply_bytes": 2**40}, {"act_s": 21.0}, {"reset_s": 21.0}, {"timeout_s": 19.0},
    ],
)  # fmt: skip
def test_k9_impossible_limits_are_refused_by_name(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_limits(EpisodeLimits(**limits))  # type: ignore[arg-type]
    assert next(iter(limits)) in str(caught.value)


@pytest.mark.parametrize(("seed", "variant"), [(-1, 0), (0, -1), (0, 10_000)])
def test_an_impossible_seed_or_variant_is_refused(seed: int, variant: int) -> None:
    spec = EpisodeSpec("classic/cartpole", seed, variant, "http://subject.example")
    with pytest.raises(ConfigError):
        check_spec(spec, BUILTIN[0])


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
        "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200",
    ],
)  # fmt: skip
def test_no_subject_lives_at_a_metadata_service(address: str) -> None:
    assert address_objection(address, SubjectNetworks.ANY)
    assert address_objection(address, SubjectNetworks.PUBLIC)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd12::1", "::ffff:10.0.0.1"]
)
def test_a_strangers_subject_does_not_live_in_our_own_networks(address: str) -> None:
    assert address_objection(address, SubjectNetworks.PUBLIC)
    assert not address_objection(address, SubjectNetworks.ANY)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111"])
def test_the_open_internet_is_always_allowed(address: str) -> None:
    assert not address_objection(address, SubjectNetworks.PUBLIC)


@given(text=st.text())
def test_foreign_text_becomes_one_short_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= MAX_TEXT
    assert "\n" not in line
    assert "\x1b" not in line
    line.encode()
