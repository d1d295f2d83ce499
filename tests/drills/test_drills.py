"""Each drill once, in the document's order, on one stage. `make drills` prints what was shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.deploy.browser import chromium
from tests.deploy.conftest import CHROMIUM
from tests.deploy.tools import KEPT, Program, debian
from tests.drills.scenes import SCENES, Scene
from tests.drills.theatre import Theatre

_SHOWN = 150.0  # seconds: a minute of the daemon's own retries, and the rules' waits


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with Theatre(tmp_path_factory.mktemp("drills")) as theatre:
        theatre.well()
        yield theatre


@pytest.fixture(scope="module")
def programs() -> tuple[Program, Program] | None:
    """A browser and its driver; None where there is none, and nobody looks at the page."""
    try:
        browser, driver = (debian(*each) for each in CHROMIUM)
    except pytest.skip.Exception:
        return None
    return browser, driver


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title.lower().replace(" ", "-").replace("'", ""))
def test_the_drill(scene: Scene, theatre: Theatre, programs: tuple[Program, Program] | None) -> None:
    began = time.monotonic()
    port = theatre.standby_port if scene.elsewhere else theatre.workspace.port
    with scene.breaks(theatre):
        seen = theatre.until(scene.missing, seconds=_SHOWN, port=port, panels=scene.panels)
        shown = time.monotonic() - began
        page = "not looked at"
        if scene.page and programs is not None:
            page = asyncio.run(_on_the_page(*programs, port=port, words=scene.page, name=scene.title))
        if scene.elsewhere:
            theatre.well(port=port)
    took = theatre.well()
    print(f"\n## {scene.title}\n\nshown after {shown:.0f} s, well again {took:.0f} s after it was mended\n")
    print(f"{seen.told()}\npage                    {page}")


async def _on_the_page(browser: Program, driver: Program, *, port: int, words: str, name: str) -> str:
    """The first line of the page, once these words are on it; its picture is kept beside those of the page's tests."""
    async with chromium(browser, driver) as opened:
        await opened.open(f"http://127.0.0.1:{port}/")
        await opened.until("body", words)
        await opened.screenshot(KEPT / "screenshots" / f"drill {name}.png", width=1100, dark=False)
        return " ".join((await opened.text("#headline")).split())
