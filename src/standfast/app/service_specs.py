"""Turns the services of a configuration into what a supervisor runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from standfast.app.config_services import LiveSettings, ReadySettings, ServiceSettings
from standfast.services.model import (
    Condition,
    Dependency,
    Limits,
    Liveness,
    Need,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)

_LOCAL = "127.0.0.1"


def spec_of(service: ServiceSettings, folder: Path, *, file: str = "", line: int = 0) -> ServiceSpec:
    """Return ``service`` as a supervisor runs it; relative paths count from ``folder``."""
    fill = _Filler(folder, service.port)
    restart = service.restart
    return ServiceSpec(
        name=service.name,
        command=fill.all(service.command),
        cwd=folder / service.cwd,
        env=dict(service.env),
        port=service.port,
        ready=_readiness(service.ready, service.port, fill),
        live=_liveness(service.live, service.port, fill),
        restart=RestartPolicy(
            RestartWhen(restart.policy),
            backoff_s=restart.backoff_s,
            cap_s=restart.cap_s,
            max_fast_failures=restart.max_fast_failures,
            stable_s=restart.stable_s,
            budget=restart.budget,
            budget_window_s=restart.budget_window_s,
        ),
        depends_on=tuple(
            Dependency(one)
            if isinstance(one, str)
            else Dependency(one.name, Condition(one.condition), one.restart)
            for one in service.depends_on
        ),
        needs=tuple(
            Need(one.name, fill.all(one.command), fill(one.fix), one.interval_s, one.timeout_s)
            for one in service.needs
        ),
        limits=Limits(service.limits.memory_bytes, service.limits.cpus),
        watch=tuple(Path(fill(one)) for one in service.watch),
        kind=service.kind,
        stop_signal=int(signal.Signals[service.stop_signal]),
        stop_timeout_s=service.stop_timeout_s,
        is_required=service.required,
        group=service.group,
        driver=service.driver,
        file=file,
        line=line,
    )


class _Filler:
    """Puts values where a command has placeholders."""

    def __init__(self, folder: Path, port: int) -> None:
        self._values = {"{python}": sys.executable, "{blueprint}": str(folder), "{port}": str(port)}

    def __call__(self, text: str) -> str:
        for placeholder, value in self._values.items():
            text = text.replace(placeholder, value)
        return text

    def all(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self(part) for part in parts)


def _readiness(ready: ReadySettings, port: int, fill: _Filler) -> Readiness:
    return Readiness(
        http=_url(ready.http, port),
        status=ready.status,
        body=ready.body,
        tcp=_address(ready.tcp),
        command=fill.all(ready.command),
        log=ready.log,
        file=fill(ready.file),
        notify=ready.notify,
        timeout_s=ready.timeout_s,
        interval_s=ready.interval_s,
        start_s=ready.start_s,
    )


def _liveness(live: LiveSettings, port: int, fill: _Filler) -> Liveness | None:
    if not (live.http or live.tcp or live.command):
        return None
    ask = Readiness(
        http=_url(live.http, port),
        tcp=_address(live.tcp),
        command=fill.all(live.command),
        timeout_s=live.timeout_s,
    )
    return Liveness(ask, interval_s=live.interval_s, failures=live.failures)


def _url(http: str, port: int) -> str:
    return f"http://{_LOCAL}:{port}{http}" if http.startswith("/") else http


def _address(tcp: str) -> str:
    return f"{_LOCAL}{tcp}" if tcp.startswith(":") else tcp
