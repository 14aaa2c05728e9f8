"""Rules about Dockerfiles: what builds and what the health check of the image needs."""

from __future__ import annotations

import ast
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from standfast.services.lint import shell
from standfast.services.lint.contents import BuiltImage, Copy, build, health_check, run_scripts, stage_images
from standfast.services.lint.dockerfile import Dockerfile, Instruction, expand
from standfast.services.lint.images import is_floating, parse_image
from standfast.services.lint.installs import installs
from standfast.services.lint.locating import contexts_of, requirements_for
from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.tree import LintService, Tree

_VARIABLE = re.compile(r"(?<![\\$])\$\{?[A-Za-z_][A-Za-z0-9_]*\}?")
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "cmd", "powershell", "pwsh", "envsubst"})
_PYTHON = re.compile(r"(?:.*/)?python(?:3(?:\.\d+)?)?")
#: Folders that a build outside of Docker fills.
_MADE_BEFORE = frozenset(
    {"dist", "build", "target", "out", "bin", ".next", "node_modules", "wheels", "wheelhouse"}
)
#: Where the name to import is not that of the distribution; several may bring it.
_BROUGHT_BY: dict[str, frozenset[str]] = {
    "requests": frozenset({
        "requests", "mlflow", "docker", "yfinance", "transformers", "huggingface-hub", "datasets", "wandb",
        "kubernetes", "tensorboard", "tensorflow", "streamlit", "langchain", "jupyter", "jupyterlab",
        "apache-airflow", "sagemaker", "ray", "bittensor", "ccxt", "python-binance", "pandas-datareader",
        "spacy", "kaggle", "gdown", "timm", "diffusers", "accelerate", "sentence-transformers", "evaluate",
        "ultralytics", "locust", "responses", "requests-oauthlib", "tweepy", "google-api-core", "twilio",
        "google-cloud-storage", "google-cloud-bigquery", "azure-core", "azure-storage-blob", "stripe",
        "hvac", "tiktoken", "dvc", "prefect", "neptune", "comet-ml", "great-expectations", "dash", "openml",
        "influxdb-client", "pygithub", "atlassian-python-api", "slack-sdk", "pyngrok", "vllm", "torchvision",
    }),
    "httpx": frozenset({
        "httpx", "openai", "anthropic", "gradio", "gradio-client", "prefect", "supabase", "ollama", "litellm",
        "langsmith", "langchain", "langchain-core", "mcp", "qdrant-client", "weaviate-client", "vllm",
    }),
    "aiohttp": frozenset({
        "aiohttp", "discord-py", "langchain", "ray", "aiobotocore", "datasets", "bittensor", "ccxt",
        "kubernetes-asyncio", "vllm", "litellm", "gcsfs", "s3fs", "adlfs", "aiohttp-retry",
    }),
    "redis": frozenset({"redis", "celery", "rq", "aioredis", "django-redis", "redis-om", "huey", "dramatiq"}),
    "psycopg2": frozenset({"psycopg2", "psycopg2-binary"}),
    "psycopg": frozenset({"psycopg", "psycopg-binary"}),
    "kafka": frozenset({"kafka-python", "kafka-python-ng", "aiokafka"}),
    "pymongo": frozenset({"pymongo", "motor", "mongoengine", "beanie"}),
}  # fmt: skip


def judge_syntax(tree: Tree) -> Iterator[Hit]:
    """Judge whether a Dockerfile can be read."""
    for dockerfile in tree.dockerfiles:
        for problem in dockerfile.problems:
            yield Hit(
                Spot(dockerfile.path, problem.line), problem.why, "mend this line; docker build fails here"
            )


def judge_base_pinned(tree: Tree) -> Iterator[Hit]:
    """Judge whether a base image means the same image tomorrow."""
    for dockerfile in tree.dockerfiles:
        for stage in dockerfile.stages:
            image = expand(stage.base, dockerfile.arguments)
            earlier = dockerfile.stage(image)
            is_stage = earlier is not None and earlier.index < stage.index
            if not is_stage and "$" not in image and is_floating(parse_image(image)):
                yield floating_hit(Spot(dockerfile.path, stage.line), image)


def floating_hit(spot: Spot, image: str) -> Hit:
    """Return the finding about an image without a fixed tag."""
    ref = parse_image(image)
    said = f"the tag {ref.tag}" if ref.tag else "no tag"
    return Hit(
        spot, f"{image} has {said}: what runs changes with the next pull, and nothing says when",
        f"name a version: {ref.name}:VERSION, or a digest", image, evidence={"image": image},
    )  # fmt: skip


def judge_swallowed(tree: Tree) -> Iterator[Hit]:
    """Judge whether the failure of an installation counts as success."""
    for dockerfile in tree.dockerfiles:
        for stage in dockerfile.stages:
            for instruction in stage.instructions:
                if instruction.name == "RUN":
                    yield from _swallowed(dockerfile, instruction)
    for service in tree.services:
        text = shell.script(tuple(service.declared.command or ())) or shell.script(
            tuple(service.declared.entrypoint or ())
        )
        for install in installs(text):
            if install.swallowed_by:
                yield _swallowed_hit(service.at("command"), install.manager, install.swallowed_by)


