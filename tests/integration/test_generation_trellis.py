"""The TRELLIS backend's own code against stand-ins for the packages that it needs.

No GPU and no TRELLIS is on the machines that run these tests. The stand-ins have the shape of what is used of
torch and of microsoft/TRELLIS (pipelines/base.py, trellis_text_to_3d.py, gaussian_model.py); they prove the
order of the calls, the stopping and the refusals, and nothing about the model itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from generation_stack.model import trellis_preflight
from generation_stack.model.trellis_preflight import Missing, kind_of, split_entry, steps
from generation_stack.splats.judge import judge

from integration.generation_lab import Lab, Program, asking, lab_in, picture, splats
from integration.processes import wait_until

TORCH = """
import json, os, types
__version__ = "2.4.0"
version = types.SimpleNamespace(cuda="11.8")

def note(call):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(call) + "\\n")

class cuda:
    held = 0
    is_available = staticmethod(lambda: os.environ.get("NO_GPU") is None)
    get_device_properties = staticmethod(lambda n: types.SimpleNamespace(name="A GPU", major=8, minor=9))
    get_arch_list = staticmethod(lambda: os.environ.get("ARCHS", "sm_80 sm_89").split())
    mem_get_info = staticmethod(lambda: (int(os.environ.get("FREE", 20)) << 30, 24 << 30))
    empty_cache = staticmethod(lambda: note("empty_cache"))
    reset_peak_memory_stats = staticmethod(lambda: None)
    memory_allocated = staticmethod(lambda: cuda.held)
    max_memory_allocated = staticmethod(lambda: cuda.held)
"""

PIPELINES = """
import os, time, torch

class Network:
    hooks = ()
    def register_forward_pre_hook(self, hook):
        self.hooks = (*self.hooks, hook)
    def __call__(self, step):
        for hook in self.hooks:
            hook(self, (step,))
        time.sleep(float(os.environ.get("STEP_S", "0.001")))

class Gaussian:
    def save_ply(self, path):
        with open(os.environ["RESULT"], "rb") as read, open(path, "wb") as file:
            file.write(read.read())

class Pipeline:
    @classmethod
    def from_pretrained(cls, path):
        torch.note(["load", cls.__name__, path])
        if os.environ.get("BROKEN"):
            raise RuntimeError(os.environ["BROKEN"])
        made = cls()
        made.models = {"flow": Network(), "decoder": Network()}
        return made
    def cuda(self):
        torch.note("cuda")
        torch.cuda.held = 6_000
    def run(self, asked, num_samples=1, seed=42, formats=("mesh", "gaussian", "radiance_field")):
        torch.note(["run", str(type(asked).__name__), seed, list(formats)])
        torch.cuda.held += 500
        try:
            for step in range(50):
                self.models["flow"](step)
            self.models["decoder"](0)
            return {"gaussian": [Gaussian()]}
        finally:
            torch.cuda.held -= 500

class TrellisTextTo3DPipeline(Pipeline): pass
class TrellisImageTo3DPipeline(Pipeline): pass
"""

EMPTY = (
    "transformers", "huggingface_hub", "safetensors", "spconv", "utils3d", "plyfile", "easydict", "tqdm",
    "open3d", "kaolin", "flash_attn", "torchvision", "rembg",
)  # fmt: skip


class Stage:
    """Stand-ins, weights, and the notes that the stand-ins take."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self._folder = folder
        self._lab = lab
        self.packages = folder / "packages"
        (self.packages / "trellis").mkdir(parents=True)
        (self.packages / "torch.py").write_text(TORCH)
        (self.packages / "trellis" / "__init__.py").write_text("")
        (self.packages / "trellis" / "pipelines.py").write_text(PIPELINES)
        for name in EMPTY:
            (self.packages / f"{name}.py").write_text("")
        (folder / "result.ply").write_bytes(splats("a chair", count=4_000))

    def weights(self, name: str = "TRELLIS-text-xlarge") -> Path:
        folder = self._folder / name
        (folder / "ckpts").mkdir(parents=True, exist_ok=True)
        models = {"flow": "ckpts/flow", "decoder": "ckpts/decoder"}
        (folder / "pipeline.json").write_text(json.dumps({"args": {"models": models}}))
        for entry in models.values():
            for suffix in ("json", "safetensors"):
                (folder / f"{entry}.{suffix}").write_bytes(b"x")
        return folder

    def model(self, *arguments: object, **environment: str) -> Program:
        surroundings = {
            "PYTHONPATH": str(self.packages),
            "NOTES": str(self._folder / "notes"),
            "RESULT": str(self._folder / "result.ply"),
            **environment,
        }
        return self._lab.model("--backend", "trellis", *arguments, **surroundings)

    def notes(self) -> list[object]:
        path = self._folder / "notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with lab_in(tmp_path) as lab:
        yield Stage(tmp_path, lab)


def test_without_anything_it_says_every_step_and_takes_no_other_model(tmp_path: Path) -> None:
    with lab_in(tmp_path) as lab:
        for check in ((), ("--check",)):
            model = lab.model("--backend", "trellis", *check).start()
            assert model.ended() == 1
            said = model.errors.read_text()
            assert "The trellis backend cannot run here" in said
            order = [said.index(words) for words in ("1. conda create", "2. git clone", "3. (cd TRELLIS")]
            assert order == sorted(order)
            assert "No module named 'trellis'" in said
            assert model.told("listening") == []


