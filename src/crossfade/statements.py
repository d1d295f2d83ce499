"""A plan, as SQL: the statements that write one change, for the exact path.

Composes text only; identifiers go through `psycopg.sql`, values are always parameters. Refuses to know connections,
cells or when a statement is run. The invariant: a statement without a unique key to stand on touches at most one row
(C7), and no statement names a generated column (E19).

PostgreSQL: sql-insert ("OVERRIDING SYSTEM VALUE"), sql-update, ddl-system-columns (ctid, tableoid).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from psycopg import sql

from crossfade.catalog import Column, TableName
from crossfade.mapping.compoundnames import parts_of
from crossfade.mapping.plan import Keyspace, TablePlan
from crossfade.mapping.shares import InMap, InNoMap, InRange

# Types that have no equality operator, or one that means something else than "the same value" (box: area).
_COMPARED_AS_TEXT: Final = frozenset(
    {"json", "xml", "jsonpath", "point", "line", "lseg", "box", "path", "polygon", "circle", "aclitem", "tsquery"}
)
# Composites and domains may hold any of these; whether they do, the catalog we read does not say.
_KINDS_COMPARED_AS_TEXT: Final = frozenset({"c", "d"})


def table(name: TableName) -> sql.Identifier:
    """`"schema"."name"`."""
    return sql.Identifier(name.schema, name.name)


def id_table(keyspace: str) -> sql.Identifier:
    """The kept map of a keyspace."""
    return sql.Identifier("crossfade", f"id_{keyspace}")


def _text(*parts: sql.Composable) -> bytes:
    return sql.Composed(parts).as_bytes(None)


def _parameter(number: int) -> sql.SQL:
    return sql.SQL(f"${number}")  # a number we made


def _assignments(names: Sequence[str], first: int) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), _parameter(first + at)) for at, name in enumerate(names)
    )


def _kind(column: Column) -> str:
    return column.element_type_kind or column.type_kind


def _is_compared_as_text(column: Column) -> bool:
    return _kind(column) in _KINDS_COMPARED_AS_TEXT or column.base_type.removesuffix("[]") in _COMPARED_AS_TEXT


def _matches(plan: TablePlan, first: int) -> sql.Composed:
    """The row whose key columns equal parameters `first` and on; NULLs equal each other where NULL can be."""
    types = {column.target.name: column.target for column in plan.columns}
    terms: list[sql.Composable] = []
    for at, name in enumerate(plan.key):
        column, parameter = types[name], _parameter(first + at)
        if plan.key_is_unique:  # what a unique index covers has an equality, and no NULL in an identity
            terms.append(sql.SQL("{} = {}").format(sql.Identifier(name), parameter))
        elif _is_compared_as_text(column):
            # Its type is said: else the parameter were a text, and the bytes of a binary one are not.
            said = sql.SQL("" if _kind(column) in _KINDS_COMPARED_AS_TEXT else "::" + column.base_type)
            terms.append(
                sql.SQL("{}::text IS NOT DISTINCT FROM {}{}::text").format(sql.Identifier(name), parameter, said)
            )
        elif column.not_null:
            terms.append(sql.SQL("{} = {}").format(sql.Identifier(name), parameter))
        else:
            terms.append(sql.SQL("{} IS NOT DISTINCT FROM {}").format(sql.Identifier(name), parameter))
    return sql.SQL(" AND ").join(terms)


def _one_row(plan: TablePlan, first: int) -> sql.Composed:
    """Like `_matches`, but never more than one row: duplicates of a table without a key fall one at a time (C7)."""
    matches = _matches(plan, first)
    if plan.key_is_unique:
        return matches
    name = table(plan.target)
    # The target may be partitioned, where a ctid alone is not unique.
    picked = sql.SQL("(SELECT {} FROM {} WHERE {} ORDER BY tableoid, ctid LIMIT 1)")
    return sql.SQL("tableoid = {} AND ctid = {}").format(
        picked.format(sql.Identifier("tableoid"), name, matches), picked.format(sql.Identifier("ctid"), name, matches)
    )


def _overriding(plan: TablePlan) -> sql.SQL:
    return sql.SQL(" OVERRIDING SYSTEM VALUE") if plan.overrides_identity else sql.SQL("")


def insert(plan: TablePlan) -> bytes:
    """Parameters: every plan column, in plan order."""
    if not plan.columns:
        return _text(sql.SQL("INSERT INTO "), table(plan.target), sql.SQL(" DEFAULT VALUES"))
    names = sql.SQL(", ").join(sql.Identifier(column.target.name) for column in plan.columns)
    values = sql.SQL(", ").join(_parameter(at + 1) for at in range(len(plan.columns)))
    return _text(
        sql.SQL("INSERT INTO {} ({}){} VALUES ({})").format(table(plan.target), names, _overriding(plan), values)
    )


def update(plan: TablePlan, assigned: Sequence[str]) -> bytes:
    """Parameters: the assigned columns, then the old key. With nothing to assign, it only looks for the row."""
    if not assigned:
        return _text(sql.SQL("SELECT FROM {} WHERE {}").format(table(plan.target), _one_row(plan, 1)))
    return _text(
        sql.SQL("UPDATE {} SET {} WHERE {}").format(
            table(plan.target), _assignments(assigned, 1), _one_row(plan, len(assigned) + 1)
        )
    )


def nothing() -> bytes:
    """A statement that finds no row."""
    return b"SELECT WHERE false"


def reinsert(plan: TablePlan, assigned: Sequence[str]) -> bytes:
    """An update of a table whose key UPDATE refuses to touch (H10): out and in again, carrying every other column.

    Parameters as for `update`. Only fit for replica role: a DELETE may cascade.
    """
    columns = plan.writable
    places = {name: at + 1 for at, name in enumerate(assigned)}
    types = {column.target.name: column.target.type_name for column in plan.columns}
    values = sql.SQL(", ").join(
        # The type must be said: in a SELECT list a parameter would be text.
        # Not through format(): a type's name, quoted by the server, may hold braces.
        _parameter(places[name]) + sql.SQL("::" + types[name])
        if name in places
        else sql.SQL("moved.{}").format(sql.Identifier(name))
        for name in columns
    )
    return _text(
        sql.SQL(
            "WITH moved AS (DELETE FROM {table} WHERE {where} RETURNING *) "
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM moved"
        ).format(
            table=table(plan.target),
            where=_one_row(plan, len(assigned) + 1),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            values=values,
        )
    )


def delete(plan: TablePlan) -> bytes:
    """Parameters: the old key."""
    return _text(sql.SQL("DELETE FROM {} WHERE {}").format(table(plan.target), _one_row(plan, 1)))


def guarded(text: bytes) -> bytes | None:
    """The same change, refused by the server (division by zero) unless it is of exactly one row; None for what is not
    a plain INSERT, UPDATE or DELETE. For who sends COMMIT behind it without having seen the row count."""
    if not text.startswith((b"INSERT ", b"UPDATE ", b"DELETE ")):
        return None
    return b"WITH done AS (" + text + b" RETURNING 1) SELECT 1 / (count(*) = 1)::int4 FROM done"


def truncate(names: Iterable[TableName]) -> sql.Composed:
    """Empty the tables together, so that foreign keys among them do not matter."""
    return sql.SQL("TRUNCATE TABLE {}").format(sql.SQL(", ").join(table(name) for name in names))


def delete_all(name: TableName) -> sql.Composed:
    """What TRUNCATE would do, for a table that a foreign key from outside refers to."""
    return sql.SQL("DELETE FROM {}").format(table(name))


def delete_share(plan: TablePlan) -> sql.Composed:
    """The same for the rows of one of several sources. Raises ValueError where they cannot be told from the others'."""
    match plan.share:
        case InRange(name, lower, upper):
            terms: list[sql.Composable] = [
                sql.SQL(f"t.{{}} {operator} {bound}").format(sql.Identifier(name))  # a number we made
                for operator, bound in ((">=", lower), ("<", upper))
                if bound is not None
            ]
        case InMap(name, keyspace):
            terms = [_is_of_map(name, keyspace)]
        case InNoMap(name, keyspaces):
            terms = [sql.SQL("NOT ") + _is_of_map(name, keyspace) for keyspace in keyspaces]
        case None:
            raise ValueError(f"rows of {plan.source} cannot be told from others of {plan.target}")
    return sql.SQL("DELETE FROM {} AS t WHERE {}").format(table(plan.target), sql.SQL(" AND ").join(terms))


