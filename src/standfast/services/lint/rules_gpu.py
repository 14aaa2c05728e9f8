"""Rules about CUDA and PyTorch: what is installed must have code for the GPU that is meant.

Which GPU is meant is what the files say (``sm_120``, "RTX 5070", TORCH_CUDA_ARCH_LIST), or ``--arch``. Where
nobody says, sm_120 is assumed, the finding is a warning, and its message names that condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from standfast.kernel.gpu_arch import FIRST_CUDA, FIRST_TORCH, index_cuda, indexes_for
from standfast.services.lint.contents import BuiltImage, Step, stage_images
from standfast.services.lint.dockerfile import Dockerfile, expand
from standfast.services.lint.images import cuda_base, parse_image
from standfast.services.lint.installs import Install, Word
from standfast.services.lint.locating import requirements_for
from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.tree import Requirements, Tree

ASSUMED = "sm_120"
_TORCH_INDEX = re.compile(r"/whl/(?P<nightly>nightly/)?(?P<index>cu\d+|cpu|rocm[\d.]+)(?=/|$)")
_INDEX_VARIABLES = frozenset({
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX",
})  # fmt: skip
#: Packages that pin the torch that they were built with.
_PINS_TORCH = frozenset({"torchvision", "torchaudio", "xformers"})
_NO_DIGIT_SINCE = (12, 4)
_SM_IN_DOCKERFILE = re.compile(r"TORCH_CUDA_ARCH_LIST[=\s\"']+([0-9.;,+PTX \t]+)")


class Target(NamedTuple):
    """The architecture that decides, the first CUDA that has it, and whether somebody named it."""

    arch: str
    cuda: tuple[int, int]
    is_named: bool
    why: str

    @property
    def severity(self) -> Severity:
        """An error where the architecture is known, a warning where it is assumed."""
        return Severity.ERROR if self.is_named else Severity.WARNING

    @property
    def wheels(self) -> str:
        """The first wheel index that has it."""
        return next(iter(indexes_for(self.arch)), "cu128")

    @property
    def condition(self) -> str:
        """What must be true for the finding, for its message."""
        if self.is_named:
            return f"{self.arch} is meant ({self.why})"
        return f"if {self.arch} (RTX 50) is meant; for another GPU say --arch sm_89"


def target_of(tree: Tree, path: Path) -> Target:
    """Return the newest architecture that is meant for the file at ``path``."""
    own = _own_targets(tree.texts.get(path, ""))
    named: Mapping[str, Spot | None] = {name: Spot(path, 1) for name in own} or tree.targets
    known = {name: spot for name, spot in named.items() if name in FIRST_CUDA}
    if not known:
        return Target(ASSUMED, FIRST_CUDA[ASSUMED], False, "")
    arch = max(known, key=lambda name: (FIRST_CUDA[name], name))
    spot = known[arch]
    why = f"{spot.file.name}:{spot.line}" if spot is not None else "--arch"
    return Target(arch, FIRST_CUDA[arch], True, why)


def _own_targets(text: str) -> list[str]:
    listed = _SM_IN_DOCKERFILE.findall(text)
    return [f"sm_{major}{minor}" for part in listed for major, minor in re.findall(r"(\d+)\.(\d)", part)]


def _steps(dockerfile: Dockerfile) -> Iterator[Step]:
    """Yield every installation of every stage once, with the defaults of its arguments put in."""
    seen: set[tuple[int, Install]] = set()
    for image in stage_images(dockerfile):
        for step in image.steps:
            if (step.line, step.install) not in seen:
                seen.add((step.line, step.install))
                yield step


class _Named(NamedTuple):
    """An image that a FROM or a service names."""

    image: str
    spot: Spot
    target: Target


def _named_images(tree: Tree) -> Iterator[_Named]:
    for dockerfile in tree.dockerfiles:
        target = target_of(tree, dockerfile.path)
        for stage in dockerfile.stages:
            yield _Named(expand(stage.base, dockerfile.arguments), Spot(dockerfile.path, stage.line), target)
    for service in tree.services:
        if service.ref is not None:
            spot = service.at("image")
            yield _Named(service.declared.image, spot, target_of(tree, spot.file))


def judge_cuda_base(tree: Tree) -> Iterator[Hit]:
    """Judge whether the CUDA of an image is new enough."""
    for image, spot, target in _named_images(tree):
        version, text = _cuda_version(image)
        if version is not None and version < target.cuda:
            wanted = ".".join(map(str, target.cuda))
            yield Hit(
                spot, f"CUDA {text} has no {target.arch}; {wanted} or later is needed {_cause(target)}",
                f"nvidia/cuda:{wanted}.1-cudnn-runtime-ubuntu22.04 or later",
                image, target.severity, {"cuda": text, "arch": target.arch, "needed": wanted},
            )  # fmt: skip


def _cause(target: Target) -> str:
    return f"because {target.condition}" if target.is_named else target.condition


def _cuda_version(image: str) -> tuple[tuple[int, int] | None, str]:
    ref = parse_image(image)
    base = cuda_base(ref)
    if base is not None:
        return base.version, base.text
    monthly = re.match(r"(\d{2})\.(\d{2})-", ref.tag) if ref.name == "nvcr.io/nvidia/pytorch" else None
    if monthly is not None:
        # 25.01 is the first release with CUDA 12.8 (NVIDIA's framework support matrix).
        is_old = (int(monthly[1]), int(monthly[2])) < (25, 1)
        return ((12, 6) if is_old else (12, 8)), f"of release {monthly[1]}.{monthly[2]}"
    inside = re.search(r"(?:^|-)cuda(\d+)\.(\d+)", ref.tag)
    is_torch = ref.name.endswith(("pytorch", "pytorch-cuda"))
    return (
        ((int(inside[1]), int(inside[2])), f"{inside[1]}.{inside[2]}") if inside and is_torch else (None, "")
    )


def judge_cudnn_tag(tree: Tree) -> Iterator[Hit]:
    """Judge tags with a digit after cudnn: since CUDA 12.4 there are none, before it was cuDNN 8."""
    for image, spot, target in _named_images(tree):
        base = cuda_base(parse_image(image))
        if base is None or not base.cudnn:
            continue
        right = re.sub(r"-cudnn\d+", "-cudnn", image)
        if base.version >= _NO_DIGIT_SINCE:
            yield Hit(
                spot, f"there is no {image}: since CUDA 12.4 the tag is cudnn-, without a digit",
                right, image, Severity.ERROR, {"image": image},
            )  # fmt: skip
        elif base.version < target.cuda:
            yield Hit(
                spot, f"cudnn{base.cudnn} belongs to CUDA before 12.4, which has no {target.arch} "
                f"({_cause(target)}); newer tags are cudnn-, without a digit",
                re.sub(r"cuda:[0-9.]+", "cuda:12.8.1", right), image, target.severity, {"image": image},
            )  # fmt: skip


def judge_torch_index(tree: Tree) -> Iterator[Hit]:
    """Judge whether the wheel index that torch comes from has the architecture."""
    for dockerfile in tree.dockerfiles:
        target = target_of(tree, dockerfile.path)
        for url, line in dict.fromkeys(_indexes(dockerfile)):
            message = _index_trouble(url, target)
            if message:
                yield _index_hit(Spot(dockerfile.path, line), message, target, url, target.severity)
    for path, requirements in tree.requirements.items():
        target = target_of(tree, path)
        for index in requirements.indexes:
            message = _index_trouble(index.url, target)
            if message:
                severity = Severity.INFO if index.is_comment else target.severity
                said = f"the comment tells to use it: {message}" if index.is_comment else message
                yield _index_hit(Spot(path, index.line), said, target, index.url, severity)


def _indexes(dockerfile: Dockerfile) -> Iterator[tuple[str, int]]:
    """Yield the wheel indexes that steps and variables name; conda's pytorch-cuda=12.1 as cu121."""
    for step in _steps(dockerfile):
        yield from ((url, step.line) for url in step.install.indexes)
        for word in step.install.packages:
            conda = re.match(r"pytorch-cuda=+(\d+)\.(\d)", word.text)
            if conda:
                yield f"/whl/cu{conda[1]}{conda[2]}", step.line
    for image in stage_images(dockerfile):
        yield from ((s.value, s.line) for key, s in image.env.items() if key in _INDEX_VARIABLES)


