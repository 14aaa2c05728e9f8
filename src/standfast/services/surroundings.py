"""What the services of one supervisor share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from standfast.kernel.clock import Clock, Entropy
from standfast.services.failures.model import Classified, Evidence
from standfast.services.model import Budgets, ServiceSpec, ServiceState, Spent
from standfast.services.ports import Check, Machine, Memory

if TYPE_CHECKING:
    from standfast.services.life import Service


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the services of one supervisor share; ``changed`` is called after every change of state."""

    clock: Clock
    entropy: Entropy
    machine: Machine
    memory: Memory
    hurry: asyncio.Event
    budgets: Budgets
    states: Callable[[], Mapping[str, ServiceState]]
    spent: Callable[[ServiceSpec], Spent]
    ports_of: Callable[[ServiceSpec], tuple[str, ...]]
    recognise: Callable[[Evidence], Classified | None]
    check: Check
    changed: Callable[[Service], None]
