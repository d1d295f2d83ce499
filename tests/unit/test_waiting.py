"""After a group's failure its parent goes on as if nobody had cancelled it."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.waiting import forget_cancellation


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("a part failed")


async def _failing_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fail())
        group.create_task(asyncio.Event().wait())


def test_a_timeout_after_a_failed_group_is_a_timeout() -> None:
    async def work() -> int:
        with pytest.raises(ExceptionGroup):
            await _failing_group()
        forget_cancellation()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        here = asyncio.current_task()
        assert here is not None
        return here.cancelling()

    assert asyncio.run(work()) == 0
