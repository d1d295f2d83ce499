"""Whether there is disk enough, by estimate: for the copy on the target, and for the WAL the source keeps for us.

SQL cannot see free space, so `capacity.target_free` and `capacity.source_free` say how much there is; without them the
estimate is told and not judged. Refuses to know how the sizes were measured. The invariant: an estimate errs upwards
where it must err, and says that it is one.

PostgreSQL: storage-page-layout (tuple and item sizes), runtime-config-replication ("max_slot_wal_keep_size").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crossfade.findings import Severity
from crossfade.mapping.plan import Plan, Remap
from crossfade.preflight.natures import SourceNatures, WalRate
from crossfade.preflight.remarks import Remark, Side, remark, size
from crossfade.session.introspect import ServerFacts

MIB: Final = 1024**2
# A row of an id map: two values, a tuple's header and item, and entries of two indexes.
_MAP_ROW: Final = 140
# What a uuid takes more than an integer, in the row and in the one index a key has.
_UUID_MORE: Final = 28
# From here on an estimate is worth a line when nobody said how much space there is.
_WORTH_SAYING: Final = 1024**3
_NEARLY: Final = 0.8
# Less than this and an outage over night loses the slot, or the source its disk.
_COMFORTABLE_HOURS: Final = 12


@dataclass(frozen=True, slots=True)
class Need:
    """What the target will need, in bytes."""

    rows: int
    indexes: int
    id_maps: int
    wal: int

    @property
    def total(self) -> int:
        return self.rows + self.indexes + self.id_maps + self.wal


def need(plan: Plan, index_bytes: int, target: ServerFacts) -> Need:
    """From the source's sizes. Indexes are taken to be as large as the source's, since nobody can know them before."""
    wider = sum(
        table.row_estimate * _UUID_MORE
        for table in plan.tables
        for column in table.columns
        if isinstance(column.rule, Remap) and column.target.base_type == "uuid"
    )
    owned = sum(table.row_estimate for table in plan.tables if table.owns is not None)
    limit = target.settings.get("max_wal_size", "1024")  # in MB
    wal = int(limit) * MIB if limit.isdigit() else 1024 * MIB
    return Need(sum(table.bytes_estimate for table in plan.tables) + wider, index_bytes, owned * _MAP_ROW, wal)


def target_disk(plan: Plan, source: SourceNatures, target: ServerFacts, *, free: int | None) -> Iterator[Remark]:
    """The copy against the space there is."""
    wanted = need(plan, source.index_bytes, target)
    parts = (
        f"rows {size(wanted.rows)}, indexes {size(wanted.indexes)}, id maps {size(wanted.id_maps)}, WAL"
        f" {size(wanted.wal)}"
    )
    sentence = f"By the source's sizes the target will need about {size(wanted.total)} ({parts})"
    if free is None:
        if wanted.total >= _WORTH_SAYING + wanted.wal:
            yield remark(
                Side.TARGET,
                Severity.INFO,
                "disk_estimate",
                "target",
                f"{sentence}. Whether it has that, SQL cannot tell.",
                remedy='Look; and say it in the configuration, to have it judged: [capacity] target_free = "… GiB".',
            )
        return
    if wanted.total > free * _NEARLY:
        is_too_small = wanted.total > free
        yield remark(
            Side.TARGET,
            Severity.ERROR if is_too_small else Severity.WARNING,
            "target_disk_small",
            "target",
            f"{sentence}; capacity.target_free says {size(free)}.",
            remedy="Give the target a larger disk, or leave out tables; then correct capacity.target_free.",
        )


def source_disk(rate: WalRate | None, server: ServerFacts, *, free: int | None) -> Iterator[Remark]:
    """The WAL that is kept while we copy, are down or fall behind, against the space there is."""
    if free is None:
        return
    keep = server.settings.get("max_slot_wal_keep_size", "-1")  # in MB
    if keep.lstrip("-").isdigit() and int(keep) >= 0 and int(keep) * MIB > free:
        yield remark(
            Side.SOURCE,
            Severity.WARNING,
            "slot_wal_exceeds_disk",
            "source",
            f"max_slot_wal_keep_size lets our slot keep {size(int(keep) * MIB)} of WAL; capacity.source_free says"
            f" {size(free)}: the disk would be full first, and the source would stop.",
            remedy="As a superuser, then reload the configuration:",
            sql=[f"ALTER SYSTEM SET max_slot_wal_keep_size = '{max(int(free * _NEARLY) // MIB, 1)}MB';"],
        )
    if rate is None or rate.seconds < 1 or rate.bytes <= 0:
        return
    hours = free / (rate.bytes / rate.seconds) / 3600
    yield remark(
        Side.SOURCE,
        Severity.WARNING if hours < _COMFORTABLE_HOURS else Severity.INFO,
        "wal_headroom",
        "source",
        f"The source writes {size(int(rate.bytes / rate.seconds * 3600))} of WAL an hour on average (since its"
        f" statistics began); capacity.source_free says {size(free)}: room for {_hours(hours)} of it, while crossfade"
        " copies, is down or falls behind.",
        remedy="Nothing, if your longest outage and the copy together are shorter; else a larger disk, or"
        " max_slot_wal_keep_size.",
    )


def _hours(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.0f} days"
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
