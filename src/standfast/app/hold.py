"""Makes this process the only instance of a data directory, and knows what a killed one left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from standfast.app.drivers import end_driven
from standfast.app.instance import Run, need_free, read_run, remove_run
from standfast.app.stores import make_folder
from standfast.kernel.errors import ConflictError, StoreError
from standfast.kernel.ids import stable_id
from standfast.services.adapters import leftovers
from standfast.services.adapters.lives import LIVES_NAME
from standfast.services.adapters.procfs import identify, running_as
from standfast.services.model import Identity

LOCK_NAME = "up.lock"
#: What a stack's supervisor is started as, with its data directory behind it.
STACK_MODULE = "standfast.app.stack"
#: What a leftover without a shim gets between SIGTERM and SIGKILL: nobody waits for its work any more.
_GRACE_S = 3.0


def instance_id(data_dir: Path) -> str:
    """Return what names the instance of ``data_dir`` on this machine, in every run of it."""
    return stable_id("instance", str(data_dir.resolve()))


def own_identity() -> Identity:
    """Return which process this is."""
    identity = identify(os.getpid())
    assert identity is not None, "this process can see itself"
    return identity


def mark_of(data_dir: Path) -> str:
    """Return the mark of everything that the instance starts; what outlives one run is the next one's."""
    return f"{instance_id(data_dir)}/"


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold ``data_dir`` for this process; raise ConflictError, naming who has it, where somebody does.

    The kernel drops the lock when this process ends, by whatever means, and no child inherits it.
    """
    make_folder(data_dir)
    need_free(data_dir)
    try:
        lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"{data_dir / LOCK_NAME} cannot be opened",
            why=why,
            fix=f"ls -ld {data_dir}",
            code="FolderUnusable",
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                f"another start of this instance is under way, it uses {data_dir}",
                fix="wait for it, then look: standfast status",
                code="AlreadyStarts",
            ) from error
        yield
    finally:
        os.close(lock)


def lost_supervisors(data_dir: Path) -> list[Identity]:
    """Return the supervisors of this folder that still run although their record was removed."""
    run = read_run(data_dir)
    known = run.process.pid if isinstance(run, Run) else 0
    return [one for one in running_as(STACK_MODULE, str(data_dir)) if one.pid != known]


def describe_leftovers(data_dir: Path) -> list[str]:
    """Return in words what an earlier run of this instance left, and forget that run's record."""
    run = read_run(data_dir)
    if run is None:
        return []
    if isinstance(run, Run):
        said = [f"the run of {run.started_at} (process {run.process.pid}) was killed"]
    else:
        said = [f"{run.path} could not be read: {run.why}"]
    remove_run(data_dir)
    return said


def end_leftovers(data_dir: Path) -> list[str]:
    """End everything that an earlier run of this instance left, in order where shims live; say what it was.

    Raises ConflictError where something of it cannot be ended. Call it while holding the directory.
    """
    named = describe_leftovers(data_dir)
    left = leftovers.end_all(mark_of(data_dir), data_dir / LIVES_NAME, grace_s=_GRACE_S)
    if left.remaining:
        raise ConflictError(
            f"{left.remaining} processes of an earlier run cannot be ended",
            why="they do not even end by SIGKILL: stuck in the kernel, or another user's",
            fix="find them (ps axo pid,stat,cmd), end what holds them, or restart the machine",
            code="LeftoversStay",
        )
    driven = end_driven(data_dir, instance_id(data_dir))
    if left.ended + driven and not named:
        named = [f"{left.ended + driven} services or processes of an earlier run were left"]
    return named
