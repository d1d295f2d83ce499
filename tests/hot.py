"""The hot modules in both of their forms: Python source always, compiled where that was built (`make native`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from crossfade import native


def from_source(name: str) -> ModuleType:
    """`crossfade.<name>` from its Python source, a new module beside whatever everybody else imports as that."""
    beside = f"tests.uncompiled.{name}"
    path = Path(str(native.__file__)).parent.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(beside, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[beside] = module  # classes look their module up while they are made
    spec.loader.exec_module(module)
    return module


def in_form(form: str, name: str) -> ModuleType:
    """`crossfade.<name>` as "python" or "compiled"; a test of what is not compiled here is skipped."""
    if form == "python":
        return from_source(name)
    if not native.forms()[f"crossfade.{name}"]:
        pytest.skip(f"{name} is not compiled here")
    return importlib.import_module(f"crossfade.{name}")
