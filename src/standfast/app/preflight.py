"""Gathers the samples of preflight for one configuration, and asks the gate."""

from __future__ import annotations

from standfast.app import hold
from standfast.app.config import Config
from standfast.app.environment_trial import try_environments
from standfast.app.instance import Run, read_run
from standfast.app.plane import COMPONENTS
from standfast.app.stores import open_database, sqlite_path
from standfast.checks import (
    ConfigSample,
    PortSample,
    Samples,
    StoreSample,
    Unread,
    preflight,
)
from standfast.checks.model import Trouble
from standfast.checks.probe import probe_clock, probe_folder, probe_packages, probe_port, probe_process
from standfast.facts.database import Database, Migrations, Tx, refuse_newer, schema_findings
from standfast.facts.model import Broken
from standfast.facts.store import FactStore
from standfast.kernel.clock import Clock, SystemClock
from standfast.kernel.errors import ConfigError, StandfastError
from standfast.kernel.verdict import Gate
from standfast.services.adapters.procfs import listener, mark_of

#: What the control plane itself has open: store, logs, sockets, libraries.
_OWN_FILES = 200
#: Per concurrent episode: a pipe pair, a pidfd and a connection on either side.
_FILES_PER_EPISODE = 8
_NO_CONFIG = Unread("the configuration cannot be read, so nobody knows what to look at")


def check_before_start(config: Config, clock: Clock | None = None) -> Gate:
    """Return the gate in front of ``standfast up`` for ``config``."""
    return preflight(gather(config, clock or SystemClock()))


def check_refused(source: str, error: ConfigError, clock: Clock | None = None) -> Gate:
    """Return the gate for a configuration that was refused; what does not depend on it is still judged."""
    trouble = Trouble(error.code, error.what, error.fix)
    return preflight(
        Samples(
            config=ConfigSample(source, trouble=trouble),
            process=probe_process(_OWN_FILES),
            packages=probe_packages("standfast"),
            environments=_NO_CONFIG, folder=_NO_CONFIG, store=_NO_CONFIG, ports=_NO_CONFIG,
            clock=probe_clock(clock or SystemClock()),
        )
    )  # fmt: skip


def gather(config: Config, clock: Clock) -> Samples:
    """Look at everything that the checks judge."""
    environments = [environment.id for environment in config.evaluation.environments]
    return Samples(
        config=ConfigSample(str(config.source), len(config.subjects), len(environments)),
        process=probe_process(needed_files(config)),
        packages=probe_packages("standfast"),
        environments=try_environments(environments, config.evaluation.packages),
        folder=probe_folder(config.data_dir),
        store=probe_store(config, clock),
        ports=_ports(config),
        clock=probe_clock(clock),
    )


def needed_files(config: Config) -> int:
    """Return how many files one process of this instance may have open at once."""
    return _OWN_FILES + _FILES_PER_EPISODE * config.executor.concurrency + 16 * len(config.services)


def probe_store(config: Config, clock: Clock) -> StoreSample:
    """Open the store that there is, and read its schema and its whole chain of facts; change nothing."""
    path = sqlite_path(config)
    name = str(path) if path else config.store.url.partition("@")[2] or config.store.url.partition(":")[0]
    if (path is not None and not path.exists()) or (path is None and config.store.url.startswith("sqlite")):
        return StoreSample(name, is_new=True)
    try:
        # A living instance is the one writer; beside it one may only look.
        database = open_database(config, is_read_only=_is_running(config))
    except StandfastError as error:
        return StoreSample(name, trouble=_trouble(error))
    try:
        return _look_inside(database, clock)
    except StandfastError as error:
        return StoreSample(name, trouble=_trouble(error))
    finally:
        database.close()


def _look_inside(database: Database, clock: Clock) -> StoreSample:
    migrations = [Migrations.of(component, database.dialect) for component in COMPONENTS]

    def work(tx: Tx) -> StoreSample:
        if not _has_schema(tx):
            return StoreSample(database.name, is_new=True)
        refuse_newer(tx, migrations, database.name)
        facts = FactStore(database.dialect, clock).verify(tx)
        schema = schema_findings(tx, migrations)
        if isinstance(facts, Broken):
            broken = f"fact {facts.seq}: {facts.reason}"
            return StoreSample(database.name, schema=schema, broken_fact=broken)
        return StoreSample(database.name, schema=schema, facts=facts.count)

    return database.read_now(work)


def _has_schema(tx: Tx) -> bool:
    catalogue = (
        "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migration'"
        if tx.dialect == "sqlite"
        else "SELECT count(*) FROM pg_tables WHERE tablename = 'schema_migration'"
    )
    return bool(tx.rows(catalogue)[0][0])


def _trouble(error: StandfastError) -> Trouble:
    return Trouble(error.code, f"{error.what}: {error.why}" if error.why else error.what, error.fix)


def _is_running(config: Config) -> bool:
    run = read_run(config.data_dir)
    return isinstance(run, Run) and run.is_alive


def _ports(config: Config) -> tuple[PortSample, ...]:
    if _is_running(config):
        return ()
    wanted = [("the API", config.api.host, config.api.port)]
    mark = hold.mark_of(config.data_dir)
    # What an earlier run left running is taken back, with its port.
    ports = [(s.name, s.port) for s in config.services if s.port and not _is_ours(s.port, mark)]
    wanted += [(f"service {name}", "127.0.0.1", port) for name, port in ports]
    return tuple(probe_port(purpose, host, port, _holder) for purpose, host, port in wanted)


def _is_ours(port: int, mark: str) -> bool:
    found = listener(port)
    return found is not None and mark_of(found.pid).startswith(mark)


def _holder(port: int) -> str:
    found = listener(port)
    return "" if found is None else found.text
