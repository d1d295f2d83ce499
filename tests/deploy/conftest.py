"""What the tests of what is deployed share: a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.deploy.browser import Browser, chromium
from tests.deploy.tools import KEPT, Program, debian

_PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
CHROMIUM = (
    ("CHROMIUM", "chromium", _PACKAGES, "usr/lib/chromium/chromium"),
    ("CHROMEDRIVER", "chromedriver", _PACKAGES, "usr/bin/chromedriver"),
)


@pytest.fixture(scope="session")
def programs() -> tuple[Program, Program]:
    """Chromium and its driver."""
    browser, driver = (debian(*each) for each in CHROMIUM)
    return browser, driver


@pytest_asyncio.fixture
async def browser(programs: tuple[Program, Program]) -> AsyncIterator[Browser]:
    """A window of a browser that has seen nothing yet."""
    async with chromium(*programs) as opened:
        yield opened


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures are left, to be looked at by people."""
    folder = KEPT / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
