"""Turns a configuration into the services of an embedded instance: the blueprint's own, and the executors.

Executors come last and go first: an episode that starts before its subject answers would be charged to
the subject, and a report that cannot be delivered any more would have to wait for the next start (I6).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from standfast.app.config import Config
from standfast.app.declared_stacks import NOTHING_ACTIVE, Declared, declared_in
from standfast.app.service_specs import spec_of
from standfast.app.toml_lines import line_of
from standfast.kernel.errors import ConfigError
from standfast.services.model import Dependency, Readiness, ServiceSpec

#: How long executors wait for the programs: one that never answers must not keep everything else down.
_PATIENCE_S = 20.0
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
    programs = programs_of(config)
    return (*programs, *_executors(config, url, programs))


def programs_of(config: Config) -> tuple[ServiceSpec, ...]:
    """Return the services that the configuration declares, each with its line, and those of its files."""
    text = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = config.source.read_text("utf-8")
    own = (
        spec_of(service, config.folder, file=str(config.source), line=line_of(text, ("services", index)) or 0)
        for index, service in enumerate(config.services)
    )
    declared = stacks_of(config)
    specs = (*own, *declared.specs)
    off = next((one for one in declared.remarks if one.reason == NOTHING_ACTIVE), None)
    if not specs and off is not None:
        raise ConfigError(off.message, fix=off.remedy, code=off.reason)
    return specs


def stacks_of(config: Config) -> Declared:
    """Return what the files declare that the configuration names; ConfigError with all that is wrong."""
    named = [tuple(config.folder / part for part in entry.split(":")) for entry in config.stack.files]
    files = [one[0] if len(one) == 1 else one for one in named]
    return declared_in(files, profiles=config.stack.profiles, environment=os.environ)


def _executors(config: Config, url: str, programs: Sequence[ServiceSpec]) -> Iterator[ServiceSpec]:
    waits = tuple(Dependency(one.name, patience_s=_PATIENCE_S) for one in programs)
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
            ready=Readiness(notify=True),
            depends_on=waits,
            stop_timeout_s=_EXECUTOR_STOP_S,
        )  # fmt: skip
