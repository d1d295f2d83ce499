"""Whether a relation is the one its plan was compiled for, and where its used columns stand.

Asked once per shape, before its first row; tuples are walked by position after that. Refuses to know rows. The
invariant: a relation whose used columns are gone, have another type, or that does not log what identifies an old row
is refused (E1, E3, E4, D8), so nobody downstream reads a column that is not the one the mapping meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crossfade.catalog import ReplicaIdentity
from crossfade.faults import PlanMismatch, Refused
from crossfade.mapping.plan import OnColumnAdded, Remap, TablePlan
from crossfade.pgoutput.messages import Relation
from crossfade.wire.idstate import IdState

_VARCHAR: Final = 1043


def positions(relation: Relation, plan: TablePlan) -> dict[str, int]:
    """Where each used column stands in this shape's tuples, by its name (columns that nobody uses are there, too).

    Raises Refused or PlanMismatch when the shape is not the one the plan was compiled for (E1, E3, E4, D8).
    """
    where = f"{relation.table}"
    places = {column.name: at for at, column in enumerate(relation.columns)}
    for column in plan.source_columns:
        if column.name not in plan.used and column.name not in plan.identity:
            continue
        at = places.get(column.name)
        if at is None:
            raise Refused(
                f"Column {column.name}, which the mapping uses, is gone from the source table (dropped or renamed).",
                where=where,
                means="Nothing of that transaction was applied.",
                do="Give the column back its name if no row was written meanwhile, then `crossfade run`; else change"
                " the mapping, `crossfade teardown`, empty the target tables, `crossfade run`.",
            )
        sent = relation.columns[at]
        # A length is no business of ours: changes from before it grew come with the shorter one. That it was cut
        # since the copy, which may rewrite values, is seen in the catalog (`source/publication`).
        is_length = sent.type_oid == column.type_oid == _VARCHAR
        if (sent.type_oid, sent.typmod) != (column.type_oid, column.typmod) and not is_length:
            raise Refused(
                f"Column {column.name} changed its type on the source; rewritten values are not replicated.",
                where=where,
                means="Rows copied before the change may be stale on the target.",
                do="`crossfade teardown`, empty the target tables, `crossfade run`: the table must be copied again.",
            )
    known = {column.name for column in plan.source_columns}
    added = [column.name for column in relation.columns if column.name not in known]
    if added and plan.policies.source_column_added is OnColumnAdded.STOP:
        raise PlanMismatch(
            f"The source table has a column the mapping does not know: {', '.join(added)}.",
            where=where,
            means="Nothing of that transaction was applied; the slot keeps it.",
            do="Add it to `drop:` of this table, or set `source_column_added: ignore`, and restart the daemon;"
            " to carry it over, change the mapping, `crossfade teardown`, empty the target tables, `crossfade run`.",
        )
    check_identity(relation, plan)
    return places


def check_identity(relation: Relation, plan: TablePlan) -> None:
    """The columns that identify an old row must be among those the server logs for it (D8)."""
    if plan.append_only or relation.replica_identity is ReplicaIdentity.FULL:
        return
    flagged = {column.name for column in relation.columns if column.is_key}
    if not flagged.issuperset(plan.identity) or plan.identity_is_full:
        raise PlanMismatch(
            "The replica identity of the source table is not the one the mapping was checked against.",
            where=str(relation.table),
            means="Nothing of that transaction was applied; the slot keeps it.",
            do="Restart the daemon to read the catalog anew; if it stays, set the replica identity back"
            " (ALTER TABLE ... REPLICA IDENTITY).",
        )


def owner_position(plan: TablePlan, positions: Mapping[str, int], ids: Mapping[str, IdState]) -> tuple[str, int] | None:
    """The keyspace this table owns, and where its column stands by `positions`; None when it owns none."""
    if plan.owns is None:
        return None
    for column in plan.columns:
        if isinstance(column.rule, Remap) and column.rule.keyspace == plan.owns and column.source is not None:
            name = column.source.name
            if ids[plan.owns].keyspace.column == name:
                return plan.owns, positions[name]
    return None
