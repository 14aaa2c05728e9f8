"""What dependencies mean: problems that refuse a stack, the order of starts, who waits for whom."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.services.decide.order import dependants, problems, roots, unmet, waves
from standfast.services.model import Condition, Dependency, ServiceSpec, ServiceState

_S = ServiceState


def service(name: str, *needs: str | Dependency, kind: str = "daemon", line: int = 0) -> ServiceSpec:
    depends = tuple(Dependency(one) if isinstance(one, str) else one for one in needs)
    assert kind in ("daemon", "task")
    return ServiceSpec(
        name,
        (name,),
        depends_on=depends,
        kind="task" if kind == "task" else "daemon",
        line=line,
        file="a.toml",
    )


def test_a_cycle_is_refused_and_named_as_a_path() -> None:
    found = problems([service("a", "b"), service("b", "c"), service("c", "a"), service("d", "a")])
    assert [one.code for one in found] == ["DependencyCycle"]
    assert "a -> b -> c -> a" in found[0].what
    assert "a, b, c" in found[0].fix


def test_a_service_that_waits_for_itself_is_a_cycle() -> None:
    assert problems([service("a", "a")])[0].what.endswith("a -> a")


def test_an_unknown_dependency_is_refused_with_the_nearest_name() -> None:
    found = problems([service("web", "posgres", line=7), service("postgres")])
    assert [one.code for one in found] == ["UnknownDependency"]
    assert "web (a.toml:7) depends on posgres" in found[0].what
    assert found[0].fix == "did you mean postgres?"


def test_an_unknown_dependency_that_is_like_nothing_lists_what_there_is() -> None:
    found = problems([service("web", "zzz"), service("db")])
    assert "db, web" in found[0].fix


def test_a_name_twice_is_refused_with_both_places() -> None:
    found = problems([service("web", line=3), service("web", line=9)])
    assert [one.code for one in found] == ["NameTwice"]
    assert "a.toml:3" in found[0].what
    assert "a.toml:9" in found[0].what


def test_waiting_for_the_completion_of_what_never_ends_is_refused() -> None:
    waits = Dependency("db", Condition.COMPLETED)
    assert problems([service("web", waits), service("db")])[0].code == "NeverCompleted"
    assert problems([service("web", waits), service("db", kind="task")]) == ()


def test_every_problem_is_told_at_once() -> None:
    found = problems([service("a", "b"), service("b", "a"), service("b"), service("c", "x")])
    assert {one.code for one in found} == {"DependencyCycle", "NameTwice", "UnknownDependency"}


def test_waves_start_what_needs_nothing_first() -> None:
    specs = [service("top", "mid"), service("mid", "low", "lower"), service("low"), service("lower")]
    assert waves(specs) == (("low", "lower"), ("mid",), ("top",))


NAMES = [f"s{n}" for n in range(8)]


@st.composite
def stacks(draw: st.DrawFn) -> list[ServiceSpec]:
    """Any stack without a cycle: each needs only names that come before it; then in any order."""
    specs = [
        service(name, *draw(st.sets(st.sampled_from(NAMES[:at]))) if at else ())
        for at, name in enumerate(NAMES)
    ]
    return draw(st.permutations(specs))


@given(stacks())
def test_every_stack_without_a_cycle_is_sound_and_its_waves_keep_the_order(specs: list[ServiceSpec]) -> None:
    assert problems(specs) == ()
    at = {name: number for number, wave in enumerate(waves(specs)) for name in wave}
    assert sorted(at) == NAMES
    for spec in specs:
        assert all(at[one.name] < at[spec.name] for one in spec.depends_on)


@given(stacks(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_back_edge_makes_a_cycle_that_is_found(specs: list[ServiceSpec], one: str, other: str) -> None:
    is_above = one == other or one in dependants(specs, [other])
    changed = [
        service(spec.name, *spec.depends_on, Dependency(one)) if spec.name == other else spec
        for spec in specs
    ]
    assert any(found.code == "DependencyCycle" for found in problems(changed)) is is_above


def test_who_depends_on_whom_is_followed_to_the_end() -> None:
    specs = [service("a"), service("b", "a"), service("c", "b"), service("d")]
    assert dependants(specs, ["a"]) == {"b", "c"}
    assert dependants(specs, ["c"]) == frozenset()


MET = {
    Condition.READY: {_S.READY, _S.COMPLETED},
    Condition.STARTED: {_S.STARTING, _S.READY, _S.NOT_READY, _S.COMPLETED},
    Condition.COMPLETED: {_S.COMPLETED},
}


@pytest.mark.parametrize(("condition", "state"), list(itertools.product(Condition, ServiceState)))
def test_ready_is_not_started_and_started_is_not_completed(condition: Condition, state: ServiceState) -> None:
    waits = unmet(service("web", Dependency("db", condition)), {"db": state})
    assert (not waits) is (state in MET[condition])


def test_a_dependency_that_nobody_knows_is_never_met() -> None:
    assert unmet(service("web", "db"), {})


def test_patience_ends() -> None:
    patient = service("web", Dependency("db", patience_s=20.0))
    assert unmet(patient, {"db": _S.STARTING}, waited_s=19.9)
    assert not unmet(patient, {"db": _S.STARTING}, waited_s=20.0)


def test_the_chains_end_at_what_is_to_blame() -> None:
    specs = {
        spec.name: spec for spec in (service("web", "api", "cache"), service("api", "db"), service("db"))
    }
    specs["cache"] = service("cache")
    states = {"web": _S.WAITING, "api": _S.WAITING, "db": _S.HELD, "cache": _S.READY}
    assert roots("web", specs, states) == (("web", "api", "db"),)
    assert roots("db", specs, states) == (("db",),)
