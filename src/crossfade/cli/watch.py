"""`crossfade status --watch`: the status document again each second, until Ctrl-C.

On a terminal a page that is drawn anew, with bars and a line of how lag has been; elsewhere a line when something
changes, and every ten seconds. The databases are asked when the daemon is away, beside the drawing, since they may take
their time. Refuses to compute what the document does not say. The invariants: Ctrl-C ends it with 0 at any moment and
leaves the terminal as it was, and a daemon that goes away or comes back is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from crossfade.cli import exits
from crossfade.cli.fetch import ask_daemon, ask_databases
from crossfade.cli.view import console, render
from crossfade.settings import Settings
from crossfade.telemetry.amounts import count, duration, size
from crossfade.telemetry.document import StatusDocument

_EVERY: Final = 1.0  # seconds
_PLAIN_EVERY: Final = 10.0  # seconds between lines where nothing changed
_SLOW: Final = 2.0  # seconds after which it is said that an answer is awaited
_REMEMBERED: Final = 60  # looks
_NEWS: Final = 5  # lines
_BESIDE_TABLES: Final = 16  # lines of a page without its tables, about
_FEWEST_TABLES: Final = 5
_BESIDE_LAGS: Final = 52  # columns of the line that shows them
_SHORTEST: Final = 10
_WIDE: Final = 120  # columns for bars and changes side by side
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS: Final = "_.-=+*#@"


def watch(settings: Settings, json_output: bool) -> int:
    """Until somebody presses Ctrl-C, which is the way to end it: 0."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(settings, json_output))
    return exits.DONE


async def _watch(settings: Settings, json_output: bool) -> None:
    screen = console()
    if json_output:
        while True:
            began = time.monotonic()
            exits.say(orjson.dumps(await _look(settings)).decode())
            await asyncio.sleep(max(0.0, _EVERY - (time.monotonic() - began)))
    seen = Seen()
    if not screen.is_terminal or screen.is_dumb_terminal:
        await _tell_lines(settings, seen)
        return
    with Live(Text("Asking how it stands."), console=screen, auto_refresh=False, screen=True) as live:
        async for document, waits in _looks(settings):
            if document is not None:
                seen.take(document)
            live.update(page(seen, screen, waits=waits), refresh=True)


async def _tell_lines(settings: Settings, seen: Seen) -> None:
    told = float("-inf")
    async for document, _ in _looks(settings):
        if document is None:
            continue
        known = len(seen.news)
        seen.take(document)
        now = time.monotonic()
        if len(seen.news) > known or now - told >= _PLAIN_EVERY:
            told = now
            exits.say(line(document))
        seen.news.clear()


async def _looks(settings: Settings) -> AsyncIterator[tuple[StatusDocument | None, float]]:
    """Once a second the newest document, or None and for how long (seconds) an answer has been awaited."""
    look: asyncio.Task[StatusDocument] | None = None
    asked = 0.0
    while True:
        due = time.monotonic() + _EVERY
        if look is None:
            look, asked = asyncio.create_task(_look(settings), name="status.look"), time.monotonic()
        done, _ = await asyncio.wait({look}, timeout=_EVERY)
        if done:
            document, look = look.result(), None
            yield document, 0.0
        else:
            yield None, time.monotonic() - asked
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _look(settings: Settings) -> StatusDocument:
    asked = await asyncio.to_thread(ask_daemon, settings)
    if asked is not None and asked["leader"]:
        return asked
    return await ask_databases(settings, asked)


@dataclass(slots=True)
class Seen:
    """What a watcher remembers: the newest document, how lag has been, and what has changed meanwhile."""

    document: StatusDocument | None = None
    lags: deque[float | None] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    news: deque[str] = field(default_factory=lambda: deque(maxlen=_NEWS))
    daemon_gone: str | None = None  # since when

    def take(self, document: StatusDocument) -> None:
        """Note a new document, and what it says that the one before did not."""
        before, self.document = self.document, document
        self.lags.append(document["lag_seconds"])
        at = f"{document['at'][11:19]} UTC"
        if document["daemon"] is None:
            if self.daemon_gone is None:
                self.daemon_gone = at
                self.news.append(
                    f"{at}  no daemon answers here; the databases are asked instead, the daemon every second"
                )
        elif self.daemon_gone is not None:
            self.daemon_gone = None
            self.news.append(f"{at}  the daemon answers{' again' if before is not None else ''}")
        for name in ("phase", "paused", "leader"):
            if before is not None and before[name] != document[name]:
                self.news.append(f"{at}  {_change(name, document)}")


def _change(name: str, document: StatusDocument) -> str:
    if name == "phase":
        return f"phase is {document['phase'] or 'not started'}"
    if name == "paused":
        return f"paused: {document['paused']}" if document["paused"] else "not paused"
    return "led" if document["leader"] else "not led from here"


def page(seen: Seen, screen: Console, *, waits: float) -> RenderableType:
    """What the terminal shows. `waits` is for how long (seconds) an answer has been awaited."""
    parts: list[RenderableType] = []
    if waits > _SLOW:
        parts.append(
            Text(f"No answer for {waits:.0f} s; still asking. Below is what was known before.", style="bold red")
        )
    elif seen.daemon_gone is not None:
        parts.append(
            Text(
                f"No daemon answers here since {seen.daemon_gone}; what is shown is what the databases know.", "yellow"
            )
        )
    if seen.document is not None:
        most = max(_FEWEST_TABLES, screen.size.height - _BESIDE_TABLES - len(seen.news))
        width = screen.size.width
        history = sparkline(seen.lags, plain=screen.options.ascii_only, most=max(_SHORTEST, width - _BESIDE_LAGS))
        parts.append(render(seen.document, history=history, most_tables=most, is_narrow=width < _WIDE))
    parts += [Text(each, style="dim") for each in seen.news]
    now = datetime.now(UTC).strftime("%H:%M:%S")
    parts.append(Text(f"{now} UTC, every second; Ctrl-C ends", style="dim"))
    return Group(*parts)


def sparkline(looks: Iterable[float | None], *, plain: bool, most: int = _REMEMBERED) -> Text:
    """How lag has been in the last `most` looks, the newest at the right; what was not known is a blank."""
    blocks = _PLAIN_BLOCKS if plain else _BLOCKS
    lags = list(looks)[-most:]
    known = [lag for lag in lags if lag is not None]
    if not known:
        return Text("not measured yet", style="dim")
    highest = max(known)
    scale = max(highest, 1.0)  # below a second nothing is high
    drawn = "".join(
        " " if lag is None else blocks[min(len(blocks) - 1, int(lag / scale * (len(blocks) - 1) + 0.5))] for lag in lags
    )
    return Text.assemble((drawn, "cyan"), (f"  highest {duration(highest)} in the last {len(lags)} looks", "dim"))


def line(document: StatusDocument) -> str:
    """The document in one line, for a log."""
    parts = [
        document["at"],
        document["name"],
        document["phase"] or "not started",
        f"paused={document['paused']}" if document["paused"] else "",
        "" if document["daemon"] is not None else "no daemon",
        f"lag={duration(document['lag_seconds'])} ({size(document['lag_bytes'])})",
        f"changes/s={count(document['rates']['changes_per_second'])}",
        "" if document["copy"]["percent"] in (None, 100.0) else f"copied={document['copy']['percent']:.1f}%",
        document["headline"]["text"],
    ]
    return "  ".join(part for part in parts if part)
