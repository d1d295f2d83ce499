"""Which conditions of the mapping may also stand in the publication, so that the source sends fewer rows.

The target looks at every row that comes, whether or not the source has left some out: nothing relies on a filter there.
Refuses to know publications. The invariant: a filter is only named where the source cannot leave out a row that the
target would take, where it cannot end the decoding with an error (E11), where the application's UPDATEs go on working,
and where a row that the source sends as new, since it begins to match, comes with all its values.

PostgreSQL: logical-replication-row-filter, sql-createpublication ("WHERE").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from crossfade.catalog import Catalog, ReplicaIdentity, Table, TableKind, TableName
from crossfade.mapping.plan import TablePlan
from crossfade.mapping.published import may_be_toasted

_SINCE: Final = 15


def row_filters(plans: Collection[TablePlan], source: Catalog) -> dict[TableName, str]:
    """The condition for each source table that may have one in its publication; of a table that is split, a row must
    be wanted by one of the targets."""
    if source.major < _SINCE:
        return {}
    found: dict[TableName, str] = {}
    for name in dict.fromkeys(plan.source for plan in plans):
        targets = [plan for plan in plans if plan.source == name]
        if all(_may_be_pushed(plan, source.tables[name]) for plan in targets):
            texts = list(dict.fromkeys(plan.where.sql for plan in targets if plan.where is not None))
            found[name] = texts[0] if len(texts) == 1 else " OR ".join(f"({text})" for text in texts)
    return found


def _may_be_pushed(plan: TablePlan, table: Table) -> bool:
    where = plan.where
    if where is None or not where.is_portable or not where.cannot_fail:
        return False
    if plan.owns is not None:
        return False  # an id is given to rows that are left out as well, and follows when their key changes
    if plan.append_only:
        return True
    if table.kind is TableKind.PARTITIONED or table.leaves:
        # A partition made later has the default replica identity, whatever the root has.
        primary = table.primary_key
        if primary is None or table.replica_identity is not ReplicaIdentity.DEFAULT:
            return False
        return where.names <= frozenset(primary.columns) and not _has_long_values(plan)
    if table.replica_identity is ReplicaIdentity.FULL:
        return True
    key = table.identity_key
    return key is not None and where.names <= frozenset(key.columns) and not _has_long_values(plan)


def _has_long_values(plan: TablePlan) -> bool:
    """An UPDATE by which a row begins to match is sent as an INSERT, without the long values that it left alone."""
    return any(may_be_toasted(column) for column in plan.source_columns if column.name in plan.used)
