"""Speaks to one container engine, docker or podman: calls in threads, its events in a thread of their own.

1. The docker SDK is imported here and nowhere else: who has no containers does not pay for it.
2. The link is up once everything of ours was listed, and is kept by the stream of events. When that breaks
   the engine is gone; what it runs may go on, and nothing is known of it until the engine is back.
3. A call that gets no answer in time cuts the stream: an engine that hangs is no better than one that is
   gone, and the stream alone would never tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import docker
from docker.errors import APIError, DockerException
from urllib3.exceptions import HTTPError

from standfast.services.adapters import procfs
from standfast.services.adapters.container_spec import INSTANCE

#: For calls that an engine answers from memory, and for those that move data or wait for a container.
_QUICK_S, _SLOW_S = 15.0, 900.0
_RETRY_S = 0.5
#: Longest wait for the first answer, before which nothing can be taken back.
_FIRST_S = 5.0
_CONNECTIONS = 64
_EVENTS = (
    "die", "died", "oom", "kill", "start", "pause", "unpause", "health_status", "destroy", "remove",
    "tag", "untag", "delete", "import", "load", "pull",
)  # fmt: skip
_TROUBLE = (DockerException, HTTPError, OSError, ValueError)
_NOT_FOUND = 404


class EngineDownError(OSError):
    """The engine does not answer; the text says why."""


class EngineRefusedError(OSError):
    """The engine answered that it will not; the text is its own."""

    def __init__(self, text: str, *, is_missing: bool) -> None:
        super().__init__(text)
        self.text = text
        self.is_missing = is_missing


class Event(NamedTuple):
    """Something that happened to one of our containers; ``state`` is what it was found to be afterwards."""

    action: str
    container: str
    attributes: Mapping[str, str]
    state: Mapping[str, Any] | None


class Sight(NamedTuple):
    """Our containers by identity, when the link came up; when the engine was started, if known."""

    containers: Mapping[str, Mapping[str, Any]]
    engine_started_at: float | None


class Hearer(Protocol):
    """Hears of the engine, in the event loop."""

    def came_up(self, sight: Sight) -> None:
        """Hear that the engine answers, and what it runs."""
        ...

    def went_down(self, why: str) -> None:
        """Hear that it answers no more."""
        ...

    def happened(self, event: Event) -> None:
        """Hear of one of our containers."""
        ...


class EngineLink:
    """One engine at ``host`` (``unix://PATH``, ``tcp://...``), and what ``instance`` runs there."""

    def __init__(self, host: str, instance: str) -> None:
        self.host = host
        self.images: Mapping[str, str] = {}
        self.sight: Sight | None = None
        self.why_down = "nobody has asked it yet"
        self._instance = instance
        self._hearer: Hearer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = threading.Event()
        self._asked = threading.Event()
        self._stream: Any = None
        self._why_cut = ""
        self._quick: Any = None
        self._slow: Any = None

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return not self.why_down

    @property
    def is_local(self) -> bool:
        """Whether its containers are processes of this machine."""
        return self.host.startswith("unix://")

    def open(self, hearer: Hearer) -> None:
        """Begin to hear of it; call it in the event loop."""
        self._hearer, self._loop = hearer, asyncio.get_running_loop()
        threading.Thread(target=self._keep, name="container engine", daemon=True).start()

    def close(self) -> None:
        """Stop hearing of it."""
        self._closing.set()
        self._cut()
        for client in (self._quick, self._slow):
            if client is not None:
                client.close()

    def wait_asked(self) -> bool:
        """Wait until it was asked for the first time, and return whether it answered."""
        self._asked.wait(_FIRST_S)
        return self.is_up

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Call ``method`` of the SDK's client, for what an engine answers from memory.

        Raises EngineDownError and EngineRefusedError.
        """
        return await self._in_thread(lambda: self._do(self._quick, method, args, named))

    async def call_slow(self, method: str, *args: Any, **named: Any) -> Any:
        """Call ``method`` for what may take long: making, starting, stopping, building."""
        return await self._in_thread(lambda: self._do(self._slow, method, args, named))

    async def stream(self, work: Callable[[Any], Any]) -> Any:
        """Return what ``work`` makes of a client, in a thread; errors as ``call`` has them."""
        return await self._in_thread(lambda: self._guarded(lambda: work(self._slow), is_quick=False))

    def is_running(self, container: str) -> bool:
        """Return whether a container runs; blocks."""
        try:
            state = self._do(self._quick, "inspect_container", (container,), {})
        except EngineRefusedError:
            return False
        return bool(state["State"]["Running"])

    def lines_of(self, container: str, since: float) -> Any:
        """Return the output of a container as the SDK's stream, each piece with its time; blocks."""
        return self._do(
            self._slow,
            "logs",
            (container,),
            {"stream": True, "follow": True, "timestamps": True, "since": since},
        )

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` in a thread of its own: one that is stuck in a call keeps nobody from leaving."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(result)

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:  # noqa: BLE001 - whoever awaits it gets it, bugs too
                error = caught
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=run, name="container call", daemon=True).start()
        return await done

    def _do(self, client: Any, method: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        return self._guarded(lambda: getattr(client, method)(*args, **named), is_quick=client is self._quick)

    def _guarded(self, work: Callable[[], Any], *, is_quick: bool) -> Any:
        if not self.is_up:
            raise EngineDownError(self.why_down)
        try:
            # An engine that was just killed is met here: the SDK would leave the socket open.
            _knock(self.host)
            return work()
        except APIError as error:
            text = str(error.explanation or error)
            raise EngineRefusedError(text, is_missing=error.status_code == _NOT_FOUND) from error
        except _TROUBLE as error:
            if is_quick:
                self._why_cut = _words(error)
                self._cut()
            raise EngineDownError(_words(error)) from error

    def _keep(self) -> None:
        """Keep the link while it is open; runs in the thread."""
        # Each turn is one link, or one vain try; bounded by the pause between them.
        while not self._closing.is_set():
            try:
                self._follow()
            except _TROUBLE as error:
                self._note_down(_words(error))
            self._closing.wait(_RETRY_S)

    def _follow(self) -> None:
        _knock(self.host)
        if self._quick is None:
            self._quick = docker.APIClient(
                self.host, version="auto", timeout=_QUICK_S, max_pool_size=_CONNECTIONS
            )
            self._slow = docker.APIClient(
                self.host, version="auto", timeout=_SLOW_S, max_pool_size=_CONNECTIONS
            )
        self._quick.ping()
        # Heard from before anything is looked at, so that nothing falls between the two.
        self._stream = self._quick.events(decode=True, filters={"event": list(_EVENTS)})
        self.images = self._list_images()
        self.sight = Sight(dict(self._our_containers()), _started_at(self.host))
        self.why_down = ""
        self._asked.set()
        self._tell(lambda hearer: hearer.came_up(self.sight))
        for event in self._stream:
            self._take(event)
        raise EngineDownError("it closed the connection")

    def _note_down(self, why: str) -> None:
        was_up, self.why_down = self.is_up, self._why_cut or why
        self._stream, self._why_cut = None, ""
        self._asked.set()
        if was_up and not self._closing.is_set():
            self._tell(lambda hearer: hearer.went_down(self.why_down))

    def _cut(self) -> None:
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(*_TROUBLE, AttributeError):
                stream.close()

    def _take(self, raw: Mapping[str, Any]) -> None:
        if raw.get("Type") == "image":
            self.images = self._list_images()
            return
        actor = raw.get("Actor") or {}
        attributes, container = actor.get("Attributes") or {}, str(actor.get("ID", ""))
        if attributes.get(INSTANCE) != self._instance:
            return
        action = str(raw.get("Action") or raw.get("status") or "")
        event = Event(action, container, attributes, self._inspect(container))
        self._tell(lambda hearer: hearer.happened(event))

    def _inspect(self, container: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._quick.inspect_container(container)
        except APIError:
            return None
        return found

    def _our_containers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        wanted = {"label": f"{INSTANCE}={self._instance}"}
        for row in self._quick.containers(all=True, filters=wanted):
            state = self._inspect(row["Id"])
            if state is not None:
                yield row["Id"], state

    def _list_images(self) -> dict[str, str]:
        return {
            name: row["Id"]
            for row in self._quick.images()
            for name in (row["Id"], *(row.get("RepoTags") or ()), *(row.get("RepoDigests") or ()))
        }

    def _tell(self, say: Callable[[Any], None]) -> None:
        assert self._loop is not None, "it was opened"
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody hears any more.
            self._loop.call_soon_threadsafe(say, self._hearer)


def stop_all(host: str, instance: str) -> int:
    """Stop every container of ``instance`` that runs, for when nobody is to take it back; return how many.

    Raises EngineDownError where that cannot be done.
    """
    try:
        _knock(host)
        client = docker.APIClient(host, version="auto", timeout=_QUICK_S, max_pool_size=_CONNECTIONS)
        rows = client.containers(filters={"label": f"{INSTANCE}={instance}"})
        stops = [
            threading.Thread(target=_stop, args=(client, row["Id"]), name="container stop") for row in rows
        ]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()
        left = client.containers(filters={"label": f"{INSTANCE}={instance}"})
        client.close()
    except _TROUBLE as error:
        raise EngineDownError(_words(error)) from error
    if left:
        raise EngineDownError(f"{len(left)} of {len(rows)} containers do not stop")
    return len(rows)


def _stop(client: Any, container: str) -> None:
    """Stop a container within the time that it was declared to have; one that is gone is stopped."""
    with contextlib.suppress(*_TROUBLE):
        grace_s = client.inspect_container(container)["Config"].get("StopTimeout")
        client.stop(container, timeout=grace_s)


def engine_host(environ: Mapping[str, str]) -> str:
    """Return where the engine is that this user means: DOCKER_HOST, else the first socket that is there."""
    named = environ.get("DOCKER_HOST") or environ.get("CONTAINER_HOST")
    if named:
        return named
    own = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    default = "/var/run/docker.sock"
    sockets = (default, f"{own}/docker.sock", f"{own}/podman/podman.sock", "/run/podman/podman.sock")
    return f"unix://{next((path for path in sockets if Path(path).exists()), default)}"


def image_of(images: Mapping[str, str], name: str) -> str:
    """Return the identity of the image called ``name``, or an empty string; podman writes whole names."""
    last = name.rpartition("/")[2]
    whole = name if ":" in last or "@" in last else f"{name}:latest"
    known = (name, whole, f"docker.io/library/{whole}", f"docker.io/{whole}", f"localhost/{whole}",
             whole.removeprefix("docker.io/library/"), whole.removeprefix("docker.io/"))  # fmt: skip
    return next((images[one] for one in known if one in images), "")


def _knock(host: str) -> None:
    """Connect to a local socket and leave: the system's own error says best what is wrong with it."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_QUICK_S)
            door.connect(host.removeprefix("unix://"))


def _words(error: BaseException) -> str:
    known: Mapping[type[BaseException], str] = {
        FileNotFoundError: "its socket is not there",
        ConnectionRefusedError: "nobody listens on its socket",
        PermissionError: "this user may not use its socket",
    }
    if type(error) in known:
        return known[type(error)]
    text = str(error)
    if "timed out" in text.lower():
        return f"it gave no answer within {_QUICK_S:g} s"
    return " ".join(text.split())[:200] or type(error).__name__


def _started_at(host: str) -> float | None:
    """Return when the engine behind a local socket was started, in seconds since the epoch, where that shows.

    The kernel says who listens on a socket; where systemd made it for the engine, that is no answer.
    """
    if not host.startswith("unix://"):
        return None
    with contextlib.suppress(OSError, ValueError, IndexError), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(1.0)
        peer.connect(host.removeprefix("unix://"))
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        stat = procfs.read_stat(pid) if pid > 1 else None
        if stat is not None:
            up_s = float(Path("/proc/uptime").read_text().split()[0])
            return time.time() - up_s + stat.start_ticks / os.sysconf("SC_CLK_TCK")
    return None
