"""The routes of the API, one file per kind of thing."""

from standfast.api.routes.executors import router as executors
from standfast.api.routes.facts import router as facts
from standfast.api.routes.health import router as health
from standfast.api.routes.rounds import router as rounds
from standfast.api.routes.status import router as status
from standfast.api.routes.tasks import router as tasks
from standfast.api.routes.tokens import router as tokens

#: Everything below /api/v1, in the order of the documentation.
VERSIONED = (tasks, executors, rounds, facts, status, tokens)
#: What has a fixed address, whatever the version.
FIXED = (health,)

__all__ = ["FIXED", "VERSIONED"]
