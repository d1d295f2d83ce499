"""A question about rows, as plain values: what is put to the source, and what it means when a row answers.

Refuses to know how questions come about and who asks them. The invariant: a question counts and names rows of the
source by their keys; it never asks for another value unless told to.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import sql

from crossfade.catalog import TableName
from crossfade.findings import Severity
from crossfade.mapping.compoundnames import parts_of
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import RemapBy
from crossfade.mapping.plan import ColumnPlan, TablePlan
from crossfade.preflight.data.computed import evaluated
from crossfade.preflight.data.effect import Effect


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


def source_rows(table: TablePlan) -> sql.Composable:
    """The rows that go into the target table, as a FROM item named `s` (with the `ctid` of the table)."""
    whole = sql.Identifier(*table.source)
    if table.where is None:
        return sql.SQL("{} AS s").format(whole)
    return sql.SQL("(SELECT t.ctid, t.* FROM {} AS t WHERE {}) AS s").format(whole, evaluated(table.where, "t"))


def inputs(column: ColumnPlan) -> tuple[str, ...]:
    """The source columns a value is made of, the one it is fed by first."""
    fed_by = parts_of(column.source.name) if column.source is not None else ()
    match column.rule:
        case RemapBy(by):
            return (*fed_by, by)
        case Expression(inputs=read):
            return tuple(each.source.name for each in read)
        case _:
            return fed_by


def inputs_of(table: TablePlan, names: Collection[str]) -> tuple[str, ...]:
    """The same of several target columns."""
    found = (each for column in table.columns if column.target.name in names for each in inputs(column))
    return tuple(dict.fromkeys(found))


def fitting(where: sql.Composable, columns: Collection[str], effects: Mapping[str, Effect]) -> sql.Composable:
    """A condition, for rows whose values fit their columns: others are counted elsewhere, and could not be cast."""
    unfit = [misfit.where for name in columns if name in effects for misfit in effects[name].misfits]
    if not unfit:
        return where
    return sql.SQL("CASE WHEN {} THEN false ELSE {} END").format(sql.SQL(" OR ").join(unfit), where)
