"""Minor versions of PostgreSQL with known faults that can hurt whoever decodes their log (B15).

One table: from which minor version on each branch has the fix, what happens before it, and where that is written.
Refuses to know servers. The invariant: a fault is listed only with its source, and only when it can meet a stream like
ours (no prepared transactions, no streaming of open ones); a branch not named in a row never had the fault, or its
notes do not say.

PostgreSQL: appendix "Release Notes", the page each row names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownFault:
    """`mended_in` is major -> first minor without it; `what` a clause; `page` of the manual."""

    mended_in: Mapping[int, int]
    what: str
    page: str


KNOWN: Final[tuple[KnownFault, ...]] = (
    KnownFault({17: 2}, "a slot's restart_lsn can move backwards, to WAL that is gone", "release-17-2"),
    KnownFault(
        {13: 22, 14: 19, 15: 14, 16: 10, 17: 6},
        "a walsender can run out of memory while it decodes schema changes (invalid memory alloc request size)",
        "release-17-6",
    ),
    KnownFault(
        {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}, "a slot's confirmed position can move backwards", "release-17-6"
    ),
    KnownFault({17: 6}, "decoding can wait for ever at a WAL record that a crash has torn", "release-17-6"),
    KnownFault({17: 8, 18: 2}, "a slot can be invalidated by a race", "release-18-2"),
    KnownFault({17: 8, 18: 2}, "what the snapshot of a new slot needs can be removed by a race", "release-18-2"),
)


def known_faults(version: int) -> tuple[KnownFault, ...]:
    """Those of a server, by its server_version_num."""
    major, minor = divmod(version, 10_000)
    return tuple(fault for fault in KNOWN if major in fault.mended_in and minor < fault.mended_in[major])


def first_good(version: int) -> int:
    """The first minor version of the same branch without any of them."""
    return max((fault.mended_in[version // 10_000] for fault in known_faults(version)), default=version % 10_000)
