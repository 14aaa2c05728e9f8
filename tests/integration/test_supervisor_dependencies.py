"""Services start when what they need is ready, end before it, and are not blamed for its failures."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from integration.processes import Stand, eventually, lives, shell
from integration.supervisors import kill_now
from standfast.app.supervision import Options
from standfast.services.model import (
    Budgets,
    Condition,
    Dependency,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)


def part(folder: Path, name: str, *needs: str | Dependency, begin: str = "", **more: Any) -> ServiceSpec:
    """Return a service that says when it starts, when it is ready, and when it ends, in one file for all."""
    text = f"""
echo start {name} >> told
trap 'echo end {name} >> told; exit 0' TERM
{begin}
echo ready {name} >> told
touch up-{name}
while :; do sleep 0.05; done
"""
    depends = tuple(Dependency(one) if isinstance(one, str) else one for one in needs)
    known: dict[str, Any] = {"ready": Readiness(file=f"up-{name}", start_s=60.0), "depends_on": depends}
    return shell(name, text, folder, **(known | more))


def told(folder: Path) -> list[str]:
    path = folder / "told"
    return path.read_text().splitlines() if path.exists() else []


def test_each_starts_when_what_it_needs_is_ready_and_ends_before_it(tmp_path: Path) -> None:
    specs = [
        part(tmp_path, "top", "left", "right"),
        part(tmp_path, "left", "base", begin="sleep 0.2"),
        part(tmp_path, "right", "base"),
        part(tmp_path, "base", begin="sleep 0.3"),
    ]
    stand = Stand(tmp_path, *specs)

    async def body() -> None:
        await eventually(stand.is_in("top", "waiting"))
        assert stand.view("top")["waits_for"] == ("left", "right") or stand.view("top")["waits_for"]
        await eventually(stand.is_in("top", "ready"))

    stand.run(body)
    at = {line: number for number, line in enumerate(told(tmp_path))}
    for above, below in (("top", "left"), ("top", "right"), ("left", "base"), ("right", "base")):
        assert at[f"ready {below}"] < at[f"start {above}"], "ready, not only started"
        assert at[f"end {above}"] < at[f"end {below}"]
    assert len(at) == 12, "each of them once"


def test_started_and_completed_are_other_conditions_than_ready(tmp_path: Path) -> None:
    migrate = shell(
        "migrate", "echo start migrate >> told; sleep 0.3; echo end migrate >> told", tmp_path, kind="task"
    )
    specs = [
        part(tmp_path, "slow", begin="while ! test -e go; do sleep 0.02; done"),
        part(tmp_path, "early", Dependency("slow", Condition.STARTED)),
        part(tmp_path, "web", Dependency("migrate", Condition.COMPLETED)),
        migrate,
    ]
    stand = Stand(tmp_path, *specs)

    async def body() -> None:
        await eventually(stand.is_in("early", "ready"))
        await eventually(stand.is_in("web", "ready"))
        assert stand.state("slow") == "starting"
        assert stand.state("migrate") == "completed"
        (tmp_path / "go").touch()
        await eventually(stand.is_in("slow", "ready"))

    stand.run(body)
    lines = told(tmp_path)
    assert lines.index("end migrate") < lines.index("start web")


def test_a000_8_a_slow_dependency_parks_its_dependants_and_costs_them_nothing(tmp_path: Path) -> None:
    """The 12 s of the comparison, scaled down; pm2 and supervisor give up for good there."""
    above = [f"above{number}" for number in range(7)]
    specs = [part(tmp_path, name, "base") for name in above]
    stand = Stand(tmp_path, part(tmp_path, "base", begin="sleep 1.5"), *specs)

    async def body() -> None:
        await eventually(lambda: all(stand.state(name) == "waiting" for name in above))
        assert stand.view("above0")["waits_for"] == ("base",) or stand.view("above0")["waits_for"] == ["base"]
        await eventually(lambda: all(stand.state(name) == "ready" for name in above))
        assert {stand.view(name)["starts"] for name in above} == {1}
        assert {stand.view(name)["last_exit"] for name in above} == {""}

    stand.run(body)


DIES_WITH_IT = "while test -e base-lives; do sleep 0.02; done; echo 'connection to base refused'; exit 1 #"


def test_a_dependant_that_dies_with_its_dependency_is_parked_and_not_counted(tmp_path: Path) -> None:
    base = part(tmp_path, "base", begin="test -e may-run || { echo no; exit 1; }; touch base-lives",
                restart=RestartPolicy(backoff_s=0.05, cap_s=0.1, max_fast_failures=50))  # fmt: skip
    above = shell("above", f"touch up-above; {DIES_WITH_IT}", tmp_path, ready=Readiness(file="up-above"),
                  depends_on=(Dependency("base"),))  # fmt: skip
    (tmp_path / "may-run").touch()
    stand = Stand(tmp_path, base, above)

    async def body() -> None:
        for _ in range(4):
            await eventually(stand.is_in("above", "ready"))
            (tmp_path / "may-run").unlink()
            kill_now(stand.view("base")["pid"])
            (tmp_path / "base-lives").unlink()
            await eventually(stand.is_in("above", "waiting"))
            assert stand.view("above")["restarts_in_window"] == 0
            (tmp_path / "may-run").touch()
            (tmp_path / "up-above").unlink()
        await eventually(stand.is_in("above", "ready"))
        assert stand.view("above")["starts"] == 5

    stand.run(body)


def test_only_what_asked_for_it_restarts_with_its_dependency(tmp_path: Path) -> None:
    specs = [
        part(tmp_path, "base"),
        part(tmp_path, "with", Dependency("base", restart=True)),
        part(tmp_path, "alone", "base"),
        part(tmp_path, "other"),
    ]
    stand = Stand(tmp_path, *specs)

    async def body() -> None:
        await eventually(lambda: all(stand.state(spec.name) == "ready" for spec in specs))
        before = {spec.name: stand.view(spec.name)["pid"] for spec in specs}
        kill_now(before["base"])
        await eventually(lambda: stand.view("with")["starts"] == 2 and stand.state("with") == "ready")
        assert stand.view("base")["starts"] == 2
        assert {name: stand.view(name)["pid"] for name in ("alone", "other")} == {
            name: before[name] for name in ("alone", "other")
        }

    stand.run(body)


def test_a_person_restarts_a_service_with_what_depends_on_it_or_alone(tmp_path: Path) -> None:
    specs = [part(tmp_path, "base"), part(tmp_path, "mid", "base"), part(tmp_path, "other")]
    stand = Stand(tmp_path, *specs)

    async def body() -> None:
        await eventually(lambda: all(stand.state(spec.name) == "ready" for spec in specs))
        assert stand.supervisor.restart(["base"], "ann") == ("base", "mid")
        await eventually(lambda: {stand.view(n)["starts"] for n in ("base", "mid")} == {2})
        await eventually(lambda: all(stand.state(spec.name) == "ready" for spec in specs))
        assert stand.view("other")["starts"] == 1
        assert stand.supervisor.restart(["base"], "ann", only=True) == ("base",)
        await eventually(lambda: stand.view("base")["starts"] == 3)
        await eventually(stand.is_in("base", "ready"))
        assert stand.view("mid")["starts"] == 2
        assert stand.view("base")["restarts_in_window"] == 0, "what a person asks for spends no budget"

    stand.run(body)


def test_a_task_that_fails_is_tried_three_times_and_blocks_what_waits_for_it(tmp_path: Path) -> None:
    migrate = shell("migrate", "echo try >> tries; echo no such table; exit 3", tmp_path, kind="task")
    stand = Stand(tmp_path, migrate, part(tmp_path, "web", Dependency("migrate", Condition.COMPLETED)))

    async def body() -> None:
        await eventually(stand.is_in("migrate", "held"))
        assert "no such table" in stand.view("migrate")["message"]
        assert stand.state("web") == "waiting"
        assert stand.view("web")["starts"] == 0

    stand.run(body)
    assert 1 <= len((tmp_path / "tries").read_text().split()) <= 3


def test_on_failure_and_never_leave_alone_what_they_say(tmp_path: Path) -> None:
    def once(name: str, when: RestartWhen, code: int) -> ServiceSpec:
        policy = RestartPolicy(when, backoff_s=0.05, cap_s=0.1, max_fast_failures=3)
        return shell(name, f"echo run >> runs-{name}; exit {code}", tmp_path, restart=policy)

    wanted = {
        "failed": (once("failed", RestartWhen.ON_FAILURE, 3), "held", 3),
        "well": (once("well", RestartWhen.ON_FAILURE, 0), "completed", 1),
        "never": (once("never", RestartWhen.NEVER, 3), "held", 1),
        "neverwell": (once("neverwell", RestartWhen.NEVER, 0), "completed", 1),
        "always": (once("always", RestartWhen.ALWAYS, 0), "held", 3),
    }
    stand = Stand(tmp_path, *(spec for spec, _, _ in wanted.values()))

    async def body() -> None:
        for name, (_, state, _) in wanted.items():
            await eventually(stand.is_in(name, state))

    stand.run(body)
    for name, (_, _, count) in wanted.items():
        assert len((tmp_path / f"runs-{name}").read_text().split()) == count, name


def test_a_stop_while_things_start_and_wait_leaves_nothing(tmp_path: Path) -> None:
    specs = [
        part(tmp_path, "base", begin="sleep 30"),
        part(tmp_path, "above", "base"),
        part(tmp_path, "other"),
    ]
    stand = Stand(tmp_path, *specs)

    async def body() -> None:
        await eventually(stand.is_in("other", "ready"))
        await eventually(stand.is_in("above", "waiting"))

    assert stand.run(body) < 5.0
    assert "start above" not in told(tmp_path)


def test_declared_anew_while_it_runs(tmp_path: Path) -> None:
    same, gone = part(tmp_path, "same"), part(tmp_path, "gone", "same")
    stand = Stand(tmp_path, same, gone)

    async def body() -> None:
        await eventually(stand.is_in("gone", "ready"))
        pids = {name: stand.view(name)["pid"] for name in ("same", "gone")}
        stand.supervisor.declare([same, part(tmp_path, "new", "same")])
        await eventually(lambda: not lives(pids["gone"]))
        await eventually(stand.is_in("new", "ready"))
        assert {view["name"] for view in stand.supervisor.snapshot()} == {"same", "new"}
        # Declared again at once: the earlier life is gone before the next begins.
        stand.supervisor.declare([same])
        stand.supervisor.declare([same, part(tmp_path, "new", "same")])
        await eventually(stand.is_in("new", "ready"))
        assert stand.view("same")["pid"] == pids["same"]

    stand.run(body)
    lines = [line for line in told(tmp_path) if line.endswith(" new")]
    assert lines == ["start new", "ready new", "end new", "start new", "ready new", "end new"]


def crashing(folder: Path, name: str, **more: Any) -> ServiceSpec:
    """Return a service that becomes ready and dies, again and again: no rule about failures holds it."""
    text = f"echo run >> runs-{name}; touch up-{name}; sleep 0.2; exit 1"
    policy = RestartPolicy(backoff_s=0.01, cap_s=0.02, budget=5)
    return shell(name, text, folder, ready=Readiness(file=f"up-{name}"), **({"restart": policy} | more))


def test_a_budget_of_a_service_holds_it_whatever_its_ends_look_like(tmp_path: Path) -> None:
    stand = Stand(tmp_path, crashing(tmp_path, "web"))

    async def body() -> None:
        await eventually(stand.is_in("web", "held"), within_s=20.0)
        view = stand.view("web")
        assert view["reason"] == "BudgetSpent"
        assert view["retry_in_s"] > 60
        assert view["starts"] <= 5

    stand.run(body)


def test_a_budget_of_a_group_and_of_the_host_hold_what_restarts_next(tmp_path: Path) -> None:
    policy = RestartPolicy(backoff_s=0.01, cap_s=0.02, budget=50)
    specs = [crashing(tmp_path, name, group="pair", restart=policy) for name in ("one", "two")]
    lonely = crashing(tmp_path, "lonely", restart=policy)
    stand = Stand(tmp_path, *specs, lonely, options=Options(budgets=Budgets(group=6, host=14)))

    async def body() -> None:
        await eventually(
            lambda: all(stand.state(one.name) == "held" for one in (*specs, lonely)), within_s=30.0
        )
        assert "its group pair" in stand.view("one")["message"]
        assert "this host" in stand.view("lonely")["message"]

    stand.run(body)
    runs = {name: len((tmp_path / f"runs-{name}").read_text().split()) for name in ("one", "two", "lonely")}
    assert runs["one"] + runs["two"] <= 6 + 2, "the starts that are no restarts count two"
    assert sum(runs.values()) <= 14 + 3


def test_a_held_service_waits_for_its_person_and_keeps_what_it_was_held_for(tmp_path: Path) -> None:
    stand = Stand(tmp_path, part(tmp_path, "base"), part(tmp_path, "web", "base"))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        stand.supervisor.hold(["web"], "ann", "mends it")
        await eventually(stand.is_in("web", "held"))
        assert (stand.view("web")["reason"], stand.view("web")["held_by"]) == ("HeldByPerson", "ann")
        assert "mends it" in stand.view("web")["message"]
        # A restart of what it depends on, or of itself, is no release.
        stand.supervisor.restart(["base"], "bob")
        stand.supervisor.restart(["web"], "bob")
        await eventually(lambda: stand.view("base")["starts"] == 2 and stand.state("base") == "ready")
        assert (stand.state("web"), stand.view("web")["held_by"]) == ("held", "ann")

    stand.run(body)
    again = Stand(tmp_path, part(tmp_path, "base"), part(tmp_path, "web", "base"))

    async def released() -> None:
        await eventually(stand_is_held)
        again.supervisor.release(["web"], "ann")
        await eventually(again.is_in("web", "ready"))

    def stand_is_held() -> bool:
        return again.state("web") == "held" and again.view("web")["held_by"] == "ann"

    again.run(released)


def test_a_nudge_by_its_dependency_does_not_draw_out_a_slow_wait(tmp_path: Path) -> None:
    stand = Stand(
        tmp_path, part(tmp_path, "base"), shell("web", "exit 3", tmp_path, depends_on=(Dependency("base"),))
    )

    async def body() -> None:
        await eventually(stand.is_in("web", "held"))
        await eventually(lambda: stand.view("web")["retry_in_s"] is not None)
        first = stand.view("web")["retry_in_s"]
        for _ in range(3):
            pid = stand.view("base")["pid"]
            os.kill(pid, signal.SIGKILL)
            await eventually(
                lambda pid=pid: stand.state("base") == "ready" and stand.view("base")["pid"] != pid
            )
        assert stand.view("web")["retry_in_s"] < first

    stand.run(body)
