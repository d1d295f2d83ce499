"""What `check --data` asks the source, table by table: each question in SQL, and what it means when a row answers.

Made of the plan and both catalogs; `effects` knows what a rule does to a value, `ask` asks. Refuses to know
connections. The invariant: a question counts and names rows of the source by their keys; it never asks for another
value unless told to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from psycopg import sql

from crossfade.catalog import Catalog, Table
from crossfade.findings import Severity
from crossfade.mapping.compoundnames import is_compound, parts_of, written
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.mapping.published import may_be_toasted
from crossfade.preflight.data.asked import Blind, How, Question, Sized, Survey, fitting, inputs, source_rows
from crossfade.preflight.data.between import collisions, duplicates, orphans
from crossfade.preflight.data.clauses import Clause, clause_questions
from crossfade.preflight.data.effect import Effect, of_source
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
}
# A row of more than this is made smaller by storing its longest values out of line.
_INLINE_BYTES: Final = 2000


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
        duplicates(table, from_table, to_table, effects),
        collisions(table, plan, to_table, effects, ground),
        orphans(table, plan, source, effects, ground, replica_role=replica_role),
        clause_questions(table, to_table, effects, [clause for clause in clauses if clause.table == table.target]),
    ):
        for each in made:
            if isinstance(each, Blind):
                blind.append(each)
            else:
                questions.append(each)
    fed_by = [column.source for column in table.columns if column.source is not None]
    used = {source.name: source for source in fed_by if not is_compound(source.name)}
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
        if column.target.not_null and found.may_be_null and found.value is not None and inputs(column):
            yield Question(
                "data_null",
                How.IN_PASSING,
                Severity.ERROR,
                inputs(column),
                f"would give NULL to {table.target}.{column.target.name}, which is NOT NULL",
                "Give these rows a value on the source, or let the target take NULL:\n"
                f"ALTER TABLE {qualified(table.target)} ALTER COLUMN {quoted(column.target.name)} DROP NOT NULL;",
                fitting(sql.SQL("({}) IS NULL").format(found.value), (column.target.name,), effects),
            )


def _misfits(table: TablePlan, effects: Mapping[str, Effect]) -> Iterator[Question]:
    for column in table.columns:
        if not inputs(column):
            continue
        found = effects[column.target.name]
        where = f"in {inputs(column)[0]} (for {table.target}.{column.target.name})"
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
                inputs(column),
                f"hold values {misfit.words} {where}; the target refuses them",
                remedy,
                misfit.where,
            )
        for noted in found.remarkable:
            yield Question(
                "data_clock_change",
                How.IN_PASSING,
                Severity.INFO,
                inputs(column),
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
                parts_of(column.name),
                f"hold more than {_INLINE_BYTES} bytes in {written(column.name)}, which identifies rows: where such a"
                " value is stored out of line, an UPDATE does not say which row it changed, and the stream stops (D4)",
                "As the table's owner, at the price of more WAL:\n"
                f"ALTER TABLE {qualified(table.source)} REPLICA IDENTITY FULL;",
                sql.SQL("pg_catalog.pg_column_size({}) > {}").format(
                    of_source(column.name), sql.Literal(_INLINE_BYTES)
                ),
            )
