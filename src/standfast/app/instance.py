"""Where a running instance writes down that it runs, and how a command finds the one that is meant.

1. ``run.json`` in the data directory names the process by (boot, pid, start), so that a pid that was given
   out again is never taken for the instance.
2. A command looks at what it was told (--url, --data-dir), then at the folder it runs in and those above,
   then at the user's registry of instances that were started from here. Several that fit are an error that
   names them: guessing could stop the wrong one.
3. What cannot be read is unknown, which is not the same as "does not run" (I1).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from standfast.app.config import DATA_NAME, FILE_NAME
from standfast.app.stores import make_folder
from standfast.app.tokens import read_token
from standfast.kernel.errors import ConfigError, ConflictError, StoreUnavailableError, TransientError
from standfast.services.adapters.procfs import is_alive
from standfast.services.model import Identity

RUN_NAME = "run.json"
TOKEN_NAME = "token"  # noqa: S105 - the name of a file
LOGS_NAME = "logs"

_LARGEST_RUN_BYTES = 1_000_000
_TEXTS = ("instance", "name", "started_at", "version", "config", "blueprint", "started_from", "url")


@dataclass(frozen=True, slots=True)
class Child:
    """A process that the instance started, by name; ``log`` is where its output goes."""

    name: str
    identity: Identity
    log: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One life of an instance, as it wrote it down.

    ``url`` is empty until the API listens; ``blueprint`` is the folder of its configuration and ``config``
    the file; ``started_from`` is the folder that the command was typed in.
    """

    instance: str
    name: str
    process: Identity
    started_at: str
    version: str
    config: str
    blueprint: str
    started_from: str
    url: str = ""
    children: tuple[Child, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether the process that wrote it still lives."""
        return is_alive(self.process)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There is a ``run.json``, and it does not say what it should."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """An instance on this machine; ``how`` says why it is the one that is meant."""

    data_dir: Path
    how: str

    @property
    def token(self) -> str:
        """The instance's own token, empty where this user may not read it."""
        return read_token(self.data_dir / TOKEN_NAME)

    def run(self) -> Run | Unreadable | None:
        """Return what it wrote down, or None where it does not run."""
        return read_run(self.data_dir)


@dataclass(frozen=True, slots=True)
class Address:
    """An API that was named by its address, wherever it runs."""

    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line and its environment say about which instance is meant."""

    url: str = ""
    token: str = ""
    token_file: Path | None = None
    data_dir: Path | None = None


def write_run(data_dir: Path, run: Run) -> None:
    """Write down that ``run`` lives; a reader sees the old file or the new one, never a part."""
    _write_json(data_dir / RUN_NAME, asdict(run))


def remove_run(data_dir: Path) -> None:
    """Forget the run that ended."""
    (data_dir / RUN_NAME).unlink(missing_ok=True)


def read_run(data_dir: Path) -> Run | Unreadable | None:
    """Return the run written down in ``data_dir``; None where there is none."""
    path = data_dir / RUN_NAME
    try:
        if path.stat().st_size > _LARGEST_RUN_BYTES:
            return Unreadable(path, "it is far too large")
        raw = json.loads(path.read_bytes())
        return _run_of(raw)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Unreadable(path, f"it is not what standfast writes ({type(error).__name__})")


def need_free(data_dir: Path) -> None:
    """Refuse to start over a living instance; raise ConflictError that names it."""
    run = read_run(data_dir)
    if isinstance(run, Run) and run.is_alive:
        raise ConflictError(
            f"an instance already runs here (process {run.process.pid}{f', {run.url}' if run.url else ''})",
            since=run.started_at,
            why=f"it uses the data directory {data_dir}",
            fix="look at it: standfast status; or stop it: standfast down",
            code="AlreadyRuns",
        )


def register(data_dir: Path, run: Run, environ: Mapping[str, str] | None = None) -> None:
    """Note for this user that an instance lives in ``data_dir``, so that commands typed there find it."""
    folder = registry_folder(environ)
    make_folder(folder)
    note = {"data_dir": str(data_dir), "config": run.config, "started_from": run.started_from}
    name = hashlib.sha256(str(data_dir).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    _write_json(folder / f"{name}.json", note)


def registry_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return where this user's instances are noted."""
    env = os.environ if environ is None else environ
    state = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(state) / "standfast" / "instances"


def noted_config(data_dir: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the file that the instance of ``data_dir`` was last configured by, if it is there."""
    run = read_run(data_dir)
    noted = [run.config] if isinstance(run, Run) else []
    noted += [note["config"] for note in _notes(environ) if note["data_dir"] == str(data_dir)]
    return next((Path(config) for config in noted if Path(config).is_file()), None)


def find(wanted: Wanted, cwd: Path, environ: Mapping[str, str] | None = None) -> Address | Found:
    """Return the instance that is meant in ``cwd``.

    Raises TransientError where none is known and ConflictError where several fit.
    """
    if wanted.url:
        return Address(wanted.url, _token(wanted))
    if wanted.data_dir is not None:
        return Found(wanted.data_dir.absolute(), "--data-dir")
    notes = _notes(environ)
    for folder in (cwd, *cwd.parents):
        found = _in_folder(folder, notes)
        if found is not None:
            return found
    # Both count: what this user started from here, and what lies below, whoever started it.
    known = {one.data_dir: one for one in (*_below(cwd), *_of_registry(cwd, notes))}
    return _choose(list(known.values()), cwd)


def token_of(wanted: Wanted, found: Found) -> str:
    """Return the token to show to ``found``: the one that was given, else the instance's own."""
    return _token(wanted) or found.token


def _token(wanted: Wanted) -> str:
    if wanted.token or wanted.token_file is None:
        return wanted.token
    token = read_token(wanted.token_file)
    if not token:
        raise ConfigError(
            f"there is no usable token in {wanted.token_file}",
            why="it is missing, others may read it, or it holds something else",
            fix=f"chmod 600 {wanted.token_file}, and put one token into it (standfast token create)",
            code="TokenFileUnusable",
        )
    return token


def _in_folder(folder: Path, notes: Sequence[Mapping[str, str]]) -> Found | None:
    config = folder / FILE_NAME
    if config.is_file():
        elsewhere = [note["data_dir"] for note in notes if note["config"] == str(config)]
        if elsewhere and not (folder / DATA_NAME).is_dir():
            return Found(Path(elsewhere[-1]), f"it was started with {config}")
        return Found(folder / DATA_NAME, f"{config} lies here")
    if (folder / DATA_NAME).is_dir():
        return Found(folder / DATA_NAME, f"{folder / DATA_NAME} lies here")
    return None


def _of_registry(cwd: Path, notes: Sequence[Mapping[str, str]]) -> list[Found]:
    found = []
    for note in notes:
        if note["started_from"] == str(cwd):
            found.append(Found(Path(note["data_dir"]), "it was started from this folder"))
        elif Path(note["config"]).is_relative_to(cwd):
            found.append(
                Found(Path(note["data_dir"]), f"its blueprint lies below this folder: {note['config']}")
            )
    return found


def _below(cwd: Path) -> list[Found]:
    """Return instances up to two folders below ``cwd``: another user's, or those of another HOME."""
    patterns = (f"*/{DATA_NAME}/{RUN_NAME}", f"*/*/{DATA_NAME}/{RUN_NAME}")
    paths = [path for pattern in patterns for path in sorted(cwd.glob(pattern))]
    return [Found(path.parent, f"{path.parent} lies below this folder") for path in paths]


def _choose(found: Sequence[Found], cwd: Path) -> Found:
    living = [one for one in found if isinstance(run := one.run(), Run) and run.is_alive]
    candidates = living or list(found)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ConflictError(
            f"{len(candidates)} instances belong to {cwd}",
            why=", ".join(str(one.data_dir) for one in candidates),
            fix="name one: --data-dir PATH, or --url http://HOST:PORT",
            code="SeveralInstances",
        )
    raise TransientError(
        f"no instance is known in {cwd}",
        why=f"there is no {FILE_NAME} here or above, no run below, and none was started from here",
        fix="start one: standfast up BLUEPRINT; or name one: --data-dir PATH, or --url http://HOST:PORT",
        code="NoInstance",
    )


def _notes(environ: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Return the registry's notes whose data directory is still there, by name."""
    notes = []
    with contextlib.suppress(OSError):
        for path in sorted(registry_folder(environ).glob("*.json")):
            # A note that cannot be read hides one instance; it must not hide the others.
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                raw = json.loads(path.read_bytes())
                note = {key: str(raw[key]) for key in ("data_dir", "config", "started_from")}
                if Path(note["data_dir"]).is_dir():
                    notes.append(note)
    return notes


def _run_of(raw: Any) -> Run:
    text = {key: str(raw[key]) for key in _TEXTS}
    children = (
        Child(str(c["name"]), _identity_of(c["identity"]), str(c.get("log", ""))) for c in raw["children"]
    )
    return Run(process=_identity_of(raw["process"]), children=tuple(children), **text)


def _identity_of(raw: Sequence[Any]) -> Identity:
    boot, pid, ticks = raw
    return Identity(str(boot), int(pid), int(ticks))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            fix=f"make room, or make the folder writable: df -h {path.parent}; ls -ld {path.parent}",
            code="RunFileUnwritable",
        ) from error