def _is_of_map(column: str, keyspace: str) -> sql.Composed:
    # As texts: the map may hold a uuid where the column is a text, or a wider integer.
    return sql.SQL("EXISTS (SELECT FROM {} AS m WHERE m.new::text = t.{}::text)").format(
        id_table(keyspace), sql.Identifier(column)
    )


def copy_out(
    plan: TablePlan,
    *,
    columns: Sequence[str] | None = None,
    relation: TableName | None = None,
    only_rows: sql.Composable | None = None,
    is_binary: bool = False,
) -> sql.Composed:
    """The published rows of one source table, its used columns in attribute order unless `columns` says otherwise.

    ONLY keeps inheritance children out, as the publication does; a partitioned table is read through its root (G9), or
    leaf by leaf, `relation` naming one.
    """
    names = copied_columns(plan) if columns is None else columns
    return sql.SQL("COPY (SELECT {} FROM {}{}{}) TO STDOUT{}").format(
        sql.SQL(", ").join(map(source_value, names)) if names else sql.SQL(""),
        sql.SQL("" if plan.is_partitioned and relation is None else "ONLY "),
        table(plan.source if relation is None else relation),
        sql.SQL("") if only_rows is None else sql.SQL(" WHERE ") + only_rows,
        _binary(is_binary),
    )


