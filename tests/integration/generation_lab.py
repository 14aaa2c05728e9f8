"""The programs of the generation blueprint as real processes, and models that misbehave on purpose."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from generation_stack.splats import ply, png, procedural, render

from blueprint_programs import blueprint_file
from integration.instances import free_ports
from integration.processes import lives, wait_until

#: Starting a program imports numpy and aiohttp; the machine may be busy.
START_S = 30.0
HOTKEY = "sn17miner2"


class Reply(NamedTuple):
    """An answer to a request."""

    status: int
    body: Any
    headers: dict[str, str]
    seconds: float
    data: bytes = b""


def call(
    url: str, method: str = "GET", body: Any = None, *, timeout_s: float = 30.0, **headers: str
) -> Reply:
    """Send one request; status 0 is a connection that failed."""
    began = time.monotonic()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        connection.request(method, f"{parts.path}?{parts.query}", data, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, {"error": "unreachable", "reason": str(error)}, {}, time.monotonic() - began)
    finally:
        connection.close()
    seconds = time.monotonic() - began
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return Reply(answer.status, found, dict(answer.headers), seconds, content)


class Program:
    """One program of the blueprint, on a port of its own; its log is read from the file it goes to."""

    def __init__(self, folder: Path, name: str, *arguments: object, **environment: str) -> None:
        self.name = name
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._arguments = [str(argument) for argument in arguments]
        self._environment = environment
        self._log = folder / f"{name}-{self.port}.log"
        self.errors = folder / f"{name}-{self.port}.err"
        self.popen: subprocess.Popen[bytes] = None  # type: ignore[assignment]

    def start(self) -> Program:
        """Start it, or start it again on the same port."""
        command = [
            sys.executable,
            str(blueprint_file(f"generation/{self.name}.py")),
            "--port",
            str(self.port),
        ]
        with self._log.open("ab") as out, self.errors.open("ab") as err:
            self.popen = subprocess.Popen(
                [*command, *self._arguments], stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                cwd=self._folder, env={**os.environ, **self._environment},
            )  # fmt: skip
        return self

    def until(self, path: str = "/ready", status: int = 200) -> Program:
        """Return once it answers ``path`` with ``status``."""
        wait_until(
            lambda: self.get(path).status == status or self.popen.poll() is not None,
            within_s=START_S,
            what=f"{self.name}{path}: {status}",
        )
        assert self.popen.poll() is None, f"ended with {self.popen.returncode}: {self.errors.read_text()}"
        return self

    def get(self, path: str) -> Reply:
        """Ask it something."""
        return call(self.url + path, timeout_s=5.0)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        """Tell it something."""
        return call(self.url + path, "POST", body, **headers)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.popen.kill()
        self.popen.wait()

    def ended(self, *, within_s: float = 20.0) -> int:
        """Return its exit code once it has ended."""
        return self.popen.wait(within_s)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of its log about ``event``; every line has to be JSON."""
        lines = self._log.read_text("utf-8").splitlines() if self._log.exists() else []
        # The last line of a killed program may be half.
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        return [entry for entry in entries if entry["event"] == event]

    def clean_up(self) -> None:
        """End it whatever the test has done."""
        if self.popen is not None and self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
            self.popen.wait()
        assert self.popen is None or not lives(self.popen.pid)


class Lab:
    """All programs of one test; they end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "registry.json"
        self.registry.write_text(json.dumps({"17": {HOTKEY: ""}}))
        self._programs: list[Program] = []
        self._servers: list[http.server.ThreadingHTTPServer] = []

    def program(self, name: str, *arguments: object, **environment: str) -> Program:
        """Return a program that is not started yet."""
        self._programs.append(Program(self.folder, name, *arguments, **environment))
        return self._programs[-1]

    def model(self, *arguments: object, **environment: str) -> Program:
        """Return a model service that is not started yet."""
        return self.program("model_service", "--linger-s", "0.5", *arguments, **environment)

    def worker(self, model_url: str, *arguments: object) -> Program:
        """Return a worker with quick backoff that is not started yet."""
        options = ("--model", model_url, "--data", self.folder / "worker", "--probe-s", "1")
        return self.program(
            "gen_worker", *options, "--backoff-s", "0.1", "--backoff-cap-s", "0.5", *arguments
        )

    def validator(self, *arguments: object) -> Program:
        """Return a validator that is not started yet."""
        options = ("--file", self.registry, "--data", self.folder / "validator", "--cooldown-s", "0.1")
        return self.program("splat_validator", *options, *arguments)

    def miner(self, worker: Program, validator: Program, *arguments: object) -> Program:
        """Return a miner that is not started yet."""
        options = ("--hotkey", HOTKEY, "--file", self.registry, "--data", self.folder / "miner")
        peers = ("--worker", worker.url, "--validator", validator.url)
        return self.program("splat_miner", *options, *peers, "--poll-s", "0.1", *arguments)

    def serve(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> str:
        """Serve a model of the test's own making that says it is ready; return its address."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply(self, 200, {"state": "ready"})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            def log_message(self, *arguments: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def clean_up(self) -> None:
        """End everything."""
        for program in self._programs:
            program.clean_up()
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def lab_in(folder: Path) -> Iterator[Lab]:
    """Yield a lab that cleans up after itself."""
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.clean_up()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    """Answer one request of a served model."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def splats(prompt: str = "a red ball", *, seed: int = 1, count: int = 3_000) -> bytes:
    """Return a file that can be used."""
    return ply.encode(procedural.from_prompt(prompt, seed=seed, count=count, progress=lambda _: None))


def picture() -> str:
    """Return a small PNG as base64."""
    cloud = procedural.from_prompt("a blue robot", seed=1, count=5_000, progress=lambda _: None)
    return base64.b64encode(png.encode(render.picture_of(cloud, size=64))).decode()


@contextlib.contextmanager
def asking(program: Program, body: dict[str, Any], *, times: int = 1) -> Iterator[list[socket.socket]]:
    """Send requests to /generate without waiting for answers; whoever asked goes away at the end."""
    connections = [socket.create_connection(("127.0.0.1", program.port), timeout=10) for _ in range(times)]
    data = json.dumps(body).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: model\r\nContent-Length: {len(data)}\r\n\r\n"
    try:
        for connection in connections:
            connection.sendall(head.encode() + data)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def task(id_: str, *, deadline_s: float = 60.0, **more: Any) -> dict[str, Any]:
    """Return a task for a worker."""
    return {"id": id_, "prompt": f"a red car {id_}", "num_gaussians": 4_000, "deadline_s": deadline_s, **more}
