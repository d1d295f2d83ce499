"""What can go wrong, and what to do about it.

Every error that leaves a room is a `Fault`: it says what happened, where, what it means and what to do, in words for
a person at three in the morning, and it carries a `Policy` that tells the supervisor whether to try again. Server
errors are sorted by SQLSTATE in one table; what the table does not know stops the pipeline. Refuses to know about
drivers: it is handed an SQLSTATE and object names. The invariant: no row value ever enters a message (promise 6), so
server texts, whose primary message and CONTEXT can hold values, are never copied into one.

PostgreSQL: errcodes-appendix ("PostgreSQL Error Codes").
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar, Final


class Policy(enum.Enum):
    """What the supervisor does with a fault once both databases have answered."""

    RETRY = "retry"  # known to pass by itself: back off, phase stays what it was
    FAILED = "failed"  # a person must act, a restart is no help: phase `failed`, try again every 60 s at the most
    REFUSED = "refused"  # the answer is no: exit 3
    CONFIGURATION = "configuration"  # configuration or mapping refused: exit 78
    LOCKED = "locked"  # somebody else holds the lock or the slot: exit 4 with --no-wait, else wait
    UNREACHABLE = "unreachable"  # exit 5 until both databases have answered once, then retried for ever


class Fault(Exception):
    """Something that went wrong, told once, to a person.

    `what` is one sentence of what happened, `where` an object or position ("public.users, end LSN 0/16B3748"),
    `means` whether anything is lost, `do` the remedy. `sqlstate` is '' when no server spoke.
    """

    policy: ClassVar[Policy] = Policy.FAILED

    def __init__(self, what: str, *, where: str = "", means: str = "", do: str = "", sqlstate: str = "") -> None:
        self.what = what
        self.where = where
        self.means = means
        self.do = do
        self.sqlstate = sqlstate
        super().__init__(what)

    def __str__(self) -> str:
        """One paragraph: `where: what Means. Do.` with the absent parts left out."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join(part for part in (head, self.means, self.do) if part)


class ProtocolViolation(Fault):
    """Bytes that are no message of the protocol: a bug, a newer server, or a damaged stream. Never guessed at."""

    def __init__(self, what: str, *, tag: str = "", offset: int = -1) -> None:
        place = f"message {tag!r}, offset {offset}" if tag else ""
        super().__init__(
            what,
            where=place,
            means="Nothing of this transaction was applied.",
            do="Report this with the server's version; the slot keeps the changes meanwhile.",
        )
        self.tag = tag
        self.offset = offset


class PlanMismatch(Fault):
    """The source's table is no longer what the mapping was compiled for (E1, E3, E4)."""


class RowRefused(Fault):
    """A change the target, or a policy of the mapping, did not take. The kind and place are told, never the row."""


class Unreachable(Fault):
    """A database could not be reached, or refused our credentials."""

    policy: ClassVar[Policy] = Policy.UNREACHABLE


class Transient(Fault):
    """Known to pass by itself: deadlock, serialization, lost connection, shutdown, too many clients."""

    policy: ClassVar[Policy] = Policy.RETRY


class Rebuild(Transient):
    """Not an error: the branch is to be built anew from the durable position, at once and without a word."""


class Fenced(Transient):
    """Our progress was moved by somebody else: compare-and-set found another end_lsn or epoch (A17)."""


class Refused(Fault):
    """The answer is no and a restart will not change it: slot moved or dropped, target not empty, copy again."""

    policy: ClassVar[Policy] = Policy.REFUSED


class Misconfigured(Fault):
    """Configuration or mapping is wrong; nothing was changed."""

    policy: ClassVar[Policy] = Policy.CONFIGURATION


class Locked(Fault):
    """Another instance leads, or a foreign client streams from our slot."""

    policy: ClassVar[Policy] = Policy.LOCKED


