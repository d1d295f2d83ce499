"""The demonstration, told from beginning to end: copy, follow, be killed, catch up, compare.

A legacy shop is moved to a new schema while it goes on working. Refuses to know SQL and terminals: `stage` builds,
`writers` write, `daemon` drives crossfade as an operator would, `compare` judges, `screen` draws. The invariant:
whatever happens, Ctrl-C included, nothing we started goes on running, and 0 is returned only when both sides agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from crossfade.demo.compare import Comparison, compare
from crossfade.demo.daemon import Daemon, DemoFailed
from crossfade.demo.screen import Screen
from crossfade.demo.scripts import CONFIG
from crossfade.demo.stage import Stage, furnish, set_up
from crossfade.demo.view import Speedometer, View, look
from crossfade.demo.writers import Writers

AGREE: Final = 0
DISAGREE: Final = 3
INTERRUPTED: Final = 130  # as the shell says it of Ctrl-C

_TICK: Final = 0.2
_COPY_SECONDS: Final = 300.0  # for 200,000 rows: far more than any machine needs
_CLOSE_SECONDS: Final = 10.0  # for the writers' last transactions
_RETURN_SECONDS: Final = 60.0  # after kill -9 the daemon must answer again
_CATCH_UP_SECONDS: Final = 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for. `seconds` of live writes after the copy, `rate` in transactions a second."""

    keep: bool = False
    seconds: float = 20.0
    rows: int = 200_000
    rate: float = 300.0
    kill: bool = True
    seed: int = 2026


def run(wishes: Wishes) -> int:
    """Play it all; returns the exit code. Raises `Fault` when a step fails, after everything was stopped."""
    try:
        with Screen() as screen:
            return asyncio.run(_play(wishes, screen))
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
        return INTERRUPTED


