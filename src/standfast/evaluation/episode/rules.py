"""What an episode accepts from either side: limits, subject addresses, replies, observations, rewards.

A subject's action is saturated, not refused, where it leaves the bounds: an actuator does the same, and
policies with an unbounded output are common. Everything else that is wrong is refused by name: a wrong
shape, a wrong type (a boolean is not a number, "1" is not 1, 1.0 is not an index), NaN, infinity.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from standfast.evaluation.environments import ActionSpace, DiscreteActions, EnvironmentSpec
from standfast.evaluation.episode.blame import fail
from standfast.evaluation.model import EpisodeLimits, EpisodeSpec
from standfast.evaluation.ports import Action
from standfast.kernel.errors import ConfigError

MAX_EPISODE_S = 86_400.0
MAX_REPLY_BYTES = 64 * 2**20
MAX_EPISODE_ID = 200
#: An error text is for one line of a table.
MAX_TEXT = 500


def check_limits(limits: EpisodeLimits) -> None:
    """Refuse limits that no episode could meet; ConfigError names the value.

    A call's limit cannot exceed the subject's budget, nor the budget the episode: else the tighter one
    would never apply, and whoever set it would believe that it does.
    """
    seconds = {
        "timeout_s": limits.timeout_s,
        "subject_budget_s": limits.subject_budget_s,
        "reset_s": limits.reset_s,
        "act_s": limits.act_s,
    }
    for name, value in seconds.items():
        if not (math.isfinite(value) and 0 < value <= MAX_EPISODE_S):
            _refuse(f"{name} is {value}", f"use more than 0 and at most {MAX_EPISODE_S:g} seconds")
    if not 1 <= limits.reply_bytes <= MAX_REPLY_BYTES:
        _refuse(f"reply_bytes is {limits.reply_bytes}", f"use 1 to {MAX_REPLY_BYTES}")
    for inner, outer in (
        ("act_s", "subject_budget_s"),
        ("reset_s", "subject_budget_s"),
        ("subject_budget_s", "timeout_s"),
    ):
        if seconds[inner] > seconds[outer]:
            what = f"{inner} ({seconds[inner]:g}) exceeds {outer} ({seconds[outer]:g})"
            _refuse(what, f"lower {inner} or raise {outer}")


def _refuse(what: str, fix: str) -> NoReturn:
    raise ConfigError(f"an episode cannot have these limits: {what}", fix=fix, code="SpecInvalid")


def check_spec(spec: EpisodeSpec, entry: EnvironmentSpec) -> None:
    """Refuse an episode whose seed, variant or limits are impossible; ConfigError names the value."""
    check_limits(spec.limits)
    if spec.seed < 0:
        raise ConfigError(f"seed {spec.seed} is negative", fix="use 0 or more", code="SpecInvalid")
    if not 0 <= spec.variant < entry.variants:
        raise ConfigError(
            f"{entry.id} has no variant {spec.variant}",
            fix=f"use 0 to {entry.variants - 1}",
            code="SpecInvalid",
        )


class SubjectNetworks(enum.Enum):
    """Where a subject may say that it lives."""

    PUBLIC = "public"  # Only addresses of the open internet: for subjects that strangers commit.
    ANY = "any"  # Private networks and this machine too, for a laboratory; never link-local.


#: Metadata services of clouds outside the link-local range: AWS over IPv6, Alibaba, Oracle.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "192.0.0.192"})


def address_objection(address: str, networks: SubjectNetworks) -> str:
    """Return why a subject may not live at ``address``, or nothing.

    A stranger who names the address of a metadata service or of our own machine would otherwise make an
    executor send requests there.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) in _METADATA:
        return f"{ip} is link-local, multicast, unspecified or a metadata service"
    if networks is SubjectNetworks.PUBLIC and not ip.is_global:
        return f"{ip} is not an address of the open internet"
    return ""


