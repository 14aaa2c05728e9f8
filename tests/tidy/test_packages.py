"""What is installed: locked by hash, from wheels, and not more than a small machine can hold."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repository import ROOT

MOST_DISTRIBUTIONS = 45
LOCKS = ("requirements.lock", "requirements-dev.lock")


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def closure(names: list[str]) -> set[str]:
    """Return what installing ``names`` brings, by the metadata of what is installed."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if name in found and not requirement.extras:
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return found


def test_the_base_install_stays_small() -> None:
    base = closure(project()["project"]["dependencies"])  # type: ignore[index]
    assert len(base) <= MOST_DISTRIBUTIONS, sorted(base)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_index(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert not re.search(
        r"^\s*(-i|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )
    assert "://" not in text
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert len(blocks) > 30
    bare = [block.split()[0] for block in blocks if "--hash=sha256:" not in block]
    assert bare == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_everything_that_the_project_asks_for(name: str) -> None:
    data = project()
    locked = {
        canonicalize_name(m[1]): m[2]
        for m in re.finditer(r"(?m)^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text("utf-8"))
    }
    groups = ["build"] if name == "requirements.lock" else list(data["dependency-groups"])  # type: ignore[call-overload]
    wanted = [*data["project"]["dependencies"], *data["project"]["optional-dependencies"]["environments"]]  # type: ignore[index]
    wanted += [text for group in groups for text in data["dependency-groups"][group]]  # type: ignore[index]
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in {name}: make lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}, locked is {version}"
        )
