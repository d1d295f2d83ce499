"""Questions about several rows: those that would be equal in a unique key, those that refer to none.

Where the source's own keys say that there are no such rows, nothing is asked. Refuses to know the target's SQL
(`clauses`). The invariant: a key of the source counts only if it is in force for every row, and no rule or type on the
way can lose what it tells apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from psycopg import sql

from crossfade.catalog import Catalog, ForeignKey, Key, Table, TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import Const, OnOrphan, Plan, Strategy, TablePlan, keyspaces_of
from crossfade.preflight.data.asked import Blind, How, Question, fitting, inputs_of, source_rows
from crossfade.preflight.data.effect import Effect, Orphans, without_parent
from crossfade.preflight.data.effects import effect
from crossfade.preflight.data.fits import Ground


def duplicates(
    table: TablePlan, source: Table, target: Table, effects: Mapping[str, Effect]
) -> Iterator[Question | Blind]:
    plans = {column.target.name: column for column in table.columns}
    for key in target.keys:
        if not key.is_unique or not key.is_valid or key.has_expressions or key.is_partial:
            continue  # the latter two are clauses
        if any(name not in plans for name in key.columns):
            continue  # the target fills it by itself
        varying = [name for name in key.columns if not isinstance(plans[name].rule, Const)]
        if not varying or _is_kept_unique(key, table, source, effects):
            continue
        values = [effects[name].value for name in varying]
        known = [value for value in values if value is not None]
        subject = f"target {table.target}"
        if len(known) < len(values):
            yield Blind(subject, f"whether {key.name} ({', '.join(key.columns)}) will be unique: only the target can")
            continue
        taking_part = sql.SQL("true")
        if not key.nulls_not_distinct:
            taking_part = sql.SQL(" AND ").join(sql.SQL("({}) IS NOT NULL").format(value) for value in known)  # type: ignore[assignment]
        reasons = [effects[name].merges for name in varying if effects[name].merges]
        yield Question(
            "data_duplicate",
            How.GROUPS,
            Severity.ERROR,
            inputs_of(table, varying),
            f"share their ({', '.join(key.columns)}) with another on {table.target}, where {key.name} is unique"
            + (f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""),
            "Mend these rows on the source, or drop the constraint on the target until cutover.",
            fitting(taking_part, varying, effects),
            tuple(known),
        )


def collisions(
    table: TablePlan, plan: Plan, target: Table, effects: Mapping[str, Effect], ground: Ground
) -> Iterator[Question | Blind]:
    """Rows that have what must be unique with a row of another source of the same target. Each two sources are
    compared once."""
    earlier = plan.tables[: plan.tables.index(table)]
    for other in (each for each in earlier if each.target == table.target):
        for key in target.keys:
            if not (key.is_unique and key.is_valid) or (table.share is not None and table.share.column in key.columns):
                continue
            subject = f"target {table.target}"
            about = f"whether rows of {table.source} and {other.source} meet in {key.name}"
            if key.has_expressions or key.is_partial:
                yield Blind(subject, f"{about}: only the target can")
                continue
            theirs = {each.target.name: effect(each, plan.keyspaces, ground) for each in other.columns}
            if any(name not in effects or name not in theirs for name in key.columns):
                continue  # the target fills it by itself
            own_values = [effects[name].value for name in key.columns]
            their_values = [theirs[name].value for name in key.columns]
            known = [value for value in own_values if value is not None]
            others = [value for value in their_values if value is not None]
            if len(known) < len(key.columns) or len(others) < len(key.columns):
                yield Blind(subject, f"{about}: only the target can")
                continue
            if not _are_comparable(key, table, other):
                yield Blind(subject, f"{about}: new ids are the target's")
                continue
            yield Question(
                "data_collision",
                How.ALONE,
                Severity.ERROR,
                inputs_of(table, key.columns),
                f"have the ({', '.join(key.columns)}) of a row of {other.source}, with which they become one table"
                f" ({table.target}), where {key.name} is unique",
                "Mend one of each two rows on the source, or drop the constraint on the target until cutover.",
                fitting(
                    without_parent(
                        _comparable(known, key, table, other),
                        source_rows(other),
                        _comparable(others, key, table, other),
                        is_found=True,
                    ),
                    key.columns,
                    effects,
                ),
            )


def _comparable(values: Sequence[sql.Composable], key: Key, one: TablePlan, other: TablePlan) -> list[sql.Composable]:
    """As texts where the two sources' columns are of different types."""
    types = [
        {each.target.name: each.source.base_type for each in table.columns if each.source} for table in (one, other)
    ]
    return [
        value if types[0].get(name) == types[1].get(name) else sql.SQL("({})::text").format(value)
        for name, value in zip(key.columns, values, strict=True)
    ]


def _are_comparable(key: Key, one: TablePlan, other: TablePlan) -> bool:
    """Old ids stand for new ones only within one map."""
    rules = [
        {each.target.name: keyspaces_of(each.rule) for each in table.columns if each.target.name in key.columns}
        for table in (one, other)
    ]
    return rules[0] == rules[1]


def _is_kept_unique(key: Key, table: TablePlan, source: Table, effects: Mapping[str, Effect]) -> bool:
    """Whether a unique key of the source, none of whose columns can lose a difference, says the same."""
    kept = {
        column.source.name
        for column in table.columns
        if column.target.name in key.columns and column.source is not None and not effects[column.target.name].merges
    }
    return any(
        other.is_unique
        and other.is_valid
        and not (other.is_partial or other.has_expressions or other.is_deferrable)
        and set(other.columns) <= kept
        and (other.nulls_not_distinct or not key.nulls_not_distinct or _never_null(other, source))
        for other in source.keys
    )