def parse_reply(raw: bytes) -> Any:
    """Return the JSON in a subject's reply; MishapError where it is none.

    NaN and Infinity are not JSON; numbers that overflow to infinity are found by whoever uses them.
    """
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise fail(
            "SubjectReplyNotJson", f"the subject's reply is not JSON: {one_line(str(error))}"
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def episode_id_of(reply: Any) -> str | int | None:
    """Return the session name that a subject chose in its reply to /reset, or None; else MishapError."""
    if not isinstance(reply, Mapping):
        raise fail("SubjectResetInvalid", f"the reply to /reset is {_kind(reply)}, not an object")
    if reply.get("status") != "ok":
        status = one_line(repr(reply.get("status")))
        raise fail("SubjectResetInvalid", f"the reply to /reset has the status {status}, not 'ok'")
    episode_id = reply.get("episode_id")
    if episode_id is None or (isinstance(episode_id, int) and not isinstance(episode_id, bool)):
        return episode_id
    if not isinstance(episode_id, str) or len(episode_id) > MAX_EPISODE_ID:
        raise fail("SubjectResetInvalid", f"episode_id must be text of at most {MAX_EPISODE_ID} characters")
    return episode_id


def action_of(reply: Any, space: ActionSpace) -> Action:
    """Return the action in a subject's reply to /act, saturated to ``space``; else MishapError."""
    kind = "discrete" if isinstance(space, DiscreteActions) else "continuous"
    value = reply
    for key in ("action", kind, "u"):
        if not isinstance(value, Mapping) or key not in value:
            raise fail("SubjectActionInvalid", f"the reply to /act has no action.{kind}.u")
        value = value[key]
    return (
        _index(value, space.n)
        if isinstance(space, DiscreteActions)
        else _vector(value, space.low, space.high)
    )


def _index(value: Any, n: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise fail("SubjectActionInvalid", f"action.discrete.u is {_kind(value)}, not an integer")
    # An index has no neighbour to saturate to: 7 of 3 choices is a mistake, not a strong push.
    if not 0 <= value < n:
        raise fail("SubjectActionInvalid", f"action.discrete.u is out of range: use 0 to {n - 1}")
    return value


def _vector(value: Any, lows: Sequence[float], highs: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != len(lows):
        raise fail("SubjectActionInvalid", f"action.continuous.u is {_kind(value)}, not {len(lows)} numbers")
    return tuple(_saturated(v, low, high) for v, low, high in zip(value, lows, highs, strict=True))


def _saturated(value: Any, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise fail("SubjectActionInvalid", f"action.continuous.u holds {_kind(value)}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise fail("SubjectActionNotFinite", "action.continuous.u holds NaN or infinity")
    # Compared before it is converted: an integer may be too large for a float.
    return float(max(low, min(high, value)))


def check_observation(value: Any, size: int) -> tuple[float, ...]:
    """Return an environment's observation as finite floats; MishapError (ours) for anything else."""
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise fail(
            "EnvironmentMalformed", f"its observation is {_kind(value)}: {one_line(str(error))}"
        ) from error
    if len(numbers) != size:
        raise fail("EnvironmentMalformed", f"its observation has {len(numbers)} numbers, not {size}")
    if not all(math.isfinite(number) for number in numbers):
        raise fail("EnvironmentNotFinite", "its observation holds NaN or infinity")
    return numbers


def check_reward(value: Any) -> float:
    """Return an environment's reward as a finite float; MishapError (ours) for anything else."""
    try:
        reward = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise fail("EnvironmentMalformed", f"its reward is {_kind(value)}") from error
    if not math.isfinite(reward):
        raise fail("EnvironmentNotFinite", f"its reward is {reward}")
    return reward


def one_line(text: str) -> str:
    """Return foreign text as one printable line of bounded length."""
    printable = re.sub(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\uffff]", " ", text[: 2 * MAX_TEXT])
    return " ".join(printable.split())[:MAX_TEXT]


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"of type {type(value).__name__}"
