"""The daemon: one tree of tasks, attempts one after the other, and what becomes of each fault.

    daemon
    ├── http.serve        probes, metrics, status
    ├── loop.pulse        systemd's watchdog, the loop's own lag
    ├── page.feed         the second by second of the live page
    ├── alerts.judge      what stands, each second;  hooks.… tell others of it
    ├── guards.…          `runtime/guarding`: disks, WAL, pauses
    └── attempts          `runtime/attempt`, rebuilt from the durable position after each fault
        └── stop.watch    ends the attempt when patience with a drain is over

A fault's policy decides: try again by itself with backoff, stay up as `failed` and try again every minute or at once
on `resume`, or exit with the code scripts rely on. Refuses to know what an attempt does. The invariant: nothing else
creates tasks, and every fault is told once.
"""

from __future__ import annotations

import asyncio
import gc
import random
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psycopg
import uvloop

from crossfade.events import Event, Failed, LeaderChanged, Note, Phase, Recovered, Reloaded
from crossfade.faults import (
    Fault,
    Fenced,
    Locked,
    Misconfigured,
    Policy,
    Rebuild,
    Refused,
    Unreachable,
)
from crossfade.mapping.spec import Spec
from crossfade.preflight.listening import listening
from crossfade.runtime.attempt import Attempt, Options
from crossfade.runtime.backoff import Backoff
from crossfade.runtime.giveup import GivenUp, carry_out
from crossfade.runtime.guarding import DISK_FULL, Guarding
from crossfade.runtime.leading import Backend
from crossfade.runtime.limits import destinations, thresholds
from crossfade.runtime.reload import merged
from crossfade.runtime.state import WorkflowState
from crossfade.runtime.stop import Abandoned, Stop
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.settings import Settings
from crossfade.state import control, workflow
from crossfade.telemetry import http, logs
from crossfade.telemetry.feed import Feed
from crossfade.telemetry.hooks import Hooks
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.notify import Notifier
from crossfade.telemetry.pulse import pulse
from crossfade.telemetry.status import StatusBook
from crossfade.waiting import forget_cancellation, until

_EXITS = {Policy.REFUSED: 3, Policy.CONFIGURATION: 78, Policy.LOCKED: 4, Policy.UNREACHABLE: 5}
# A slot may be held by our own session of before until wal_sender_timeout ends it; whoever holds it for half as long
# again is a stranger. The source's own setting counts; these seconds where it cannot be read or is off.
_SLOT_PATIENCE = 90.0
# Seconds for an errand between two attempts: on a half-open network even a query never returns.
_ERRAND = 5.0
# Objects that may form cycles, made and not yet freed, before the youngest are looked at (700 by default).
_COLLECT_AFTER = 10_000
_WORST_FIRST = (Policy.CONFIGURATION, Policy.REFUSED, Policy.FAILED, Policy.LOCKED, Policy.UNREACHABLE, Policy.RETRY)


def run_daemon(
    settings: Settings, spec: Spec, *, until_caught_up: bool, no_wait: bool, reread: Callable[[], Settings]
) -> int:
    """Run until stopped, or until `until_caught_up` is reached; returns the exit code. `reread` is for SIGHUP."""
    logs.configure(settings.log.level, settings.log.format)
    _tame_the_collector()
    daemon = Daemon(settings, spec, Options(until_caught_up, no_wait), reread=reread)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(daemon.run())


