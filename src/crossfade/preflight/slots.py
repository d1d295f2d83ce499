"""Whether our slot can be made, or is still the one we left, and who would hold its making up.

Refuses to know tables. The invariant: a slot we do not know to be ours is never taken over, and one that moved
without us is never trusted (A7, A9).

PostgreSQL: view-pg-replication-slots, logicaldecoding-explanation, view-pg-prepared-xacts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.findings import Kind, Severity
from crossfade.lsn import NOWHERE, Lsn
from crossfade.preflight.facts import Begun, Blocker, Slot, SourceFacts
from crossfade.preflight.remarks import Remark, Side, literal, remark, size

# A transaction younger than this is everyday life; a slot is made the moment it ends.
LONG_SECONDS: Final = 30
# A workflow without a position yet has nothing a slot could have passed.
LAST: Final = Lsn(0xFFFF_FFFF_FFFF_FFFF)
# WAL somebody else's idle slot keeps before it is worth a word.
MUCH_BYTES: Final = 1024**3


def slots(facts: SourceFacts, *, slot: str, begun: Begun | None, is_led: bool, resuming: bool) -> Iterator[Remark]:
    """Ours, then everybody else's. `begun` is what the target remembers of this workflow."""
    found = next((each for each in facts.slots if each.name == slot), None)
    if begun is not None:
        yield from _remembered(facts, begun, slot, found, is_led=is_led)
    elif found is not None and not resuming:
        yield _not_ours(found)
    if found is None:
        yield from _blockers(facts.blockers)
    else:
        yield from _health(found)
    for other in facts.slots:
        if other.name != slot and other.active_pid is None and (other.retained_bytes or 0) >= MUCH_BYTES:
            yield remark(
                Side.SOURCE,
                Severity.WARNING,
                "other_slot_retains_wal",
                f"source slot {other.name}",
                f"Nobody reads this slot, and it keeps {size(other.retained_bytes or 0)} of WAL on the source.",
                remedy=f"If it is forgotten: SELECT pg_drop_replication_slot({literal(other.name)});",
            )


def _remembered(facts: SourceFacts, begun: Begun, slot: str, found: Slot | None, *, is_led: bool) -> Iterator[Remark]:
    identifier = facts.replication.system_identifier
    if identifier is not None and identifier != begun.system_identifier:
        yield _error(
            "another_source",
            "source",
            "This is not the server the workflow began with: its system identifier is another one (B10).",
            "Let source.dsn name the old server; or `crossfade teardown`, empty the target tables, and begin again.",
        )
    if begun.slot != slot:
        yield _error(
            "slot_renamed",
            "stream.slot",
            f"The workflow began with slot {begun.slot}; the configuration names {slot}.",
            f'Set stream.slot = "{begun.slot}".',
            kind=Kind.CONFIGURATION,
        )
    elif found is None and begun.end_lsn is not None:
        yield _error(
            "slot_missing",
            f"source slot {slot}",
            f"The slot is gone; the target has everything before {begun.end_lsn}, and what came after cannot be"
            " streamed any more (A9).",
            "`crossfade teardown`, empty the target tables, and begin again.",
        )
    elif found is not None and (found.confirmed_flush or NOWHERE) > (begun.end_lsn or LAST):
        yield _error(
            "slot_moved",
            f"source slot {slot}",
            f"The slot stands at {found.confirmed_flush}, the target at {begun.end_lsn}: somebody moved it, and"
            " what lies between is lost to us (A7).",
            "`crossfade teardown`, empty the target tables, and begin again.",
        )
    if found is not None and found.active_pid is not None and not is_led:
        yield remark(
            Side.SOURCE,
            Severity.WARNING,
            "slot_active",
            f"source slot {slot}",
            f"Process {found.active_pid} reads the slot, though no crossfade leads this workflow (B3).",
            remedy="If it is the session of a crossfade that died, it ends by itself within wal_sender_timeout;"
            f" else: SELECT pg_terminate_backend({found.active_pid});",
        )


def _not_ours(found: Slot) -> Remark:
    reader = f", and process {found.active_pid} reads it" if found.active_pid is not None else ""
    return _error(
        "slot_exists",
        f"source slot {found.name}",
        f"A slot of this name exists{reader}, but the target knows nothing of it: it is not ours to use (A9).",
        "Choose another stream.slot; or, when it is a leftover of an abandoned run: "
        f"SELECT pg_drop_replication_slot({literal(found.name)});",
    )


def _health(found: Slot) -> Iterator[Remark]:
    subject = f"source slot {found.name}"
    if not (found.is_logical and found.plugin == "pgoutput" and found.is_in_our_database) or found.is_temporary:
        yield _error(
            "slot_unfit",
            subject,
            "The slot is not a permanent logical slot of this database with plugin pgoutput.",
            "Choose another stream.slot.",
            kind=Kind.CONFIGURATION,
        )
    elif found.wal_status == "lost" or found.invalidation:
        yield _error(
            "slot_lost",
            subject,
            f"The server gave the slot up ({found.invalidation or 'wal_removed'}): the changes it kept for us are gone"
            " (B1, B2).",
            "`crossfade teardown`, empty the target tables, and begin again; raise max_slot_wal_keep_size before that.",
        )
    elif found.wal_status == "unreserved":
        yield remark(
            Side.SOURCE,
            Severity.WARNING,
            "slot_nearly_lost",
            subject,
            f"The slot keeps {size(found.retained_bytes or 0)} of WAL and is lost at one of the next checkpoints (B1).",
            remedy="Start crossfade at once, or raise max_slot_wal_keep_size (reload is enough).",
        )


def _blockers(blockers: tuple[Blocker, ...]) -> Iterator[Remark]:
    for blocker in blockers:
        if blocker.gid is not None:
            if (blocker.age_seconds or 0) >= LONG_SECONDS:
                yield _blocker(
                    f"source prepared transaction {blocker.gid!r}",
                    blocker,
                    "COMMIT PREPARED or ROLLBACK PREPARED it, whichever its transaction manager means (C12).",
                )
        elif blocker.age_seconds is None:
            yield remark(
                Side.SOURCE,
                Severity.INFO,
                "transaction_running",
                f"source process {blocker.pid}",
                f"A transaction of role {blocker.role or '?'} was running all the time we looked; our role may not see"
                " since when. The slot is made when it ends (B11).",
                remedy="To see ages: GRANT pg_read_all_stats to our role.",
            )
        elif blocker.age_seconds >= LONG_SECONDS:
            yield _blocker(
                f"source process {blocker.pid}",
                blocker,
                f"Let it end, or: SELECT pg_terminate_backend({blocker.pid});",
            )


def _blocker(subject: str, blocker: Blocker, remedy: str) -> Remark:
    return remark(
        Side.SOURCE,
        Severity.WARNING,
        "transaction_blocks_slot",
        subject,
        f"A transaction of role {blocker.role or '?'} in database {blocker.database or '?'} is"
        f" {blocker.age_seconds} s old; making the slot waits until it ends (B11).",
        remedy=remedy,
    )


def _error(name: str, subject: str, sentence: str, remedy: str, *, kind: Kind = Kind.READINESS) -> Remark:
    return remark(Side.SOURCE, Severity.ERROR, name, subject, sentence, remedy=remedy, kind=kind)
