"""supervisor: a program for each service, in order of priority, restarted whatever its exit code."""

from __future__ import annotations

import shlex
from typing import ClassVar

from benchmarks.supervision import install
from benchmarks.supervision.stack import Instance

_HEAD = """[unix_http_server]
file={folder}/s.sock
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/s.sock
"""
_PROGRAM = """[program:{name}]
command={command}
priority={priority}
autorestart=true
"""


class Supervisor(Instance):
    """supervisord in the foreground."""

    name: ClassVar[str] = "supervisor"
    about: ClassVar[str] = "priority by level, autorestart=true, startsecs and startretries as they are"

    def prepare(self) -> None:
        self._bin = install.python_peers() / "bin"
        parts = [_HEAD.format(folder=self.folder)]
        for service in self.stack.services:
            command = shlex.join(self.stack.argv(service))
            parts.append(_PROGRAM.format(name=service.name, command=command, priority=service.level + 1))
        (self.folder / "supervisord.conf").write_text("".join(parts))

    def up(self) -> None:
        self.spawn([str(self._bin / "supervisord"), "-n", "-c", "supervisord.conf"])

    def given_up(self) -> set[str]:
        text = self.call([str(self._bin / "supervisorctl"), "-c", "supervisord.conf", "status"])
        return {line.split()[0] for line in text.splitlines() if line.split()[1:2] == ["FATAL"]}
