"""Waiting: for an event but not for ever, and for a task group that failed.

Refuses to know what is waited for. The invariant: who goes on after a group's failure goes on as a task nobody has
cancelled.
"""

from __future__ import annotations

import asyncio


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def forget_cancellation() -> None:
    """To be called by whoever catches a group's errors and goes on, before it waits for anything.

    A group whose task fails while it waits for the others cancels its parent, and leaves the parent's count of that
    behind. Python 3.11.2, which Debian 12 has, then ends every `asyncio.timeout` of the parent as a cancellation.
    """
    task = asyncio.current_task()
    assert task is not None
    while task.cancelling():
        task.uncancel()


__all__ = ["forget_cancellation", "until"]