def _swallowed(dockerfile: Dockerfile, instruction: Instruction) -> Iterator[Hit]:
    for text, line in run_scripts(instruction):
        # One "|| true" may end a chain of several: it is said once, at the last of them.
        last = {install.swallowed_at: install for install in installs(text) if install.swallowed_by}
        for install in last.values():
            spot = Spot(dockerfile.path, line + text.count("\n", 0, install.offset))
            yield _swallowed_hit(spot, install.manager, install.swallowed_by)


def _swallowed_hit(spot: Spot, manager: str, swallowed_by: str) -> Hit:
    return Hit(
        spot, f'"{swallowed_by}" makes a failed {manager} installation count as done: the image is built '
        "without it", f'remove "{swallowed_by}", so that the build stops where it fails', manager,
    )  # fmt: skip


def judge_copies(tree: Tree) -> Iterator[Hit]:
    """Judge whether what COPY and ADD take is in the build context."""
    for dockerfile in tree.dockerfiles:
        contexts, is_told = contexts_of(tree, dockerfile)
        if not contexts:
            continue
        copies = {
            (c.line, s): c for image in stage_images(dockerfile) for c in image.copies for s in c.sources
        }
        for (line, source), copy in sorted(copies.items()):
            missing = [folder for folder in contexts if _is_missing(tree, folder, source, copy)]
            # Presumed contexts are alternatives: one that has it is enough. Told ones must all have it.
            if (is_told and missing) or (not is_told and len(missing) == len(contexts)):
                severity = Severity.ERROR if is_told else Severity.WARNING
                yield Hit(
                    Spot(dockerfile.path, line),
                    f"COPY {source}: it is not in the build context {missing[0]}",
                    "add the file, or correct the name or the context", source,
                    Severity.INFO if _is_made(source) else severity,
                    {"context": str(missing[0]), "is_told_by_a_stack": is_told},
                )  # fmt: skip


def _is_made(source: str) -> bool:
    """Return whether another tool usually makes it before the build, so that its absence here says little."""
    first = posixpath.normpath(source.lstrip("/")).split("/")[0]
    return first in _MADE_BEFORE or source.endswith((".whl", ".jar", ".war", ".deb"))


def _is_missing(tree: Tree, context: Path, source: str, copy: Copy) -> bool:
    if copy.stage or "$" in source or re.match(r"[a-z+]+://|git@", source):
        return False
    if not tree.disk.knows(context) or context not in tree.disk.folders:
        return False
    name = posixpath.normpath(source.lstrip("/"))
    if name in (".", "..") or name.startswith("../"):
        return False
    if re.search(r"[*?\[]", name):
        depth = len(PurePosixPath(name).parts)
        below = (path.relative_to(context) for path in tree.disk.below(context))
        return not any(_matches(path, name, depth) for path in below)
    return not tree.disk.has(Path(os.path.normpath(context / name)))


def _matches(path: Path, pattern: str, depth: int) -> bool:
    head = PurePosixPath(*path.parts[:depth])
    return head.match(pattern) if "**" not in pattern else True


def judge_image_check(tree: Tree) -> Iterator[Hit]:
    """Judge whether the program that a HEALTHCHECK calls is in the image."""
    for dockerfile, image in _finals(tree):
        check = image.health
        if check is None or _owner_of_check(dockerfile, check.line) is None:
            continue
        spot = Spot(dockerfile.path, check.line)
        yield from missing_programs(spot, called_by(check.words, check.text), image.program, image.base)


def _finals(tree: Tree) -> Iterator[tuple[Dockerfile, BuiltImage]]:
    """Yield what each Dockerfile builds, as the first service that uses it does."""
    for dockerfile in tree.dockerfiles:
        used = next((s.built for s in tree.uses_of(dockerfile.path) if s.built is not None), None)
        image = used or build(dockerfile)
        if image is not None:
            yield dockerfile, image


def _owner_of_check(dockerfile: Dockerfile, line: int) -> Instruction | None:
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            found = health_check(instruction) if instruction.name == "HEALTHCHECK" else None
            if found is not None and found.line == line:
                return instruction
    return None


def called_by(words: tuple[str, ...], text: str) -> list[str]:
    """Return the programs that a health check calls, in its exec form or in its shell form."""
    if not words:
        return list(dict.fromkeys(name for name, _ in shell.programs(text)))
    inner = shell.script(words)
    return list(dict.fromkeys([words[0], *(name for name, _ in shell.programs(inner))]))


def missing_programs(spot: Spot, names: list[str], program: object, where: str) -> Iterator[Hit]:
    """Yield a finding for each program that is surely not in the image."""
    assert callable(program)
    for name in names:
        if program(name) is False:
            yield Hit(
                spot, f"the health check calls {name}, which is not in the image ({where}): it always fails",
                f"install {name.rsplit('/', 1)[-1]} in the image, or check with a program that is there",
                name, evidence={"program": name, "image": where},
            )  # fmt: skip


