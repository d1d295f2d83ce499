"""Minor versions of PostgreSQL with known faults that can hurt whoever decodes their log (B15).

One table: from which minor version on each branch has the fix, what happens before it, and where that is written.
Refuses to know servers. The invariant: a fault is listed only with its source, and only when it can meet a stream like
ours (no prepared transactions, no streaming of open ones); a branch not named in a row never had the fault, or its
notes do not say.

PostgreSQL: appendix "Release Notes", the page each row names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownFault:
    """`mended_in` is major -> first minor without it; `what` a clause; `page` of the manual. `since` is major -> first
    minor with it, for what a minor version brought; the others were there from the beginning."""

    mended_in: Mapping[int, int]
    what: str
    page: str
    since: Mapping[int, int] = field(default_factory=dict)


# One round of minor versions, by its oldest supported branches.
_AUGUST_2024: Final = {13: 16, 14: 13, 15: 8, 16: 4}
_NOVEMBER_2024: Final = {13: 18, 14: 15, 15: 10, 16: 6, 17: 2}
_MAY_2025: Final = {13: 21, 14: 18, 15: 13, 16: 9, 17: 5}
_AUGUST_2025: Final = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
_FEBRUARY_2026: Final = {14: 21, 15: 16, 16: 12, 17: 8, 18: 2}

KNOWN: Final[tuple[KnownFault, ...]] = (
    KnownFault(
        _AUGUST_2024, "a new slot can begin in the middle of a transaction, which then comes without its head",
        "release-16-4",
    ),
    KnownFault(
        {15: 8, 16: 4}, "a walsender leaks memory for partitions whose columns lie otherwise than their root's",
        "release-16-4",
    ),
    KnownFault(_NOVEMBER_2024, "a slot's restart_lsn can move backwards, to WAL that is gone", "release-17-2"),
    KnownFault(
        _MAY_2025, "changes that follow DDL without a strong lock (such as ALTER PUBLICATION) while a transaction runs"
        " can be decoded by an old catalog, and be lost",
        "release-17-5",
    ),
    KnownFault(
        _AUGUST_2025, "a walsender can run out of memory while it decodes schema changes (invalid memory alloc request"
        " size)",
        "release-17-6", since=_MAY_2025,
    ),
    KnownFault(_AUGUST_2025, "a slot's confirmed position can move backwards", "release-17-6"),
    KnownFault(_AUGUST_2025, "decoding can wait for ever at a WAL record that a crash has torn", "release-17-6"),
    KnownFault(
        _AUGUST_2025, "a checkpoint can remove WAL that a slot needs after a crash right then", "release-17-6"
    ),
    KnownFault(
        {16: 10, 17: 6}, "a walsender can crash while it decodes INSERT … ON CONFLICT", "release-17-6"
    ),
    KnownFault(_FEBRUARY_2026, "a slot can be invalidated by a checkpoint right after it was made", "release-18-2"),
    KnownFault(_FEBRUARY_2026, "what the snapshot of a new slot needs can be removed by a race", "release-18-2"),
)  # fmt: skip


def known_faults(version: int) -> tuple[KnownFault, ...]:
    """Those of a server, by its server_version_num."""
    major, minor = divmod(version, 10_000)
    return tuple(
        fault
        for fault in KNOWN
        if major in fault.mended_in and fault.since.get(major, 0) <= minor < fault.mended_in[major]
    )


def first_good(version: int) -> int:
    """The first minor version of the same branch without any of them."""
    return max((fault.mended_in[version // 10_000] for fault in known_faults(version)), default=version % 10_000)
