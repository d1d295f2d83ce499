"""Which form of a hot module is imported."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from crossfade import native


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hot module with a binary as old as itself."""
    monkeypatch.setattr(native, "_HERE", tmp_path)
    folder = tmp_path / "wire"
    folder.mkdir()
    monkeypatch.setattr(native, "_IS_CHECKOUT", True)
    monkeypatch.delenv("CROSSFADE_UNCOMPILED", raising=False)
    for file in ("fold.py", "fold.pxd", f"fold{EXTENSION_SUFFIXES[0]}"):
        (folder / file).touch()
        os.utime(folder / file, (1000, 1000))
    return folder


def is_source(name: str = "fold") -> bool:
    finder = next(one for one in sys.meta_path if type(one).__name__ == "_PythonSource")
    spec = finder.find_spec(f"crossfade.wire.{name}", None, None)
    assert spec is None or str(spec.origin).endswith(f"{name}.py")
    return spec is not None


def test_the_choice_stands_before_pythons_own_once() -> None:
    native.install()
    names = [type(one).__name__ for one in sys.meta_path]
    assert names.count("_PythonSource") == 1
    assert names.index("_PythonSource") < names.index("PathFinder") if "PathFinder" in names else True


def test_a_binary_as_new_as_its_sources_is_taken(folder: Path) -> None:
    assert not is_source()


@pytest.mark.parametrize("edited", ["fold.py", "fold.pxd"])
def test_a_binary_older_than_a_source_is_not(folder: Path, edited: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(folder / edited, (2000, 2000))
    assert is_source()
    monkeypatch.setattr(native, "_IS_CHECKOUT", False)  # installed: times are those of the installer
    assert not is_source()


def test_the_environment_chooses_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_UNCOMPILED", "1")
    assert is_source()


def test_without_a_binary_it_is_python(folder: Path) -> None:
    (folder / f"fold{EXTENSION_SUFFIXES[0]}").unlink()
    assert is_source()


def test_a_binary_whose_needed_one_is_missing_or_stale_is_not_taken(folder: Path) -> None:
    for file in ("encode.py", "encode.pxd", "leaf.pxd", "copycodec.py", "copycodec.pxd"):
        (folder / file).touch()
        os.utime(folder / file, (1000, 1000))
    binaries = [folder / f"{name}{EXTENSION_SUFFIXES[0]}" for name in ("copycodec", "encode")]
    binaries[0].touch()
    assert is_source("copycodec")
    binaries[1].touch()
    assert not is_source("copycodec")
    os.utime(folder / "encode.py", (2**33, 2**33))
    assert is_source("copycodec")


def test_other_modules_are_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_UNCOMPILED", "1")
    finder = next(one for one in sys.meta_path if type(one).__name__ == "_PythonSource")
    assert finder.find_spec("crossfade.wire.codec", None, None) is None


def test_the_modules_listed_are_those_built() -> None:
    root = Path(native.__file__).parents[2]
    text = (root / "pyproject.toml").read_text()
    makefile = (root / "Makefile").read_text()
    for module in native.MODULES:
        path = f"src/{module.replace('.', '/')}.py"
        assert f'name = "{module}"\nsources = ["{path}"]' in text
        assert path in makefile
        assert all((root / "src/crossfade" / file).is_file() for file in native.MODULES[module])
