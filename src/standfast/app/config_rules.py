"""What cannot be true of two settings at once; pure rules over a configuration whose parts are each valid.

Every objection names the settings, their values, and a change that cures it.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from standfast.app.config_gate import impossible_gate
from standfast.app.config_problem import KeyPath, Problem, clash, repeated
from standfast.app.config_sections import EnvironmentSettings
from standfast.app.config_service_rules import impossible_services

if TYPE_CHECKING:
    from standfast.app.config import Config

#: An episode is killed within its timeout + 10 % (K4); the rest is for delivering the result.
_LEASE_PER_TIMEOUT = 1.25
#: A sampling list that took more of its pool would be foreseeable: such a list is never rotated.
_LARGEST_SAMPLE = 0.8


def impossible(config: Config) -> Iterator[Problem]:
    """Yield every combination of settings that cannot work."""
    yield from _store(config)
    yield from _api(config)
    yield from _leases(config)
    yield from _slots(config)
    yield from _rounds(config)
    yield from _limits(config)
    for index, environment in enumerate(config.evaluation.environments):
        yield from _environment(index, environment)
    yield from _duplicates(config)
    yield from _endpoints(config)
    yield from _publication(config)
    yield from impossible_services(config)
    yield from impossible_gate(config)


def is_loopback(host: str) -> bool:
    """Return whether ``host`` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _store(config: Config) -> Iterator[Problem]:
    url = config.store.url
    is_sqlite = url == "sqlite" or (url.startswith("sqlite:") and len(url) > len("sqlite:"))
    if not is_sqlite and not url.startswith(("postgresql://", "postgres://")):
        yield Problem(
            "WrongValue",
            ("store", "url"),
            "store.url names no store that is known here",
            'write "sqlite", "sqlite:PATH" or "postgresql://user@host/name"',
        )


def _api(config: Config) -> Iterator[Problem]:
    if not config.api.require_tokens and not is_loopback(config.api.host):
        yield clash(
            ("api", "require_tokens"),
            f"api.require_tokens = false with api.host = {config.api.host!r} would let anybody in",
            "set api.require_tokens = true, or listen on 127.0.0.1",
        )


def _leases(config: Config) -> Iterator[Problem]:
    tasks, timeout_s = config.tasks, config.evaluation.limits.timeout_s
    if tasks.heartbeat_s == 0 and tasks.lease_ttl_s < _LEASE_PER_TIMEOUT * timeout_s:
        yield clash(
            ("tasks", "lease_ttl_s"),
            f"tasks.lease_ttl_s = {tasks.lease_ttl_s:g} ends before an episode may "
            f"(evaluation.limits.timeout_s = {timeout_s:g}) and tasks.heartbeat_s = 0 never extends it",
            f"set tasks.heartbeat_s, or tasks.lease_ttl_s to at least {_LEASE_PER_TIMEOUT * timeout_s:g}",
        )
    if tasks.lease_ttl_s < 3 * tasks.heartbeat_s:
        yield clash(
            ("tasks", "lease_ttl_s"),
            f"tasks.lease_ttl_s = {tasks.lease_ttl_s:g} is shorter than three heartbeats "
            f"(tasks.heartbeat_s = {tasks.heartbeat_s:g}), so one lost heartbeat may lose a lease",
            f"set tasks.lease_ttl_s to at least {3 * tasks.heartbeat_s:g}, or tasks.heartbeat_s to at most "
            f"{tasks.lease_ttl_s / 3:g}",
        )
    if tasks.heartbeat_s and tasks.executor_silent_s <= tasks.heartbeat_s:
        yield clash(
            ("tasks", "executor_silent_s"),
            f"tasks.executor_silent_s = {tasks.executor_silent_s:g} would call an executor silent between "
            f"two heartbeats (tasks.heartbeat_s = {tasks.heartbeat_s:g})",
            f"set tasks.executor_silent_s above {tasks.heartbeat_s:g}",
        )
    if tasks.retry_cap_s < tasks.retry_base_s:
        yield clash(
            ("tasks", "retry_cap_s"),
            f"tasks.retry_cap_s = {tasks.retry_cap_s:g} is below tasks.retry_base_s = {tasks.retry_base_s:g}",
            f"set tasks.retry_cap_s to at least {tasks.retry_base_s:g}",
        )


