"""What `check --data` asks the source, table by table: each question in SQL, and what it means when a row answers.

Made of the plan and both catalogs; `effects` knows what a rule does to a value, `ask` asks. Refuses to know
connections. The invariant: a question counts and names rows of the source by their keys; it never asks for another
value unless told to.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from crossfade.catalog import Catalog, ForeignKey, Key, Table, TableName
from crossfade.findings import Severity
from crossfade.mapping.identity import may_be_toasted
from crossfade.mapping.plan import Const, OnOrphan, Plan, Strategy, TablePlan
from crossfade.preflight.data.clauses import Clause, ClauseKind, holds, row_of_target, value_of
from crossfade.preflight.data.effect import Effect, Orphans, of_source, without_parent
from crossfade.preflight.data.effects import effect
from crossfade.preflight.data.fits import Ground
from crossfade.preflight.remarks import qualified, quoted

# Types whose values may be of any size, and the function that tells it without fetching what is stored out of line.
_SIZED: Final[Mapping[str, str]] = {
    "bytea": "octet_length",
    "text": "octet_length",
    "character varying": "octet_length",
    "json": "pg_column_size",
    "jsonb": "pg_column_size",
    "xml": "pg_column_size",
    "tsvector": "pg_column_size",
    "hstore": "pg_column_size",
}
# A row of more than this is made smaller by storing its longest values out of line.
_INLINE_BYTES: Final = 2000


class How(enum.Enum):
    """How a question is put: with others in one pass over the table, by itself, or as groups that share a value."""

    IN_PASSING = "in passing"
    ALONE = "alone"
    GROUPS = "groups"


@dataclass(frozen=True, slots=True)
class Question:
    """`where` is a predicate over the source's row `s`; of GROUPS, what makes a row take part, and `group` what its
    rows share. `sentence` follows "3 rows of public.users"; `columns` are the source's, for their values."""

    name: str
    how: How
    severity: Severity
    columns: tuple[str, ...]
    sentence: str
    remedy: str
    where: sql.Composable
    group: tuple[sql.Composable, ...] = ()


@dataclass(frozen=True, slots=True)
class Blind:
    """What could not be put as a question, and why."""

    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Sized:
    """A source column whose largest value is wanted, and the function that measures it."""

    column: str
    measure: str
    is_bytea: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything to ask of one source table for one target table.

    `key` are the source columns that name a row (`ctid` where nothing else does).
    """

    source: TableName
    target: TableName
    rows: sql.Composable
    key: tuple[str, ...]
    questions: tuple[Question, ...]
    sized: tuple[Sized, ...]
    blind: tuple[Blind, ...]
    bytes: int


def surveys(
    plan: Plan,
    source: Catalog,
    target: Catalog,
    clauses: Sequence[Clause],
    *,
    replica_role: bool,
) -> tuple[Survey, ...]:
    """One for each table of the plan, small ones first: what is cut off by the time limit should be one table."""
    ground = Ground(source.version)
    made = [_survey(table, plan, source, target, clauses, ground, replica_role=replica_role) for table in plan.tables]
    return tuple(sorted(made, key=lambda survey: (survey.bytes, survey.target)))


def _survey(
    table: TablePlan,
    plan: Plan,
    source: Catalog,
    target: Catalog,
    clauses: Sequence[Clause],
    ground: Ground,
    *,
    replica_role: bool,
) -> Survey:
    from_table, to_table = source.tables[table.source], target.tables[table.target]
    effects = {column.target.name: effect(column, plan.keyspaces, ground) for column in table.columns}
    questions: list[Question] = []
    blind: list[Blind] = []
    questions += _nulls(table, effects)
    questions += _misfits(table, effects)
    questions += _wide_keys(table)
    for made in (
        _duplicates(table, from_table, to_table, effects),
        _orphans(table, plan, source, effects, ground, replica_role=replica_role),
        _clauses(table, to_table, effects, [clause for clause in clauses if clause.table == table.target]),
    ):
        for each in made:
            if isinstance(each, Blind):
                blind.append(each)
            else:
                questions.append(each)
    used = {column.source.name: column.source for column in table.columns if column.source is not None}
    return Survey(
        source=table.source,
        target=table.target,
        rows=source_rows(table),
        key=_key(table, from_table),
        questions=tuple(questions),
        sized=tuple(
            Sized(name, _SIZED[column.base_type], column.base_type == "bytea")
            for name, column in used.items()
            if column.base_type in _SIZED
        ),
        blind=tuple(blind),
        bytes=table.bytes_estimate,
    )


def source_rows(table: TablePlan) -> sql.Composable:
    """The rows that go into the target table, as a FROM item named `s` (with the system columns of the table)."""
    return sql.SQL("{} AS s").format(sql.Identifier(*table.source))


def _key(table: TablePlan, source: Table) -> tuple[str, ...]:
    """What names a row: never a whole row, since its values are nobody's business."""
    primary = source.primary_key
    if primary is not None:
        return primary.columns
    return ("ctid",) if table.identity_is_full or not table.identity else table.identity