def _never_null(key: Key, source: Table) -> bool:
    return all(column is not None and column.not_null for column in map(source.column, key.columns))


def orphans(
    table: TablePlan,
    plan: Plan,
    source: Catalog,
    effects: Mapping[str, Effect],
    ground: Ground,
    *,
    replica_role: bool,
) -> Iterator[Question | Blind]:
    told: set[str] = set()
    for key in plan.target_foreign_keys:
        if key.table == table.target:
            parents = [each for each in plan.tables if each.target == key.referenced]
            if not parents or any(_is_held_by_source(key, table, parent, source) for parent in parents):
                continue
            parent = next((each for each in parents if _means_alike(key, table, each)), parents[0])
            yield from _orphans_of(key, table, parent, plan, effects, ground, replica_role=replica_role)
            told.update(key.columns)
    for column in table.columns:
        source_column = column.source
        if source_column is None:
            continue
        for found in effects[column.target.name].orphans:
            keyspace = plan.keyspaces[found.keyspace]
            if keyspace.strategy is Strategy.TABLE and table.owns == keyspace.name:
                yield Blind(f"target {keyspace.taken_from}", f"whether each id of {keyspace.owner} has a new one there")
            is_held = found.is_plain and (
                column.target.name in told
                or _refers(table.source, source_column.name, keyspace.owner, keyspace.column, source)
            )
            if not is_held:
                yield _orphaned(table, source_column.name, found)


def _orphaned(table: TablePlan, column: str, found: Orphans) -> Question:
    allocates = table.policies.orphan_id is OnOrphan.ALLOCATE
    return Question(
        "data_orphan",
        How.ALONE,
        Severity.WARNING if allocates else Severity.ERROR,
        (column,),
        f"refer by {column} to rows of {found.owner} that do not exist"
        + ("; they will be given new ids all the same (orphan_id: allocate)" if allocates else ""),
        "Mend these rows on the source" + (", if that is not what you want." if allocates else "."),
        found.where,
    )


def _refers(table: TableName, column: str, owner: TableName, owned: str, source: Catalog) -> bool:
    """Whether the column is the keyspace's own, or refers to it by a validated foreign key, over any steps."""
    seen: set[tuple[TableName, str]] = set()
    todo = [(table, column)]
    while todo:
        at = todo.pop()
        if at == (owner, owned):
            return True
        seen.add(at)
        for key in source.tables[at[0]].foreign_keys if at[0] in source.tables else ():
            if key.is_validated and len(key.columns) == 1 and key.columns[0] == at[1]:
                further = (key.referenced, key.referenced_columns[0])
                if further not in seen:
                    todo.append(further)
    return False


def _means_alike(key: ForeignKey, child: TablePlan, parent: TablePlan) -> bool:
    """Both ends hold ids of the same maps, or none."""
    of_child = {each.target.name: keyspaces_of(each.rule) for each in child.columns}
    of_parent = {each.target.name: keyspaces_of(each.rule) for each in parent.columns}
    return all(
        of_child.get(name) == of_parent.get(referenced)
        for name, referenced in zip(key.columns, key.referenced_columns, strict=True)
    )


def _is_held_by_source(key: ForeignKey, child: TablePlan, parent: TablePlan, source: Catalog) -> bool:
    """Whether a validated foreign key of the source says the same of the same columns."""
    if parent.where is not None:
        return False  # the parent may be there, and not be taken
    child_of = {column.target.name: column.source.name for column in child.columns if column.source is not None}
    parent_of = {column.target.name: column.source.name for column in parent.columns if column.source is not None}
    wanted = {(child_of.get(a), parent_of.get(b)) for a, b in zip(key.columns, key.referenced_columns, strict=True)}
    if child.source == parent.source and all(ours == theirs for ours, theirs in wanted):
        return True  # two targets of one source row
    table = source.tables.get(child.source)
    return table is not None and any(
        other.is_validated
        and other.referenced == parent.source
        and set(zip(other.columns, other.referenced_columns, strict=True)) == wanted
        for other in table.foreign_keys
    )


def _orphans_of(
    key: ForeignKey,
    child: TablePlan,
    parent: TablePlan,
    plan: Plan,
    effects: Mapping[str, Effect],
    ground: Ground,
    *,
    replica_role: bool,
) -> Iterator[Question | Blind]:
    of_parent = {column.target.name: effect(column, plan.keyspaces, ground) for column in parent.columns}
    own = [effects[name].value if name in effects else None for name in key.columns]
    theirs = [of_parent[name].value if name in of_parent else None for name in key.referenced_columns]
    if any(value is None for value in (*own, *theirs)):
        yield Blind(f"target {key.table}", f"whether every row has the parent that {key.name} wants")
        return
    is_enforced = not replica_role or child.applied_as_origin or parent.applied_as_origin
    yield Question(
        "data_orphan",
        How.ALONE,
        Severity.ERROR if is_enforced else Severity.WARNING,
        inputs_of(child, key.columns),
        f"have no parent in {parent.source}, which {key.name} of {key.table} wants"
        + (
            ""
            if is_enforced
            else "; foreign keys are not checked while crossfade writes, so they will arrive and break it"
        ),
        "Mend these rows on the source.",
        without_parent(
            [value for value in own if value is not None],
            source_rows(parent),
            [value for value in theirs if value is not None],
        ),
    )
