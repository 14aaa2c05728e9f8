"""The ideal schedule: each service is started once the last that it needs says on a pipe that it is ready."""

from __future__ import annotations

import os
import select
import subprocess
from typing import ClassVar

from benchmarks.supervision.stack import Instance, Service


class Ideal(Instance):
    """What no supervisor can be faster than, measured in the same run."""

    name: ClassVar[str] = "ideal"
    about: ClassVar[str] = "started directly in order, readiness by a pipe, nothing watches them"

    def up(self) -> None:
        waiting, ready = list(self.stack.services), set[str]()
        starting: dict[int, str] = {}
        # Each turn of the loop makes one ready; the select is bounded, so a service that dies ends it too.
        while len(ready) < len(self.stack.services):
            due = [service for service in waiting if ready.issuperset(service.needs)]
            waiting = [service for service in waiting if service not in due]
            starting |= {self._start(service): service.name for service in due}
            for descriptor in select.select(list(starting), [], [], 60)[0]:
                said = os.read(descriptor, 1)
                os.close(descriptor)
                name = starting.pop(descriptor)
                if not said:
                    raise RuntimeError(f"{name} ended before it was ready")
                ready.add(name)

    def _start(self, service: Service) -> int:
        reading, writing = os.pipe()
        told = {"READY_FD": str(writing)}
        self.start(self.stack.argv(service), env=told, pass_fds=[writing], stderr=subprocess.DEVNULL)
        os.close(writing)
        return reading