# -- one column


def _nulls(table: TablePlan, effects: Mapping[str, Effect]) -> Iterator[Question]:
    for column in table.columns:
        found = effects[column.target.name]
        if column.target.not_null and found.may_be_null and found.value is not None and column.source is not None:
            yield Question(
                "data_null",
                How.IN_PASSING,
                Severity.ERROR,
                (column.source.name,),
                f"would give NULL to {table.target}.{column.target.name}, which is NOT NULL",
                "Give these rows a value on the source, or let the target take NULL:\n"
                f"ALTER TABLE {qualified(table.target)} ALTER COLUMN {quoted(column.target.name)} DROP NOT NULL;",
                _of_fitting(sql.SQL("({}) IS NULL").format(found.value), (column.target.name,), effects),
            )


def _misfits(table: TablePlan, effects: Mapping[str, Effect]) -> Iterator[Question]:
    for column in table.columns:
        if column.source is None:
            continue
        found = effects[column.target.name]
        where = f"in {column.source.name} (for {table.target}.{column.target.name})"
        for misfit in found.misfits:
            remedy = "Mend these values on the source"
            if misfit.widen:
                remedy += (
                    ", or widen the target's column:\n"
                    f"ALTER TABLE {qualified(table.target)} ALTER COLUMN {quoted(column.target.name)}"
                    f" TYPE {misfit.widen};"
                )
            elif column.target.type_kind == "e":
                remedy += ", or give the target's enum their labels: ALTER TYPE … ADD VALUE."
            else:
                remedy += "."
            yield Question(
                "data_does_not_fit",
                How.IN_PASSING,
                Severity.ERROR,
                (column.source.name,),
                f"hold values {misfit.words} {where}; the target refuses them",
                remedy,
                misfit.where,
            )
        for noted in found.remarkable:
            yield Question(
                "data_clock_change",
                How.IN_PASSING,
                Severity.INFO,
                (column.source.name,),
                f"hold {noted.words} {where}",
                "Nothing, if the mapping's choice for them (ambiguous, nonexistent) is the right one.",
                noted.where,
            )


def _wide_keys(table: TablePlan) -> Iterator[Question]:
    if table.identity_is_full or table.append_only:
        return
    for column in table.source_columns:
        if column.name in table.identity and may_be_toasted(column):
            yield Question(
                "data_wide_key",
                How.IN_PASSING,
                Severity.WARNING,
                (column.name,),
                f"hold more than {_INLINE_BYTES} bytes in {column.name}, which identifies rows: where such a value is"
                " stored out of line, an UPDATE does not say which row it changed, and the stream stops (D4)",
                "As the table's owner, at the price of more WAL:\n"
                f"ALTER TABLE {qualified(table.source)} REPLICA IDENTITY FULL;",
                sql.SQL("pg_catalog.pg_column_size({}) > {}").format(
                    of_source(column.name), sql.Literal(_INLINE_BYTES)
                ),
            )


# -- several rows


