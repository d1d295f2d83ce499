"""What logical replication does not carry, and what to do about each: sequences and large objects.

Refuses to know the mapping's rules. The invariant: nothing here stands in the way of the copy; all of it does in the
way of a switch-over that forgets it, so it is said now and with the statements for then.

PostgreSQL: logical-replication-restrictions, functions-sequence (`setval`), lo-implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crossfade.catalog import TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import Plan
from crossfade.preflight.natures import SequenceUse, SourceNatures, TargetNatures
from crossfade.preflight.remarks import Remark, Side, listed, literal, qualified, quoted, remark


def leftovers(plan: Plan, source: SourceNatures, target: TargetNatures) -> Iterator[Remark]:
    """Sequences behind columns we fill, sequences of nobody, large objects."""
    filled = {(table.target, column.target.name) for table in plan.tables for column in table.columns}
    taken = {keyspace.taken_from for keyspace in plan.keyspaces.values()}  # moved by the ids that are taken from them
    uses = [use for use in target.sequences if (use.table, use.column) in filled and use.sequence not in taken]
    if uses:
        yield remark(
            Side.TARGET,
            Severity.INFO,
            "sequences_not_replicated",
            "target",
            f"Crossfade fills {listed(f'{use.table}.{use.column}' for use in uses)}, whose next values come from"
            " sequences of the target; these are not moved by what is written, and the source's are not replicated.",
            remedy="When you switch over, after the last change has arrived and before the first write on the target:\n"
            + "\n".join(_setval(use) for use in uses),
        )
    if source.free_sequences:
        yield remark(
            Side.SOURCE,
            Severity.INFO,
            "sequences_of_their_own",
            "source",
            f"{_counted(source.free_sequences)} of the source belong to no column and are not replicated:"
            f" {listed(map(str, source.free_sequences))}.",
            remedy="If the application uses them: when you switch over, read each on the source and set the target's:\n"
            + "\n".join(_last_value(name) for name in source.free_sequences[:5]),
        )
    if source.large_objects:
        yield remark(
            Side.SOURCE,
            Severity.WARNING,
            "large_objects",
            "source",
            "The source has large objects. Logical replication does not carry them, and a column that holds their"
            " numbers (oid, lo) cannot be mapped.",
            remedy="Move them into bytea columns of mapped tables before the copy; or move them by other means when you"
            " switch over (pg_dump --data-only -b --exclude-table-data='*.*' writes nothing else, and keeps their"
            " numbers).",
        )


def _setval(use: SequenceUse) -> str:
    """The statement that makes the next value one that no row has."""
    edge, step = ("max", "+ 1") if use.is_ascending else ("min", "- 1")
    start = "1" if use.is_ascending else "-1"
    return (
        f"SELECT pg_catalog.setval({literal(qualified(use.sequence))}, coalesce((SELECT {edge}({quoted(use.column)})"
        f" {step} FROM {qualified(use.table)}), {start}), false);"
    )


def _last_value(name: TableName) -> str:
    return f"SELECT last_value, is_called FROM {qualified(name)};"


def _counted(names: Sequence[TableName]) -> str:
    return f"{len(names)} sequence{'' if len(names) == 1 else 's'}"
