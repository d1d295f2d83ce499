"""By which columns an old row is found again: on the source's wire, and on the target.

Refuses to publish what would break the source: adding a table without a usable replica identity to a publication
makes the *application's* UPDATEs fail (D7). Refuses to know other tables. The invariant: every identity column
reaches a target column by a rule that gives the same value each time, or there is an error.

PostgreSQL: sql-altertable ("REPLICA IDENTITY"), logical-replication-publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Key, ReplicaIdentity, Table
from crossfade.mapping.collect import Collector, quoted, sql_name
from crossfade.mapping.compoundnames import is_compound, parts_of
from crossfade.mapping.idrules import RemapBy
from crossfade.mapping.pairs import Pair
from crossfade.mapping.plan import ColumnPlan, Const, LocalTime
from crossfade.mapping.published import may_be_toasted, published_columns
from crossfade.mapping.rules import is_one_to_one


@dataclass(frozen=True, slots=True)
class Identity:
    """The fields of the same names in `TablePlan`."""

    columns: tuple[str, ...]
    is_full: bool
    key: tuple[str, ...]
    key_is_unique: bool


NOBODY: Final = Identity((), False, (), False)


def compile_identity(pair: Pair, columns: Sequence[ColumnPlan], collect: Collector, *, append_only: bool) -> Identity:
    """Decide how old rows are identified; `NOBODY` for an append_only table, and after an error."""
    source = pair.source
    if append_only:
        return NOBODY
    names = _identity_columns(pair, columns, collect)
    if names is not None:
        names = _joined(pair, names, columns)
    if names is None or not _check_leaves(pair, collect):
        return NOBODY
    is_full = source.replica_identity is ReplicaIdentity.FULL
    if is_full and any(column.is_generated for column in source.columns):
        generated = ", ".join(column.name for column in source.columns if column.is_generated)
        collect.error(
            "identity_generated",
            f"source {source.name}",
            f"{source.name} has REPLICA IDENTITY FULL and a generated column ({generated}), which is not published: "
            "the server would refuse the application's UPDATEs (D12).",
            _identity_remedy(source),
        )
        return NOBODY
    if not is_full:
        _warn_of_wide(pair, names, collect)
    key = _key(pair, names, columns, collect)
    if key is None:
        return NOBODY
    key_is_unique = any(_covers(unique, key, pair.target) for unique in pair.target.keys)
    if not key_is_unique:
        collect.warning(
            "key_not_unique",
            f"target {pair.target.name}",
            f"{pair.target.name} has no unique index on exactly ({', '.join(key)}), by which rows are found: every "
            "update and delete will search the table.",
            f"CREATE UNIQUE INDEX CONCURRENTLY ON {sql_name(pair.target.name)} "
            f"({', '.join(quoted(name) for name in key)});",
        )
    return Identity(names, is_full, key, key_is_unique)


def _joined(pair: Pair, names: tuple[str, ...], columns: Sequence[ColumnPlan]) -> tuple[str, ...]:
    """Columns that identify rows together, and are an id together on the target, are one there; unless each of them
    reaches the target by itself, and is in its key."""
    primary = pair.target.primary_key
    fed = {column.source.name for column in columns if column.source is not None}
    for column in columns:
        if column.source is None or not is_compound(column.source.name):
            continue
        parts = frozenset(parts_of(column.source.name))
        is_in_key = primary is not None and column.target.name in primary.columns
        if parts <= frozenset(names) and (is_in_key or not parts <= fed):
            return (column.source.name, *(name for name in names if name not in parts | {column.source.name}))
    return names


def _identity_columns(pair: Pair, columns: Sequence[ColumnPlan], collect: Collector) -> tuple[str, ...] | None:
    source = pair.source
    subject = f"source {source.name}"
    if source.replica_identity is ReplicaIdentity.FULL:
        primary = source.primary_key
        if primary is not None and not primary.is_deferrable and primary.is_valid:
            return primary.columns
        # Dropped columns cannot help to find a row on the target: rows that differ only there are equal to it.
        used = {column.source.name for column in columns if column.source is not None}
        names = tuple(column.name for column in published_columns(source) if column.name in used)
        if names:
            return names
        collect.error(
            "identity_unmapped",
            pair.place,
            f"Nothing of {source.name} reaches {pair.target.name}, so rows cannot be told apart there.",
            "Use at least one of its columns.",
        )
        return None
    if source.replica_identity is ReplicaIdentity.NOTHING:
        collect.error(
            "identity_missing",
            subject,
            f"{source.name} has REPLICA IDENTITY NOTHING: publishing it would make the application's UPDATEs and "
            "DELETEs fail (D7).",
            _identity_remedy(source),
        )
        return None
    key = source.identity_key
    if key is None:
        _no_identity(source, subject, collect)
        return None
    generated = [name for name in key.columns if (column := source.column(name)) is not None and column.is_generated]
    if generated:
        collect.error(
            "identity_generated",
            subject,
            f"The replica identity of {source.name} holds the generated column {generated[0]}, which is not published.",
            _identity_remedy(source),
        )
        return None
    return key.columns


def _no_identity(source: Table, subject: str, collect: Collector) -> None:
    primary = source.primary_key
    if source.replica_identity is ReplicaIdentity.DEFAULT and primary is not None and primary.is_deferrable:
        collect.error(
            "identity_deferrable",
            subject,
            f"The primary key of {source.name} is deferrable and cannot identify rows: publishing the table would make "
            "the application's UPDATEs and DELETEs fail (D13).",
            _identity_remedy(source),
        )
    elif source.replica_identity is ReplicaIdentity.INDEX:
        collect.error(
            "identity_missing",
            subject,
            f"The index that {source.name} named for its replica identity is gone or unusable: publishing the table "
            "would make the application's UPDATEs and DELETEs fail (D8).",
            _identity_remedy(source),
        )
    else:
        collect.error(
            "identity_missing",
            subject,
            f"{source.name} has no primary key or other replica identity: publishing it would make the application's "
            "UPDATEs and DELETEs fail (D7).",
            _identity_remedy(source),
        )


def _identity_remedy(source: Table) -> str:
    name = sql_name(source.name)
    usable = [key for key in source.keys if key.is_usable_identity]
    if usable:
        best = next((key for key in usable if key.is_primary), usable[0])
        how = "DEFAULT" if best.is_primary else f"USING INDEX {quoted(best.name)}"
        return f"ALTER TABLE {name} REPLICA IDENTITY {how};"
    if any(column.is_generated for column in source.columns):
        return f"Add a primary key to {name}, or map the table as append_only: true if rows are only ever inserted."
    return (
        f"ALTER TABLE {name} REPLICA IDENTITY FULL;\n"
        "-- or add a primary key, or map the table as append_only: true if rows are only ever inserted"
    )


def _check_leaves(pair: Pair, collect: Collector) -> bool:
    """The server logs old rows by the replica identity of the partition they are in, not of its root (E14)."""
    root = pair.source
    is_fine = True
    for leaf in root.leaves:
        # A partition that logs more than its root promises is no harm where the root's key is the primary key.
        harmless = root.replica_identity is ReplicaIdentity.DEFAULT and leaf.replica_identity is ReplicaIdentity.FULL
        if leaf.replica_identity is root.replica_identity or harmless:
            continue
        is_fine = False
        how = "USING INDEX …" if root.replica_identity is ReplicaIdentity.INDEX else root.replica_identity.name
        collect.error(
            "identity_of_partition",
            f"source {leaf.name}",
            f"{leaf.name} has REPLICA IDENTITY {leaf.replica_identity.name}, its partitioned table {root.name} has "
            f"{root.replica_identity.name}: its old rows could not be identified, or its UPDATEs would fail.",
            f"ALTER TABLE {sql_name(leaf.name)} REPLICA IDENTITY {how};",
        )
    return is_fine


def _warn_of_wide(pair: Pair, names: tuple[str, ...], collect: Collector) -> None:
    for name in names:
        column = pair.source.column(name)
        if column is not None and may_be_toasted(column):
            collect.warning(
                "identity_wide",
                f"source {pair.source.name}",
                f"{pair.source.name}.{name} identifies rows and may be stored out of line when it is long; an UPDATE "
                "then does not say which row it changed, and the stream stops (D4).",
                f"Nothing to do for values under 2,000 bytes; else ALTER TABLE {sql_name(pair.source.name)} "
                "REPLICA IDENTITY FULL;",
            )


def _key(
    pair: Pair, names: tuple[str, ...], columns: Sequence[ColumnPlan], collect: Collector
) -> tuple[str, ...] | None:
    """The target column for each identity column; one of the target's primary key where there is a choice."""
    primary = pair.target.primary_key
    preferred = frozenset(primary.columns) if primary is not None else frozenset()
    key: list[str] = []
    for name in names:
        fed = [
            column
            for column in columns
            if column.source is not None and column.source.name == name and not isinstance(column.rule, Const)
        ]
        if not fed:
            collect.error(
                "identity_unmapped",
                pair.place,
                f"{pair.source.name}.{name} identifies rows but reaches no column of {pair.target.name}: updates and "
                "deletes could not find their row.",
                f"Use the column, or identify rows of {pair.source.name} by other columns (REPLICA IDENTITY USING "
                "INDEX), or map it as append_only.",
            )
            continue
        chosen = min(fed, key=lambda column: (not is_one_to_one(column.rule), column.target.name not in preferred))
        key.append(chosen.target.name)
        if not is_one_to_one(chosen.rule):
            collect.error(
                "identity_not_one_to_one",
                pair.place,
                f"{pair.source.name}.{name} identifies rows, but two of its values may become the same in "
                f"{pair.target.name}.{chosen.target.name}: changes of one row would reach another.",
                "Feed another target column from it as it is, or give each value one of its own (otherwise: error).",
            )
        if isinstance(chosen.rule, RemapBy) and chosen.rule.by not in names:
            collect.error(
                "identity_pair",
                pair.place,
                f"{pair.source.name}.{name} identifies rows and is an id by {chosen.rule.by}, which does not identify "
                "them: what the server logs of an old row does not say whose id it was.",
                f"Let the replica identity hold {chosen.rule.by} as well, or set REPLICA IDENTITY FULL.",
            )
        if isinstance(chosen.rule, LocalTime):
            collect.warning(
                "identity_local_time",
                pair.place,
                f"{pair.source.name}.{name} identifies rows and is a local time: two different local times can be the "
                "same moment when clocks change.",
                "Make sure that no two rows differ only there.",
            )
    return tuple(key) if len(key) == len(names) else None


def _covers(unique: Key, key: tuple[str, ...], target: Table) -> bool:
    """Whether the unique index allows one row per key: total, valid, exactly these columns, NULLs included."""
    if not unique.is_unique or unique.is_partial or unique.has_expressions or not unique.is_valid:
        return False
    if set(unique.columns) != set(key):
        return False
    if unique.nulls_not_distinct:
        return True
    return all((column := target.column(name)) is not None and column.not_null for name in unique.columns)
