"""Imports the programs of a blueprint, which are scripts beside their configuration and no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def blueprint_file(path: str) -> Path:
    """Return the file at ``path`` below the folder of the blueprints."""
    return ROOT / "blueprints" / path


def blueprint_module(path: str) -> ModuleType:
    """Import the module at ``path`` (``evaluation/policies.py``) as its own program would find it."""
    file = blueprint_file(path)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    return importlib.import_module(file.stem)
