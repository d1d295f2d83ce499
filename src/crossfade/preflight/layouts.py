"""Partitioned target tables: whether there is a partition for every row that may come.

Refuses to know rows; `check --data` counts those that would find none. The invariant: a root that can take no row at
all, or lacks one of its hash partitions, is an ERROR.

PostgreSQL: ddl-partitioning, sql-createtable ("PARTITION OF").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from crossfade.catalog import TableName
from crossfade.findings import Severity
from crossfade.preflight.natures import PartitionedRoot, TargetNatures
from crossfade.preflight.remarks import Remark, Side, listed, qualified, remark

_HASH: Final = re.compile(r"modulus (\d+), remainder (\d+)")


def layouts(target: TargetNatures) -> Iterator[Remark]:
    """Each partitioned target table."""
    for root in target.partitioned:
        if not root.bounds:
            yield _root(
                root,
                Severity.ERROR,
                "target_without_partitions",
                "The table is partitioned and has no partition: it takes no row.",
                "Create its partitions; or one for everything:" if root.strategy != "h" else "Create its partitions.",
                sql=_default(root) if root.strategy != "h" else "",
            )
        elif root.strategy == "h":
            yield from _hash(root)
        elif not root.has_default:
            yield _root(
                root,
                Severity.INFO,
                "target_partitions_bounded",
                f"The table takes only rows of its partitions ({listed(root.bounds, most=3)}); any other stops the"
                " stream.",
                "`crossfade check --data` counts rows outside. To take them all:\n" + _default(root),
            )


def _hash(root: PartitionedRoot) -> Iterator[Remark]:
    """Partitions are complete when their shares add up to the whole: they never overlap."""
    found = [(int(match[1]), int(match[2])) for match in map(_HASH.search, root.bounds) if match is not None]
    share = sum((Fraction(1, modulus) for modulus, _ in found), Fraction(0))
    if share >= 1:
        return
    largest = max(modulus for modulus, _ in found)
    taken = {left for modulus, remainder in found for left in range(remainder, largest, modulus)}
    missing = [remainder for remainder in range(largest) if remainder not in taken]
    yield _root(
        root,
        Severity.ERROR,
        "target_without_partitions",
        f"The table lacks hash partitions: only {share} of all rows find one.",
        "Create those that are missing:",
        sql="\n".join(
            f"CREATE TABLE {qualified(_part(root.table, f'h{largest}_{remainder}'))} PARTITION OF"
            f" {qualified(root.table)} FOR VALUES WITH (MODULUS {largest}, REMAINDER {remainder});"
            for remainder in missing
        ),
    )


def _default(root: PartitionedRoot) -> str:
    return f"CREATE TABLE {qualified(_part(root.table, 'default'))} PARTITION OF {qualified(root.table)} DEFAULT;"


def _part(table: TableName, ending: str) -> TableName:
    return TableName(table.schema, f"{table.name}_{ending}")


def _root(root: PartitionedRoot, severity: Severity, name: str, sentence: str, remedy: str, *, sql: str = "") -> Remark:
    return remark(Side.TARGET, severity, name, f"target {root.table}", sentence, remedy=remedy, sql=sql.splitlines())
