"""What may be acknowledged: the home of promise 1.

Keeps the source positions that were heard, handed over and made durable, and answers which one the source may be told
as flushed. Refuses to know about connections, clocks and rows. The invariant: the answer never passes the end of a
transaction that the target has not committed, never passes what our own progress row says, and never moves back.

PostgreSQL: protocol-replication, "Standby status update (F)"; logicaldecoding-explanation, "Replication Slots".
"""

from __future__ import annotations

from collections import deque

from crossfade.faults import ProtocolViolation
from crossfade.lsn import NOWHERE, Lsn
from crossfade.walstream import Positions


class AckLedger:
    """Which source position may be reported as flushed.

    Feed it, in stream order, every position heard (`heard`), every whole transaction passed to the applier
    (`handed_over`), every commit of the target (`made_durable`) and every idle position written to progress
    (`idle_persisted`). One ledger lives as long as one stream: after a reconnect a new one starts with `resume`.

    A caller that contradicts itself gets a `ValueError`, a server that contradicts itself a `ProtocolViolation`:
    guessing here would lose rows for good, stopping loses minutes.
    """

    __slots__ = ("_between", "_durable", "_idle", "_pending", "_received")

    def __init__(self) -> None:
        self._received = NOWHERE
        self._between = NOWHERE  # furthest position heard between transactions, whether or not they are applied
        self._idle = NOWHERE  # furthest position known to have nothing unapplied before it
        self._durable = NOWHERE
        self._pending: deque[Lsn] = deque()  # ends of transactions handed over and not durable, in commit order

    def resume(self, position: Lsn) -> None:
        """Start from the position our progress row holds: durable by its own commit. Only before anything was heard."""
        if self._received != NOWHERE:
            raise ValueError(f"the ledger has already heard {self._received}; a new stream needs a new ledger")
        self._received = self._idle = self._durable = position

    def heard(self, position: Lsn, *, mid_transaction: bool) -> None:
        """The server has sent everything before `position`.

        `mid_transaction`: a Begin was read whose Commit was not, or whose transaction is not handed over yet.
        """
        self._received = max(self._received, position)
        # An idle stream must still advance, or the source keeps WAL that other databases wrote (A3). But while anything
        # is unapplied the position lies past it (A4), and a position is written to progress before it is acknowledged:
        # a source ahead of our own record looks like a gap at the next start (A7).
        if mid_transaction:
            return
        self._between = max(self._between, position)
        self._settle()

    def _settle(self) -> None:
        # What was heard while transactions were pending counts once they are durable. The server does not say it again
        # before half of its wal_sender_timeout has passed, and `wait` or a shutdown would last as long.
        if not self._pending:
            self._idle = max(self._idle, self._between)

    def handed_over(self, end_lsn: Lsn) -> None:
        """A whole transaction is on its way to the target. `end_lsn` is its Commit's, never its `commit_lsn` (A1).

        Raises `ProtocolViolation` when it does not come after everything handed over or known to be past: commit order
        is what all our positions rest on (A20).
        """
        last = self._pending[-1] if self._pending else max(self._idle, self._durable)
        if end_lsn <= last:
            raise ProtocolViolation(f"A transaction ending at {end_lsn} came after the stream had passed {last}.")
        self._pending.append(end_lsn)
        self._received = max(self._received, end_lsn)

    def made_durable(self, end_lsn: Lsn) -> None:
        """The target has committed every transaction up to and with the one that ends at `end_lsn`.

        To be called after COMMIT returned, not before. A position already durable changes nothing: after a COMMIT of
        unknown outcome it may be read twice (A18). Raises `ValueError` when no transaction handed over ends there.
        """
        if end_lsn <= self._durable:
            return
        if end_lsn not in self._pending:
            raise ValueError(f"no transaction handed over ends at {end_lsn}; only whole transactions become durable")
        while self._pending and self._pending[0] <= end_lsn:
            self._pending.popleft()
        self._durable = end_lsn
        self._settle()

    def to_persist(self) -> Lsn | None:
        """An idle position worth writing to progress, or None when a commit will carry us past it anyway."""
        return self._idle if self._idle > self._durable and not self._pending else None

    def idle_persisted(self, position: Lsn) -> None:
        """Progress says `position`, and its COMMIT returned. Only what `to_persist` offered may come back.

        Transactions handed over meanwhile end past it, since the server sends everything before a position it names.
        """
        if position > self._idle:
            raise ValueError(f"{position} was never offered for persisting; the furthest idle position is {self._idle}")
        self._durable = max(self._durable, position)

    def flush_position(self) -> Lsn:
        """What the source may be told as flushed; moved only by a commit of the target."""
        return self._durable

    @property
    def received(self) -> Lsn:
        """The furthest position heard."""
        return self._received

    @property
    def applied(self) -> Lsn:
        """Nothing before it is unapplied: the durable position, or an idle one whose write is still to come."""
        return max(self._durable, self._idle)

    @property
    def durable(self) -> Lsn:
        """The position our progress row holds."""
        return self._durable

    @property
    def pending(self) -> int:
        """How many transactions were handed over and are not durable."""
        return len(self._pending)

    def positions(self) -> Positions:
        """The three numbers of a status update."""
        return Positions(write=self.received, flush=self.flush_position(), apply=self.applied)