def _duplicates(
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
        columns = tuple(dict.fromkeys(one.name for name in varying if (one := plans[name].source) is not None))
        reasons = [effects[name].merges for name in varying if effects[name].merges]
        yield Question(
            "data_duplicate",
            How.GROUPS,
            Severity.ERROR,
            columns,
            f"share their ({', '.join(key.columns)}) with another on {table.target}, where {key.name} is unique"
            + (f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""),
            "Mend these rows on the source, or drop the constraint on the target until cutover.",
            _of_fitting(taking_part, varying, effects),
            tuple(known),
        )


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


def _orphans(
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
            parent = next((each for each in plan.tables if each.target == key.referenced), None)
            if parent is None or _is_held_by_source(key, table, parent, source):
                continue
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


def _is_held_by_source(key: ForeignKey, child: TablePlan, parent: TablePlan, source: Catalog) -> bool:
    """Whether a validated foreign key of the source says the same of the same columns."""
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
    plans = {column.target.name: column for column in child.columns}
    columns = tuple(one.name for name in key.columns if (one := plans[name].source) is not None)
    yield Question(
        "data_orphan",
        How.ALONE,
        Severity.ERROR if is_enforced else Severity.WARNING,
        columns,
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


# -- what the target says in SQL of its own


def _clauses(
    table: TablePlan, target: Table, effects: Mapping[str, Effect], clauses: Sequence[Clause]
) -> Iterator[Question | Blind]:
    columns = {column.name: column for column in target.columns}
    for clause in clauses:
        row = row_of_target(clause.columns, columns, effects) if clause.is_portable else None
        if row is None:
            yield Blind(f"target {table.target}", f"whether the rows satisfy {_described(clause)}: only the target can")
        elif clause.kind is ClauseKind.UNIQUE:
            yield _unique_expressions(table, clause, row, effects)
        else:
            yield _condition(table, clause, row, effects)


def _condition(table: TablePlan, clause: Clause, row: sql.Composable, effects: Mapping[str, Effect]) -> Question:
    is_check = clause.kind is ClauseKind.CHECK
    fails = sql.SQL(" AND ").join(
        holds(text, row, ending="IS FALSE" if is_check else "IS NOT TRUE") for text in clause.texts
    )
    if is_check:
        sentence = f"would break {_described(clause)}"
        remedy = (
            "Mend these rows on the source, or drop the constraint until cutover:\n"
            f"ALTER TABLE {qualified(table.target)} DROP CONSTRAINT {quoted(clause.name)};"
        )
    else:
        sentence = f"would find no partition of {table.target}"
        remedy = (
            "Make partitions for them on the target, or one for everything else:\n"
            f"CREATE TABLE {qualified(_default_partition(table.target))}"
            f" PARTITION OF {qualified(table.target)} DEFAULT;"
        )
    return Question(
        "data_refused_by_check" if is_check else "data_without_partition",
        How.IN_PASSING,
        Severity.ERROR,
        _sources(table, clause.columns),
        sentence,
        remedy,
        _of_fitting(fails, clause.columns, effects),
    )


def _unique_expressions(
    table: TablePlan, clause: Clause, row: sql.Composable, effects: Mapping[str, Effect]
) -> Question:
    values = tuple(value_of(text, row) for text in clause.texts)
    taking_part: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(value) for value in values]
    if clause.predicate:
        taking_part.append(holds(clause.predicate, row))
    return Question(
        "data_duplicate",
        How.GROUPS,
        Severity.ERROR,
        _sources(table, clause.columns),
        f"share their ({', '.join(clause.texts)}) with another on {table.target}, where {clause.name} is unique",
        "Mend these rows on the source, or drop the index on the target until cutover.",
        _of_fitting(sql.SQL(" AND ").join(taking_part), clause.columns, effects),
        values,
    )


def _of_fitting(where: sql.Composable, columns: Sequence[str], effects: Mapping[str, Effect]) -> sql.Composable:
    """A condition, for rows whose values fit their columns: others are counted elsewhere, and could not be cast."""
    unfit = [misfit.where for name in columns if name in effects for misfit in effects[name].misfits]
    if not unfit:
        return where
    return sql.SQL("CASE WHEN {} THEN false ELSE {} END").format(sql.SQL(" OR ").join(unfit), where)


def _described(clause: Clause) -> str:
    words = {
        ClauseKind.CHECK: f"the CHECK {clause.name}",
        ClauseKind.UNIQUE: f"the unique index {clause.name}",
        ClauseKind.PARTITIONS: f"the bounds of one of the partitions of {clause.table}",
    }
    return words[clause.kind]


def _sources(table: TablePlan, columns: Sequence[str]) -> tuple[str, ...]:
    """The source columns that feed these target columns."""
    return tuple(
        column.source.name for column in table.columns if column.source is not None and column.target.name in columns
    )


def _default_partition(table: TableName) -> TableName:
    return TableName(table.schema, f"{table.name}_default")