def _binary(is_binary: bool) -> sql.SQL:
    return sql.SQL(" (FORMAT binary)" if is_binary else "")


def in_range(column: str, lower: int | None, upper: int | None) -> sql.Composable | None:
    """Rows whose `column` is in [lower, upper); for "ctid" the bounds are page numbers. None: every row."""
    is_page = column == "ctid"
    terms: list[sql.Composable] = [
        sql.SQL("{} {} {}").format(
            sql.Identifier(column),
            sql.SQL(operator),
            sql.SQL(f"'({bound},0)'::tid" if is_page else f"{bound}"),  # a number we made
        )
        for operator, bound in ((">=", lower), ("<", upper))
        if bound is not None
    ]
    return sql.SQL(" AND ").join(terms) if terms else None


def in_ranges(column: str, ranges: Iterable[tuple[int | None, int | None]]) -> sql.Composable | None:
    """Rows whose `column` is in one of them. None: every row."""
    terms = [in_range(column, lower, upper) for lower, upper in ranges]
    if None in terms:
        return None
    return sql.SQL("({})").format(sql.SQL(" OR ").join(filter(None, terms)))


def among(columns: Sequence[Column], keys: Sequence[Sequence[str]]) -> sql.Composable:
    """Rows whose `columns` together are one of `keys`, texts of their values."""
    arrays = [
        sql.SQL("pg_catalog.unnest({}::text[]::" + column.type_name + "[])").format(
            sql.Literal([key[at] for key in keys])
        )
        for at, column in enumerate(columns)
    ]
    names = [sql.Identifier(f"k{at}") for at in range(len(columns))]
    return sql.SQL("({}) IN (SELECT {} FROM ROWS FROM ({}) AS k ({}))").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        sql.SQL(", ").join(names),
        sql.SQL(", ").join(arrays),
        sql.SQL(", ").join(names),
    )


def both(first: sql.Composable, second: sql.Composable | None) -> sql.Composable:
    """Rows for which the one and, where there is one, the other holds."""
    return first if second is None else sql.SQL("{} AND {}").format(first, second)


def only(plan: TablePlan, rows: sql.Composable | None) -> sql.Composable | None:
    """`rows`, and of them only what the table's condition takes, where the source would come to the same result."""
    if plan.where is None or not plan.where.is_portable:
        return rows
    taken = sql.SQL("(" + plan.where.sql + ")")
    return taken if rows is None else sql.SQL(" AND ").join((rows, taken))


