"""`crossfade demo`: the whole journey on two throw-away servers."""

from __future__ import annotations

import sys

from crossfade.faults import Fault


def demo(*, keep: bool, seconds: float, rows: int, rate: float = 300.0, kill: bool = True, seed: int = 2026) -> int:
    """Play the demonstration: 0 both sides agree, 3 they do not, 1 a step failed, 130 interrupted."""
    from crossfade.demo.run import FAILED, Wishes, run

    try:
        return run(Wishes(keep=keep, seconds=seconds, rows=rows, rate=rate, kill=kill, seed=seed))
    except Fault as fault:
        sys.stderr.write(f"crossfade demo: {fault}\n")
        return FAILED