# SQLSTATE -> what it means for us. Longest prefix wins: a code first, then its two-character class.
_TRANSIENT: Final[Mapping[str, str]] = {
    "08": "the connection was lost",
    "40": "the transaction was rolled back by the server and may be tried again",
    "40001": "the server could not serialize the transaction",
    "40P01": "the transaction was the victim of a deadlock",
    "53": "the server is short of a resource",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has too many clients",
    "55P03": "a lock was not to be had in time",
    "55006": "the object is in use by another session",
    "57014": "the statement was cancelled",
    "57P01": "the server is shutting down or somebody terminated our session",
    "57P02": "the server crashed",
    "57P03": "the server is starting up or shutting down",
    "57P05": "the server ended an idle session",
    "25P02": "the transaction was already aborted",
    "25P03": "the server ended a session idle in a transaction",
    "25P04": "the server ended a transaction that ran too long",
    "58": "the server met an operating system error",
    "0A000": "a cached plan no longer fits the table",
}
_UNREACHABLE: Final[Mapping[str, str]] = {
    "28": "the server refused our credentials",
    "3D000": "the database does not exist",
}
_ROW: Final[Mapping[str, str]] = {
    "22": "a value does not fit the target column",
    "22001": "a value is too long for the target column",
    "22003": "a number is out of the target column's range",
    "22P02": "a text is not valid for the target type (an enum label the target lacks, for example)",
    "22P05": "a character has no equivalent in the target's encoding",
    "22021": "a text holds bytes that are not valid in the target's encoding",
    "23502": "a NULL was refused by a NOT NULL column",
    "23503": "a foreign key was violated",
    "23505": "a unique key was violated",
    "23514": "a CHECK constraint was violated",
    "23P01": "an exclusion constraint was violated",
    "23": "a constraint was violated",
    "42501": "our role lacks a privilege",
    "42P01": "a table is missing",
    "42703": "a column is missing",
    "428C9": "a GENERATED ALWAYS column was written",
    "54000": "a value is beyond a limit of the target (too large for an index, for example)",
    "44000": "a view's CHECK OPTION was violated",
}


def _longest(table: Mapping[str, str], sqlstate: str) -> str | None:
    return table.get(sqlstate) or table.get(sqlstate[:2])


def from_sqlstate(sqlstate: str, *, where: str, constraint: str = "", column: str = "", relation: str = "") -> Fault:
    """Sort one server error. `where` names our object and position; the rest are names the server reported.

    The message is built from the code and names only. An empty `sqlstate` is a lost connection.
    """
    named = " ".join(
        part
        for part in (
            f"constraint {constraint}" if constraint else "",
            f"column {column}" if column else "",
            f"relation {relation}" if relation else "",
        )
        if part
    )
    tail = f" ({named}; SQLSTATE {sqlstate})" if named else f" (SQLSTATE {sqlstate})"
    if not sqlstate:
        return Transient("The connection was lost.", where=where, means="Nothing is lost.")
    if sqlstate in _ROW or (sqlstate not in _TRANSIENT and sqlstate[:2] in _ROW):
        reason = _longest(_ROW, sqlstate) or "refused"
        do = (
            "Grant what `crossfade check` prints, then `crossfade resume`."
            if sqlstate == "42501"
            else "Mend the row or the target, then `crossfade resume`; after changing the mapping, restart the daemon."
        )
        return RowRefused(
            f"{reason[0].upper()}{reason[1:]}{tail}.",
            where=where,
            means="Nothing of this transaction was applied; the slot keeps it.",
            do=do,
            sqlstate=sqlstate,
        )
    if (refusal := _longest(_UNREACHABLE, sqlstate)) is not None:
        return Unreachable(f"{refusal[0].upper()}{refusal[1:]}{tail}.", where=where, sqlstate=sqlstate)
    if (passing := _longest(_TRANSIENT, sqlstate)) is not None:
        return Transient(
            f"{passing[0].upper()}{passing[1:]}{tail}.", where=where, means="Nothing is lost.", sqlstate=sqlstate
        )
    return Fault(
        f"The server reported an error crossfade does not know{tail}.",
        where=where,
        means="Nothing of this transaction was applied; the slot keeps it.",
        do="Look into the server's log at this time for the text, mend the cause, then `crossfade resume`.",
        sqlstate=sqlstate,
    )