def is_empty(name: sql.Identifier) -> sql.Composed:
    """One row, one boolean."""
    return sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(name)


def count(name: TableName) -> sql.Composed:
    """One row, one number."""
    return sql.SQL("SELECT count(*) FROM {}").format(table(name))


def owner_ids(keyspace: Keyspace) -> sql.Composed:
    """Every key of the table a keyspace is declared on."""
    return sql.SQL("SELECT {}::text FROM {}").format(source_value(keyspace.column), table(keyspace.owner))


def source_value(column: str, *qualifier: str) -> sql.Composable:
    """A column of a source row; several that are one (`mapping/compound`) as the text that they are together."""
    parts = [sql.Identifier(*qualifier, part) for part in parts_of(column)]
    if len(parts) == 1:
        return parts[0]
    # As `wire/widen` makes it of the stream's rows.
    return sql.SQL("CASE WHEN {} THEN pg_catalog.json_build_array({})::text END").format(
        sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(part) for part in parts),
        sql.SQL(", ").join(sql.SQL("{}::text").format(part) for part in parts),
    )


def lock(name: TableName, *, is_partitioned: bool) -> sql.Composed:
    """ACCESS SHARE on what COPY is going to read."""
    return sql.SQL("LOCK TABLE {}{} IN ACCESS SHARE MODE").format(
        sql.SQL("" if is_partitioned else "ONLY "), table(name)
    )


def copied_columns(plan: TablePlan) -> tuple[str, ...]:
    """The one list both the copy and the stream read rows by (G15)."""
    return tuple(column.name for column in plan.source_columns if column.name in plan.used)


def copy_in(plan: TablePlan, *, is_binary: bool = False) -> sql.Composed:
    """COPY writes GENERATED ALWAYS identity columns as they come (sql-copy, Notes)."""
    return sql.SQL("COPY {} ({}) FROM STDIN{}").format(
        table(plan.target),
        sql.SQL(", ").join(sql.Identifier(column.target.name) for column in plan.columns),
        _binary(is_binary),
    )


def create_id_table(keyspace: Keyspace) -> sql.Composed:
    """The kept map; types come from the compiler, never from the user's text. Nothing searches by the new ids, and an
    index over them would double the cost of writing (decision 0011)."""
    return sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} (old "
        + keyspace.old_type
        + " PRIMARY KEY, new "
        + keyspace.new_type
        + " NOT NULL)"
    ).format(id_table(keyspace.name))


def id_table_types(keyspace: Keyspace) -> sql.Composed:
    """Name and type, without its length and a domain's own type, of each column that the map has; none without it."""
    return sql.SQL(
        "SELECT a.attname, pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)"
        " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
        " WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped"
    ).format(sql.Literal(id_table(keyspace.name).as_string(None)))


def id_constraints(keyspace: str) -> dict[str, sql.Composed]:
    """What `create_id_table` declares, to be added later, by pg_constraint.contype."""
    return {"p": sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (old)").format(id_table(keyspace))}


def drop_constraint(name: sql.Identifier, constraint: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(constraint))


def draw_ids(keyspace: Keyspace) -> bytes:
    """One row for each new id of a sequence. One parameter: how many."""
    assert keyspace.taken_from is not None
    sequence = sql.Literal(sql.Identifier(*keyspace.taken_from).as_string(None))
    return _text(
        sql.SQL("SELECT pg_catalog.nextval("),
        sequence,
        sql.SQL("::pg_catalog.regclass)::text FROM pg_catalog.generate_series(1, $1::text::int8)"),
    )


def look_up_entries(keyspace: Keyspace) -> bytes:
    """Old and new ids of a table somebody filled. One parameter: the old ids as text[]."""
    assert keyspace.taken_from is not None
    return _text(
        sql.SQL("SELECT old::text, new::text FROM "),
        table(keyspace.taken_from),
        sql.SQL(" WHERE old = ANY ($1::text[]::" + keyspace.old_type + "[])"),
    )
