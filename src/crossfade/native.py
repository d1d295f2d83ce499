"""Which of the hot modules run compiled: the binary beside a module, its Python source otherwise.

A binary is there when the package was installed with a compiler at hand, or after `make native`. Both forms are the
same source and pass the same tests; `CROSSFADE_UNCOMPILED=1` in the environment chooses Python. Refuses to know what
the modules do. The invariant: a binary older than the sources it was made of is never imported from a source checkout,
so an edit is never hidden by what was built before it; the module is then its Python source, and `forms` says so.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "crossfade.copydata": ("copydata.py", "copydata.pxd"),
    "crossfade.pgoutput.rows": ("pgoutput/rows.py", "pgoutput/rows.pxd"),
    "crossfade.wire.uuids": ("wire/uuids.py", "wire/uuids.pxd", "wire/leaf.pxd"),
    "crossfade.wire.entries": ("wire/entries.py", "wire/entries.pxd", "wire/leaf.pxd"),
    "crossfade.wire.fold": ("wire/fold.py", "wire/fold.pxd"),
    "crossfade.wire.encode": ("wire/encode.py", "wire/encode.pxd", "wire/leaf.pxd"),
    "crossfade.wire.copycodec": (
        "wire/copycodec.py",
        "wire/copycodec.pxd",
        "wire/encode.py",
        "wire/encode.pxd",
        "wire/leaf.pxd",
    ),
}
"""The modules that setuptools compiles, as pyproject.toml lists them, and what each is made of (its source first)."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {"crossfade.wire.copycodec": ("crossfade.wire.encode",)}
"""Compiled code that calls another's C functions cannot be imported where that one is Python."""

_HERE: Final = Path(__file__).parent
_IS_CHECKOUT: Final = (_HERE.parents[1] / "pyproject.toml").is_file()


class _PythonSource(MetaPathFinder):
    """Finds the Python source of a hot module whose binary is unwanted or stale; leaves all else to the others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        if not os.environ.get("CROSSFADE_UNCOMPILED") and _is_usable(fullname):
            return None
        return importlib.util.spec_from_file_location(fullname, _HERE / MODULES[fullname][0])


def _is_usable(name: str) -> bool:
    """There is a binary, not older than its sources, and so for those it needs."""
    made_of = [_HERE / file for file in MODULES[name]]
    binaries = [binary for suffix in EXTENSION_SUFFIXES if (binary := made_of[0].with_suffix(suffix)).is_file()]
    if not binaries or not all(_is_usable(needed) for needed in NEEDS.get(name, ())):
        return False
    # What an installer writes is in no order of time.
    return not _IS_CHECKOUT or min(_modified(one) for one in binaries) >= max(_modified(one) for one in made_of)


def _modified(file: Path) -> float:
    return file.stat().st_mtime


def forms() -> Mapping[str, bool]:
    """The hot modules, and whether each runs compiled here."""
    specs = ((name, importlib.util.find_spec(name)) for name in MODULES)
    return {name: spec is not None and not str(spec.origin).endswith(".py") for name, spec in specs}


def is_compiled() -> bool:
    """All of them are."""
    return all(forms().values())


def install() -> None:
    """Put the choice before Python's own, which takes any binary it sees. Idempotent."""
    if not any(isinstance(finder, _PythonSource) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PythonSource())