def judge_check_module(tree: Tree) -> Iterator[Hit]:
    """Judge whether a module that a health check imports is installed in the image."""
    for dockerfile, image in _finals(tree):
        if image.health is not None:
            words = image.health.words or _first_words(image.health.text)
            spot = Spot(dockerfile.path, image.health.line)
            yield from _missing_modules(tree, dockerfile, image, None, words, spot)
    for service in tree.services:
        check, use = service.declared.healthcheck, service.use
        if check is None or check.is_disabled or use is None or use.image is None or not check.test:
            continue
        words = check.test[1:] if check.test[0] == "CMD" else _first_words(" ".join(check.test[1:]))
        context = None if use.stands_in else use.context
        yield from _missing_modules(
            tree, use.image.dockerfile, use.image, context, words, service.at("healthcheck", "test")
        )


def _first_words(text: str) -> tuple[str, ...]:
    found = shell.commands(text)
    return found[0].words if found else ()


def _missing_modules(
    tree: Tree,
    dockerfile: Dockerfile,
    image: BuiltImage,
    context: Path | None,
    words: tuple[str, ...],
    spot: Spot,
) -> Iterator[Hit]:
    wanted = [name for name in _imports(words) if name in _BROUGHT_BY]
    installed = _distributions(tree, dockerfile, image, context) if wanted else None
    for name in wanted if installed is not None else ():
        assert installed is not None
        if not installed & _BROUGHT_BY[name]:
            yield Hit(
                spot, f"the health check imports {name}, which no requirement of the image brings",
                f"check with urllib.request, or add {name} to the requirements", name,
                evidence={"module": name, "installed": sorted(installed)},
            )  # fmt: skip


def _imports(words: tuple[str, ...]) -> list[str]:
    if len(words) < 3 or not _PYTHON.fullmatch(words[0]) or "-c" not in words[:-1]:
        return []
    try:
        parsed = ast.parse(words[words.index("-c") + 1])
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".", maxsplit=1)[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module.split(".")[0])
    return [name for name in dict.fromkeys(names) if name not in sys.stdlib_module_names]


def _distributions(
    tree: Tree, dockerfile: Dockerfile, image: BuiltImage, context: Path | None
) -> frozenset[str] | None:
    """Return what pip installs in an image; None where not all of it can be known."""
    if parse_image(image.base).name != "python" and not image.base.startswith("nvidia/cuda"):
        return None
    found: set[str] = set()
    for step in image.steps:
        if step.install.manager in ("conda", "poetry", "pipenv"):
            return None
        if step.install.manager != "pip":
            continue
        found.update(word.name for word in step.install.packages)
        if any(word.text.startswith((".", "/", "git+", "http")) for word in step.install.packages):
            return None
        for name in step.install.requirement_files:
            requirements = requirements_for(tree, dockerfile, image, context, name)
            if requirements is None or requirements.includes:
                return None
            found.update(wanted.word.name for wanted in requirements.wanted)
    return frozenset(found)


def judge_exec_variable(tree: Tree) -> Iterator[Hit]:
    """Judge variables in the exec form, which no shell expands."""
    for dockerfile in tree.dockerfiles:
        for stage in dockerfile.stages:
            for instruction in stage.instructions:
                words = instruction.json_words if instruction.name in ("CMD", "ENTRYPOINT") else None
                if instruction.name == "HEALTHCHECK":
                    check = health_check(instruction)
                    words = check.words if check is not None else None
                spot = Spot(dockerfile.path, instruction.line)
                yield from _unexpanded(spot, words or (), instruction.name)
    for service in tree.services:
        yield from _service_variables(service)


def _service_variables(service: LintService) -> Iterator[Hit]:
    check = service.declared.healthcheck
    if check is not None and check.test[:1] == ("CMD",):
        yield from _unexpanded(service.at("healthcheck", "test"), check.test[1:], "healthcheck CMD")
    built = service.built
    start = service.declared.entrypoint or (built.starts if built is not None else ())
    has_shell = any(word.rsplit("/", 1)[-1] in _SHELLS for part in start[:2] for word in part.split()[:1])
    if not has_shell:
        yield from _unexpanded(service.at("command"), service.declared.command or (), "command")


def _unexpanded(spot: Spot, words: tuple[str, ...], what: str) -> Iterator[Hit]:
    if not words or words[0].rsplit("/", 1)[-1] in _SHELLS:
        return
    match = next((m for word in words[1:] if (m := _VARIABLE.search(word))), None)
    if match is not None:
        yield Hit(
            spot, f"{what} starts {words[0]} without a shell: {match[0]} is not expanded",
            f'["sh", "-c", "exec {words[0]} ... {match[0]}"]', match[0],
        )  # fmt: skip