def test_a000_15_it_loads_once_and_gives_memory_back_after_each_request(stage: Stage) -> None:
    weights = stage.weights()
    model = stage.model("--model", weights).start().until()
    for seed in (3, 4):
        made = model.post("/generate", {"prompt": "a chair", "seed": seed})
        assert (made.status, judge(made.data).reasons, made.headers["X-Backend"]) == (200, [], "trellis")
    assert stage.notes() == [
        ["load", "TrellisTextTo3DPipeline", str(weights)], "cuda", "empty_cache",
        ["run", "str", 3, ["gaussian"]], "empty_cache",
        ["run", "str", 4, ["gaussian"]], "empty_cache",
    ]  # fmt: skip
    for entry in model.get("/memory").body["series"]:
        assert (entry["memory"], entry["before_bytes"], entry["after_bytes"]) == ("cuda", 6_000, 6_000)
    assert model.get("/health").body["loads"] == 1


def test_what_it_does_not_take_is_said(stage: Stage) -> None:
    model = stage.model("--model", stage.weights()).start().until()
    count = model.post("/generate", {"prompt": "a chair", "num_gaussians": 5_000})
    assert (count.status, count.body["problems"][0]["field"]) == (422, "num_gaussians")
    image = model.post("/generate", {"image": picture()})
    assert (image.status, image.body["problems"][0]["field"]) == (422, "image")


def test_the_image_model_takes_pictures(stage: Stage) -> None:
    pytest.importorskip("PIL.Image")
    model = stage.model("--model", stage.weights("TRELLIS-image-large")).start().until()
    assert model.post("/generate", {"image": picture(), "seed": 9}).status == 200
    assert stage.notes()[0][1] == "TrellisImageTo3DPipeline"  # type: ignore[index]
    assert ["run", "Image", 9, ["gaussian"]] in stage.notes()
    assert model.post("/generate", {"prompt": "a chair"}).status == 422


def test_a000_9_it_stops_between_two_steps_when_the_client_goes(stage: Stage) -> None:
    model = stage.model("--model", stage.weights(), STEP_S="0.2").start().until()
    with asking(model, {"prompt": "a chair"}):
        wait_until(lambda: model.get("/health").body["running"] == 1, what="at work")
    # All steps would take ten seconds.
    wait_until(lambda: model.get("/health").body["abandoned"] == 1, within_s=3.0, what="noticed")
    wait_until(lambda: model.get("/health").body["stopping"] == 0, within_s=3.0, what="stopped")
    found = model.get("/health").body
    assert (found["abandoned"], found["completed"], found["loads"]) == (1, 0, 1)
    assert stage.notes()[-1] == "empty_cache"


def test_a000_7_a_model_that_does_not_load_is_failed_with_its_reason(stage: Stage) -> None:
    reason = "CUDA out of memory. Tried to allocate 2.00 GiB"
    model = stage.model("--model", stage.weights(), "--linger-s", "3", BROKEN=reason).start()
    wait_until(lambda: model.get("/health").body.get("state") == "failed", what="failed")
    health = model.get("/health")
    assert (health.status, reason in health.body["reason"]) == (503, True)
    assert (model.get("/ready").status, model.get("/live").status) == (503, 503)
    assert model.post("/generate", {"prompt": "a chair"}).status == 503
    assert model.ended() == 1
    # The last line is what a supervisor names the end by.
    assert reason in model.errors.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"NO_GPU": "1"}, "no usable CUDA device"),
        ({"ARCHS": "sm_80 sm_90"}, "A GPU is sm_89; this torch has kernels for sm_80, sm_90"),
        ({"FREE": "2"}, "2.0 GiB of A GPU are free"),
    ],
)
def test_a_device_that_cannot_hold_it_is_named(stage: Stage, environment: dict[str, str], words: str) -> None:
    model = stage.model("--model", stage.weights(), "--check", **environment).start()
    assert model.ended() == 1
    assert words in model.errors.read_text()


def test_a_weight_that_is_missing_is_named(stage: Stage) -> None:
    weights = stage.weights()
    (weights / "ckpts" / "flow.safetensors").unlink()
    model = stage.model("--model", weights, "--check").start()
    assert model.ended() == 1
    assert "ckpts/flow.safetensors" in model.errors.read_text()
    served = stage.model("--model", weights).start()
    assert served.ended() == 1
    assert "ckpts/flow.safetensors" in served.errors.read_text().splitlines()[-1]
    assert stage.notes() == [], "nothing was loaded"


def test_names_tell_what_a_model_takes_and_where_its_files_lie() -> None:
    assert kind_of("microsoft/TRELLIS-image-large") == "image"
    assert kind_of("microsoft/TRELLIS-text-xlarge") == "prompt"
    assert split_entry("ckpts/flow.json") == ("", "ckpts/flow.json")
    other = "microsoft/TRELLIS-image-large/ckpts/decoder.json"
    assert split_entry(other) == ("microsoft/TRELLIS-image-large", "ckpts/decoder.json")


def test_a_step_is_named_once_with_all_that_it_brings() -> None:
    clone = trellis_preflight._STEPS["clone"]
    setup = trellis_preflight._STEPS["setup"]
    lacking = [
        Missing("b", setup),
        Missing("weights", "hf download x"),
        Missing("a", clone),
        Missing("c", setup),
    ]
    named = steps(lacking)
    assert [step.splitlines()[0] for step in named] == [clone, setup, "hf download x"]
    assert named[1].endswith("for: b, c")
