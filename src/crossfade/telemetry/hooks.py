"""Telling others of alerts: a command, a webhook, Alertmanager; each with a queue of its own.

Refuses to know what an alert means. The invariants: nothing here disturbs the work (queues are bounded, every try has a
deadline), what could not be told is tried again with backoff and given up after an hour, and neither addresses nor
tokens nor our own secrets get into logs, metrics or a command's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from crossfade.events import Listener, Note, Notified
from crossfade.telemetry import notices
from crossfade.telemetry.document import AlertEntry, iso
from crossfade.telemetry.notices import FIRING, Notice
from crossfade.waiting import until

MOST_WAITING: Final = 256
_TICK: Final = 0.5
_SHORTEST: Final = 1.0
_LONGEST: Final = 60.0
_OLDEST: Final = 3600.0  # what nobody could be told for an hour is no news
_LAST_WORDS: Final = 5.0  # seconds for what waits when the daemon ends
# What a try again may change; any other answer that is none of success says that we ask the wrong thing.
_WORTH_ANOTHER: Final = frozenset({408, 425, 429})


class NotTold(Exception):
    """A try failed. `why` names no address; `is_final`: another would fail likewise."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        self.why = why
        self.is_final = is_final
        super().__init__(why)


class Channel(ABC):
    """One way of telling, and what waits for it."""

    name: str

    def __init__(self, listener: Listener, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._timeout = timeout
        self._clock = clock
        self._waiting: deque[Notice] = deque()
        self._arrived = asyncio.Event()

    def put(self, notice: Notice) -> None:
        """Never waits: the oldest goes when there is no room."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._listener(Notified(self.name, "dropped"))
        self._waiting.append(notice)
        self._arrived.set()

    async def run(self, stopped: asyncio.Event) -> None:
        """Tell what comes until `stopped`, and what waits then, for a few seconds."""
        quiet_since = self._clock()
        try:
            while not stopped.is_set():
                if self._waiting:
                    await self._tell(stopped)
                    quiet_since = self._clock()
                    continue
                self._arrived.clear()
                await until(self._arrived, _TICK)
                if not self._waiting and self._clock() - quiet_since >= self.idle_seconds:
                    await self.idle()
                    quiet_since = self._clock()
            with contextlib.suppress(TimeoutError, NotTold):
                async with asyncio.timeout(_LAST_WORDS):
                    while self._waiting:
                        await self._try(self._waiting[0])
                        self._waiting.popleft()
        finally:
            await self.close()

    async def _tell(self, stopped: asyncio.Event) -> None:
        """Tell the oldest of what waits, as often as it takes."""
        notice, wait = self._waiting[0], _SHORTEST
        while not stopped.is_set():
            try:
                await self._try(notice)
            except NotTold as failure:
                is_over = failure.is_final or self._clock() - notice.told_at > _OLDEST
                self._listener(Notified(self.name, "dropped" if is_over else "failed"))
                text = _FAILED[is_over].format(channel=self.name, why=failure.why)
                self._listener(Note("hook_failed", text, "warning"))
                if not is_over:
                    await until(stopped, wait)
                    wait = min(_LONGEST, wait * 2)
                    continue
            if self._waiting and self._waiting[0] is notice:  # it may have made room for others meanwhile
                self._waiting.popleft()
            return

    async def _try(self, notice: Notice) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self.send(notice)
        except TimeoutError:
            raise NotTold(f"no answer within {self._timeout:g} s") from None
        self._listener(Notified(self.name, "sent"))

    idle_seconds: float = math.inf

    async def idle(self) -> None:  # noqa: B027  # most have nothing to say then
        """Nothing was to be told for `idle_seconds`."""

    @abstractmethod
    async def send(self, notice: Notice) -> None:
        """Tell it, or raise NotTold."""

    async def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Nothing more will be told."""


_FAILED: Final = {
    False: "The {channel} was not told of an alert ({why}); it is tried again.",
    True: "The {channel} was not told of an alert ({why}), and it is given up.",
}


class Command(Channel):
    """Runs a program, without a shell: JSON on its standard input, the same in its environment."""

    name = "command"

    def __init__(self, argv: Sequence[str], listener: Listener, *, workflow: str, timeout: float) -> None:
        super().__init__(listener, timeout=timeout)
        self._argv = tuple(argv)
        self._workflow = workflow

    async def send(self, notice: Notice) -> None:
        said = orjson.dumps(notices.plain(notice, workflow=self._workflow, host=socket.gethostname()))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**_harmless(os.environ), **notices.variables(notice, workflow=self._workflow)},
                start_new_session=True,
            )
        except OSError as error:
            raise NotTold(f"it cannot be started: {error.strerror or type(error).__name__}") from None
        try:
            await process.communicate(said)
        except (ConnectionError, RuntimeError):
            # It did not want to read it, and ended: uvloop's closed pipe is a RuntimeError.
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise NotTold(f"it ended with {process.returncode}")


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """Without our own variables, which may hold connection strings, libpq's, and what systemd says to us alone."""
    ours = ("CROSSFADE_", "PG", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


class _Http(Channel):
    """What both HTTP channels share."""

    def __init__(self, url: str, listener: Listener, *, workflow: str, timeout: float, token: str = "") -> None:
        super().__init__(listener, timeout=timeout)
        self._url = url
        self._workflow = workflow
        self._headers = {"Content-Type": "application/json", "User-Agent": "crossfade"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def _post(self, body: object) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.post(
                self._url, data=orjson.dumps(body), headers=self._headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Never the error's text: it quotes the address, and with it a token, perhaps.
            raise NotTold(f"it cannot be reached: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise NotTold(f"it answered {status}", is_final=status < 500 and status not in _WORTH_ANOTHER)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Webhook(_Http):
    """One JSON document for each notice."""

    name = "webhook"

    async def send(self, notice: Notice) -> None:
        await self._post(notices.plain(notice, workflow=self._workflow, host=socket.gethostname()))


class Alertmanager(_Http):
    """The API of Prometheus' own: what stands is said again every minute, as it wants to hear."""

    name = "alertmanager"
    idle_seconds = notices.REPEAT_SECONDS

    def __init__(
        self,
        url: str,
        listener: Listener,
        *,
        workflow: str,
        timeout: float,
        token: str = "",
        standing: Callable[[], Sequence[Notice]],
    ) -> None:
        super().__init__(f"{url.rstrip('/')}/api/v2/alerts", listener, workflow=workflow, timeout=timeout, token=token)
        self._standing = standing

    async def send(self, notice: Notice) -> None:
        await self._post([self._entry(notice)])

    async def idle(self) -> None:
        standing = [self._entry(notice) for notice in self._standing()]
        if not standing:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._post(standing)
        except (TimeoutError, NotTold):
            self._listener(Notified(self.name, "failed"))

    def _entry(self, notice: Notice) -> dict[str, object]:
        ends = iso(time.time() + notices.KEPT_SECONDS) if notice.status == FIRING else notice.at
        return notices.alertmanager(notice.alert, workflow=self._workflow, host=socket.gethostname(), ends_at=ends)


@dataclass(frozen=True, slots=True)
class Destinations:
    """Who is told; '' and () for nobody."""

    command: tuple[str, ...] = ()
    webhook: str = ""
    webhook_token: str = ""
    alertmanager: str = ""
    timeout: float = 10.0


class Hooks:
    """All channels, and what was told last."""

    def __init__(self, to: Destinations, listener: Listener, *, workflow: str) -> None:
        self._changes = notices.Changes()
        self.channels: list[Channel] = []
        if to.command:
            self.channels.append(Command(to.command, listener, workflow=workflow, timeout=to.timeout))
        if to.webhook:
            self.channels.append(
                Webhook(to.webhook, listener, workflow=workflow, timeout=to.timeout, token=to.webhook_token)
            )
        if to.alertmanager:
            self.channels.append(
                Alertmanager(to.alertmanager, listener, workflow=workflow, timeout=to.timeout, standing=self._standing)
            )

    def tell(self, standing: Sequence[AlertEntry]) -> None:
        """These alerts stand now; whoever is to hear what changed will."""
        for notice in self._changes.of(standing, at=iso(time.time()), now=time.monotonic()):
            for channel in self.channels:
                channel.put(notice)

    def _standing(self) -> list[Notice]:
        at, now = iso(time.time()), time.monotonic()
        return [Notice(FIRING, alert, at, now) for alert in self._changes.standing]
