"""What a rule of the mapping does with a value, as the source's server could tell.

Refuses to know which rule it was. The invariant: `value` is NULL exactly where the target's value is (where the value
fits), and two of them are equal exactly where the target's values would be; a rule that the source cannot evaluate
has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from crossfade.catalog import TableName
from crossfade.mapping.compoundnames import is_compound
from crossfade.mapping.plan import Keyspace
from crossfade.preflight.data.fits import Misfit
from crossfade.statements import source_value


@dataclass(frozen=True, slots=True)
class Remarkable:
    """Values that arrive, but not as somebody may expect; `words` as those of a `Misfit`."""

    words: str
    where: sql.Composable


@dataclass(frozen=True, slots=True)
class Orphans:
    """Ids of a keyspace whose owner has no such row. `is_plain`: the column holds one id, so that foreign keys may say
    the same."""

    keyspace: str
    owner: TableName
    where: sql.Composable
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does. `shown` is SQL over the source's row `s` and the target's id maps, for a person.

    `value` as the module says (None: only the target knows); `is_faithful` tells that it is the target's value itself
    and not merely something that stands for it. `merges` says in which way two source values may become one ('' in
    none). `may_be_null`: whether the catalog allows it to be NULL.
    """

    words: str
    shown: sql.Composable
    value: sql.Composable | None
    is_faithful: bool
    merges: str
    may_be_null: bool
    misfits: tuple[Misfit, ...] = ()
    remarkable: tuple[Remarkable, ...] = ()
    orphans: tuple[Orphans, ...] = ()


def of_source(column: str) -> sql.Composable:
    """A column of the source's row."""
    if is_compound(column):
        return source_value(column, "s")
    return sql.SQL("s.{}").format(sql.Identifier(column))


def new_id(old: sql.Composable, keyspace: str) -> sql.Composable:
    """The new id of an old one, as the target's map has it."""
    return sql.SQL("(SELECT m.new FROM {} m WHERE m.old = {})").format(
        sql.Identifier("crossfade", f"id_{keyspace}"), old
    )


def without_parent(
    own: Sequence[sql.Composable],
    parents: sql.Composable,
    theirs: Sequence[sql.Composable],
    *,
    is_found: bool = False,
) -> sql.Composable:
    """Rows with a reference and no parent; a reference with a NULL in it refers to nothing (MATCH SIMPLE).

    `parents` is a FROM item, over which `theirs` are evaluated. `is_found`: those that have one.
    """
    names = [sql.Identifier(f"v{number}") for number in range(len(own))]
    found = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(sql.SQL("{} AS {}").format(value, name) for value, name in zip(theirs, names, strict=True)),
        parents,
    )
    equal = [sql.SQL("o.{} = ({})").format(name, value) for name, value in zip(names, own, strict=True)]
    present = [sql.SQL("({}) IS NOT NULL").format(value) for value in own]
    return sql.SQL("{} AND {}EXISTS (SELECT FROM ({}) AS o WHERE {})").format(
        sql.SQL(" AND ").join(present), sql.SQL("" if is_found else "NOT "), found, sql.SQL(" AND ").join(equal)
    )


def not_owned(old: sql.Composable, keyspace: Keyspace) -> sql.Composable:
    """Whether an id (of the owner's kind of type) has no row in its owner."""
    owner = sql.SQL("{} AS p").format(sql.Identifier(*keyspace.owner))
    return without_parent([old], owner, [source_value(keyspace.column, "p")])
