"""The envelope of streaming replication: frames in, status updates out.

Tells the payload of one CopyData message (a frame) that is a `Keepalive` from one that carries a message, and turns
positions into the payload of a Standby Status Update. Refuses to know what the messages say, when a status is due, or
how positions are won (`ledger`). The invariant: positions that contradict each other cannot be put into a status,
because `Positions` cannot be built.

PostgreSQL: protocol-replication, "Streaming Replication Protocol".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn

# XLogData is a tag, three Int64 (where its WAL starts, where the server's ends, its clock) and a message. The positions
# belong to the frame, not to a transaction - of a Begin it is the LSN of the first change, of a Relation 0 - and the
# time is no commit's, so nobody here reads them: a frame is handed on whole, and its message begins at HEADER.
XLOG_DATA: Final = 0x77  # w
HEADER: Final = 25
_KEEPALIVE: Final = Struct("!cQqB")
_STANDBY_STATUS: Final = Struct("!cQQQqB")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server's sign of life. With `reply_requested` a status must go out at once, or the server hangs up (A10)."""

    wal_end: Lsn
    sent_at: int
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class Positions:
    """What a status says, each one past the last byte: flush is what the server may forget (promise 1).

    The same order as everywhere (received, applied, durable): raises `ValueError` unless flush <= apply <= write.
    `apply` may be ahead of `flush` as in PostgreSQL's own subscriber, but only `flush` lets go of WAL. `Lsn(0)` is
    "nothing yet".
    """

    write: Lsn
    flush: Lsn
    apply: Lsn

    def __post_init__(self) -> None:
        if self.flush > self.apply:
            raise ValueError(f"flush position {self.flush} is ahead of apply position {self.apply}")
        if self.apply > self.write:
            raise ValueError(f"apply position {self.apply} is ahead of write position {self.write}")


def keepalive(frame: bytes) -> Keepalive | None:
    """Open one CopyData payload: None for XLogData, whose own message begins at `HEADER`.

    Raises `ProtocolViolation` for anything but a whole XLogData or keepalive.
    """
    size = len(frame)
    tag = frame[0] if size else -1
    if tag == XLOG_DATA:
        if size < HEADER:
            raise _violation("XLogData", size, HEADER, "w")
        return None
    if tag == 0x6B:  # k
        if size != _KEEPALIVE.size:
            raise _violation("Primary keepalive", size, _KEEPALIVE.size, "k")
        _, wal_end, sent_at, reply = _KEEPALIVE.unpack(frame)
        if reply > 1:
            raise ProtocolViolation(
                "Primary keepalive: the reply flag is neither 0 nor 1.", tag="k", offset=_KEEPALIVE.size - 1
            )
        return Keepalive(Lsn(wal_end), sent_at, reply == 1)
    raise ProtocolViolation(
        "A frame of the stream is neither XLogData nor a keepalive.",
        tag="(none)" if tag < 0 else f"\\x{tag:02x}",
        offset=0,
    )


def standby_status(positions: Positions, now: datetime, reply: bool) -> bytes:
    """One Standby Status Update payload, ready for CopyData.

    `now` is aware, any zone; it is sent as microseconds since 2000-01-01 UTC. With `reply` the server answers at once
    with a keepalive, which proves that the connection lives. Raises `ValueError` when `now` is naive; a wrong order of
    positions cannot get here.

    PostgreSQL: protocol-replication, "Standby status update (F)".
    """
    if now.tzinfo is None:
        raise ValueError("now must be aware: a naive time would be sent shifted by the machine's zone")
    sent_at = (now - _EPOCH) // _MICROSECOND
    return _STANDBY_STATUS.pack(b"r", positions.write, positions.flush, positions.apply, sent_at, reply)


def _violation(message: str, size: int, expected: int, tag: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"{message}: the frame is {size} bytes long, {expected} expected.", tag=tag, offset=min(size, expected)
    )