def _slots(config: Config) -> Iterator[Problem]:
    tasks = config.tasks
    if tasks.slots_min > tasks.slots_max:
        yield clash(
            ("tasks", "slots_min"),
            f"tasks.slots_min = {tasks.slots_min} is above tasks.slots_max = {tasks.slots_max}",
            "set tasks.slots_min to at most tasks.slots_max",
        )
    elif not tasks.slots_min <= tasks.slots_initial <= tasks.slots_max:
        yield clash(
            ("tasks", "slots_initial"),
            f"tasks.slots_initial = {tasks.slots_initial} is outside tasks.slots_min = {tasks.slots_min} "
            f"to tasks.slots_max = {tasks.slots_max}",
            f"set tasks.slots_initial to {tasks.slots_min} to {tasks.slots_max}",
        )


def _rounds(config: Config) -> Iterator[Problem]:
    evaluation, scheduler = config.evaluation, config.scheduler
    if evaluation.deadline_s < evaluation.limits.timeout_s:
        yield clash(
            ("evaluation", "deadline_s"),
            f"evaluation.deadline_s = {evaluation.deadline_s:g} ends a round before one episode may end "
            f"(evaluation.limits.timeout_s = {evaluation.limits.timeout_s:g})",
            "set evaluation.deadline_s to at least evaluation.limits.timeout_s",
        )
    if config.subjects and evaluation.min_subjects > len(config.subjects):
        yield clash(
            ("evaluation", "min_subjects"),
            f"evaluation.min_subjects = {evaluation.min_subjects}, but there are only "
            f"{len(config.subjects)} [[subjects]], so no round could ever count",
            f"set evaluation.min_subjects to at most {len(config.subjects)}, or add subjects",
        )
    if scheduler.takeover_s < 4 * scheduler.tick_s:
        yield clash(
            ("scheduler", "takeover_s"),
            f"scheduler.takeover_s = {scheduler.takeover_s:g} is less than four ticks "
            f"(scheduler.tick_s = {scheduler.tick_s:g}), so a standby would take the lead from a live leader",
            f"set scheduler.takeover_s to at least {4 * scheduler.tick_s:g}",
        )


def _limits(config: Config) -> Iterator[Problem]:
    limits = config.evaluation.limits
    # A default that is never reached is harmless; one that somebody wrote was meant.
    for key in sorted({"reset_s", "act_s", "subject_budget_s"} & limits.model_fields_set):
        if getattr(limits, key) > limits.timeout_s:
            yield clash(
                ("evaluation", "limits", key),
                f"evaluation.limits.{key} = {getattr(limits, key):g} can never be reached: "
                f"evaluation.limits.timeout_s = {limits.timeout_s:g} ends the episode first",
                f"set evaluation.limits.{key} to at most {limits.timeout_s:g}, or raise timeout_s",
            )


def _environment(index: int, environment: EnvironmentSettings) -> Iterator[Problem]:
    path: KeyPath = ("evaluation", "environments", index)
    label = f"environment {environment.id!r}"
    if environment.rotate > environment.episodes:
        yield clash(
            (*path, "rotate"),
            f"{label}: rotate = {environment.rotate} replaces more variants than "
            f"episodes = {environment.episodes} has",
            f"set rotate to at most {environment.episodes}",
        )
    least = math.ceil((environment.episodes + environment.rotate) / _LARGEST_SAMPLE)
    if environment.pool < least:
        yield clash(
            (*path, "pool"),
            f"{label}: pool = {environment.pool} is too small a choice for episodes = {environment.episodes} "
            f"and rotate = {environment.rotate} fresh ones (a sample takes at most {_LARGEST_SAMPLE:.0%})",
            f"set pool to at least {least}",
        )


def _duplicates(config: Config) -> Iterator[Problem]:
    yield from repeated(("subjects",), "uid", [s.uid for s in config.subjects])
    yield from repeated(("subjects",), "hotkey", [s.hotkey for s in config.subjects])
    environments = [e.id for e in config.evaluation.environments]
    yield from repeated(("evaluation", "environments"), "id", environments)


def _endpoints(config: Config) -> Iterator[Problem]:
    for index, subject in enumerate(config.subjects):
        if not _is_http(subject.endpoint):
            yield Problem(
                "WrongValue",
                ("subjects", index, "endpoint"),
                f"subject {subject.uid}: endpoint is no http or https address",
                "write http://HOST:PORT",
            )


def _publication(config: Config) -> Iterator[Problem]:
    publication = config.publication
    if publication.kind != "http":
        return
    for key in ("url", "key_file"):
        if not getattr(publication, key):
            yield clash(
                ("publication", "kind"),
                f'publication.kind = "http" needs publication.{key}',
                f'set publication.{key}, or publication.kind = "file"',
            )
    if publication.url and not _is_http(publication.url):
        yield Problem(
            "WrongValue",
            ("publication", "url"),
            "publication.url is no http or https address",
            "write https://HOST/PATH",
        )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
