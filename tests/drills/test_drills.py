"""Each drill once, in the document's order, on one stage. `make drills` prints what was shown."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.drills.scenes import SCENES, Scene
from tests.drills.theatre import Theatre

_SHOWN = 150.0  # seconds: a minute of the daemon's own retries, and the rules' waits


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with Theatre(tmp_path_factory.mktemp("drills")) as theatre:
        theatre.well()
        yield theatre


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title.lower().replace(" ", "-").replace("'", ""))
def test_the_drill(scene: Scene, theatre: Theatre) -> None:
    began = time.monotonic()
    port = theatre.standby_port if scene.elsewhere else None
    with scene.breaks(theatre):
        seen = theatre.until(scene.missing, seconds=_SHOWN, port=port, panels=scene.panels)
        shown = time.monotonic() - began
        if scene.elsewhere:
            theatre.well(port=port)
    took = theatre.well()
    print(
        f"\n## {scene.title}\n\nshown after {shown:.0f} s, well again {took:.0f} s after it was mended\n\n{seen.told()}"
    )
