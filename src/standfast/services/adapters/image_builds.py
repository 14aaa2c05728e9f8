"""Builds images that are declared and missing, beside everything else: a build may take an hour.

1. A build is begun once per image, whoever waits for it, and its progress goes into the service's log.
2. A build that failed is tried again when its Dockerfile or its folder has changed, and else on a slow
   schedule: the same input gives the same failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from standfast.services.adapters.engine import EngineDownError, EngineLink, EngineRefusedError
from standfast.services.adapters.journal import FileJournal
from standfast.services.model import Obstacle, ServiceSpec

_LOOK_S = 1.0
#: Waits between tries with an unchanged input; the last one repeats.
_SLOW_TRIES_S = (60.0, 300.0, 900.0)
_RECHECK_S = 5.0
_MOST_ENTRIES = 2_000
_STEP = re.compile(r"Step \d+/\d+ : .*|STEP \d+/\d+: .*")


class BuildError(Exception):
    """A build ended without an image; the text is its last word."""


class ImageBuilds:
    """The builds of one supervisor."""

    def __init__(self, link: EngineLink, journal_of: Callable[[str], FileJournal]) -> None:
        self._link = link
        self._journal_of = journal_of
        self._running: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, str] = {}
        self._failed: dict[str, _Failure] = {}

    def close(self) -> None:
        """Wait for no build any more; the engine may finish it."""
        for task in self._running.values():
            task.cancel()

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return that the image of ``spec`` is being built, or cannot be; None where a build may begin."""
        image = str(spec.options["image"])
        if image in self._running:
            what = f"its image {image} is being built: {self._progress.get(image) or 'begun'}"
            return Obstacle("Building", what, "wait a moment; the build's output is in its log", _LOOK_S)
        failure = self._failed.get(image)
        if failure is None or failure.is_over(inputs_of(spec.options["build"])):
            return None
        what = f"its image {image} could not be built: {failure.why}"
        return Obstacle("BuildFailed", what, f"docker build -t {image} {_words(spec)}", _RECHECK_S)

    def begin(self, spec: ServiceSpec) -> Obstacle:
        """Begin to build the image of ``spec``; return what its service waits for."""
        image = str(spec.options["image"])
        lacking = spec.options["build"]["unsupported"]
        if lacking:
            what = f"its image {image} is missing, and its build has {', '.join(lacking)}"
            files = " ".join(f"-f {path}" for path in spec.options["files"])
            fix = f"docker compose {files} build {spec.options['service']}"
            return Obstacle("ImageMissing", what, fix, _RECHECK_S)
        self._running[image] = asyncio.ensure_future(self._build(spec, image))
        found = self.obstacle(spec)
        assert found is not None, "a build that was just begun is under way"
        return found

    async def _build(self, spec: ServiceSpec, image: str) -> None:
        inputs = await asyncio.to_thread(inputs_of, spec.options["build"])
        try:
            await self._link.stream(lambda client: self._follow(client, spec, image))
            self._failed.pop(image, None)
        except (EngineDownError, EngineRefusedError, BuildError, TypeError) as error:
            if not self._link.is_up:
                return  # The engine went away, which is an obstacle of its own.
            tries = self._failed[image].tries + 1 if image in self._failed else 1
            self._failed[image] = _Failure(str(error)[:400], inputs, tries, time.monotonic())
        finally:
            self._running.pop(image, None)
            self._progress.pop(image, None)

    def _follow(self, client: Any, spec: ServiceSpec, image: str) -> None:
        """Build, and copy what the engine tells of it into the service's log; runs in a thread."""
        build = spec.options["build"]
        journal = self._journal_of(spec.name)
        journal.begin()
        last = ""
        with Path(journal.path).open("ab", buffering=0) as log:
            told = client.build(**arguments(build), tag=image, decode=True, rm=True, forcerm=True)
            for one in told:
                text = str(one.get("stream") or one.get("status") or one.get("error") or "")
                with contextlib.suppress(OSError):
                    log.write(text.encode() if text.endswith("\n") else f"{text}\n".encode())
                last = text.strip() or last
                if step := _STEP.match(text.strip()):
                    self._progress[image] = step[0][:120]
                if one.get("error"):
                    raise BuildError(" ".join(str(one["error"]).split()))
        # An older engine ends its answer without an image and without an error where it was stopped.
        if not client.images(name=image):
            raise BuildError(f"the engine made no image; its last word: {last[:200]}")


class _Failure:
    """A build that failed: why, with which inputs, for which time."""

    def __init__(self, why: str, inputs: str, tries: int, at_s: float) -> None:
        self.why, self.tries = why, tries
        self._inputs, self._at_s = inputs, at_s

    def is_over(self, inputs: str) -> bool:
        wait_s = _SLOW_TRIES_S[min(self.tries, len(_SLOW_TRIES_S)) - 1]
        return inputs != self._inputs or time.monotonic() - self._at_s > wait_s


def arguments(build: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is built, as the SDK takes it."""
    options = build["options"]
    labels = options.get("labels") or {}
    said = {
        "dockerfile": build["dockerfile"] or None,
        "target": build["target"] or None,
        "labels": dict(labels) if isinstance(labels, Mapping) else dict(one.split("=", 1) for one in labels),
        "network_mode": options.get("network"),
        "shmsize": options.get("shm_size"),
    }
    return {
        "path": build["context"],
        "buildargs": dict(build["args"]),
        **{k: v for k, v in said.items() if v},
    }


def inputs_of(build: Mapping[str, Any]) -> str:
    """Return a digest of what a build reads, by names, sizes and times; of a large folder the first part."""
    seen = hashlib.sha256(repr(sorted((key, repr(value)) for key, value in build.items())).encode())
    count = 0
    for folder, folders, names in os.walk(build["context"]):
        folders[:] = sorted(name for name in folders if name not in (".git", "node_modules", ".venv"))
        for name in sorted(names):
            with contextlib.suppress(OSError):
                stat = (Path(folder) / name).stat()
                seen.update(repr((folder, name, stat.st_size, stat.st_mtime_ns)).encode())
            count += 1
        if count > _MOST_ENTRIES:
            break
    return seen.hexdigest()


def _words(spec: ServiceSpec) -> str:
    build = spec.options["build"]
    words = [f"-f {Path(build['context']) / build['dockerfile']}"] if build["dockerfile"] else []
    words += [f"--target {build['target']}"] if build["target"] else []
    return " ".join([*words, str(build["context"])])
