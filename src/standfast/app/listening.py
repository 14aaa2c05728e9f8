"""Takes the port of the API before anything is started, and says who has it where that fails."""

from __future__ import annotations

import errno
import socket

from standfast.kernel.errors import ConfigError
from standfast.services.adapters.procfs import listener

_BACKLOG = 512


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any free one. ConfigError says what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _unbound(host, port, error) from error
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> str:
    """Return the URL by which programs on this machine reach what listens on ``sock``."""
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _unbound(host: str, port: int, error: OSError) -> ConfigError:
    what, why = f"the API cannot listen on {host} port {port}", error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        holder = listener(port)
        why = f"it is in use by {holder.text}" if holder else why
        fix = "end that, or choose another: [api] port, or --port (0 takes any free one)"
        return ConfigError(what, why=why, fix=fix, code="PortInUse")
    if error.errno == errno.EACCES:
        fix = "choose a port from 1024 on: [api] port"
        return ConfigError(what, why="this user may not use it", fix=fix, code="PortForbidden")
    return ConfigError(what, why=why, fix="correct [api] host and port", code="AddressUnusable")
