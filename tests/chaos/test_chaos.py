"""The short campaign: every kind of fault once or so, under load, judged after each. `make chaos` runs long ones.

CROSSFADE_CHAOS_SEED, CROSSFADE_CHAOS_FAULTS and CROSSFADE_CHAOS_SECONDS choose seed and length.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos import campaign
from tests.chaos.faults import MENU, SHORT

pytestmark = pytest.mark.chaos


def test_nothing_is_lost_or_doubled_whatever_is_killed_or_cut(tmp_path: Path) -> None:
    faults, seconds = os.environ.get("CROSSFADE_CHAOS_FAULTS"), os.environ.get("CROSSFADE_CHAOS_SECONDS")
    is_long = bool(faults or seconds)
    menu = MENU if is_long else SHORT
    seed = int(os.environ.get("CROSSFADE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CROSSFADE_CHAOS_SEED={seed}")
    report = campaign.run(
        tmp_path,
        seed=seed,
        count=int(faults) if faults else None if seconds else len(SHORT),
        seconds=float(seconds) if seconds else None,
        menu=menu,
    )
    print(report)
    observed = report.verdict.counts
    # A storm that never came proves nothing.
    assert report.copies_killed > 0
    assert observed["snapshots"] >= 100
    assert observed["snapshots.whole"] >= 10
    assert observed["positions.looks"] >= 100
    assert observed["positions.moves"] >= 10
    if report.injected.total() >= len(menu) and not seconds:
        assert {fault.__name__ for fault in menu} - set(report.injected) - set(report.missed) == set()
        assert report.proxies["after_commit"] > 0
        assert report.proxies["before_commit"] > 0
        assert report.proxies["half_open"] > 0
        assert observed["writers.connection_lost"] > 0, "the source was never gone for its clients"
        assert observed["snapshots.connection_lost"] > 0, "the target was never gone for its readers"
