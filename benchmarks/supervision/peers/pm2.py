"""pm2: an ecosystem file with nothing but names and commands, as in most repositories."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

from benchmarks.supervision import install
from benchmarks.supervision.stack import Instance


class Pm2(Instance):
    """The God daemon in a home of its own."""

    name: ClassVar[str] = "pm2"
    about: ClassVar[str] = "defaults; it has no order and no readiness for programs that are not Node"

    def prepare(self) -> None:
        self._binary = str(install.pm2() / "node_modules/.bin/pm2")
        apps = []
        for service in self.stack.services:
            interpreter, *options, script, name, port, start, journal, needs, life = self.stack.argv(service)
            apps.append(
                {
                    "name": service.name,
                    "script": script,
                    "interpreter": interpreter,
                    "interpreter_args": options,
                    "args": [name, port, start, journal, needs, life],
                    "cwd": str(self.folder),
                }
            )
        text = "module.exports = " + json.dumps({"apps": apps}, indent=1)
        (self.folder / "ecosystem.config.js").write_text(text)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PM2_HOME": str(self.folder / "home"), "PM2_DISCRETE_MODE": "true"}

    def up(self) -> None:
        self.call([self._binary, "start", "ecosystem.config.js"])

    def crash(self) -> None:
        self.call([self._binary, "save"])
        super().crash()

    def again(self) -> None:
        self.call([self._binary, "resurrect"])

    def given_up(self) -> set[str]:
        found: list[dict[str, Any]] = json.loads(self.call([self._binary, "jlist"]).strip().splitlines()[-1])
        return {one["name"] for one in found if one["pm2_env"]["status"] == "errored"}

    def main_pids(self) -> set[int]:
        path = self.folder / "home" / "pm2.pid"
        pid = int(path.read_text()) if path.exists() else 0
        return {pid} & self.own_pids() if pid != os.getpid() else set()
