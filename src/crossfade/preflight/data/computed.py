"""The effects of SQL: expressions that make a column, and the condition by which rows are taken.

The target evaluates them; the source is asked to do the same, over the columns as the target sees them. Refuses to know
other rules. The invariant: an expression is put to the source as it was written, with nothing else in reach of its
names than the columns it reads.
"""

from __future__ import annotations

import dataclasses
from typing import LiteralString

from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.conversions import TEXT, VARCHAR
from crossfade.mapping.derived import Expression
from crossfade.preflight.data.effect import Effect
from crossfade.preflight.data.fits import Ground, Misfit, misfits


def computed(target: Column, rule: Expression, ground: Ground) -> Effect:
    """A column by SQL. What the source cannot evaluate, since a function is the target's own, it will say."""
    value = evaluated(rule, "s")
    found: tuple[Misfit, ...] = ()
    if target.type_kind == "b" and target.base_type in {VARCHAR, "character", "bpchar"}:
        text = dataclasses.replace(target, type_name=TEXT, base_type=TEXT, typmod=-1)
        found = tuple(misfits(sql.SQL("({})::text").format(value), text, target, ground))
    words = f"computed on the target from {', '.join(each.source.name for each in rule.inputs)}, by SQL of the mapping"
    return Effect(
        words=words,
        shown=sql.SQL("({})").format(as_written(rule)),
        value=value,
        is_faithful=True,
        merges="the expression may make several values one",
        may_be_null=True,
        misfits=found,
    )


def evaluated(rule: Expression, row: LiteralString) -> sql.Composable:
    """The expression over a row of the source, whose columns have the types that the target sees."""
    columns = [
        sql.SQL("{}.{}{} AS {}").format(
            sql.SQL(row),
            sql.Identifier(each.source.name),
            sql.SQL("::text" if each.shown.type_oid != each.source.type_oid else ""),
            sql.Identifier(each.source.name),
        )
        for each in rule.inputs
    ]
    return sql.SQL("(SELECT ({}) FROM (SELECT {}) AS i)").format(as_written(rule), sql.SQL(", ").join(columns))


def as_written(rule: Expression) -> sql.SQL:
    """The mapping's SQL, which the compiler has found to be one expression and nothing else."""
    return sql.SQL(rule.sql)
