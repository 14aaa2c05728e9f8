"""Runs services as containers of one engine: docker, or podman through the same API.

1. A container belongs to us by its labels, and to this instance alone; what others made is never touched.
2. A life is one start of a container (its identity and the instant of its start). A restart starts the same
   container again, with its files, unless what it is made of has changed; then it is made anew.
3. Its output is the engine's file first and our log second; its end and health are the engine's events. We
   may die: the next one reads the labels, the records and the engine's word, and takes everything back.
4. An engine that is away keeps nobody's containers from running. Nothing is started meanwhile, and what ended
   is judged when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from standfast.services.adapters import procfs
from standfast.services.adapters.container_ends import life_of, nanoseconds, seconds
from standfast.services.adapters.container_life import ContainerRunning
from standfast.services.adapters.container_logs import Cursor
from standfast.services.adapters.container_records import Record, Records
from standfast.services.adapters.container_spec import (
    CONFIG,
    INSTANCE,
    SERVICE,
    SPEC,
    Around,
    Request,
    anonymous_volumes,
    create_request,
    namesakes,
    network_body,
    volume_body,
)
from standfast.services.adapters.engine import (
    EngineDownError,
    EngineLink,
    EngineRefusedError,
    Event,
    Sight,
    image_of,
)
from standfast.services.adapters.engine_refusals import refusal
from standfast.services.adapters.image_builds import ImageBuilds
from standfast.services.adapters.inputs import of_files
from standfast.services.adapters.journal import FileJournal
from standfast.services.decide.digest import digest_of
from standfast.services.model import Obstacle, ServiceSpec
from standfast.services.ports import ObstructedError, Running

_RECHECK_S = 2.0
_NETWORKS_OF_ENGINE = frozenset({"bridge", "host", "none"})


class Here(NamedTuple):
    """A container of ours as the engine shows it."""

    id: str
    inspected: Mapping[str, Any]

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return bool(self.inspected["State"]["Running"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        found: Mapping[str, str] = self.inspected["Config"].get("Labels") or {}
        return found


class Containers:
    """Makes containers on the engine of ``link``; ``instance`` is what its own are labelled with."""

    def __init__(
        self, link: EngineLink, instance: str, records: Records, journal_of: Callable[[str], FileJournal]
    ) -> None:
        self._link = link
        self._instance = instance
        self._records = records
        self._journal_of = journal_of
        self._builds = ImageBuilds(link, journal_of)
        self._running: dict[str, ContainerRunning] = {}
        self._alive: dict[str, str] = {}
        self._making = asyncio.Lock()

    def open(self) -> None:
        """Begin to hear the engine."""
        self._link.open(self)

    def close(self) -> None:
        """Stop hearing it; the containers go on."""
        self._builds.close()
        for running in self._running.values():
            running.close()
        self._link.close()

    def came_up(self, sight: Sight) -> None:
        """Take note of what the engine runs, after it was away."""
        self._alive = _alive_in(sight)
        for running in list(self._running.values()):
            running.come_back(sight.containers.get(running.container), sight.engine_started_at)

    def went_down(self, why: str) -> None:
        """Take note that the engine is away: of its containers only what this machine shows is known."""
        for running in self._running.values():
            running.lose_engine()

    def happened(self, event: Event) -> None:
        """Take note of what happened to a container."""
        name = event.attributes.get(SERVICE, "")
        if event.state is not None and event.state["State"]["Running"]:
            self._alive[name] = event.container
        elif self._alive.get(name) == event.container:
            del self._alive[name]
        running = self._running.get(name)
        if running is not None and running.container == event.container:
            running.hear(event)

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return why ``spec`` cannot be started now: no engine, a build, or a port that is taken."""
        if not self._link.is_up:
            return self._down()
        if spec.options["build"] is not None and not image_of(self._link.images, spec.options["image"]):
            found = self._builds.obstacle(spec)
            if found is not None:
                return found
        # One that somebody else has started has its ports itself.
        return None if spec.name in self._alive or not self._link.is_local else _taken_port(spec)

    async def start(self, spec: ServiceSpec) -> ContainerRunning:
        """Begin one life of ``spec``; raises ObstructedError where the engine will not."""
        try:
            return await self._start(spec)
        except EngineDownError as error:
            raise ObstructedError(self._down()) from error
        except EngineRefusedError as error:
            raise ObstructedError(refusal(error.text, spec)) from error

    def found(self) -> Sequence[Running]:
        """Return the lives that are on record or run, and whose end nobody took note of."""
        self._link.wait_asked()
        known = self._link.sight.containers if self._link.sight is not None and self._link.is_up else None
        for record in self._records.all():
            if not record.is_noted and record.life and record.name not in self._running:
                inspected = (known or {}).get(record.container)
                running = self._take(record, inspected)
                if known is not None:
                    running.come_back(inspected, self._engine_started_at)
        for container, inspected in (known or {}).items():
            here = Here(container, inspected)
            if here.is_running and here.labels.get(SERVICE, "") not in self._running:
                self._take_running(here, here.labels[SERVICE])
        return list(self._running.values())

    def forget(self, running: object) -> None:
        """Take note that an end is on record; the container and how far its output was copied stay known."""
        assert isinstance(running, ContainerRunning)
        running.close()
        self._records.write(running.record._replace(is_noted=True))
        if self._running.get(running.name) is running:
            del self._running[running.name]

    def inputs(self, spec: ServiceSpec) -> dict[str, str]:
        """Return the state of the declaration, the image, and the files that are mounted or watched."""
        image = image_of(self._link.images, spec.options["image"])
        mounted = [Path(one["source"]) for one in spec.options["mounts"] if one["kind"] == "bind"]
        return {"": f"{digest_of(spec)} {image}"} | of_files([*mounted, *spec.watch])

    def _down(self) -> Obstacle:
        what = f"the container engine at {self._link.host} does not answer: {self._link.why_down}"
        fix = "systemctl start docker; or say where it is: DOCKER_HOST=unix:///PATH standfast up"
        return Obstacle("HostEngineDown", what, fix, _RECHECK_S)

    async def _start(self, spec: ServiceSpec) -> ContainerRunning:
        image_id = await self._image(spec)
        # One at a time: two services that share a network or a volume must not both make it.
        async with self._making:
            await self._make_resources(spec)
            here = await self._here(spec.name)
            others = {name: await self._container_of(spec, name) for name in namesakes(spec.options)}
        around = Around(self._instance, image_id, others, _kept(here))
        request = create_request(spec, around)
        same = next((one for one in here if one.labels.get(CONFIG) == request.config), None)
        for one in here:
            if one is not same:
                await self._link.call_slow("remove_container", one.id, force=True)
        if same is not None and same.is_running:
            return self._take_running(same, spec.name)
        container = same.id if same is not None else await self._create(request)
        return await self._run(spec, container, same)

    async def _create(self, request: Request) -> str:
        made = await self._link.call_slow(
            "create_container_from_config", request.body, request.name, request.platform or None
        )
        container = str(made["Id"])
        for name, endpoint in request.networks:
            await self._link.stream(functools.partial(_connect, container, name, endpoint))
        return container

    async def _run(self, spec: ServiceSpec, container: str, same: Here | None) -> ContainerRunning:
        """Start a container that is there, and watch it."""
        journal = self._journal_of(spec.name)
        log_at = journal.begin()
        record = Record(
            name=spec.name, container=container, life="", spec=digest_of(spec), boot=procfs.boot_id(),
            started_s=time.monotonic(), started_at=time.time(), log_at=log_at,
            cursor=self._cursor_of(spec.name, container, same, log_at),
        )  # fmt: skip
        self._records.write(record)
        await self._link.call_slow("start", container)
        inspected = await self._link.call("inspect_container", container)
        state = inspected["State"]
        running = self._take(record._replace(life=life_of(container, state)), inspected)
        running.look(inspected, was_heard=True)
        return running

    def _take_running(self, here: Here, name: str) -> ContainerRunning:
        """Watch a container that runs, and that a killed supervisor or somebody else has started."""
        running = self._take(self._record_of(here, name), here.inspected)
        running.look(here.inspected, was_heard=True)
        return running

    @property
    def _engine_started_at(self) -> float | None:
        return self._link.sight.engine_started_at if self._link.sight is not None else None

    def _take(self, record: Record, inspected: Mapping[str, Any] | None) -> ContainerRunning:
        """Watch a life from now on."""
        self._records.write(record)
        journal = self._journal_of(record.name)
        journal.resume(record.log_at)
        running = ContainerRunning(self._link, record, self._records.write)
        self._running[record.name] = running
        running.copy_log(journal, is_tty=bool(inspected and inspected["Config"].get("Tty")))
        return running

    def _cursor_of(self, name: str, container: str, same: Here | None, size: int) -> Cursor:
        """Return where the output of a container goes on that is started again."""
        before = self._records.read(name)
        if before is not None and before.container == container:
            return before.cursor._replace(size=size)
        ended = str(same.inspected["State"].get("FinishedAt") or "") if same is not None else ""
        return Cursor(nanoseconds(ended), 0, size)

    def _record_of(self, here: Here, name: str) -> Record:
        """Return the record of a life that nobody wrote down."""
        state = here.inspected["State"]
        started_at = seconds(str(state["StartedAt"]))
        journal = self._journal_of(name)
        log_at = journal.begin()
        return Record(
            name=name, container=here.id, life=life_of(here.id, state), spec=here.labels.get(SPEC, ""),
            boot=procfs.boot_id(), started_s=time.monotonic() - max(0.0, time.time() - started_at),
            started_at=started_at, log_at=log_at, cursor=self._cursor_of(name, here.id, here, log_at),
        )  # fmt: skip

    async def _here(self, name: str) -> list[Here]:
        """Return the containers that are labelled as that of service ``name``."""
        labels = [f"{INSTANCE}={self._instance}", f"{SERVICE}={name}"]
        rows = await self._link.call("containers", all=True, filters={"label": labels})
        return [Here(row["Id"], await self._link.call("inspect_container", row["Id"])) for row in rows]

    async def _container_of(self, spec: ServiceSpec, service: str) -> str:
        labels = [f"{INSTANCE}={self._instance}", f"com.docker.compose.service={service}",
                  f"com.docker.compose.project={spec.options['project']}"]  # fmt: skip
        rows = await self._link.call("containers", all=True, filters={"label": labels})
        if not rows:
            what = f"it shares something with {service}, which has no container yet"
            raise ObstructedError(
                Obstacle("DependencyNotReady", what, f"standfast explain {service}", _RECHECK_S)
            )
        return str(rows[0]["Id"])

    async def _image(self, spec: ServiceSpec) -> str:
        """Return the identity of the image; begin to build it where that is declared and it is missing."""
        name = str(spec.options["image"])
        found = image_of(self._link.images, name)
        if not found:
            with contextlib.suppress(EngineRefusedError):
                found = str((await self._link.call("inspect_image", name))["Id"])
        if found:
            return found
        if spec.options["build"] is not None:
            raise ObstructedError(self._builds.obstacle(spec) or self._builds.begin(spec))
        what = f"its image {name} is not on this engine, and nothing is pulled by itself"
        raise ObstructedError(Obstacle("ImageMissing", what, f"{self._command} pull {name}", _RECHECK_S))

    @property
    def _command(self) -> str:
        """The command line client that speaks to this engine."""
        if "podman" in self._link.host:
            return "podman"
        is_default = self._link.host in ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
        return "docker" if is_default else f"docker -H {self._link.host}"

    async def _make_resources(self, spec: ServiceSpec) -> None:
        """Make the networks and named volumes of ``spec`` that are not there; those of others must be."""
        project = spec.options["project"]
        for use in spec.options["networks"]:
            if use["name"] in _NETWORKS_OF_ENGINE or await self._has("inspect_network", use["name"]):
                continue
            if use["is_external"]:
                raise ObstructedError(self._missing("network", use["name"]))
            await self._link.call_slow(
                "create_network", use["name"], **network_body(use, project, use["key"])
            )
        for key, volume in spec.options["volumes"].items():
            if await self._has("inspect_volume", volume["name"]):
                continue
            if volume["is_external"]:
                raise ObstructedError(self._missing("volume", volume["name"]))
            await self._link.call_slow("create_volume", volume["name"], **volume_body(volume, project, key))

    async def _has(self, method: str, name: str) -> bool:
        try:
            await self._link.call(method, name)
        except EngineRefusedError as error:
            if not error.is_missing:
                raise
            return False
        return True

    def _missing(self, kind: str, name: str) -> Obstacle:
        what = f"the {kind} {name}, which is declared as made by others, is not there"
        return Obstacle(
            f"{kind.capitalize()}Missing", what, f"{self._command} {kind} create {name}", _RECHECK_S
        )


