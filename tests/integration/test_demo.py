"""The demonstration from beginning to end, small: what a stranger sees first must work."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys


async def test_a_live_shop_is_moved_and_both_sides_agree() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crossfade.cli.main", "demo", "--rows", "3000", "--seconds", "4", "--rate", "100"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(240):
            result, progress = (part.decode() for part in await process.communicate())
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, progress + result
    assert "Both sides agree" in result
    assert "killed with SIGKILL once" in result
    assert "kill -9" in progress
    rows = re.findall(r"^ (\w+) +(app\.\w+) +([\d,]+) +([\d,]+) +0 +0 +0 *$", result, re.MULTILINE)
    assert len(rows) == 9, "every table has its line, in columns that are not cut off"
    assert all(there == equal for _, _, there, equal in rows)
