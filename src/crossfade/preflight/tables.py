"""What only a look at the tables themselves shows: rows where none may be, locks, partitions unlike their root.

Refuses to know the mapping's grammar; what follows from catalogs and mapping alone, the mapping compiler says. The
invariant: nothing of a target table is ever called ours to empty.

PostgreSQL: sql-altertable ("REPLICA IDENTITY"), sql-createpublication ("publish_via_partition_root").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from crossfade.catalog import Catalog, ReplicaIdentity, Table, TableKind, TableName, Trigger
from crossfade.findings import Severity
from crossfade.mapping.compoundnames import all_parts
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.preflight.facts import TargetAccess
from crossfade.preflight.remarks import Remark, Side, qualified, quoted, remark


def target_rows(access: Mapping[TableName, TargetAccess], *, has_begun: bool) -> Iterator[Remark]:
    """The copy goes into empty tables only (G14)."""
    if not has_begun:
        full = sorted(name for name, each in access.items() if each.has_rows)
        for name in full:
            yield remark(
                Side.TARGET,
                Severity.ERROR,
                "target_not_empty",
                f"target {name}",
                "The table already holds rows.",
                remedy="First make sure that target.dsn is the new database. When the rows are leftovers of an"
                " abandoned run: `crossfade teardown`, then empty the tables:\n"
                f"TRUNCATE TABLE {', '.join(map(qualified, full))};",
            )
    for name in sorted(name for name, each in access.items() if each.lock_held):
        yield remark(
            Side.TARGET,
            Severity.WARNING,
            "target_locked",
            f"target {name}",
            "Somebody holds a lock on the table; whether it is empty could not be seen.",
            remedy="Check again when that session is done.",
        )


def partitions(plan: Plan, source: Catalog) -> Iterator[Remark]:
    """What of a partitioned root's leaves the mapping compiler does not see in the root's own description."""
    for each in plan.tables:
        root = source.tables.get(each.source)
        for leaf in root.leaves if root is not None else ():
            own = source.tables.get(leaf.name)
            if own is not None and own.kind is TableKind.FOREIGN:
                yield remark(
                    Side.SOURCE,
                    Severity.ERROR,
                    "partition_is_foreign",
                    f"source {leaf.name}",
                    f"This partition of {each.source} is a foreign table: its changes are never published (D16).",
                    remedy="Detach it, or leave the root out of the mapping.",
                )
            elif own is not None and _identified_otherwise(each, own):
                yield remark(
                    Side.SOURCE,
                    Severity.ERROR,
                    "partition_identity",
                    f"source {leaf.name}",
                    f"The partition's REPLICA IDENTITY is an index over ({_columns(own)}), its root's is over"
                    f" ({', '.join(each.identity)}): old rows would come without the columns they are found by (E14).",
                    remedy="As the owner, with the name of the partition's index over the root's columns:\n"
                    f"ALTER TABLE {qualified(leaf.name)} REPLICA IDENTITY USING INDEX ...;",
                )


def _identified_otherwise(plan: TablePlan, leaf: Table) -> bool:
    """The server logs an old row as its leaf says, and labels it as the root says."""
    if plan.append_only or plan.identity_is_full or leaf.replica_identity is not ReplicaIdentity.INDEX:
        return False
    key = leaf.identity_key
    return key is None or set(key.columns) != all_parts(plan.identity)


def _columns(leaf: Table) -> str:
    key = leaf.identity_key
    return ", ".join(key.columns) if key is not None else "a dropped index"


def target_partitions(plan: Plan, target: Catalog, *, replica_role: bool) -> Iterator[Remark]:
    """Leaves of partitioned target tables: rows that come through the root wake what only the leaf has (H1)."""
    for each in {table.target: table for table in plan.tables}.values():
        root = target.tables[each.target]
        known = {trigger.name for trigger in root.triggers}
        awake = {"R", "A"} if replica_role and not each.applied_as_origin else {"O", "A"}
        for leaf in (target.tables[leaf.name] for leaf in root.leaves if leaf.name in target.tables):
            if leaf.kind is TableKind.FOREIGN:
                yield remark(
                    Side.TARGET,
                    Severity.ERROR,
                    "partition_is_foreign",
                    f"target {leaf.name}",
                    f"This partition of {each.target} is a foreign table: what we write there is not part of the"
                    " transaction that keeps our position.",
                    remedy="Detach it until cutover.",
                )
            for trigger in leaf.triggers:
                if trigger.enabled in awake and trigger.name not in known and not trigger.is_rule:
                    yield _trigger(each, leaf, trigger, is_origin="O" in awake)


def _trigger(plan: TablePlan, leaf: Table, trigger: Trigger, *, is_origin: bool) -> Remark:
    change = "DISABLE" if is_origin else "ENABLE"
    return remark(
        Side.TARGET,
        Severity.ERROR if is_origin else Severity.WARNING,
        "trigger_fires",
        f"target {leaf.name}",
        f"The trigger {trigger.name} of {leaf.name}, a partition of {plan.target}, fires on what crossfade writes.",
        remedy=f"ALTER TABLE {qualified(leaf.name)} {change} TRIGGER {quoted(trigger.name)};\n"
        "-- and as it was again at cutover",
    )


def written_columns(plans: Iterable[TablePlan]) -> dict[TableName, frozenset[str]]:
    """Target columns we give values to in every row, whatever source it is of, by target table."""
    written: dict[TableName, frozenset[str]] = {}
    for plan in plans:
        names = frozenset(column.target.name for column in plan.columns)
        written[plan.target] = written.get(plan.target, names) & names
    return written
