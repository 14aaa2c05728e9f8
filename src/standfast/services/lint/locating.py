"""Finds the file that a name inside an image stands for: requirements and what COPY brings."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from standfast.services.lint.contents import BuiltImage
from standfast.services.lint.dockerfile import Dockerfile
from standfast.services.lint.tree import Requirements, Tree


def contexts_of(tree: Tree, dockerfile: Dockerfile) -> tuple[tuple[Path, ...], bool]:
    """Return the build contexts of a Dockerfile, and whether a stack says so.

    Where none does, a file called plainly ``Dockerfile`` is presumed to be built from its own folder or from
    one above; for ``Dockerfile.api`` there is nothing to presume.
    """
    told = {s.use.context for s in tree.uses_of(dockerfile.path) if s.use is not None and not s.use.stands_in}
    if told:
        return tuple(sorted(told)), True
    if dockerfile.path.name.lower() not in ("dockerfile", "containerfile"):
        return (), False
    folders = [dockerfile.path.parent, *dockerfile.path.parents[1:]]
    return tuple(folder for folder in folders if tree.disk.knows(folder)), False


def requirements_for(
    tree: Tree, dockerfile: Dockerfile, image: BuiltImage, context: Path | None, name: str
) -> Requirements | None:
    """Return the requirements file that ``pip install -r name`` reads in the image, or None if unknown."""
    for path in _candidates(tree, dockerfile, image, context, name):
        if path in tree.requirements:
            return tree.requirements[path]
    return None


def _candidates(
    tree: Tree, dockerfile: Dockerfile, image: BuiltImage, context: Path | None, name: str
) -> Iterator[Path]:
    last = posixpath.basename(name)
    sources = [s for copy in image.copies if not copy.stage for s in copy.sources]
    exact = [source for source in sources if posixpath.basename(source) == last]
    # What a step made itself (grep -v torch ... > other.txt) is no file of the context.
    is_copied = bool(exact) or any(source.rstrip("/") in (".", "") for source in sources)
    if not is_copied:
        return
    folders = (context,) if context is not None else contexts_of(tree, dockerfile)[0]
    for folder in folders:
        for source in exact or [name.lstrip("/")]:
            yield Path(os.path.normpath(folder / source.lstrip("/")))
    yield from _beside(dockerfile, last)


def _beside(dockerfile: Dockerfile, name: str) -> Iterator[Path]:
    """Yield requirements that are kept beside ``Dockerfile.api`` as ``requirements.api.txt``."""
    suffix = re.sub(r"(?i)^dockerfile[.-]?|\.dockerfile$", "", dockerfile.path.name)
    stem, dot, ending = name.rpartition(".")
    if suffix and dot:
        yield dockerfile.path.with_name(f"{stem}.{suffix}.{ending}")
        yield dockerfile.path.with_name(f"{stem}-{suffix}.{ending}")
        yield dockerfile.path.parent / suffix / name
