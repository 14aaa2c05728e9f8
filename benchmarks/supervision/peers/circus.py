"""circus: a watcher for each service, in order of priority, without the statistics daemon."""

from __future__ import annotations

import shlex
from typing import ClassVar

from benchmarks.supervision import install
from benchmarks.supervision.stack import Instance

_HEAD = """[circus]
endpoint = ipc://{folder}/e.sock
pubsub_endpoint = ipc://{folder}/p.sock
statsd = False
"""
_WATCHER = """[watcher:{name}]
cmd = {command}
priority = {priority}
copy_env = True
"""


class Circus(Instance):
    """circusd in the foreground."""

    name: ClassVar[str] = "circus"
    about: ClassVar[str] = "priority by level, check_delay and max_retry as they are, no statsd"

    def prepare(self) -> None:
        self._bin = install.python_peers() / "bin"
        parts = [_HEAD.format(folder=self.folder)]
        count = len(self.stack.services)
        for service in self.stack.services:
            command = shlex.join(self.stack.argv(service))
            # Here the larger number starts first.
            priority = count - service.level
            parts.append(_WATCHER.format(name=service.name, command=command, priority=priority))
        (self.folder / "circus.ini").write_text("".join(parts))

    def up(self) -> None:
        self.spawn([str(self._bin / "circusd"), "circus.ini"])

    def given_up(self) -> set[str]:
        endpoint = f"ipc://{self.folder}/e.sock"
        text = self.call([str(self._bin / "circusctl"), "--endpoint", endpoint, "status"])
        return {line.split(":")[0] for line in text.splitlines() if line.endswith(": stopped")}
