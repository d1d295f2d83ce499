"""Unique columns that two different values of the source may share on the target, by the types alone.

The mapping compiler tells of rules that make one value of several (value maps, `cast: lossy`, local times); here are
types that do so without a rule. Refuses to know rows: `check --data` counts them. The invariant: each key is told once.

PostgreSQL: citext, datatype-character (trailing spaces of char(n)).
"""

from __future__ import annotations

from collections.abc import Iterator

from crossfade.catalog import Catalog, Key, Table, TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import Plan, TablePlan, Verbatim
from crossfade.preflight.data.effects import effect
from crossfade.preflight.data.fits import Ground
from crossfade.preflight.remarks import Remark, Side, remark


def uniqueness(plan: Plan, source: Catalog, target: Catalog) -> Iterator[Remark]:
    """Unique keys whose columns the source keeps unique, until the target's types compare them."""
    ground = Ground(source.version)
    told: set[tuple[TableName, str]] = set()
    for table in plan.tables:
        reasons = {
            column.target.name: found.merges
            for column in table.columns
            if isinstance(column.rule, Verbatim) and (found := effect(column, plan.keyspaces, ground)).merges
        }
        for key in target.tables[table.target].keys:
            why = next((reasons[name] for name in key.columns if name in reasons), "")
            named = table.target, key.name
            if named in told or not (key.is_unique and key.is_valid and why):
                continue
            if _is_unique_there(key, table, source.tables[table.source]):
                told.add(named)
                yield remark(
                    Side.TARGET,
                    Severity.WARNING,
                    "unique_may_merge",
                    f"target {table.target}",
                    f"{key.name} is unique over ({', '.join(key.columns)}), and {why}: two rows that differ on the"
                    " source may be the same here, and the second stops the stream.",
                    remedy="`crossfade check --data` counts such rows; mend them on the source.",
                )


def _is_unique_there(key: Key, table: TablePlan, source: Table) -> bool:
    """Else the compiler has told that nothing makes it unique."""
    fed = {
        column.source.name
        for column in table.columns
        if column.target.name in key.columns and column.source is not None
    }
    return any(other.is_unique and other.is_valid and set(other.columns) <= fed for other in source.keys)
