"""Says whether TRELLIS can run here, and if not, exactly what to install; nothing is tried and hoped for.

What is needed was read in microsoft/TRELLIS (setup.sh, pipelines/, README: "at least 16 GB"); how much
memory its generations take was measured in the stack that this blueprint comes from: 6.8 to 8.3 GB.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = "https://github.com/microsoft/TRELLIS"
TEXT_MODEL = "microsoft/TRELLIS-text-xlarge"
IMAGE_MODEL = "microsoft/TRELLIS-image-large"
TOTAL_BYTES = 15 * 2**30
FREE_BYTES = 9 * 2**30

#: What brings what, in the order in which it has to be done. The stack's own programs need Python 3.11, so
#: the environment is made here and not by setup.sh, which takes 3.10.
_STEPS = {
    "environment": "conda create -n trellis python=3.11 && conda activate trellis && conda install "
    "pytorch==2.4.0 torchvision==0.19.0 pytorch-cuda=11.8 -c pytorch -c nvidia && pip install aiohttp",
    "clone": f"git clone --recurse-submodules {REPOSITORY} && export PYTHONPATH=$PWD/TRELLIS",
    "setup": "(cd TRELLIS && . ./setup.sh --basic --flash-attn --spconv --kaolin)",
    "attention": "pip install flash-attn (or: pip install xformers && export ATTN_BACKEND=xformers)",
}
#: Module, and the step that brings it.
_MODULES = (
    ("torch", "environment"),
    ("trellis", "clone"),
    ("transformers", "setup"),
    ("huggingface_hub", "setup"),
    ("safetensors", "setup"),
    ("spconv", "setup"),
    ("utils3d", "setup"),
    ("plyfile", "setup"),
    ("easydict", "setup"),
    ("tqdm", "setup"),
    ("open3d", "setup"),
    ("kaolin", "setup"),
)
_IMAGE_MODULES = (("torchvision", "environment"), ("rembg", "setup"), ("PIL", "setup"))
_ATTENTION = ("flash_attn", "xformers")


class Missing(NamedTuple):
    """One thing that TRELLIS needs and that is not here, and the step that brings it."""

    what: str
    fix: str


def kind_of(model: str) -> str:
    """Return what a TRELLIS model is asked with: "prompt" or "image"."""
    return "image" if "image" in Path(model).name.lower() else "prompt"


def missing(model: str) -> list[Missing]:
    """Return everything that stands between this machine and ``model``; empty = it can be loaded.

    Imports torch where that is there, which takes seconds.
    """
    modules = missing_modules(model)
    if any(entry.what.endswith("'torch'") for entry in modules):
        return modules
    return [*modules, *_missing_device(importlib.import_module("torch")), *_missing_weights(model)]


def steps(lacking: Sequence[Missing]) -> list[str]:
    """Return what has to be done, each step once, in an order that works, and what each is for."""
    order = [*_STEPS.values()]
    fixes = sorted(
        dict.fromkeys(entry.fix for entry in lacking),
        key=lambda fix: order.index(fix) if fix in order else len(order),
    )
    return [f"{fix}\n    for: {', '.join(e.what for e in lacking if e.fix == fix)}" for fix in fixes]


def missing_modules(model: str) -> list[Missing]:
    """Return the packages that are not installed; imports none of them."""
    return list(_missing_modules(kind_of(model)))


def _missing_modules(kind: str) -> Iterator[Missing]:
    for name, step in (*_MODULES, *(_IMAGE_MODULES if kind == "image" else ())):
        if importlib.util.find_spec(name) is None:
            yield Missing(f"No module named '{name}'", _STEPS[step])
    if not any(importlib.util.find_spec(name) for name in _ATTENTION):
        yield Missing("No module named 'flash_attn' or 'xformers'", _STEPS["attention"])


def _missing_device(torch: Any) -> Iterator[Missing]:
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA at all"
        yield Missing(
            f"torch {torch.__version__} (built for {built}) finds no usable CUDA device",
            "look at nvidia-smi; then a driver that is new enough for this torch, or a torch for this driver",
        )
        return
    properties = torch.cuda.get_device_properties(0)
    arch = f"sm_{properties.major}{properties.minor}"
    known = torch.cuda.get_arch_list()
    if known and arch not in known and not any(name.startswith("compute_") for name in known):
        yield Missing(
            f"{properties.name} is {arch}; this torch has kernels for {', '.join(known)}",
            "install a torch that is built for this GPU",
        )
    free, total = torch.cuda.mem_get_info()
    if total < TOTAL_BYTES:
        text = f"{properties.name} has {total / 2**30:.1f} GiB; TRELLIS needs 16 GB"
        yield Missing(text, "choose a larger GPU: CUDA_VISIBLE_DEVICES")
    elif free < FREE_BYTES:
        wanted = f"a generation takes up to {FREE_BYTES / 2**30:.0f}"
        text = f"{free / 2**30:.1f} GiB of {properties.name} are free; {wanted}"
        yield Missing(text, "end what holds the memory: nvidia-smi --query-compute-apps=pid,name,used_memory")


def _missing_weights(model: str) -> Iterator[Missing]:
    if Path(model).is_dir():
        yield from _missing_files(model, Path(model))
        return
    if Path(model).is_absolute() or model.count("/") != 1:
        yield Missing(f"there is no folder {model}", f"hf download {TEXT_MODEL} --local-dir {model}")
        return
    description = _cached(model, "pipeline.json")
    if description is None:
        yield Missing(f"the weights of {model} are not on this machine", _download(model))
    else:
        yield from _missing_files(model, description.parent)


def _missing_files(model: str, folder: Path) -> Iterator[Missing]:
    try:
        entries = json.loads((folder / "pipeline.json").read_text("utf-8"))["args"]["models"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Missing(f"{folder}/pipeline.json cannot be read: {error}", _download(model))
        return
    for entry in sorted(set(entries.values())):
        for name in (f"{entry}.json", f"{entry}.safetensors"):
            owner, path = split_entry(name)
            is_here = _cached(owner, path) is not None if owner else (folder / path).is_file()
            if not is_here:
                yield Missing(f"{name} of {model} is not on this machine", _download(owner or model))


def split_entry(entry: str) -> tuple[str, str]:
    """Return the repository and the path of a file that a pipeline names; its own files have no repository.

    The text models name decoders that lie in the image model's repository.
    """
    parts = entry.split("/")
    if parts[0] == "ckpts" or len(parts) < 3:
        return "", entry
    return "/".join(parts[:2]), "/".join(parts[2:])


def _cached(repository: str, name: str) -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    found = importlib.import_module("huggingface_hub").try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) and os.path.isfile(found) else None  # noqa: PTH113 - a cache link


def _download(repository: str) -> str:
    return f"hf download {repository}"
