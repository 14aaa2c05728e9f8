"""Tests every promise of ``standfast.tasks`` on a store, for whoever writes an adapter.

Subclass ``TaskContract`` in a test module, under a name that starts with ``Test``, and return a bench (see
``store_contract``) from ``bench``; pytest finds the tests. Nothing here needs a plugin.
"""

from standfast.testing.task_contract.claims import AddContract, ClaimContract
from standfast.testing.task_contract.leadership import LeadershipContract
from standfast.testing.task_contract.leases import LeaseContract
from standfast.testing.task_contract.operations import OperationContract
from standfast.testing.task_contract.reports import BatchContract, ReportContract
from standfast.testing.task_contract.world import POLICY, World, broke, won

__all__ = ["POLICY", "TaskContract", "World", "broke", "won"]


class TaskContract(
    AddContract,
    ClaimContract,
    ReportContract,
    BatchContract,
    LeaseContract,
    OperationContract,
    LeadershipContract,
):
    """All promises of tasks, one test each."""
