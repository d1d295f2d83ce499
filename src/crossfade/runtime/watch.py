"""The tasks that watch while others work: the source each second, the target each second, the publications each ten.

They notice what a working task cannot see from inside its wait: a source that is shutting down and waits for us (B16),
a line that is dead although nobody hung up (B4), a statement that waits for somebody else's lock (H5), a publication
that lost a table (E7), and what operators ask for. Refuses to apply or read changes. The invariant: a watcher that
finds the branch cannot go on raises, and the whole branch is rebuilt from the durable position.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import psycopg

from crossfade import failpoints
from crossfade.events import Listener, Note, PauseReason, SourceSampled
from crossfade.faults import Fault, Rebuild, Refused, Transient
from crossfade.ledger import AckLedger
from crossfade.runtime.sampling import Oldest, sample_source, sample_target
from crossfade.runtime.state import WorkflowState
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.session.listen import until_spoken
from crossfade.source import publication
from crossfade.source.stream import StreamReader
from crossfade.state import control, workflow
from crossfade.target import progress
from crossfade.target.apply import Applier
from crossfade.waiting import until

_TICK: Final = 1.0
_GUARD_EVERY: Final = 10.0
_RECORD_EVERY: Final = 10.0
_SAMPLE_EVERY: Final = 10.0
_BLOCKED_AFTER: Final = 5.0
_SLOWEST_ANSWER: Final = 10.0
# A walsender in one of these waits for the client or for new WAL, so it would have read what we sent.
_IDLE_WAITS: Final = frozenset({"WalSenderMain", "WalSenderWaitForWAL", "WalSenderWaitForWal", "WalSenderWriteData"})


class SourceWatch:
    """Samples the source's clock, log and slot; raises Transient when the source shuts down or the stream is dead."""

    def __init__(
        self,
        dsn: str,
        slot: str,
        *,
        state: WorkflowState,
        ledger: Callable[[], AckLedger | None],
        reader: Callable[[], StreamReader | None],
        silence: float,
        listener: Listener,
        is_over: Callable[[], bool],
        over: asyncio.Event,
    ) -> None:
        self._dsn = dsn
        self._slot = slot
        self._state = state
        self._ledger = ledger
        self._reader = reader
        self._silence = silence
        self._listener = listener
        self._is_over = is_over
        self._over = over
        self._oldest = Oldest()
        self._warned = False
        self._idle_looks = 0

    async def run(self) -> None:
        """Look once a second until the branch is over."""
        connection = await connect(self._dsn, purpose="watch", endpoint="source")
        try:
            while not self._is_over():
                await _answered(self._look(connection), max(_SLOWEST_ANSWER, self._silence), "source")
                await until(self._over, _TICK)
        except psycopg.Error as error:
            raise server_fault(error, where="source, watching the slot") from None
        finally:
            await connection.close()

    async def _look(self, connection: Connection) -> None:
        sample = await sample_source(connection, self._slot, self._oldest)
        self._state.sampled(sample, self._ledger())
        self._warn(sample)
        await self._listen(connection)

    def _warn(self, sample: SourceSampled) -> None:
        """The slot is about to lose the WAL it needs (B1)."""
        at_risk = sample.wal_status in {"unreserved", "lost"} or (
            sample.safe_wal_size is not None
            and sample.wal_keep_limit is not None
            and sample.safe_wal_size < sample.wal_keep_limit // 5
        )
        if at_risk != self._warned:
            self._warned = at_risk
            self._listener(
                Note(
                    "slot_at_risk",
                    f"Slot {self._slot} is close to max_slot_wal_keep_size; past it the source drops WAL we still need."
                    " Let crossfade catch up, or raise max_slot_wal_keep_size now.",
                    "error",
                    alert=True,
                    cleared=not at_risk,
                )
            )

    async def _listen(self, connection: Connection) -> None:
        """A stream that says nothing: is the server busy, or the line dead?"""
        reader = self._reader()
        if reader is None or not reader.is_listening or time.monotonic() - reader.heard_at < self._silence:
            self._idle_looks = 0
            return
        cursor = await connection.execute(
            "SELECT a.wait_event, extract(epoch FROM now() - r.reply_time) FROM pg_replication_slots s"
            " JOIN pg_stat_replication r ON r.pid = s.active_pid JOIN pg_stat_activity a ON a.pid = s.active_pid"
            " WHERE s.slot_name = %s",
            (self._slot,),
        )
        row = await cursor.fetchone()
        if row is None:
            raise Transient(
                "The source has no walsender for our stream any more, and the line did not tell us.",
                where=f"source, slot {self._slot}",
                means="Nothing is lost.",
            )
        wait, age = row
        self._idle_looks = self._idle_looks + 1 if str(wait) in _IDLE_WAITS else 0
        # When it heard us last is told to pg_read_all_stats alone. Without it: the reader has asked for an answer all
        # the while, and a walsender seen idle twice would have given one.
        unheard = float(str(age)) > self._silence / 2 if age is not None else self._idle_looks > 1
        if self._idle_looks and unheard:
            raise Transient(
                "The replication connection is dead: the source waits for us, and we for it.",
                where=f"source, slot {self._slot}",
                means="Nothing is lost.",
            )