def _index_hit(spot: Spot, message: str, target: Target, url: str, severity: Severity) -> Hit:
    nightly = "nightly/" if "/nightly/" in url else ""
    return Hit(
        spot, message, f"use the index {nightly}{target.wheels}", "torch", severity,
        {"index": url.rpartition("/whl/")[2], "arch": target.arch},
    )  # fmt: skip


def _index_trouble(url: str, target: Target) -> str:
    match = _TORCH_INDEX.search(url)
    cuda = index_cuda(match["index"]) if match else None
    if match is None or cuda is None or cuda >= target.cuda:
        return ""
    return f"the index {match['index']} has no {target.arch} ({_cause(target)})"


def judge_nightly(tree: Tree) -> Iterator[Hit]:
    """Judge whether --pre stands where a nightly index is used."""
    for dockerfile in tree.dockerfiles:
        for step in _steps(dockerfile):
            nightly = [url for url in step.install.indexes if "/nightly" in url and _TORCH_INDEX.search(url)]
            has_dev = any(".dev" in word.text for word in step.install.packages)
            if nightly and not step.install.is_pre and not has_dev:
                yield Hit(
                    Spot(dockerfile.path, step.line),
                    "a nightly index has pre-releases only, and pip passes them over without --pre",
                    "pip install --pre ...", "torch",
                )  # fmt: skip