def _connect(container: str, network: str, endpoint: Mapping[str, Any], client: Any) -> None:
    """Connect a container to a network, in the API's own form: the SDK's has no room for all of it."""
    url = client._url("/networks/{0}/connect", network)
    client._raise_for_status(client._post_json(url, {"Container": container, "EndpointConfig": endpoint}))


def _kept(here: Sequence[Here]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in here:
        found |= anonymous_volumes(one.inspected)
    return found


def _alive_in(sight: Sight) -> dict[str, str]:
    rows = (Here(container, inspected) for container, inspected in sight.containers.items())
    return {here.labels.get(SERVICE, ""): here.id for here in rows if here.is_running}


def _taken_port(spec: ServiceSpec) -> Obstacle | None:
    """Return the first published port that something on this machine listens on already."""
    for port in spec.options["ports"]:
        is_fixed = port["host"] and not port["host_last"] and port["protocol"] == "tcp"
        holder = procfs.listener(port["host"]) if is_fixed else None
        if holder is None:
            continue
        number = port["host"]
        what = f"its port {number} is in use by {holder.text}"
        fix = f"kill {holder.pid}, or choose another port" if holder.pid else "choose another port"
        if holder.command.startswith(("docker-proxy", "rootlessport", "conmon")):
            fix = f"see whose it is: docker ps --filter publish={number}; or choose another port"
        return Obstacle("PortInUse", what, fix, _RECHECK_S)
    return None