def _tame_the_collector() -> None:
    """What is imported lives as long as the process: looking at all of it again and again for cycles cost more than
    following the stream did, and made single transactions wait. What comes later is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


class Daemon:
    """One workflow's process."""

    def __init__(self, settings: Settings, spec: Spec, options: Options, *, reread: Callable[[], Settings]) -> None:
        self._settings = settings
        self._reread = reread
        self._spec = spec
        self._options = options
        self._log = logs.logger(settings.name)
        self._book = StatusBook(settings.name, slot=settings.stream.slot, thresholds=thresholds(settings.alerts))
        self._metrics = Metrics(settings.name)
        self._feed = Feed(self._book)
        self._logger = logs.LogListener(self._log)
        self._notifier = Notifier.from_environment()
        self._state = WorkflowState(self._observe)
        self._backend = Backend()
        self._backoff = Backoff(random.SystemRandom().uniform)
        self._stop = Stop(settings.stop.deadline.total_seconds())
        self._stopped = asyncio.Event()
        self._guarding = Guarding(
            lambda: self._settings, state=self._state, listener=self._observe, stopped=self._stopped
        )
        self._hooks = Hooks(destinations(settings.hooks), self._observe, workflow=settings.name)
        self._both_answered = False
        self._has_failed = False
        self._slot_wait = 0.0
        self._slot_patience = _SLOT_PATIENCE

    def _observe(self, event: Event) -> None:
        self._book.observe(event)
        self._metrics.observe(event)
        self._logger.observe(event)
        self._guarding.observe(event)

    def _is_alive(self) -> bool:
        return not self._stopped.is_set()

    async def run(self) -> int:
        """The exit code."""
        asyncio.get_running_loop().set_exception_handler(logs.stray_error)
        self._stop.listen(self._reload)
        try:
            async with (
                http.serve(self._settings.http.listen, self._book, self._metrics, self._feed, is_alive=self._is_alive),
                asyncio.TaskGroup() as group,
            ):
                group.create_task(pulse(self._notifier, self._metrics, self._stopped), name="loop.pulse")
                group.create_task(self._feed.run(self._stopped), name="page.feed")
                group.create_task(self._judge(), name="alerts.judge")
                for channel in self._hooks.channels:
                    group.create_task(channel.run(self._stopped), name=f"hooks.{channel.name}")
                guards = [
                    group.create_task(self._guarding.judge(), name="guards.judge"),
                    group.create_task(self._guarding.own(), name="guards.own"),
                    group.create_task(self._guarding.target(), name="guards.target"),
                    group.create_task(self._guarding.source(), name="guards.source"),
                ]
                self._notifier.ready("running")
                self._warn_of_listening()
                forget = self._stop.on_request(self._draining)
                try:
                    return await self._attempts()
                finally:
                    forget()
                    if not self._stop.is_requested():
                        self._notifier.stopping("ending")
                    self._hooks.tell(self._book.alerts())  # the last word, before the hooks end
                    self._stopped.set()
                    for guard in guards:
                        guard.cancel()  # one may wait for a database that will not answer; it has nothing to finish
        except Misconfigured as fault:
            self._log.error("refused", what=str(fault))
            return 78
        finally:
            self._stop.close()

    def _warn_of_listening(self) -> None:
        for remark in listening(self._settings.http.listen):
            self._observe(Note("http_exposed", f"{remark.finding.subject}: {remark.finding.sentence}", "warning"))

    def _reload(self) -> None:
        """SIGHUP: log level, limits and thresholds, all that is read or nothing. What stands does not move for it."""
        try:
            fresh = self._reread()
        except Misconfigured as fault:
            self._observe(Reloaded(False))
            self._log.error("the settings are kept as they were: what is there now is refused", what=str(fault))
            return
        self._settings, kept = merged(self._settings, fresh)
        logs.configure(self._settings.log.level, self._settings.log.format)
        self._guarding.reloaded()
        self._book.reloaded(thresholds(self._settings.alerts))
        self._observe(Reloaded(True))
        if kept:
            self._observe(Note("settings_kept", f"Changed, but not before a restart: {', '.join(kept)}.", "warning"))

    async def _judge(self) -> None:
        """Each second: which alerts stand, and who is to hear of it."""
        while not self._stopped.is_set():
            self._hooks.tell(self._book.alerts())
            await until(self._stopped, 1.0)

    def _draining(self) -> None:
        # At the signal, not at the end: systemd's stop timeout covers the drain.
        self._notifier.stopping("draining")
        seconds = self._settings.stop.deadline.total_seconds()
        self._observe(
            Note("draining", f"Told to stop: draining, for {seconds:g} s at most. A second signal abandons.", "info")
        )

    async def _attempts(self) -> int:
        is_first = True
        while not self._stop.is_requested():
            if self._guarding.sentence is not None:
                return await self._surrender(self._guarding.sentence)
            attempt = Attempt(
                self._settings,
                self._spec,
                self._options,
                state=self._state,
                backend=self._backend,
                stop=self._stop,
                listener=self._observe,
                is_first=is_first,
                guarding=self._guarding,
            )
            is_first = False
            recovering = asyncio.create_task(self._notice_recovery(attempt), name="recovery.watch")
            try:
                async with asyncio.TaskGroup() as group:
                    patience = group.create_task(self._patience(), name="stop.watch")
                    verdict = group.create_task(self._guarding.condemned(), name="guards.verdict")
                    try:
                        await attempt.run()
                    finally:
                        patience.cancel()
                        verdict.cancel()
                return 0
            except BaseExceptionGroup as group:
                fault = self._judged(list(_leaves(group)))
            except Exception as error:  # noqa: BLE001  # the one place where a bug is told from a fault
                fault = self._judged([error])
            finally:
                recovering.cancel()
            forget_cancellation()
            self._both_answered = self._both_answered or attempt.has_answered
            if attempt.works.is_set():
                self._backoff.reset()
            if isinstance(fault, _Bug):
                self._log.error("crossfade met an error nobody foresaw; nothing is lost", bug=str(fault))
                self._state.error = str(fault)
                return 1
            if fault is None:
                self._observe(
                    Note("abandoned", "Patience is over: what was in flight is dropped, and read again.", "warning")
                )
                return 0
            if isinstance(fault, GivenUp):
                return await self._surrender(fault)
            # What the attempt held (rows of a gigabyte, perhaps) must not wait beside what the next one reads.
            fault.__traceback__ = fault.__context__ = None
            del attempt
            gc.collect()
            code = await self._after(fault)
            if code is not None:
                return code
        return 0

    async def _patience(self) -> None:
        """Raises when patience with a drain is over, wherever the attempt is: connecting and checking as well."""
        await self._stop.abandoned.wait()
        raise Abandoned

    async def _notice_recovery(self, attempt: Attempt) -> None:
        """An attempt after a fault that got to work takes the error out of the status."""
        await attempt.works.wait()
        if self._has_failed:
            self._has_failed = False
            self._state.error = None
            self._observe(Recovered())

    def _judged(self, errors: list[BaseException]) -> Fault | _Bug | None:
        """The fault that decides, of all that climbed out together; None when we were told to abandon."""
        if any(isinstance(error, Abandoned) for error in errors):
            return None
        faults: list[Fault] = []
        for error in errors:
            if isinstance(error, Fault):
                faults.append(error)
            elif isinstance(error, psycopg.Error):
                faults.append(server_fault(error, where=self._state.component))
            elif isinstance(error, asyncio.CancelledError):
                continue
            else:
                return _Bug(error)
        return min(faults, key=lambda fault: _WORST_FIRST.index(fault.policy))

    async def _after(self, fault: Fault) -> int | None:
        """What becomes of it: an exit code, or None to try again after a wait."""
        if isinstance(fault, Rebuild):
            return None
        self._observe(LeaderChanged(False, tries_again=True))  # the lock went with the connection
        if fault.sqlstate == DISK_FULL and not _is_of_source(fault):
            self._guarding.target_refused()
        policy = fault.policy
        if not self._both_answered and policy in (Policy.UNREACHABLE, Policy.RETRY):
            self._tell(fault, None)
            return 0 if self._stop.is_requested() else 5
        if policy in (Policy.REFUSED, Policy.CONFIGURATION):
            self._state.enter(Phase.FAILED)
            self._tell(fault, None)
            await self._leave_word(fault)
            return _EXITS[policy]
        if policy is Policy.LOCKED:
            if self._options.no_wait and (not fault.sqlstate or self._slot_wait > self._slot_patience):
                self._tell(fault, None)
                return 4
            await self._end_former_walsender()
        elif policy is Policy.FAILED:
            self._state.enter(Phase.FAILED)
        wait = self._backoff.following()
        self._slot_wait = self._slot_wait + wait if policy is Policy.LOCKED else 0.0
        self._tell(fault, wait)
        if policy is Policy.FAILED:
            await self._leave_word(fault)
        await self._wait(wait)
        return None

    def _tell(self, fault: Fault, retry_in: float | None) -> None:
        self._has_failed = True
        self._state.error = str(fault)
        self._observe(
            Failed(
                component=self._state.component,
                text=str(fault),
                sqlstate=fault.sqlstate,
                is_transient=fault.policy in (Policy.RETRY, Policy.LOCKED, Policy.UNREACHABLE),
                retry_in=retry_in,
            )
        )

    async def _surrender(self, fault: GivenUp) -> int:
        """Give the slot up, and end as for any slot that is gone."""
        self._observe(LeaderChanged(False, tries_again=True))
        self._state.enter(Phase.FAILED)
        self._tell(fault, None)
        is_dropped = await carry_out(
            fault,
            workflow=self._settings.name,
            name=self._settings.stream.slot,
            on_target=self._on_target,
            on_source=self._on_source,
            stop=self._stop,
            listener=self._observe,
        )
        await self._leave_word(fault)
        return _EXITS[Policy.REFUSED] if is_dropped else 0

    async def _leave_word(self, fault: Fault) -> None:
        """Write the reason where `status` finds it without us; a target that is away is no reason to fail again."""
        if not self._both_answered or isinstance(fault, Fenced):
            return
        try:
            async with self._on_target() as target:
                await self._record(target, str(fault))
        except (Fault, psycopg.Error, TimeoutError):
            return

    async def _record(self, target: Connection, error: str | None) -> None:
        await workflow.record(
            target, self._settings.name, phase=self._state.phase, paused=self._state.paused, error=error
        )

    async def _wait(self, seconds: float) -> None:
        """Back off; `resume` ends the wait at once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self._stop.is_requested() and self._guarding.sentence is None:
            await self._stop.sleep(min(1.0, max(0.0, until - loop.time())))
            if seconds > 2.0 and await self._resume_was_asked():
                return

    async def _resume_was_asked(self) -> bool:
        try:
            async with self._on_target() as target:
                asked = [
                    command
                    for command in await control.pending(target, self._settings.name)
                    if command.command == "resume"
                ]
                if not asked:
                    return False
                self._guarding.resumed()
                self._state.resume()
                for command in asked:
                    await control.taken(target, command.id, "trying again now")
                # The next attempt reads what is stored: an operator's pause must be gone there, too.
                await self._record(target, self._state.error)
                return True
        except (Fault, psycopg.Error, TimeoutError):
            return False

    async def _end_former_walsender(self) -> None:
        """End a walsender of ours that still holds the slot, on a line the server thinks alive (B3); and learn how long
        the source itself would have let it."""
        try:
            async with self._on_source() as source:
                await source.execute(
                    "SELECT pg_terminate_backend(a.pid) FROM pg_replication_slots s"
                    " JOIN pg_stat_activity a ON a.pid = s.active_pid"
                    " WHERE s.slot_name = %s AND a.usename = current_user AND a.application_name = 'crossfade stream'",
                    (self._settings.stream.slot,),
                )
                cursor = await source.execute(
                    "SELECT setting::bigint / 1000.0 FROM pg_settings WHERE name = 'wal_sender_timeout'"
                )
                row = await cursor.fetchone()
                if row is not None and float(str(row[0])) > 0:
                    self._slot_patience = 1.5 * float(str(row[0]))
        except (Fault, psycopg.Error, TimeoutError):
            return

    @asynccontextmanager
    async def _on_target(self) -> AsyncIterator[Connection]:
        """A connection for one errand between two attempts."""
        dsn = self._settings.target.dsn.get_secret_value()
        async with (
            asyncio.timeout(_ERRAND),
            await connect(dsn, purpose="control", endpoint="target", settings=TARGET) as connection,
        ):
            yield connection

    @asynccontextmanager
    async def _on_source(self) -> AsyncIterator[Connection]:
        dsn = self._settings.source.dsn.get_secret_value()
        async with asyncio.timeout(_ERRAND), await connect(dsn, purpose="setup", endpoint="source") as connection:
            yield connection


def _is_of_source(fault: Fault) -> bool:
    """By its place: "source", "source, slot x" or "source (host ...)", which no table's name looks like."""
    return fault.where == "source" or fault.where.startswith(("source,", "source "))


class _Bug:
    """An error nobody foresaw. Only its type and places are shown: its text might hold a row's values."""

    def __init__(self, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        places = " <- ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-6:]))
        self._text = f"{type(error).__name__} at {places}. Report it with this line."

    def __str__(self) -> str:
        return self._text


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


__all__ = ["Daemon", "Locked", "Refused", "Unreachable", "run_daemon"]
