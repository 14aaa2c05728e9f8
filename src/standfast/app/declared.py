"""Turns a configuration into the services of an embedded instance: the blueprint's own, and the executors.

Executors come last and go first: an episode that starts before its subject answers would be charged to
the subject, and a report that cannot be delivered any more would have to wait for the next start (I6).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from standfast.app.config import Config
from standfast.app.config_sections import ServiceSettings
from standfast.app.executor import SUPERVISOR_VARIABLE
from standfast.services.model import Readiness, RestartPolicy, ServiceSpec

_PROGRAMS, _EXECUTORS = 0, 1
#: An executor lets episodes finish for 5 s and delivers for 3 s twice; then there is something wrong.
_EXECUTOR_STOP_S = 15.0
EXECUTORS_NAME = "executors"
#: The executors' token, in the folder of executors.
EXECUTOR_TOKEN_NAME = "token"  # noqa: S105 - the name of a file


def executor_token_file(config: Config) -> Path:
    """Return where the executors of this instance find their token."""
    return config.data_dir / EXECUTORS_NAME / EXECUTOR_TOKEN_NAME


def services_of(config: Config, *, url: str) -> tuple[ServiceSpec, ...]:
    """Return everything that ``up`` keeps running beside itself; ``url`` is where its API listens."""
    programs = (_program(config, service) for service in config.services)
    return (*programs, *_executors(config, url))


def _program(config: Config, service: ServiceSettings) -> ServiceSpec:
    ready = service.ready
    http = f"http://127.0.0.1:{service.port}{ready.http}" if ready.http.startswith("/") else ready.http
    return ServiceSpec(
        name=service.name,
        command=tuple(_filled(part, config, service.port) for part in service.command),
        cwd=config.folder / service.cwd,
        env=dict(service.env),
        port=service.port,
        ready=Readiness(http=http, tcp=ready.tcp, timeout_s=ready.timeout_s),
        restart=RestartPolicy(
            backoff_s=service.restart.backoff_s,
            cap_s=service.restart.cap_s,
            max_fast_failures=service.restart.max_fast_failures,
        ),
        stop_timeout_s=service.stop_timeout_s,
        is_required=service.required,
        stage=_PROGRAMS,
    )


def _filled(part: str, config: Config, port: int) -> str:
    filled = {"{python}": sys.executable, "{blueprint}": str(config.folder), "{port}": str(port)}
    for placeholder, value in filled.items():
        part = part.replace(placeholder, value)
    return part


def _executors(config: Config, url: str) -> Iterator[ServiceSpec]:
    for number in range(1, config.executor.count + 1):
        name = f"executor-{number}"
        yield ServiceSpec(
            name=name,
            command=(
                sys.executable, "-m", "standfast.cli", "executor",
                "--name", name,
                "--url", url,
                "--token-file", str(executor_token_file(config)),
                "--config", str(config.source),
                "--data-dir", str(config.data_dir),
            ),
            cwd=config.folder,
            env={SUPERVISOR_VARIABLE: str(os.getpid())},
            stop_timeout_s=_EXECUTOR_STOP_S,
            stage=_EXECUTORS,
        )  # fmt: skip