async def _play(wishes: Wishes, screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None  # we are inside asyncio.run
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with contextlib.AsyncExitStack() as stack:
        stage = await _in_thread(set_up)
        stack.callback(stage.close)
        screen.tell(f"Two servers run: {stage.legacy} and {stage.new}.")
        await _in_thread(lambda: furnish(stage, rows=wishes.rows))
        screen.tell("A legacy shop in one, a new and empty schema in the other, least-privilege roles in both.")
        daemon = Daemon(stage.environment, stage.listen, stage.folder / "crossfade.log")
        stack.push_async_callback(daemon.stop)
        story = _Story(wishes, screen, stage, daemon, Writers(stage.application_dsn, wishes.rate, seed=wishes.seed))
        found = await story.tell()
        if wishes.keep:
            await story.keep()
        return AGREE if found.agrees else DISAGREE


async def _in_thread(work: Callable[[], T]) -> T:
    """Run something that blocks; when we are cancelled it is waited for, so that it is not torn down half way."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None and isinstance(made := task.result(), Stage):
            made.close()
        raise


class _Story:
    """The middle of it, with everything at hand."""

    def __init__(self, wishes: Wishes, screen: Screen, stage: Stage, daemon: Daemon, writers: Writers) -> None:
        self.wishes = wishes
        self.screen = screen
        self.stage = stage
        self.daemon = daemon
        self.writers = writers
        self.facts: list[str] = []
        self._speed = Speedometer()
        self._shop: asyncio.Task[None] | None = None

    async def tell(self) -> Comparison:
        """Everything up to the verdict, which is printed."""
        async with self._writing():
            self.screen.tell(f"The shop is open: {self.wishes.rate:,.0f} transactions a second on the legacy side.")
            await self._check()
            await self.daemon.start()
            await self._copy()
            await self._follow()
        self.screen.tell(f"The shop is closed after {self.writers.counts.committed:,} transactions.")
        clock = asyncio.get_running_loop().time
        closed = clock()
        await self.daemon.command("wait", "--for", "caught-up", "--timeout", "120s", deadline=_CATCH_UP_SECONDS + 20)
        self.screen.tell(f"Caught up {clock() - closed:.1f} s later. Comparing both sides.")
        began = clock()
        found = await _in_thread(lambda: compare(*self.stage.judge_dsns))
        counts = self.writers.counts
        self.facts.append(
            f"{counts.committed:,} transactions were written meanwhile, {counts.rolled_back:,} rolled back on purpose,"
            f" {counts.taken_back:,} refused by the legacy server; compared in {clock() - began:.1f} s."
        )
        self.screen.print_result(found, tuple(self.facts))
        return found

    async def keep(self) -> None:
        """Open the shop again and leave everything running until Ctrl-C."""
        for line in self._directions():
            self.screen.progress.print(line, soft_wrap=True, markup=False)
        try:
            async with self._writing():
                while True:
                    self._check_alive()
                    self.screen.show(await self._look(None))
                    await asyncio.sleep(1.0)
        except asyncio.CancelledError:  # Ctrl-C is how this ends, and no failure: the verdict stands
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
        self.screen.still()
        self.screen.tell("Stopping everything.")

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """The shop is open inside, and every transaction has ended outside."""
        stop = asyncio.Event()
        self._speed = Speedometer()
        self._speed.per_second(asyncio.get_running_loop().time(), self.writers.counts.committed)
        self._shop = asyncio.create_task(self.writers.run(stop), name="demo.writers")
        try:
            yield
        except BaseException:
            stop.set()
            await asyncio.wait([self._shop], timeout=_CLOSE_SECONDS)
            self._shop.cancel()
            raise
        stop.set()
        await self._shop

    def _check_alive(self) -> None:
        """Raise what ended the daemon or the writers, if something did."""
        self.daemon.check_alive()
        if self._shop is not None and self._shop.done():
            self._shop.result()

    async def _check(self) -> None:
        await self.daemon.command("check", deadline=60)
        self.screen.tell("`crossfade check` has no objection.")

    async def _copy(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        deadline = _COPY_SECONDS * max(self.wishes.rows / 200_000, 1)
        view = await self._until(lambda view: view.is_copied, deadline, "The initial copy did not end")
        self.screen.still()
        self.screen.tell(
            f"Copied: {view.rows:,} rows of {len(view.tables)} tables in {clock() - began:.1f} s."
            " Following the live writes from here on."
        )

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self.wishes.seconds
        middle = clock() + self.wishes.seconds * 0.4
        to_kill = self.wishes.kill
        while True:
            self._check_alive()
            now = clock()
            if to_kill and now >= middle:
                to_kill = False
                await self._kill()
                end = max(end, clock() + self.wishes.seconds / 4)  # to be seen at work again, on a slow machine too
                continue
            if now >= end:
                break
            self.screen.show(await self._look(end - now))
            await asyncio.sleep(_TICK)
        self.screen.still()

    async def _kill(self) -> None:
        clock = asyncio.get_running_loop().time
        before = self.writers.counts.committed
        pid = self.daemon.pid
        await self.daemon.kill()
        self.screen.tell(f"kill -9 {pid}: crossfade is gone in the middle of its work. Starting it again.")
        killed = clock()
        await self.daemon.start()
        await self._until(
            lambda view: view.is_following and view.lag_seconds is not None,
            _RETURN_SECONDS,
            "Crossfade did not come back after kill -9",
        )
        missed = self.writers.counts.committed - before
        self.screen.tell(f"Back after {clock() - killed:.1f} s; {missed:,} transactions were committed meanwhile.")
        self.facts.append(
            f"crossfade was killed with SIGKILL once; {missed:,} transactions were committed before it was back."
        )

    async def _until(self, is_so: Callable[[View], bool], deadline: float, otherwise: str) -> View:
        """Look and show until `is_so`; after `deadline` seconds raise `DemoFailed` with `otherwise`."""
        clock = asyncio.get_running_loop().time
        end = clock() + deadline
        while True:
            self._check_alive()
            view = await self._look(None)
            if is_so(view):
                return view
            self.screen.show(view)
            if clock() > end:
                break
            await asyncio.sleep(_TICK)
        reason = f"Crossfade says: {view.error}" if view.error else ""
        raise DemoFailed(
            f"{otherwise} within {deadline:.0f} s.", where="crossfade run", means=reason, do=self.daemon.tail()
        )

    async def _look(self, seconds_left: float | None) -> View:
        written = self.writers.counts.committed
        return look(
            await self.daemon.status(),
            written=written,
            written_per_second=self._speed.per_second(asyncio.get_running_loop().time(), written),
            seconds_left=seconds_left,
        )

    def _directions(self) -> list[str]:
        exports = [f"  export {name}={shlex.quote(value)}" for name, value in self.stage.overrides.items()]
        command = "crossfade" if not sys.argv or not sys.argv[0].endswith("crossfade") else sys.argv[0]
        source, target = self.stage.judge_dsns
        return [
            "",
            "Everything stays up and the shop is open again, until you press Ctrl-C. To look at it:",
            f"  in a browser, live:          http://{self.stage.listen}/",
            f"  for programs:                http://{self.stage.listen}/api/v1/status and /metrics",
            f"  legacy database (superuser): psql {shlex.quote(source)}",
            f"  new database (superuser):    psql {shlex.quote(target)}",
            f"  crossfade's log:             {self.daemon.log}",
            f"  configuration:               {CONFIG}",
            "or, as its operator, in another terminal:",
            *exports,
            f"  {command} status --watch",
            "",
        ]
