"""Dockerfiles: how they are read, and the rules about builds, CUDA and torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lint_lab import only, places, report, rules
from standfast.services.lint.contents import build
from standfast.services.lint.dockerfile import expand, parse_dockerfile
from standfast.services.lint.images import ImageRef, is_floating, parse_image
from standfast.services.lint.installs import installs
from standfast.services.lint.model import Severity
from standfast.services.lint.shell import commands, programs

FILE = Path("Dockerfile")

GOOD = """
    # syntax=docker/dockerfile:1
    ARG CUDA=12.8.1
    FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu22.04 AS base
    RUN apt-get update && apt-get install -y --no-install-recommends \\
        python3 python3-pip curl \\
        && rm -rf /var/lib/apt/lists/*
    # Blackwell: sm_120
    RUN pip3 install --no-cache-dir --pre torch --index-url https://example.org/whl/nightly/cu128
    COPY requirements.txt .
    RUN pip3 install -r requirements.txt
    COPY *.py ./
    HEALTHCHECK --interval=5s CMD curl -f http://localhost:8000/health || exit 1
    CMD ["python3", "main.py"]
"""
REQUIRE = "RUN pip3 install -r requirements.txt"
UBUNTU = "nvidia/cuda:12.8.1-base-ubuntu22.04"
PYTHON311 = "RUN apt-get install -y python3.11 python3-pip"
GOOD_FILES = {"Dockerfile": GOOD, "requirements.txt": "fastapi==0.115.0\ntorch>=2.7\n", "main.py": "x = 1\n"}


def test_a_good_dockerfile_gives_no_finding(tmp_path: Path) -> None:
    assert report(tmp_path, GOOD_FILES).findings == ()


def changed(tmp_path: Path, old: str, new: str) -> dict[str, str]:
    assert old in GOOD
    return {**GOOD_FILES, "Dockerfile": GOOD.replace(old, new)}


@pytest.mark.parametrize(
    ("old", "new", "rule", "line"),
    [
        ("CUDA=12.8.1", "CUDA=12.1.0", "cuda-too-old", 3),
        ("-cudnn-runtime", "-cudnn8-runtime", "cudnn-tag", 3),
        ("-cudnn-runtime", "-cudnn9-runtime", "cudnn-tag", 3),
        ("whl/nightly/cu128", "whl/nightly/cu121", "torch-index", 8),
        ("whl/nightly/cu128", "whl/cu126", "torch-index", 8),
        ("--pre torch", "torch", "nightly-without-pre", 8),
        (REQUIRE, "RUN pip3 install -r requirements.txt || true",
         "install-swallowed", 10),
        ("&& rm -rf /var/lib/apt/lists/*", "|| true", "install-swallowed", 4),
        (REQUIRE, "RUN (pip3 install -r requirements.txt) || true", "install-swallowed", 10),
        (REQUIRE, "RUN pip3 install -r requirements.txt && echo ok || exit 0", "install-swallowed", 10),
        (REQUIRE, "RUN pip3 install torch==2.5.1", "torch-replaced", 10),
        (REQUIRE, "RUN pip3 install torchvision==0.15.2", "torch-replaced", 10),
        ("python3 python3-pip curl", "python3 python3-pip", "image-healthcheck-program", 12),
        ("nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu22.04", "python:latest", "base-floating", 3),
        ("nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu22.04", "python", "base-floating", 3),
        ("COPY *.py ./", "COPY app/ ./", "copy-missing", 11),
        ("COPY *.py ./", "COPY *.go ./", "copy-missing", 11),
        ('CMD ["python3", "main.py"]', 'CMD ["python3", "main.py", "--port", "$PORT"]', "exec-variable", 13),
        ("COPY *.py ./", "COPPY *.py ./", "dockerfile-syntax", 11),
    ],
)  # fmt: skip
def test_v_each_fault_is_found_at_its_line(tmp_path: Path, old: str, new: str, rule: str, line: int) -> None:
    found = report(tmp_path, changed(tmp_path, old, new))
    assert places(found, rule) == [f"Dockerfile:{line}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (REQUIRE, "RUN pip3 install -r requirements.txt || pip3 install numpy"),
        (REQUIRE, "RUN pip3 install numpy || (sleep 5 && pip3 install numpy)"),
        ("&& rm -rf /var/lib/apt/lists/*", "&& (apt-get purge -y gcc || true)"),
        (REQUIRE, "RUN pip3 install torch==2.8.0 --index-url https://x/whl/cu128"),
        (REQUIRE, "RUN pip3 install --no-deps torchvision==0.22"),
        (REQUIRE, "RUN grep -v torch requirements.txt > r.txt && pip3 install -r r.txt"),
        ("CUDA=12.8.1", "CUDA=13.0.1"),
        ("FROM nvidia/cuda:${CUDA}", "FROM nvidia/cuda:12.9.0"),
        ("COPY *.py ./", "COPY . ."),
        ("COPY *.py ./", "COPY --from=busybox:1.36 /bin/busybox /bin/busybox"),
        ("CMD curl -f http://localhost:8000/health || exit 1",
         'CMD ["python3", "-c", "import urllib.request as u; u.urlopen(\'http://localhost:8000\')"]'),
        ('CMD ["python3", "main.py"]', 'CMD ["sh", "-c", "exec python3 main.py --port $PORT"]'),
        ('CMD ["python3", "main.py"]', "CMD python3 main.py --port $PORT"),
        ("COPY *.py ./", "ADD https://example.org/model.bin /model.bin"),
        ("COPY *.py ./", "COPY <<EOF /etc/x.conf\nkey = 1\nEOF"),
    ],
)  # fmt: skip
def test_what_is_right_in_another_way_gives_no_finding(tmp_path: Path, old: str, new: str) -> None:
    found = report(tmp_path, changed(tmp_path, old, new))
    assert [f"{f.line} {f.rule} {f.message}" for f in found.findings] == []


def test_v_a_requirements_file_pins_another_torch(tmp_path: Path) -> None:
    found = report(tmp_path, {**GOOD_FILES, "requirements.txt": "numpy\ntorch==2.1.0\n"})
    replaced = only(found, "torch-replaced")
    assert (replaced.line, replaced.severity) == (10, Severity.ERROR)
    assert "requirements.txt:2 torch==2.1.0" in replaced.message
    assert places(found, "torch-too-old") == ["requirements.txt:2"]


def test_l4_without_a_named_gpu_it_is_a_warning_that_names_its_condition(tmp_path: Path) -> None:
    text = "FROM nvidia/cuda:12.1.0-base-ubuntu22.04\n"
    finding = only(report(tmp_path, {"Dockerfile": text}), "cuda-too-old")
    assert finding.severity is Severity.WARNING
    assert "if sm_120 (RTX 50) is meant" in finding.message


@pytest.mark.parametrize("said", ["# for the RTX 4090", "ENV TORCH_CUDA_ARCH_LIST=8.9", "# sm_89"])
def test_l4_another_gpu_has_other_needs(tmp_path: Path, said: str) -> None:
    text = f"FROM nvidia/cuda:12.1.0-base-ubuntu22.04\n{said}\n"
    assert rules(report(tmp_path, {"Dockerfile": text})) == set()
    text = f"FROM nvidia/cuda:11.4.0-base-ubuntu22.04\n{said}\n"
    assert only(report(tmp_path, {"Dockerfile": text}), "cuda-too-old").severity is Severity.ERROR


def test_l4_the_architecture_can_be_said(tmp_path: Path) -> None:
    text = {"Dockerfile": "FROM nvidia/cuda:12.8.1-base-ubuntu22.04\n"}
    assert rules(report(tmp_path, text)) == set()
    assert only(report(tmp_path, text, arch="sm_103"), "cuda-too-old").severity is Severity.ERROR


@pytest.mark.parametrize(
    ("image", "is_found"),
    [
        ("nvcr.io/nvidia/pytorch:24.10-py3", True),
        ("nvcr.io/nvidia/pytorch:25.03-py3", False),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", True),
        ("pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime", False),
        ("nvidia/cuda:12.6.3-cudnn-devel-rockylinux9", True),
    ],
)
def test_l4_the_cuda_of_other_images_and_of_services(tmp_path: Path, image: str, *, is_found: bool) -> None:
    found = report(tmp_path / "a", {"Dockerfile": f"FROM {image}\n"})
    assert rules(found) == ({"cuda-too-old"} if is_found else set())
    text = f"services:\n  a: {{image: '{image}', restart: always, mem_limit: 1g, gpus: all}}\n"
    assert rules(report(tmp_path / "b", {"compose.yaml": text})) == ({"cuda-too-old"} if is_found else set())


def test_l4_indexes_in_variables_conda_and_arguments(tmp_path: Path) -> None:
    text = """
        FROM python:3.11-slim
        ARG INDEX=https://x/whl/cu121
        ENV PIP_EXTRA_INDEX_URL=https://x/whl/cu124
        RUN pip install torch --index-url ${INDEX}
        RUN conda install -y pytorch pytorch-cuda=12.1 -c pytorch -c nvidia
    """
    assert places(report(tmp_path, {"Dockerfile": text}), "torch-index") == [
        "Dockerfile:3", "Dockerfile:4", "Dockerfile:5"
    ]  # fmt: skip


def test_a_stage_that_is_not_final_is_judged_for_what_it_installs(tmp_path: Path) -> None:
    text = """
        FROM python:3.11-slim AS builder
        RUN <<EOF
        pip install --prefix=/out wheel || true
        EOF
        FROM python:3.11-slim
        COPY --from=builder /out /usr/local
        HEALTHCHECK CMD wget -qO- http://localhost:80 || exit 1
    """
    found = report(tmp_path, {"Dockerfile": text})
    assert places(found, "install-swallowed") == ["Dockerfile:3"]
    assert places(found, "image-healthcheck-program") == ["Dockerfile:7"]


@pytest.mark.parametrize(
    ("base", "install", "check", "is_found"),
    [
        ("python:3.12-slim", "", "curl -f x", True),
        ("python:3.12", "", "curl -f x", False),
        ("python:3.12", "", "nc -z localhost 80", True),
        ("python:3.12-alpine", "", "wget -q x", False),
        ("python:3.12-alpine", "", "curl -f x", True),
        ("python:3.12-alpine", "RUN apk add --no-cache curl", "curl -f x", False),
        ("node:22-slim", "", "curl -f x", True),
        ("node:22-bookworm", "", "curl -f x", False),
        ("debian:12-slim", "RUN apt-get install -y netcat-openbsd", "nc -z localhost 80", False),
        ("debian:12-slim", "RUN apt-get install -y procps", "pgrep -f x", False),
        ("debian:12-slim", "", "pgrep -f x", True),
        (UBUNTU, PYTHON311, "python -V", True),
        (UBUNTU, PYTHON311, "python3 -V", False),
        (UBUNTU,
         "RUN apt-get install -y python3 && ln -s /usr/bin/python3 /usr/bin/python", "python -V", False),
        ("gcr.io/distroless/static-debian12", "", "curl -f x", True),
        ("redis:7-alpine", "", "redis-cli ping", False),
        ("postgres:16", "", "pg_isready -U x", False),
        ("example.org/own/base:1", "", "curl -f x", False),
        ("${BASE}", "", "curl -f x", False),
        ("python:3.12-slim", "COPY curl /usr/local/bin/curl", "curl -f x", False),
        ("python:3.12-slim", "COPY check.sh /check.sh", "/check.sh", False),
        ("python:3.12-slim", "", "sh -c 'curl -f x'", True),
        ("python:3.12-slim", "", "timeout 5 curl -f x", True),
        ("python:3.12-slim", "", "test -f /tmp/ok && cat /tmp/ok | grep yes", False),
    ],
)  # fmt: skip
def test_v_programs_of_health_checks(
    tmp_path: Path, base: str, install: str, check: str, *, is_found: bool
) -> None:
    text = f"FROM {base}\n{install}\nHEALTHCHECK CMD {check} || exit 1\n"
    files = {"Dockerfile": text, "curl": "", "check.sh": ""}
    assert ("image-healthcheck-program" in rules(report(tmp_path, files))) is is_found


@pytest.mark.parametrize(
    ("requirements", "is_found"),
    [("fastapi\n", True), ("requests\n", False), ("mlflow==2.9\n", False), ("-r other.txt\n", False)],
)
def test_v_modules_of_health_checks(tmp_path: Path, requirements: str, *, is_found: bool) -> None:
    text = """
        FROM python:3.11-slim
        COPY requirements.txt .
        RUN pip install -r requirements.txt
        HEALTHCHECK CMD python -c "import requests, sys; requests.get('http://localhost')" || exit 1
    """
    found = report(tmp_path, {"Dockerfile": text, "requirements.txt": requirements})
    assert ("healthcheck-module" in rules(found)) is is_found


def test_instructions_know_their_lines() -> None:
    text = (
        "# escape=`\n# a comment\nARG V=1\nFROM a:${V} AS one\n"
        "RUN x `\n\n  # inside`\n  && apt-get install -y curl\n"
        "from one as two\nENV A=1 B=\"two words\" C=x\\ y\nENV D old form\nEXPOSE 80/tcp 90-92\nLABEL x=y\n"
    )  # fmt: skip
    parsed = parse_dockerfile(text, FILE)
    assert parsed.problems == ()
    assert [(s.name, s.base, s.line) for s in parsed.stages] == [("one", "a:${V}", 4), ("two", "one", 9)]
    image = build(parsed, "", {"V": "2"})
    assert image is not None
    assert (image.base, image.base_line) == ("a:2", 4)
    assert [step.line for step in image.steps] == [8]
    assert {key: setting.value for key, setting in image.env.items()} == {
        "A": "1", "B": "two words", "C": "x y", "D": "old form"
    }  # fmt: skip
    assert sorted(image.ports) == [80, 90, 91, 92]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("RUN x\nFROM a:1\n", 1, "before the first FROM"),
        ("ARG X=1\n", 1, "no FROM"),
        ("", 1, "no FROM"),
        ("FROM\n", 1, "names no image"),
        ("FROM a:1\nWHAT is this\n", 2, "no instruction"),
    ],
)
def test_what_is_no_dockerfile_is_said_with_its_line(text: str, line: int, words: str) -> None:
    problems = parse_dockerfile(text, FILE).problems
    assert problems[0].line == line
    assert words in problems[0].why


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$A ${A} ${A:-x} ${B:-x} ${B-y} ${A:+set} ${B:+set} ${B}", "1 1 1 x y set  ${B}"),
        (r"\$A ${E:-empty} ${E-unset} ${B:-${A}}", "$A empty  1"),
    ],
)
def test_variables_are_put_in(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "E": ""}) == wanted


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parsed = parse_dockerfile(text, FILE)
    for stage in parsed.stages:
        build(parsed, str(stage.index))
    assert parsed.stages or parsed.problems
    commands(text)
    installs(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("python:3.11", ImageRef("python", "3.11", "")),
        ("docker.io/library/redis", ImageRef("redis", "", "")),
        ("localhost:5000/a/b:1", ImageRef("localhost:5000/a/b", "1", "")),
        ("localhost:5000/a/b", ImageRef("localhost:5000/a/b", "", "")),
        ("x@sha256:ab", ImageRef("x", "", "sha256:ab")),
    ],
)
def test_image_references(text: str, wanted: ImageRef) -> None:
    assert parse_image(text) == wanted


@pytest.mark.parametrize(
    ("image", "floats"),
    [
        ("a", True), ("a:latest", True), ("a:latest-pg15", True), ("a:alpine-latest", True), ("a:1", False),
        ("a@sha256:1", False), ("scratch", False), ("r:5000/a", True), ("a:nightly", True),
        ("a:lateral", False),
    ],
)  # fmt: skip
def test_floating_images(image: str, *, floats: bool) -> None:
    assert is_floating(parse_image(image)) is floats


def test_installations_are_seen_however_they_are_called() -> None:
    text = """set -e; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get install -y -q curl=7.* wget
    python3 -m pip install -q --index-url https://x/whl/cu128 'torch>=2.7' -rreq.txt; uv pip install numpy
    if [ -n "$X" ]; then apk add --no-cache --virtual .deps gcc; fi
    bash -lc "pip install inner" | tee log; conda install -y -c pytorch faiss
    """
    found = [(i.manager, tuple(w.name for w in i.packages), i.requirement_files) for i in installs(text)]
    assert found == [
        ("apt", ("curl", "wget"), ()),
        ("pip", ("torch",), ("req.txt",)),
        ("pip", ("numpy",), ()),
        ("apk", ("gcc",), ()),
        ("pip", ("inner",), ()),
        ("conda", ("faiss",), ()),
    ]


def test_programs_that_a_shell_text_calls() -> None:
    text = 'echo "a; curl b" | nc localhost 2181 | grep Mode && test -f x || $(cat y) 2>/dev/null # wget'
    assert [name for name, _ in programs(text)] == ["nc", "grep"]