def judge_torch_version(tree: Tree) -> Iterator[Hit]:
    """Judge whether the torch that a GPU image pins is a release that has the architecture."""
    seen: set[Spot] = set()
    for dockerfile, image, context, uses_gpu in _images(tree):
        target = target_of(tree, dockerfile.path)
        first = FIRST_TORCH.get(target.arch)
        if not uses_gpu or first is None or not _is_torch_of_gpu(image):
            continue
        for word, spot in _pip_words(tree, dockerfile, image, context):
            pinned = _pinned(word) if word.name == "torch" else None
            if pinned is not None and (pinned.major, pinned.minor) < first and spot not in seen:
                seen.add(spot)
                yield Hit(
                    spot,
                    f"torch {pinned} has no {target.arch} in any build, the first is "
                    f"{'.'.join(map(str, first))} ({_cause(target)})",
                    f"torch>={'.'.join(map(str, first))} from the index {target.wheels}", "torch",
                    target.severity, {"pinned": str(pinned), "arch": target.arch},
                )  # fmt: skip


def _is_torch_of_gpu(image: BuiltImage) -> bool:
    """Return whether no step takes the build for processors, which is for another machine."""
    return not any("/whl/cpu" in url for step in image.steps for url in step.install.indexes)


def _images(tree: Tree) -> Iterator[tuple[Dockerfile, BuiltImage, Path | None, bool]]:
    """Yield each image that a Dockerfile gives: as its services build it, and each stage by its defaults."""
    for dockerfile in tree.dockerfiles:
        for service in tree.uses_of(dockerfile.path):
            use = service.use
            if use is not None and use.image is not None:
                has_gpu = bool(service.declared.gpus) or service.declared.options.get("runtime") == "nvidia"
                context = None if use.stands_in else use.context
                yield dockerfile, use.image, context, has_gpu or _is_gpu_image(use.image)
        for image in stage_images(dockerfile):
            yield dockerfile, image, None, _is_gpu_image(image)


