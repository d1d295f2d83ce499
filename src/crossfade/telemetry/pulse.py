"""The daemon's heartbeat: tells systemd that the event loop lives, and measures how late it wakes.

One coroutine for the supervisor to run as a task (`loop.pulse`). Refuses to know what the loop is busy with. The
invariant: it sleeps on the very loop that it vouches for, so a blocked loop misses its watchdog.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.notify import Notifier

_TICK: Final = 1.0  # seconds


async def pulse(notifier: Notifier, metrics: Metrics, stopped: asyncio.Event) -> None:
    """Beat until `stopped`, every second or at the watchdog's pace where that is faster."""
    tick = min(_TICK, notifier.watchdog_seconds or _TICK)
    while not stopped.is_set():
        notifier.watchdog()
        due = time.monotonic() + tick
        try:
            async with asyncio.timeout(tick):
                await stopped.wait()
        except TimeoutError:
            metrics.observe_loop_lag(time.monotonic() - due)
