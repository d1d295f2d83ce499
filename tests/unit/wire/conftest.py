"""The hot modules in both of their forms: Python source always, compiled where that was built (`make native`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from crossfade import native


@dataclass(frozen=True)
class Hot:
    """One form of the modules under test."""

    fold: ModuleType
    encode: ModuleType
    copycodec: ModuleType
    uuids: ModuleType


def _python(name: str) -> ModuleType:
    """The module from its Python source, beside whatever everybody else imports under its name."""
    beside = f"tests.unit.wire.uncompiled.{name}"
    if beside not in sys.modules:
        assert native.__file__ is not None
        spec = importlib.util.spec_from_file_location(beside, Path(native.__file__).parent / "wire" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[beside] = module
        spec.loader.exec_module(module)
    return sys.modules[beside]


def _compiled(name: str) -> ModuleType:
    module = importlib.import_module(f"crossfade.wire.{name}")
    if not native.forms()[module.__name__]:
        pytest.skip(f"{name} is not compiled here")
    return module


@pytest.fixture(params=["python", "compiled"], scope="session")
def hot(request: pytest.FixtureRequest) -> Hot:
    load = _python if request.param == "python" else _compiled
    return Hot(load("fold"), load("encode"), load("copycodec"), load("uuids"))
