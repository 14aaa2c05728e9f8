"""What makes two declarations of a service start the same thing."""

from __future__ import annotations

import hashlib
import json

from standfast.services.model import ServiceSpec


def digest_of(spec: ServiceSpec) -> str:
    """Return a digest of everything that a life is started with.

    How it is watched and restarted is not part of it: that may change under a life that goes on.
    """
    parts = (
        spec.driver, spec.command, str(spec.cwd), sorted(spec.env.items()), spec.port, spec.kind,
        tuple(spec.limits), spec.stop_signal, spec.stop_timeout_s, spec.ready.notify,
        json.dumps(dict(spec.options), sort_keys=True, default=str),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