class TargetWatch:
    """Keeps the row people read, takes operators' commands, and looks after the applier's connection."""

    def __init__(
        self,
        dsn: str,
        name: str,
        *,
        state: WorkflowState,
        applier: Callable[[], Applier | None],
        backend_pid: int,
        silence: float,
        kick: Callable[[], None],
        resumed: Callable[[], None],
        refused: Callable[[], None],
        persist: Callable[[], None],
        listener: Listener,
        is_over: Callable[[], bool],
        over: asyncio.Event,
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._state = state
        self._applier = applier
        self._backend_pid = backend_pid
        self._silence = silence
        self._kick = kick
        self._resumed = resumed
        self._refused = refused
        self._persist = persist
        self._listener = listener
        self._is_over = is_over
        self._over = over
        self._recorded: tuple[object, ...] = ()
        self._recorded_at = 0.0
        self._is_blocked = False
        self._oldest = Oldest()
        self._sampled_at = -_SAMPLE_EVERY

    async def run(self) -> None:
        """Until the branch is over; raises Transient when the target does not answer or the applier's line is dead."""
        connection = await connect(self._dsn, purpose="control", endpoint="target", settings=TARGET)
        try:
            connection.add_notify_handler(self._notified)
            await connection.execute("LISTEN crossfade_control")
            while not self._is_over():
                await _answered(self._look(connection), max(_SLOWEST_ANSWER, self._silence), "target")
                await until_spoken(connection, self._over, _TICK)
            with contextlib.suppress(psycopg.errors.DiskFull):
                await self._record(connection, at_once=True)
        except psycopg.Error as error:
            raise server_fault(error, where="target, watching") from None
        finally:
            await connection.close()

    def _notified(self, notice: psycopg.Notify) -> None:
        if notice.payload == control.PERSIST:
            self._persist()

    async def _look(self, connection: Connection) -> None:
        try:
            for command in await control.pending(connection, self._name):
                await control.taken(connection, command.id, self._obey(command))
            await self._record(connection, at_once=False)
        except psycopg.errors.DiskFull:
            # What people read is old meanwhile; the stream need not end for that.
            self._refused()
        await self._blocked(connection)
        if time.monotonic() - self._sampled_at >= _SAMPLE_EVERY:
            self._sampled_at = time.monotonic()
            self._listener(await sample_target(connection, self._oldest))

    def _obey(self, command: control.Command) -> str:
        if command.command == "pause":
            self._state.pause(PauseReason.OPERATOR)
            self._kick()
            return "paused"
        if command.command == "resume":
            self._resumed()
            self._state.resume()
            self._kick()
            return "resumed"
        return "unknown command"

    async def _record(self, connection: Connection, *, at_once: bool) -> None:
        now = (self._state.phase, self._state.paused, self._state.error)
        if not at_once and now == self._recorded and time.monotonic() - self._recorded_at < _RECORD_EVERY:
            return
        await workflow.record(
            connection, self._name, phase=self._state.phase, paused=self._state.paused, error=self._state.error
        )
        self._recorded, self._recorded_at = now, time.monotonic()

    async def _blocked(self, connection: Connection) -> None:
        applier = self._applier()
        busy = applier.busy_for() if applier is not None else 0.0
        if busy < min(_BLOCKED_AFTER, self._silence):
            if self._is_blocked:
                self._is_blocked = False
                self._listener(Note("apply_blocked", "The apply goes on.", "info", alert=True, cleared=True))
            return
        cursor = await connection.execute(
            "SELECT wait_event, extract(epoch FROM now() - state_change), pg_blocking_pids(pid) FROM pg_stat_activity"
            " WHERE pid = %s",
            (self._backend_pid,),
        )
        row = await cursor.fetchone()
        if row is None:
            raise Transient("The applier's session is gone.", where="target", means="Nothing is lost.")
        wait, age, blockers = row
        if wait == "ClientRead" and age is not None and min(float(str(age)), busy) > self._silence:
            raise Transient(
                "The applier's connection is dead: the target waits for us, and we for it.",
                where="target",
                means="Nothing is lost; whether the last COMMIT arrived is read back.",
            )
        if blockers and self._state.is_paused():
            # Whoever paused wants our locks gone, not one more wait for somebody else's.
            raise Rebuild("Paused while the apply waited for a lock.", where="target")
        if blockers and not self._is_blocked:
            self._is_blocked = True
            self._listener(
                Note(
                    "apply_blocked",
                    f"The apply waits for a lock held by session {blockers} on the target; nothing is applied"
                    " meanwhile. Look at it in pg_stat_activity.",
                    "warning",
                    alert=True,
                )
            )


class PublicationGuard:
    """Compares what is published with what was when the copy began."""

    def __init__(
        self,
        dsn: str,
        check: Callable[[Connection], Awaitable[None]],
        *,
        is_over: Callable[[], bool],
        over: asyncio.Event,
    ) -> None:
        self._dsn = dsn
        self._check = check
        self._is_over = is_over
        self._over = over

    async def run(self) -> None:
        """Every ten seconds until the branch is over. Raises Refused, naming what must be copied again."""
        connection = await connect(self._dsn, purpose="publication guard", endpoint="source")
        try:
            while not self._is_over():
                if not failpoints.is_on("no_publication_guard"):
                    await _answered(self._check(connection), _SLOWEST_ANSWER * 3, "source")
                await until(self._over, _GUARD_EVERY)
        except psycopg.Error as error:
            raise server_fault(error, where="source, watching the publications") from None
        finally:
            await connection.close()


async def check_published(connection: Connection, stored: Mapping[str, object]) -> None:
    """Raise Refused when something the mapping relies on has changed since the copy (E3, E4, E7, E8, D16)."""
    if not stored:
        return
    found = publication.differences(stored, await publication.read_again(connection, stored))
    remembered = [str(text) for text in progress.lost(stored)]
    new = [each for each in found if each.text not in remembered]
    if remembered or new:
        raise ChangesLost(
            [*remembered, *(each.text for each in new)], final=[each.text for each in new if each.is_final]
        )


class ChangesLost(Refused):
    """Published content changed. `final` is what must be remembered, since putting it back would leave no trace."""

    def __init__(self, told: Sequence[str], *, final: Sequence[str]) -> None:
        super().__init__(
            " ".join(told),
            where="source",
            means="Changes may have been missed since; the tables named must be copied again.",
            do="Put it back as `crossfade check` prints it, then `crossfade teardown`, empty the target tables,"
            " `crossfade run`.",
        )
        self.final = tuple(final)


async def _answered(work: object, seconds: float, endpoint: str) -> None:
    """A look has a deadline: on a half-open network even a query never returns."""
    assert asyncio.iscoroutine(work)
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        raise Transient(
            f"The {endpoint} did not answer within {seconds:.0f} s.", where=endpoint, means="Nothing is lost."
        ) from None


__all__ = ["Fault", "PublicationGuard", "SourceWatch", "TargetWatch", "check_published"]
