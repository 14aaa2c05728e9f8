"""Our reading of compose files beside that of compose itself, where it is installed.

STANDFAST_COMPOSE names the program; ``docker compose`` is used where it works, and the tests are skipped by
name otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fixtures_dir import fixture
from standfast.kernel.errors import ConfigError
from standfast.services.stacks.compose import read_compose
from standfast.services.stacks.forms import duration_s
from standfast.services.stacks.model import DeclaredService

CONDITIONS = {
    "started": "service_started", "ready": "service_healthy", "completed": "service_completed_successfully",
}  # fmt: skip
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "HOME": "/users/nobody", "OUTSIDE": "outside"}


@cache
def program() -> list[str]:
    named = os.environ.get("STANDFAST_COMPOSE", "")
    for words in ([named], ["docker", "compose"], ["docker-compose"]):
        if words[0] and shutil.which(words[0]):
            seen = subprocess.run([*words, "version", "--short"], capture_output=True, text=True, check=False)
            if seen.returncode == 0 and seen.stdout.lstrip("v").startswith(("2.", "3.", "4.", "5.")):
                return words
    pytest.skip("compose is absent: install its plugin, or name the program in STANDFAST_COMPOSE")


def compose_reads(files: list[Path], profiles: tuple[str, ...]) -> dict[str, Any] | None:
    words = [*program()]
    for file in files:
        words += ["-f", str(file)]
    for profile in profiles:
        words += ["--profile", profile]
    done = subprocess.run(
        [*words, "config", "--format", "json"], capture_output=True, text=True, check=False,
        cwd=files[0].parent, env=ENVIRONMENT, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else None


def we_read(files: list[Path], profiles: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        found = read_compose(files, environment=ENVIRONMENT, profiles=profiles).usable()
    except ConfigError:
        return None
    return {service.name: ours(service) for service in found.services}


def ours(s: DeclaredService) -> dict[str, Any]:
    return {
        "image": s.image or None,
        "command": None if s.command is None else list(s.command),
        "entrypoint": None if s.entrypoint is None else list(s.entrypoint),
        "environment": dict(s.env),
        "depends_on": {d.name: (CONDITIONS[d.condition], d.required) for d in s.depends_on},
        "ports": sorted((p.container, str(p.host or ""), p.protocol, p.host_ip) for p in s.ports),
        "volumes": sorted((m.kind, m.source, m.target, m.is_read_only) for m in s.volumes),
        "restart": s.restart.policy if s.restart and "restart" in s.places else None,
        "networks": sorted(n.name for n in s.networks),
        "build": (s.build.context, s.build.dockerfile, dict(s.build.args)) if s.build else None,
        "healthcheck": (list(s.healthcheck.test), s.healthcheck.interval_s, s.healthcheck.retries)
        if s.healthcheck
        else None,
        "labels": dict(s.labels),
        "profiles": list(s.profiles),
        "memory": s.mem_limit_bytes,
    }


def theirs(document: dict[str, Any]) -> dict[str, Any]:
    return {name: _theirs(undoubled(body)) for name, body in document.get("services", {}).items()}


def undoubled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [undoubled(inner) for inner in value]
    return {key: undoubled(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _theirs(s: dict[str, Any]) -> dict[str, Any]:
    check, build = s.get("healthcheck"), s.get("build")
    limits = s.get("deploy", {}).get("resources", {}).get("limits", {})
    memory = s.get("mem_limit") or limits.get("memory")
    return {
        "image": s.get("image"),
        "command": s.get("command"),
        "entrypoint": s.get("entrypoint"),
        "environment": {k: v for k, v in s.get("environment", {}).items() if v is not None},
        "depends_on": {k: (d["condition"], d["required"]) for k, d in s.get("depends_on", {}).items()},
        "ports": sorted(
            (p["target"], p.get("published", ""), p["protocol"], p.get("host_ip", ""))
            for p in s.get("ports", [])
        ),
        "volumes": sorted(
            (v["type"], v.get("source", ""), v["target"], v.get("read_only", False))
            for v in s.get("volumes", [])
        ),
        "restart": s.get("restart"),
        "networks": sorted(s.get("networks", {})),
        "build": (build["context"], build.get("dockerfile", ""), build.get("args", {})) if build else None,
        "healthcheck": (
            check.get("test", []), duration_s(check["interval"]) if "interval" in check else None,
            check.get("retries"),
        )
        if check
        else None,
        "labels": s.get("labels", {}),
        "profiles": s.get("profiles", []),
        "memory": int(memory) if memory else None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "profiles"),
    [
        ("trading/compose/infrastructure/docker-compose.yml", ()),
        ("trading/compose/docker-compose.yml", ("*",)),
        ("trading/compose/docker-compose.yml", ("infrastructure",)),
    ],
)
def test_the_real_stacks_are_read_as_compose_reads_them(path: str, profiles: tuple[str, ...]) -> None:
    files = [fixture(path)]
    document = compose_reads(files, profiles)
    assert document is not None
    assert we_read(files, profiles) == theirs(document)


SAMPLES: dict[str, list[str]] = {
    "everything": [
        "services:\n  a:\n    image: ${IMAGE:-x}:$TAG\n    command: sh -c \"a && $$B\" 'c d' x\\ y\n"
        "    environment: {A: 022, B: 1e-5, C: 1.0, D: true, E: , F: 1e20, I: yes, J: 0x1F, OUTSIDE: }\n"
        "    ports: ['80', '127.0.0.1:81:82/udp', '8000-8002:9000-9002', '[::1]:6000:6000', 7]\n"
        "    volumes: ['./a:/a:ro', 'vol:/b/', /c]\n    depends_on: [b]\n    mem_limit: 1.5g\n"
        "    healthcheck: {test: curl x, interval: 1m30s, retries: 3}\n    restart: no\n"
        "    build: {context: ./c, args: [X=1, OUTSIDE, NOPE]}\n  b: {image: b, profiles: [p]}\n"
        "volumes: {vol: }\n"
    ],
    "over": [
        "services:\n  a:\n    image: x\n    environment: {A: 1, B: 2}\n    ports: ['80:80']\n"
        "    command: [a]\n    volumes: ['./a:/d']\n    depends_on: {b: {condition: service_healthy}}\n"
        "    labels: {x: 1}\n"
        "  b: {image: y}\n",
        "services:\n  a:\n    environment: [B=3, C]\n    ports: ['81:80']\n    command: b c\n"
        "    volumes: ['./b:/d']\n    depends_on: [b]\n    labels: {x: !reset null, y: 2}\n"
        "    user: !reset null\n",
    ],
    "cut": ["services:\n  a: {image: x, command: 'echo a && b > /dev/null'}\n"],
    "circle": ["services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n"],
    "unknown": ["services:\n  a: {image: x, depends_on: [b]}\n"],
    "volume": ["services:\n  a: {image: x, volumes: ['vol:/x']}\n"],
    "required": ["services:\n  a: {image: '${NOT_THERE:?x}'}\n"],
    "types": ["services:\n  a: {image: x, ports: '80:80'}\n"],
    "key": ["services:\n  a: {image: x, enviroment: {}}\n"],
    "interval": ["services:\n  a: {image: x, healthcheck: {test: x, interval: 30}}\n"],
    "empty": [""],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_read_or_refused_as_compose_does(tmp_path: Path, name: str) -> None:
    files = [tmp_path / f"{index}.yaml" for index in range(len(SAMPLES[name]))]
    for file, text in zip(files, SAMPLES[name], strict=True):
        file.write_text(text)
    document = compose_reads(files, ("*",))
    assert we_read(files, ("*",)) == (None if document is None else theirs(document))
