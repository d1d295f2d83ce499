"""`crossfade demo`: the whole journey on two throw-away servers."""

from __future__ import annotations


def demo(*, keep: bool, seconds: float, rows: int, rate: float = 300.0, kill: bool = True, seed: int = 2026) -> int:
    """Play the demonstration: 0 both sides agree, 3 they do not, 130 interrupted. Raises `Fault` when a step fails."""
    from crossfade.demo.run import Wishes, run

    return run(Wishes(keep=keep, seconds=seconds, rows=rows, rate=rate, kill=kill, seed=seed))
