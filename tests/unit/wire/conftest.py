"""The hot modules of this room, in both of their forms."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import pytest

from tests.hot import in_form


@dataclass(frozen=True)
class Hot:
    """One form of the modules under test."""

    fold: ModuleType
    encode: ModuleType
    copycodec: ModuleType
    uuids: ModuleType
    entries: ModuleType


@pytest.fixture(params=["python", "compiled"], scope="session")
def hot(request: pytest.FixtureRequest) -> Hot:
    return Hot(
        *(in_form(request.param, f"wire.{name}") for name in ("fold", "encode", "copycodec", "uuids", "entries"))
    )
