"""What is made of a declared container, and of an engine's words about its end or refusal: literals only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from standfast.app.declared_stacks import declared_in
from standfast.services.adapters.container_ends import Watched, life_of, nanoseconds, outcome_of
from standfast.services.adapters.container_looks import check_of, last_failure, signal_of
from standfast.services.adapters.container_spec import (
    CONFIG,
    SUPPORTED,
    Around,
    anonymous_volumes,
    create_request,
    namesakes,
    network_body,
)
from standfast.services.adapters.engine import image_of
from standfast.services.adapters.engine_refusals import refusal
from standfast.services.model import ExitStatus, Outcome, ServiceSpec
from standfast.services.stacks.options import FORMS

AROUND = Around("instance", "sha256:1")


def spec(folder: Path, *lines: str, more: str = "") -> ServiceSpec:
    text = (
        "name: lab\nservices:\n  one:\n    image: x:1\n" + "".join(f"    {line}\n" for line in lines) + more
    )
    (folder / "compose.yaml").write_text(text)
    return declared_in([folder / "compose.yaml"], environment={}).specs[0]


def body(folder: Path, *lines: str, more: str = "") -> dict[str, Any]:
    return create_request(spec(folder, *lines, more=more), AROUND).body


@pytest.mark.parametrize(
    ("line", "where", "value"),
    [
        ("ports: ['8080:80', '9000-9003:90', '53/udp']", "PortBindings", {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
            "90/tcp": [{"HostIp": "", "HostPort": "9000-9003"}],
            "53/udp": [{"HostIp": "", "HostPort": ""}]}),
        ("volumes: ['/a:/b:ro']", "Binds", ["/a:/b:ro"]),
        ("volumes: ['/a:/b:z']", "Binds", ["/a:/b:rw,z"]),
        ("volumes: [{type: bind, source: /a, target: /b, bind: {create_host_path: false}}]", "Mounts",
         [{"Type": "bind", "Target": "/b", "ReadOnly": False, "Source": "/a"}]),
        ("volumes: ['/a']", "Mounts", [{"Type": "volume", "Target": "/a", "ReadOnly": False}]),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1024}}]", "Mounts",
         [{"Type": "tmpfs", "Target": "/t", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 1024}}]),
        ("mem_limit: 1g", "Memory", 2**30),
        ("cpus: 0.5", "NanoCpus", 500_000_000),
        ("cap_add: [NET_ADMIN]", "CapAdd", ["NET_ADMIN"]),
        ("extra_hosts: ['h:10.0.0.1']", "ExtraHosts", ["h:10.0.0.1"]),
        ("tmpfs: ['/t:size=1m', '/u']", "Tmpfs", {"/t": "size=1m", "/u": ""}),
        ("ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}", "Ulimits",
         [{"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "nproc", "Soft": 3, "Hard": 3}]),
        ("devices: ['/dev/a:/dev/b:r']", "Devices",
         [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}]),
        ("gpus: all", "DeviceRequests", [{"Driver": "", "Capabilities": [["gpu"]], "Count": -1}]),
        ("gpus: [{device_ids: ['1']}]", "DeviceRequests",
         [{"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["1"]}]),
        ("network_mode: host", "NetworkMode", "host"),
        ("shm_size: 64m", "ShmSize", 64 * 2**20),
        ("logging: {driver: local, options: {max-size: 1m}}", "LogConfig",
         {"Type": "local", "Config": {"max-size": "1m"}}),
        ("image: x:1", "LogConfig", {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}),
        ("restart: always", "RestartPolicy", {"Name": "no"}),
    ],
)  # fmt: skip
def test_what_a_key_becomes_in_the_engines_own_terms(
    tmp_path: Path, line: str, where: str, value: object
) -> None:
    lines = [] if line == "image: x:1" else [line]
    assert body(tmp_path, *lines)["HostConfig"][where] == value


def test_nothing_declared_leaves_the_images_own_and_empty_clears_it(tmp_path: Path) -> None:
    assert not {"Cmd", "Entrypoint", "User", "Healthcheck", "StopSignal"} & body(tmp_path).keys()
    cleared = body(tmp_path, "entrypoint: []", "command: []")
    assert (cleared["Entrypoint"], cleared["Cmd"]) == ([], [])
    assert body(tmp_path, "healthcheck: {disable: true}")["Healthcheck"] == {"Test": ["NONE"]}
    check = "healthcheck: {test: [CMD, a], interval: 1500ms, retries: 2, start_period: 1m}"
    assert body(tmp_path, check)["Healthcheck"] == {
        "Test": ["CMD", "a"], "Interval": 1_500_000_000, "Retries": 2, "StartPeriod": 60_000_000_000,
    }  # fmt: skip


def test_every_key_that_is_read_is_acted_on_or_refused() -> None:
    assert FORMS.keys() - SUPPORTED == {"blkio_config", "cpu_count", "cpu_percent"}
    assert not SUPPORTED - FORMS.keys()


def test_what_it_shares_with_others_is_theirs_by_identity(tmp_path: Path) -> None:
    one = spec(
        tmp_path, "network_mode: service:vpn", "pid: service:vpn",
        "volumes_from: ['store:ro', 'container:x']",
        more="  vpn: {image: x}\n  store: {image: x}\n",
    )  # fmt: skip
    assert namesakes(one.options) == {"vpn", "store"}
    host = create_request(one, AROUND._replace(containers={"vpn": "1a", "store": "2b"})).body["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"]) == ("container:1a", "container:1a")
    assert host["VolumesFrom"] == ["2b:ro", "x"]


def test_networks_have_the_services_name_and_their_own_aliases(tmp_path: Path) -> None:
    one = spec(
        tmp_path, "networks: {back: {aliases: [db], ipv4_address: 10.9.0.5}, front: {priority: 5}}",
        more="networks: {back: {ipam: {config: [{subnet: 10.9.0.0/24}]}}, front: {name: shared}}\n",
    )  # fmt: skip
    request = create_request(one, AROUND)
    first = request.body["NetworkingConfig"]["EndpointsConfig"]
    assert first == {"shared": {"Aliases": ["lab-one-1", "one"]}}
    assert request.body["HostConfig"]["NetworkMode"] == "shared"
    assert request.networks == (
        ("lab_back", {"Aliases": ["lab-one-1", "one", "db"], "IPAMConfig": {"IPv4Address": "10.9.0.5"}}),
    )
    back = next(use for use in one.options["networks"] if use["key"] == "back")
    made = network_body(back, "lab", "back")
    assert made["ipam"]["Config"][0]["Subnet"] == "10.9.0.0/24"
    assert made["labels"]["com.docker.compose.network"] == "back"


def test_the_digest_follows_what_it_is_made_of_and_not_what_it_takes_over(tmp_path: Path) -> None:
    one = spec(tmp_path)
    config = create_request(one, AROUND).config
    assert create_request(one, AROUND).config == config
    assert create_request(one, AROUND._replace(kept={"/data": "f" * 64})).config == config
    assert create_request(one, AROUND._replace(image_id="sha256:2")).config != config
    assert create_request(replace(one, env={"A": "b"}), AROUND).config != config
    kept = create_request(one, AROUND._replace(kept={"/data": "f" * 64})).body
    assert kept["HostConfig"]["Mounts"] == [{"Type": "volume", "Source": "f" * 64, "Target": "/data"}]
    assert kept["Labels"][CONFIG] == config


def test_only_volumes_that_nobody_named_are_taken_over() -> None:
    mounts = [
        {"Type": "volume", "Name": "f" * 64, "Destination": "/a"},
        {"Type": "volume", "Name": "lab_named", "Destination": "/b"},
        {"Type": "bind", "Destination": "/c"},
    ]
    assert anonymous_volumes({"Mounts": mounts}) == {"/a": "f" * 64}


STARTED = "2026-11-22T02:40:59.117215753Z"


def state(code: int, *, finished: str = "2026-11-22T02:41:00Z", oom: bool = False) -> dict[str, Any]:
    return {"ExitCode": code, "OOMKilled": oom, "StartedAt": STARTED, "FinishedAt": finished}


def at(text: str) -> float:
    return nanoseconds(text) / 1e9


@pytest.mark.parametrize(
    ("ended", "watched", "outcome"),
    [
        (state(137), Watched(at(STARTED), True), Outcome(ExitStatus(137))),
        (state(137, oom=True), Watched(at(STARTED), True), Outcome(ExitStatus(137), is_oom_flagged=True)),
        (state(1), Watched(at(STARTED), True, ooms=2),
         Outcome(ExitStatus(1), oom_kills=2, is_oom_flagged=True)),
        (state(0), Watched(at(STARTED), True, asked_by="x"), Outcome(ExitStatus(0), asked_by="x")),
        (state(3), Watched(at(STARTED), False), Outcome(ExitStatus(3))),
        (state(3), Watched(at(STARTED), False, is_same_boot=False),
         Outcome(None, lost="the machine was restarted")),
    ],
)  # fmt: skip
def test_r4_an_end_is_what_the_engine_says_and_137_alone_is_no_lack_of_memory(
    ended: dict[str, Any], watched: Watched, outcome: Outcome
) -> None:
    assert outcome_of(ended, watched) == outcome


@pytest.mark.parametrize(
    ("code", "engine_started", "finished", "is_lost"),
    [
        (137, None, "2026-11-22T03:00:01Z", True),
        (3, None, "2026-11-22T03:00:01Z", False),
        (137, "2026-11-22T03:00:00Z", "2026-11-22T03:00:10Z", True),
        (0, "2026-11-22T03:00:00Z", "2026-11-22T03:00:10Z", True),
        (137, "2026-11-22T03:00:00Z", "2026-11-22T02:59:59Z", False),
        (137, "2026-11-22T02:00:00Z", "2026-11-22T03:00:00Z", False),
        (3, "2026-11-22T03:00:00Z", "2026-11-22T03:05:00Z", False),
        (255, "2026-11-22T03:00:00Z", "2026-11-22T02:59:59Z", True),
    ],
)
def test_what_an_engine_ended_when_it_was_started_is_an_end_that_nobody_saw(
    code: int, engine_started: str | None, finished: str, is_lost: bool
) -> None:
    started = None if engine_started is None else at(engine_started)
    watched = Watched(at(STARTED), False, engine_started_at=started)
    outcome = outcome_of(state(code, finished=finished), watched)
    assert bool(outcome.lost) is is_lost
    assert not outcome.is_oom_flagged


def test_instants_of_docker_and_podman_are_read_to_the_nanosecond() -> None:
    assert nanoseconds("2026-11-22T02:40:59.117215753Z") % 1_000_000_000 == 117_215_753
    assert nanoseconds("2026-11-22T03:40:59.1172157+01:00") == nanoseconds("2026-11-22T02:40:59.1172157Z")
    assert nanoseconds("0001-01-01T00:00:00Z") == 0
    assert nanoseconds("nonsense") == 0
    assert life_of("a" * 64, {"StartedAt": STARTED}) != life_of("a" * 64, {"StartedAt": STARTED[:-2] + "4Z"})


@pytest.mark.parametrize(
    ("text", "reason", "fix"),
    [
        ("driver failed programming external connectivity: Bind for 0.0.0.0:8080 failed: port is already "
         "allocated", "PortInUse", "sport = :8080"),
        ("Error starting userland proxy: listen tcp4 127.0.0.1:5432: bind: address already in use",
         "PortInUse", ":5432"),
        ("could not select device driver \"\" with capabilities: [[gpu]]", "HostGpuDriver", "toolkit"),
        ("OCI runtime create failed: exec: \"serve\": executable file not found in $PATH: unknown",
         "ProgramMissing", "serve"),
        ("exec: \"/app/run.sh\": permission denied: unknown", "ProgramMissing", "chmod +x"),
        ("Conflict. The container name \"/lab-one-1\" is already in use by container \"1a\"", "NameTaken",
         "docker rm -f lab-one-1"),
        ("write /var/lib/x: no space left on device", "DiskFull", "df -h"),
        ("No such image: x:1", "ImageMissing", "pull or build"),
        ("something new", "EngineRefused", "standfast release one"),
    ],
)  # fmt: skip
def test_a_refusal_is_an_obstacle_with_the_command_that_clears_it(
    tmp_path: Path, text: str, reason: str, fix: str
) -> None:
    found = refusal(text, spec(tmp_path))
    assert (found.reason, fix in found.remedy) == (reason, True), found
    assert text[:40] in found.message


def test_images_are_found_by_the_names_of_both_engines() -> None:
    docker = {"x:latest": "1", "ns/y:2": "2", "z@sha256:aa": "3"}
    podman = {"docker.io/library/x:latest": "1", "localhost/mine:1": "4"}
    assert [image_of(docker, name) for name in ("x", "ns/y:2", "z@sha256:aa", "ns/y")] == ["1", "2", "3", ""]
    assert [image_of(podman, name) for name in ("x", "mine:1", "docker.io/library/x")] == ["1", "4", "1"]
    assert image_of({"host:5000/a:latest": "5"}, "host:5000/a") == "5"


def test_small_words_of_containers() -> None:
    assert check_of(["CMD-SHELL", "a b"]) == ("/bin/sh", "-c", "a b")
    assert check_of(["CMD", "a", "b"]) == ("a", "b")
    assert check_of(["NONE"]) == ()
    assert [signal_of(name) for name in ("SIGINT", "quit", "9", "")] == [2, 3, 9, 15]
    failed = {"Log": [{"ExitCode": 0, "Output": ""}, {"ExitCode": 7, "Output": "a\nno route\n"}]}
    assert last_failure(failed) == "its health check ended with exit code 7: no route"
    assert last_failure({"Log": [{"ExitCode": 0}]}) == ""
