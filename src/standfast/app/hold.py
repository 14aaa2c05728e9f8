"""Makes this process the only instance of a data directory, and ends what a killed one left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from standfast.app.instance import Run, need_free, read_run, remove_run
from standfast.app.stores import make_folder
from standfast.kernel.errors import ConflictError, StoreError
from standfast.kernel.ids import stable_id
from standfast.services.adapters.procfs import identify
from standfast.services.guardian import end_all
from standfast.services.model import Identity

LOCK_NAME = "up.lock"
#: What a leftover gets between SIGTERM and SIGKILL: nobody waits for its work any more.
_GRACE_S = 3.0


def instance_id(data_dir: Path) -> str:
    """Return what names the instance of ``data_dir`` on this machine, in every run of it."""
    return stable_id("instance", str(data_dir.resolve()))


def own_identity() -> Identity:
    """Return which process this is."""
    identity = identify(os.getpid())
    assert identity is not None, "this process can see itself"
    return identity


def mark_of_run(data_dir: Path) -> str:
    """Return the mark of everything that this run of the instance starts."""
    own = own_identity()
    return f"{instance_id(data_dir)}/{own.pid}-{own.start_ticks}/"


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


def end_leftovers(data_dir: Path) -> list[str]:
    """End what an earlier run of this instance left, and forget that run; return what it was.

    Raises ConflictError where something of it cannot be ended. Call it while holding the directory.
    """
    run = read_run(data_dir)
    if run is None:
        named, leaders = [], []
    elif isinstance(run, Run):
        named = [f"the run of {run.started_at} (process {run.process.pid}) was killed"]
        leaders = [child.identity for child in run.children]
    else:
        named, leaders = [f"{run.path} could not be read: {run.why}"], []
    left = end_all(f"{instance_id(data_dir)}/", leaders, grace_s=_GRACE_S)
    if left:
        raise ConflictError(
            f"{left} processes of an earlier run cannot be ended",
            why="they do not even end by SIGKILL: stuck in the kernel, or another user's",
            fix="find them (ps axo pid,stat,cmd), end what holds them, or restart the machine",
            code="LeftoversStay",
        )
    remove_run(data_dir)
    return named
