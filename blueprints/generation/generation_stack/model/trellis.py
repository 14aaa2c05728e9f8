"""TRELLIS (microsoft/TRELLIS): splats from a prompt or a picture, on an NVIDIA GPU.

It can be stopped between two evaluations of any of its networks: a hook on each asks the token first.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

from generation_stack.model.port import CancelToken, LoadError, Memory, Wish
from generation_stack.model.trellis_preflight import kind_of, missing


class TrellisBackend:
    """One TRELLIS pipeline on the first visible GPU."""

    name = "trellis"
    takes_count = False

    def __init__(self, model: str) -> None:
        self._model = model
        self.takes = frozenset({kind_of(model)})
        self._torch: Any = None
        self._pipeline: Any = None
        self._token = CancelToken()

    def load(self, token: CancelToken) -> None:
        """Load the pipeline onto the GPU and keep it there."""
        lacking = missing(self._model)
        if lacking:
            raise LoadError("; ".join(f"{entry.what} (fix: {entry.fix})" for entry in lacking))
        # Its own default benchmarks every new shape first; a service sees new shapes all the time.
        os.environ.setdefault("SPCONV_ALGO", "native")
        self._torch = importlib.import_module("torch")
        pipelines = importlib.import_module("trellis.pipelines")
        is_image = "image" in self.takes
        kind = pipelines.TrellisImageTo3DPipeline if is_image else pipelines.TrellisTextTo3DPipeline
        token.check()
        try:
            self._pipeline = kind.from_pretrained(self._model)
            token.check()
            self._pipeline.cuda()
        # OutOfMemoryError is a RuntimeError; what a damaged file raises has no one kind.
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            traceback.print_exc()
            raise LoadError(f"{type(error).__name__}: {error}") from error
        for network in self._pipeline.models.values():
            network.register_forward_pre_hook(lambda *_: self._token.check())
        self.release()

    def make(self, wish: Wish, token: CancelToken) -> bytes:
        """Run the pipeline; raises CancelledWorkError between two steps of its samplers."""
        self._token = token
        outputs = self._pipeline.run(self._asked(wish), seed=wish.seed, formats=["gaussian"])
        token.check()
        with tempfile.TemporaryDirectory(prefix="trellis-") as folder:
            path = Path(folder) / "result.ply"
            outputs["gaussian"][0].save_ply(str(path))
            return path.read_bytes()

    def _asked(self, wish: Wish) -> Any:
        if wish.picture is None:
            return wish.prompt
        return importlib.import_module("PIL.Image").fromarray(wish.picture)

    def release(self) -> None:
        """Give the cached blocks of the allocator back to the device; the pipeline stays."""
        if self._torch is not None:
            self._torch.cuda.empty_cache()
            self._torch.cuda.reset_peak_memory_stats()

    def memory(self) -> Memory:
        """Return the bytes that tensors hold, and the most that they held since the last release."""
        if self._torch is None:
            return Memory("cuda", 0, 0)
        cuda = self._torch.cuda
        return Memory("cuda", int(cuda.memory_allocated()), int(cuda.max_memory_allocated()))
