"""``standfast up | down``: one instance with everything that belongs to it, in one tree of processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from standfast.app.config import Config, load_config
from standfast.app.declared import stacks_of
from standfast.app.down import ORDERLY_S, Down, Ended, bring_down
from standfast.app.instance import Address
from standfast.app.reporters import reporter_for
from standfast.app.stack_up import accompany, restarts_so_far, start, wait_until_up
from standfast.cli.output import Printer, say
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Verdict
from standfast.services.decide.up import Failed, Pending, Up

Blueprint = Annotated[
    Path,
    typer.Argument(
        metavar="[BLUEPRINT]", help="Folder with a standfast.toml, or the file; or a compose or pm2 file."
    ),
]
Profile = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", metavar="NAME", help="Compose profile to switch on; may be given several times."
    ),
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65_535, help="Port of the API instead of api.port; 0 is any free one."),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory instead of .standfast.")
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Leave the stack to its supervisor and return.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is up, or cannot be; implies --detach.")]
WaitTimeout = Annotated[
    float,
    typer.Option("--wait-timeout", min=1.0, max=86_400.0, metavar="SECONDS", help="Longest wait for --wait."),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=1.0, max=3_600.0, metavar="SECONDS", help="Longest wait."),
]

_OUTCOMES = {
    Ended.NOTHING_RAN: "nothing ran",
    Ended.STOPPED: "stopped; nothing that was acknowledged is lost",
    Ended.WAS_GONE: "it was gone already; what it had left was ended",
    Ended.STILL_RUNS: "it still runs",
}


def add(app: typer.Typer) -> None:
    """Add the commands."""
    example = "standfast up blueprints/evaluation --port 0"
    command(app, up, "up", schema="up", example=example, is_remote=False)
    command(app, down, "down", schema="down", example="standfast down")


def up(  # noqa: PLR0913, PLR0917 - typer takes each option as an argument
    session: Session,
    blueprint: Blueprint = Path(),
    port: Port = None,
    data_dir: DataDir = None,
    detach: Detach = False,
    wait: Wait = False,
    wait_timeout: WaitTimeout = 300.0,
    profile: Profile = None,
) -> int:
    """Start an instance and keep it going until Ctrl-C: its services, and API and executors if it evaluates.

    Preflight comes first and must be green. What happens is told on stderr: as a page on a terminal, as
    lines elsewhere. Ctrl-C, SIGTERM or `standfast down` stop all of it and lose nothing. With --wait it
    returns 0 only when every required service was ready and stable, and nothing restarted on the way; 3 where
    something is held or restarted, 8 where the time was over first.
    """
    config = load_config(blueprint, data_dir=data_dir)
    config = config.changed(port=port, data_dir=data_dir, profiles=tuple(profile or ()))
    for remark in stacks_of(config).remarks:
        say(f"{'note' if remark.verdict is Verdict.SKIPPED else 'warning'}: {remark.message}")
    reporter = reporter_for()
    if not config.is_stack:
        if detach or wait:
            raise ConfigError(
                "--detach and --wait are for stacks of services; this configuration has an API or evaluates",
                fix=f"standfast up {blueprint}",
            )
        # The server of the API and what stands behind it are large, and a stack has none of it.
        from standfast.api.serve import serve_plane  # noqa: PLC0415
        from standfast.app.up import run_up  # noqa: PLC0415

        running = run_up(config, serve_api=serve_plane, reporter=reporter, started_from=Path.cwd())
        return _ended(session, config, asyncio.run(running))
    if not (detach or wait):
        return _ended(session, config, asyncio.run(accompany(config, reporter, started_from=Path.cwd())))
    before = restarts_so_far(config.data_dir)
    pid = start(config, started_from=Path.cwd())
    say(f"the supervisor runs as process {pid}; the data is in {config.data_dir}")
    judged = wait_until_up(config.data_dir, reporter, limit_s=wait_timeout, before=before) if wait else Up()
    reporter.close()
    code = {Up: 0, Failed: 3, Pending: 8}[type(judged)]
    why = judged.why if isinstance(judged, Failed) else judged.missing if isinstance(judged, Pending) else ()
    data = {"pid": pid, "data_dir": str(config.data_dir), "is_up": wait and code == 0, "why": list(why)}
    session.emit(data, lambda out: _print_up(out, is_waited=wait, why=why))
    return code


def _print_up(out: Printer, *, is_waited: bool, why: tuple[str, ...]) -> None:
    if not is_waited:
        out.line("started; look: standfast status")
        return
    out.line("not up:" if why else "up: every required service is ready and stable, and nothing restarted")
    for line in why:
        out.line(f"  {line}")


def _ended(session: Session, config: Config, code: int) -> int:
    if session.is_json:
        session.emit({"exit_code": code, "data_dir": str(config.data_dir)}, lambda _: None)
    return code


def down(session: Session, timeout: Timeout = ORDERLY_S) -> int:
    """Stop the instance that belongs to this folder, in order; exit code 1 if it does not end in time.

    Nothing runs: that is success too.
    """
    found = session.found()
    if isinstance(found, Address):
        raise ConfigError(
            "down stops instances on this machine, not by their address",
            fix="run it where the instance runs, with --data-dir if need be",
        )
    result = bring_down(found.data_dir, limit_s=timeout, told=say)
    data = {
        "ended": result.ended.value, "pid": result.run.process.pid if result.run else None,
        "waited_s": round(result.waited_s, 3), "data_dir": str(found.data_dir),
    }  # fmt: skip
    session.emit(data, lambda out: _print(out, result))
    return 1 if result.ended is Ended.STILL_RUNS else 0


def _print(out: Printer, result: Down) -> None:
    out.line(_OUTCOMES[result.ended])
    if result.ended is Ended.STILL_RUNS and result.run is not None:
        pid = result.run.process.pid
        out.line(f"  fix   see what it does: standfast status; end it at once: kill -9 {pid}; standfast down")
