"""``standfast status``: what is wrong, why, and what to do, within ten seconds on every bad day."""

from __future__ import annotations

import io
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from standfast.app.config import Config
from standfast.app.instance import Address, Found, Run, token_of
from standfast.app.offline import blueprint_of, config_of
from standfast.app.presence import judge, look
from standfast.app.stack_look import is_stack, look_at_stack
from standfast.app.stack_status import status_of, without_api
from standfast.cli.output import Printer, printer
from standfast.cli.registry import command
from standfast.cli.session import Session, ask
from standfast.cli.status_page import print_status
from standfast.kernel.clock import SystemClock, iso
from standfast.kernel.errors import (
    AuthError,
    ConfigError,
    StandfastError,
    TransientError,
    UnhealthyError,
)
from standfast.kernel.verdict import Finding, Verdict, combine

Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")]

#: One question has this long: with three of them the answer still comes within ten seconds.
_ASK_S = 3.0
_WATCH_S = 2.0
_OK, _UNHEALTHY, _AUTH, _UNREACHABLE = 0, 3, 4, 7


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(app, status, "status", schema="status", example="standfast status --watch")


def status(session: Session, watch: Watch = False) -> int:
    """Say what is wrong, why, and what to do about it; then how far the work is.

    Works on every bad day: it asks the API, or the supervisor of a stack, and where that does not answer it
    looks at the processes. Exit code 0 where all is well, 3 where something is not or is unknown, 7 where
    neither API nor supervisor answers.
    """
    if watch:
        return _watch(session)
    data, code = look_once(session)
    session.emit(data, lambda out: print_status(out, data))
    return code


def look_once(session: Session) -> tuple[dict[str, Any], int]:
    """Return the status and its exit code; whatever is wrong is a finding in it."""
    try:
        found = session.found()
    except TransientError as error:
        return _without_api([_finding_of(error)]), _UNREACHABLE
    if isinstance(found, Found) and is_stack(found.data_dir, found.run()):
        return _of_stack(found)
    address, problem = _address(session, found)
    try:
        data = _checked(_ask(address) if address is not None else None)
    except StandfastError as error:
        problem = error
    else:
        if data is not None:
            return _with_local(data, found)
    return _local(found, problem), _AUTH if isinstance(problem, AuthError) else _UNREACHABLE


def _of_stack(found: Found) -> tuple[dict[str, Any], int]:
    """Return the status of a stack alone, which has no API: its supervisor is asked on its own socket."""
    seen = look_at_stack(found.data_dir, blueprint=blueprint_of(found))
    data = {**status_of(seen), "how": found.how}
    is_well = data["verdict"] == Verdict.PASS.name
    return data, _UNREACHABLE if seen.answer is None else _OK if is_well else _UNHEALTHY


def _address(session: Session, found: Address | Found) -> tuple[Address | None, StandfastError | None]:
    """Return whom to ask: the address that was written down, or where the configuration says it would be."""
    if isinstance(found, Address):
        return found, None
    run = found.run()
    if run is None or (isinstance(run, Run) and not (run.is_alive and run.url)):
        return None, None
    try:
        token = token_of(session.wanted, found)
        url = run.url if isinstance(run, Run) else _url_of(config_of(found))
    except ConfigError as error:
        return None, error
    return Address(url, token), None


def _url_of(config: Config) -> str:
    return f"http://{config.api.host}:{config.api.port}"


def _ask(address: Address) -> Any:
    return ask(address, "GET", "/status", total_s=_ASK_S).body


def _checked(data: Any) -> dict[str, Any] | None:
    """Return the answer if it is a status at all; UnhealthyError for anything else that is JSON."""
    if data is None:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("findings"), list) or "verdict" not in data:
        raise UnhealthyError(
            "what answered is no standfast API: its status has no findings",
            fix="see which program has the port: ss -ltnp", code="ApiReplyUnexpected",
        )  # fmt: skip
    return data


def _with_local(data: dict[str, Any], found: Address | Found) -> tuple[dict[str, Any], int]:
    """Add what only this machine can see: a record of the instance that cannot be read."""
    run = found.run() if isinstance(found, Found) else None
    if isinstance(found, Found) and run is not None and not isinstance(run, Run):
        extra = judge(look(found, None, SystemClock().wall()))
        data["findings"] = [*(finding.as_dict() for finding in extra), *data["findings"]]
        data["verdict"] = combine([Verdict[data["verdict"]], *(f.verdict for f in extra)]).name
    return data, _OK if data["verdict"] == Verdict.PASS.name else _UNHEALTHY


def _local(found: Address | Found, problem: StandfastError | None) -> dict[str, Any]:
    """Return the status of an instance whose API does not answer."""
    if isinstance(found, Address):
        assert problem is not None, "an address was asked"
        return _without_api([_finding_of(problem)])
    seen = look(found, problem, SystemClock().wall(), blueprint=blueprint_of(found))
    services = without_api(look_at_stack(found.data_dir))
    return _without_api(judge(seen), data_dir=str(found.data_dir), how=found.how, services=services)


def _finding_of(error: StandfastError) -> Finding:
    message = f"{error.what}: {error.why}" if error.why else error.what
    remedy = error.fix or "standfast doctor"
    return Finding("api", Verdict.FAIL, error.code, message, remedy=remedy, since=error.since)


def _without_api(findings: list[Finding], **more: object) -> dict[str, Any]:
    return {
        "verdict": combine(finding.verdict for finding in findings).name,
        "findings": [finding.as_dict() for finding in findings],
        "at": iso(SystemClock().wall()),
        **more,
    }


def _watch(session: Session) -> int:
    """Look every two seconds until Ctrl-C; each look is bounded, so a dead instance does not stop it."""
    out = printer()
    if session.is_json or not out.console.is_terminal:
        while True:
            data, _ = look_once(session)
            session.emit(data, lambda lines, shown=data: print_status(lines, shown))  # type: ignore[misc]
            time.sleep(_WATCH_S)
    with Live(console=out.console, screen=True, auto_refresh=False) as live:
        while True:
            data, _ = look_once(session)
            live.update(page_of(data, out.console), refresh=True)
            time.sleep(_WATCH_S)


def page_of(data: dict[str, Any], terminal: Console) -> Text:
    """Return the page as it would be printed on ``terminal``.

    Drawn on a console of its own: what is printed on one that runs ``Live`` has the page before it in it, and
    an old green page under a fresh time is the one thing that must never be shown.
    """
    paper = Console(
        file=io.StringIO(), width=terminal.width, force_terminal=True, color_system="standard",
        markup=False, highlight=False, emoji=False, no_color=terminal.no_color,
    )  # fmt: skip
    print_status(Printer(paper), data)
    assert isinstance(paper.file, io.StringIO)
    return Text.from_ansi(paper.file.getvalue())
