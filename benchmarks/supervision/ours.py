"""Ours: ``standfast up --detach`` in a folder with a standfast.toml; the toys say when they are ready."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

from benchmarks.supervision.stack import Instance, Service

from standfast.kernel.errors import TransientError
from standfast.services.adapters.control import ask

_STANDFAST = str(Path(sys.executable).parent / "standfast")


class Ours(Instance):
    """An instance of Standfast that has nothing but services."""

    name: ClassVar[str] = "ours"
    about: ClassVar[str] = "standfast up --detach, depends_on, ready by sd_notify, restart as it is"

    def environment(self) -> dict[str, str]:
        # Its list of instances is the user's; this one is none of his.
        return {**super().environment(), "XDG_STATE_HOME": str(self.folder / "state")}

    def prepare(self) -> None:
        parts = [self._table(service) for service in self.stack.services]
        (self.folder / "standfast.toml").write_text("\n".join(parts))

    def _table(self, service: Service) -> str:
        fields = {
            "name": json.dumps(service.name),
            "command": json.dumps(self.stack.argv(service)),
            "port": str(service.port),
            "depends_on": json.dumps(service.needs),
            "ready": self._ready(service),
        }
        return "\n".join(["[[services]]", *(f"{key} = {value}" for key, value in fields.items()), ""])

    def _ready(self, service: Service) -> str:
        return "{notify = true}"

    def up(self) -> None:
        self.call([_STANDFAST, "up", str(self.folder), "--detach"])

    def is_shim(self, argv: list[str]) -> bool:
        return any(Path(argument).name == "shim.py" for argument in argv)

    def given_up(self) -> set[str]:
        try:
            services = ask(self.folder / ".standfast", "list", timeout_s=5)["services"]
        except TransientError:  # It does not answer, so it has not said that it gave up.
            return set()
        return {one["name"] for one in services if one["state"] == "held"}


class OursTcp(Ours):
    """The same, where a service only listens: the port is asked while it starts."""

    name: ClassVar[str] = "ours-tcp"
    about: ClassVar[str] = "the same, ready by its port"
    is_variant: ClassVar[bool] = True

    def _ready(self, service: Service) -> str:
        return f'{{tcp = "127.0.0.1:{service.port}"}}'
