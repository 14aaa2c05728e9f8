"""Looks at a stack of services: asks its supervisor and, where none answers, reads what was written down.

Nothing here waits for long, whatever has become of the supervisor, its files or its socket.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from standfast.app.instance import LOGS_NAME, Run, Unreadable, read_run
from standfast.app.presence import ProcessSeen, process_seen, tail_of
from standfast.app.stack import STACK_NAME
from standfast.kernel.errors import StandfastError, TransientError
from standfast.services.adapters import procfs
from standfast.services.adapters.control import SOCKET_NAME, ask
from standfast.services.adapters.lives import LIVES_NAME, Life, all_lives
from standfast.services.adapters.records import read_records
from standfast.services.model import STOPPED, Identity, ServiceSpec
from standfast.services.records import Records
from standfast.services.wire import spec_from_dict

#: One question has this long: the rest of a look takes milliseconds.
ASK_S = 3.0
_LARGEST_BYTES = 64_000_000
_STORE_NAME = "standfast.db"
_DEAD = ("", "Z", "X")


class LifeSeen(NamedTuple):
    """A life that is written down: the letters are the states of its process and its shim, "" where gone."""

    record: Life
    letter: str
    shim_letter: str
    memory_bytes: int

    @property
    def is_running(self) -> bool:
        """Whether its process can still do anything."""
        return self.letter not in _DEAD


@dataclass(frozen=True, slots=True)
class StackSeen:
    """Everything that was seen of a stack at ``now_s`` (monotonic) and ``at`` (wall clock).

    ``answer`` is what the supervisor said, ``error`` why it said nothing. ``is_answering`` without ``run``
    happens where run.json is lost. ``lives``, ``records`` and ``ports`` are read only where it said nothing.
    """

    data_dir: Path
    at: datetime
    now_s: float
    boot_id: str
    run: Run | Unreadable | None = None
    main: ProcessSeen | None = None
    age_s: float = 0.0
    answer: Mapping[str, Any] | None = None
    error: StandfastError | None = None
    specs: tuple[ServiceSpec, ...] = ()
    trouble: str = ""
    lives: Mapping[str, LifeSeen] = field(default_factory=dict)
    records: Records = field(default_factory=Records)
    ports: frozenset[int] = frozenset()
    log_tail: tuple[str, ...] = ()
    blueprint: str = ""

    @property
    def views(self) -> list[dict[str, Any]]:
        """The services as the supervisor shows them; empty where it said nothing."""
        return [dict(view) for view in self.answer["services"]] if self.answer is not None else []


def is_stack(data_dir: Path, run: Run | Unreadable | None) -> bool:
    """Return whether what belongs to ``data_dir`` is a stack alone, and no instance with an API.

    An instance that evaluates has a store, and its address in run.json. What was both is what it was last.
    """
    is_declared = (data_dir / STACK_NAME).is_file()
    if isinstance(run, Run):
        # An instance writes down its address before its supervisor opens the socket.
        return not run.url and (is_declared or (data_dir / SOCKET_NAME).exists())
    if not is_declared:
        return False
    store, stack = data_dir / _STORE_NAME, data_dir / STACK_NAME
    return not store.exists() or _written_s(stack) >= _written_s(store)


def look_at_stack(data_dir: Path, *, blueprint: str = "", timeout_s: float = ASK_S) -> StackSeen:
    """Look at the stack of ``data_dir``; never raises, and takes little longer than ``timeout_s``."""
    run = read_run(data_dir)
    main = process_seen("supervisor", run.process) if isinstance(run, Run) else None
    answer, error = _answer(data_dir, timeout_s, main)
    specs, trouble = declared_in(data_dir) if is_stack(data_dir, run) else ((), "")
    at, now_s = datetime.now(UTC), time.monotonic()
    seen = StackSeen(
        data_dir, at, now_s, procfs.boot_id(), run=run, main=main, age_s=_age_s(run, at),
        answer=answer, error=error, specs=specs, trouble=trouble, blueprint=blueprint,
    )  # fmt: skip
    return seen if answer is not None else _with_files(seen)


def _with_files(seen: StackSeen) -> StackSeen:
    return replace(
        seen,
        lives={life.name: life_seen(life) for life in all_lives(seen.data_dir / LIVES_NAME)},
        records=read_records(seen.data_dir),
        ports=procfs.listening_ports(),
        log_tail=tail_of(seen.data_dir / LOGS_NAME / "standfast.log"),
    )


def _answer(
    data_dir: Path, timeout_s: float, main: ProcessSeen | None
) -> tuple[Mapping[str, Any] | None, StandfastError | None]:
    if main is not None and main.letter in STOPPED:
        # It cannot answer before it is continued: waiting for that would only cost whoever asks.
        return None, TransientError(f"process {main.pid} is stopped", fix=f"kill -CONT {main.pid}")
    try:
        answer = ask(data_dir, "list", timeout_s=timeout_s)
        services = answer["services"]
        assert isinstance(services, list)
        if all(isinstance(one, dict) and "name" in one and "state" in one for one in services):
            return answer, None
    except StandfastError as error:
        return None, error
    except (KeyError, TypeError, AssertionError):
        pass
    return None, TransientError(
        f"what listens in {data_dir} is no supervisor: its answer names no services",
        fix="standfast down; standfast up", code="SupervisorGarbled",
    )  # fmt: skip


def declared_in(data_dir: Path) -> tuple[tuple[ServiceSpec, ...], str]:
    """Return what the supervisor of ``data_dir`` was last told to run, or why that cannot be said."""
    path = data_dir / STACK_NAME
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return (), f"{path} is far too large"
        return tuple(spec_from_dict(one) for one in json.loads(path.read_bytes())["services"]), ""
    except OSError as error:
        return (), f"{path}: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return (), f"{path} is not what standfast writes ({type(error).__name__})"


def life_seen(life: Life) -> LifeSeen:
    """Return a life that is written down with what its processes are now."""
    letter = _letter(life.child)
    memory_bytes = procfs.memory_below(life.child.pid) if letter not in _DEAD else 0
    return LifeSeen(life, letter, _letter(life.shim), memory_bytes)


def _letter(identity: Identity) -> str:
    return process_seen("", identity).letter


def _age_s(run: Run | Unreadable | None, at: datetime) -> float:
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(run, Run):
            return max(0.0, (at - datetime.fromisoformat(run.started_at)).total_seconds())
    return 0.0


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def names_of(specs: Sequence[ServiceSpec], views: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return every service that is declared, in the order of the declaration; without one, what was seen."""
    return tuple(spec.name for spec in specs) or tuple(str(view["name"]) for view in views)
