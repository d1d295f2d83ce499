"""The crossfade that is demonstrated: a process of its own, driven as an operator would drive it.

Started, looked at over HTTP, killed with SIGKILL, started again, stopped with SIGTERM; one-shot commands beside it.
Refuses to know databases and the story. The invariant: the process does not outlive us, however we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import aiohttp

from crossfade.faults import Fault
from crossfade.telemetry.document import StatusDocument

_MODULE: Final = (sys.executable, "-m", "crossfade.cli.main")
_STOP_SECONDS: Final = 30.0  # the shipped configuration's own deadline is 20
_TAIL: Final = 25
# Holds the read end of a pipe of ours: it reads on when we are gone, by whatever cause, and ends the daemon.
WATCHER: Final = 'read -r word; [ "$word" = done ] || kill -KILL "$1" 2>/dev/null'


class DemoFailed(Fault):
    """A step of the demonstration did not do what it should."""


@dataclass(slots=True)
class Daemon:
    """`crossfade run` in the given environment; its output goes to `log`, across restarts."""

    environment: Mapping[str, str]
    listen: str
    log: Path
    starts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _watcher: asyncio.subprocess.Process | None = None
    _http: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it; it is not ready yet when this returns."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_MODULE,
                "run",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop it in our own order
            )
        self._watcher = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", WATCHER, "crossfade-demo-watcher", str(self._process.pid)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.starts += 1

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def check_alive(self) -> None:
        """Raise `DemoFailed`, with the end of its log, when it has ended by itself."""
        if self._process is not None and (code := self._process.returncode) is not None:
            raise DemoFailed(f"crossfade ended by itself with exit code {code}.", where="crossfade run", do=self.tail())

    def tail(self) -> str:
        """The end of its log, for a failure's text."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-_TAIL:]
            return "Its log ends:\n" + "\n".join(f"    {line[:400]}" for line in lines)
        return "It left no log."

    async def status(self) -> StatusDocument | None:
        """Its status document; None while it cannot be had."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        try:
            async with self._http.get(f"http://{self.listen}/api/v1/status") as answer:
                return cast("StatusDocument", await answer.json(content_type=None)) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int | None:
        """Drain and stop; returns its exit code, None when it did not run."""
        code = await self._end(signal.SIGTERM)
        if self._http is not None:
            await self._http.close()
            self._http = None
        return code

    async def _end(self, how: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(how)
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._dismiss_watcher()
        return process.returncode

    async def _dismiss_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with contextlib.suppress(ConnectionError):
                await watcher.communicate(b"done\n")

    async def command(self, *arguments: str, deadline: float) -> str:
        """Run `crossfade ARGUMENTS` beside the daemon; returns its output. Raises `DemoFailed` unless it exits 0."""
        process = await asyncio.create_subprocess_exec(
            *_MODULE,
            *arguments,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(deadline):
                output, _ = await process.communicate()
        except TimeoutError:
            raise DemoFailed(
                f"No answer in {deadline:.0f} s.", where=f"crossfade {' '.join(arguments)}", do=self.tail()
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode("utf-8", "replace").strip()
        if process.returncode != 0:
            raise DemoFailed(
                f"Exit code {process.returncode}.",
                where=f"crossfade {' '.join(arguments)}",
                do=f"It said:\n{text[-3000:]}",
            )
        return text