def _is_gpu_image(image: BuiltImage) -> bool:
    if cuda_base(parse_image(image.base)) is not None:
        return True
    found = (_TORCH_INDEX.search(url) for step in image.steps for url in step.install.indexes)
    return any(match is not None and match["index"].startswith("cu") for match in found)


def _pip_words(
    tree: Tree, dockerfile: Dockerfile, image: BuiltImage, context: Path | None
) -> Iterator[tuple[Word, Spot]]:
    for step in image.steps:
        if step.install.manager == "pip":
            yield from ((word, Spot(dockerfile.path, step.line)) for word in step.install.packages)
            for name in step.install.requirement_files:
                requirements = requirements_for(tree, dockerfile, image, context, name)
                for wanted in requirements.wanted if requirements is not None else ():
                    yield wanted.word, Spot(requirements.path, wanted.line)  # type: ignore[union-attr]


def _pinned(word: Word) -> Version | None:
    """Return the one version that a requirement allows, or None."""
    try:
        requirement = Requirement(word.text.split(" #")[0].split("--hash")[0].strip())
        exact = [s.version for s in requirement.specifier if s.operator in ("==", "===")]
        return Version(exact[0]) if len(exact) == 1 and "*" not in exact[0] else None
    except (InvalidRequirement, InvalidVersion):
        return None


def judge_torch_repinned(tree: Tree) -> Iterator[Hit]:
    """Judge whether a later step replaces the torch that an earlier one took from a CUDA index."""
    seen: set[tuple[Spot, str]] = set()
    for dockerfile, image, context, _ in _images(tree):
        is_torch_base = parse_image(image.base).name.endswith("pytorch/pytorch")
        taken: tuple[int, str] | None = (image.base_line, "torch") if is_torch_base else None
        for step in image.steps:
            if step.install.manager != "pip":
                continue
            own = next((m for url in step.install.indexes if (m := _TORCH_INDEX.search(url))), None)
            names = {word.name: word for word in step.install.packages}
            if own is not None and "torch" in names and own["index"] != "cpu":
                taken = step.line, names["torch"].text
            elif taken is not None and own is None:
                for word, spot, place in _later_words(tree, dockerfile, image, context, step):
                    is_alone = step.install.has_no_deps and word.name != "torch"
                    hit = None if is_alone else _replaced(taken, word, spot, place)
                    if hit is not None and (spot, word.text) not in seen:
                        seen.add((spot, word.text))
                        yield hit


def _later_words(
    tree: Tree, dockerfile: Dockerfile, image: BuiltImage, context: Path | None, step: Step
) -> Iterator[tuple[Word, Spot, str]]:
    spot = Spot(dockerfile.path, step.line)
    yield from ((word, spot, "") for word in step.install.packages)
    for name in step.install.requirement_files:
        found: Requirements | None = requirements_for(tree, dockerfile, image, context, name)
        for wanted in found.wanted if found is not None else ():
            yield wanted.word, spot, f"{found.path.name}:{wanted.line} "  # type: ignore[union-attr]


def _replaced(taken: tuple[int, str], word: Word, spot: Spot, place: str) -> Hit | None:
    """Return the finding where ``word`` cannot be met by the torch that is there, or needs another one."""
    pinned, earlier = _pinned(word), _pinned(Word(taken[1]))
    is_narrow = pinned is not None or re.search(r"<|~=", word.text) is not None
    is_same = pinned is not None and earlier is not None and pinned.public == earlier.public
    if word.name not in {"torch", *_PINS_TORCH} or not is_narrow or (word.name == "torch" and is_same):
        return None
    return Hit(
        spot,
        f"{place}{word.text} replaces the torch that line {taken[0]} took from a CUDA build",
        "take torch out of what is installed afterwards, or give that step the same index", word.name,
        evidence={"installed_at": taken[0], "requirement": word.text},
    )  # fmt: skip
