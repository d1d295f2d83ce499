"""What a task group that failed leaves behind in the task that waited for it.

Refuses to know what failed. The invariant: who goes on after a group's failure goes on as a task nobody has cancelled.
"""

from __future__ import annotations

import asyncio


def forget_cancellation() -> None:
    """To be called by whoever catches a group's errors and goes on, before it waits for anything.

    A group whose task fails while it waits for the others cancels its parent, and leaves the parent's count of that
    behind. Python 3.11.2, which Debian 12 has, then ends every `asyncio.timeout` of the parent as a cancellation.
    """
    task = asyncio.current_task()
    assert task is not None
    while task.cancelling():
        task.uncancel()


__all__ = ["forget_cancellation"]
