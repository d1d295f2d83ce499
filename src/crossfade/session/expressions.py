"""What the target says of the mapping's SQL: is it an expression, what does it read, is it volatile.

Each is made a CHECK constraint of a temporary table with the columns it is about, in a transaction that is rolled back:
there the server refuses subqueries, aggregates, window functions and sets by itself, and shows what it has parsed. The
text was read by `mapping/onesql` before, so the parentheses it is put between hold all of it. Refuses to judge what
follows (`mapping/expressions`). The invariant: nothing is left on the target, and no row of anybody's is looked at.

PostgreSQL: catalog-pg-constraint (conbin), catalog-pg-proc (provolatile), sql-createtable ("CHECK").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import psycopg
from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.expressions import Answer, Answers, Asked, Question
from crossfade.mapping.onesql import problem_of
from crossfade.session.connect import Connection

# The parsed expression: columns by number, functions and operators by oid. A stored operator may not have looked up its
# function yet. (The text of a constant is bytes, so none of these can stand inside one.)
_COLUMNS: Final = re.compile(r"\{VAR [^{}]*?:varattno (-?\d+)")
_FUNCTIONS: Final = re.compile(r":(?:funcid|opfuncid|aggfnoid) (\d+)")
_OPERATORS: Final = re.compile(r":opno (\d+)|:opnos \(o ([\d ]+)\)")
_COLLATIONS: Final = re.compile(r":inputcollid (\d+)")
_FIRST_NORMAL: Final = 16384  # objects that initdb made have lower oids

_PARSED: Final = (
    "SELECT conbin::text FROM pg_catalog.pg_constraint WHERE conrelid = 'pg_temp.\"the source row\"'::regclass"
    " AND conname = 'asked'"
)
_CALLED: Final = """
SELECT p.oid::regprocedure::text, p.provolatile::text, p.oid::bigint, p.proleakproof FROM pg_catalog.pg_proc p
WHERE p.oid = ANY (%(functions)s::oid[])
   OR p.oid IN (SELECT o.oprcode FROM pg_catalog.pg_operator o WHERE o.oid = ANY (%(operators)s::oid[]))
"""
# What has no function of its own, and is not the same whenever it is asked.
_NOT_IMMUTABLE: Final = ("{SQLVALUEFUNCTION", "{NEXTVALUEEXPR", "{COERCEVIAIO")
# What raises no error by itself, by its names in all versions; the functions in it are looked up. All of it may stand
# in a publication (sql-createpublication, "WHERE").
_NODES: Final = re.compile(r"\{([A-Z]+)")
_HARMLESS: Final = frozenset(
    {"VAR", "CONST", "OPEXPR", "DISTINCTEXPR", "NULLIFEXPR", "SCALARARRAYOPEXPR", "FUNCEXPR", "BOOLEXPR", "RELABELTYPE"}
    | {"CASE", "CASEEXPR", "WHEN", "CASEWHEN", "CASETESTEXPR", "ARRAY", "ARRAYEXPR", "COALESCE", "COALESCEEXPR"}
    | {"NULLTEST", "BOOLEANTEST"}
)


async def ask(connection: Connection, asked: Sequence[Asked]) -> Answers:
    """An answer to every question. The connection is outside any transaction, before and after."""
    answers: dict[Question, Answer] = {}
    by_columns: dict[tuple[Column, ...], list[Asked]] = {}
    for each in asked:
        by_columns.setdefault(each.columns, []).append(each)
    for columns, questions in by_columns.items():
        await connection.execute("BEGIN READ WRITE")
        try:
            texts = await _make_table(connection, columns, _ROW)
            for each in questions:
                answers[each.question] = await _answer(connection, each, columns, texts)
        except psycopg.errors.InsufficientPrivilege:
            problem = "our role may not make a temporary table on the target, where SQL is tried: GRANT TEMPORARY."
            answers.update((each.question, Answer(problem)) for each in questions)
        finally:
            await connection.execute("ROLLBACK")
    return answers


async def _make_table(connection: Connection, columns: Sequence[Column], name: sql.Identifier) -> frozenset[str]:
    """A temporary table of the columns; returns those whose type the target does not know: they are texts there."""
    cursor = await connection.execute(
        "SELECT n FROM unnest(%s::text[]) AS n WHERE to_regtype(n) IS NOT NULL",
        (sorted({column.base_type for column in columns}),),
    )
    known = {str(row[0]) for row in await cursor.fetchall()}
    texts = frozenset(column.name for column in columns if column.base_type not in known)
    listed = sql.SQL(", ").join(
        sql.Identifier(column.name) + sql.SQL(" text" if column.name in texts else f" {column.type_name}")
        for column in columns
    )
    await connection.execute(sql.SQL("CREATE TEMPORARY TABLE {} (").format(name) + listed + sql.SQL(") ON COMMIT DROP"))
    return texts


_ROW: Final = sql.Identifier("the source row")
_BACK: Final = sql.Identifier("the way back")


async def _answer(connection: Connection, asked: Asked, columns: Sequence[Column], texts: frozenset[str]) -> Answer:
    question = asked.question
    assert not problem_of(question.sql), "it could close our parentheses"
    expression = sql.SQL("(" + question.sql + ")")
    await connection.execute("SAVEPOINT asked")
    try:
        await connection.execute(
            sql.SQL("ALTER TABLE pg_temp.{} ADD CONSTRAINT asked CHECK (").format(_ROW)
            + expression
            + sql.SQL(" IS NULL)")
        )
        cursor = await connection.execute(_PARSED)
        row = await cursor.fetchone()
        await _assign(connection, question, expression)
        answer = await _understood(connection, str(row[0]) if row is not None else "", columns, texts)
        if asked.gives:
            answer = await _given_back(connection, expression, asked.gives, answer)
    except psycopg.errors.InsufficientPrivilege:
        raise
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        # Nobody's row is in these words: there is none. What they quote stands in the mapping file.
        words = (error.diag.message_primary or "").rstrip(".")
        answer = Answer(f"the target says: {words}.")
    await connection.execute("ROLLBACK TO SAVEPOINT asked")
    return answer


async def _assign(connection: Connection, question: Question, expression: sql.Composable) -> None:
    """Have the server parse, and no more, what is done with the value."""
    if question.target is None:
        return
    if not question.column:
        query = sql.SQL("SELECT FROM pg_temp.{} WHERE ").format(_ROW) + expression
    else:
        query = (
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT ").format(
                sql.Identifier(*question.target), sql.Identifier(question.column)
            )
            + expression
            + sql.SQL(" FROM pg_temp.{}").format(_ROW)
        )
    await connection.execute(sql.SQL("PREPARE asked AS ") + query)
    await connection.execute("DEALLOCATE asked")


_NARROWS: Final = """
SELECT a.attname::text, pg_catalog.format_type(%(result)s, %(modifier)s),
       CASE WHEN a.atttypid <> %(result)s::oid AND coalesce(k.castcontext, 'i') <> 'i' THEN true
            ELSE a.atttypmod <> -1 AND a.atttypmod <> %(modifier)s END
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_cast k ON k.castsource = %(result)s::oid AND k.casttarget = a.atttypid
WHERE a.attrelid = 'pg_temp."the way back"'::regclass AND a.attnum > 0
"""


async def _given_back(
    connection: Connection, expression: sql.Composable, columns: Sequence[Column], answer: Answer
) -> Answer:
    """Of a way back: its type, and which source columns take a value of it, as an INSERT would."""
    texts = await _make_table(connection, columns, _BACK)
    value = sql.SQL("SELECT ") + expression + sql.SQL(" FROM pg_temp.{}").format(_ROW)  # which has no rows
    cursor = await connection.execute(value)
    assert cursor.pgresult is not None
    asked = {"result": cursor.pgresult.ftype(0), "modifier": cursor.pgresult.fmod(0)}
    cursor = await connection.execute(_NARROWS, asked)
    rows = await cursor.fetchall()
    unfit: dict[str, str] = {}
    for column in columns:
        if column.name in texts:
            continue  # what its type would say, the target cannot know
        await connection.execute("SAVEPOINT given")
        try:
            await connection.execute(
                sql.SQL("INSERT INTO pg_temp.{} ({}) ").format(_BACK, sql.Identifier(column.name)) + value
            )
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
            unfit[column.name] = (error.diag.message_primary or "").rstrip(".")
        await connection.execute("ROLLBACK TO SAVEPOINT given")
    return replace(
        answer,
        result=str(rows[0][1]) if rows else "",
        unfit=unfit,
        narrowed=frozenset(str(name) for name, _, narrows in rows if narrows and name not in texts),
    )


async def _understood(connection: Connection, parsed: str, columns: Sequence[Column], texts: frozenset[str]) -> Answer:
    numbers = {int(number) for number in _COLUMNS.findall(parsed)}
    if any(number < 1 for number in numbers):
        return Answer("it reads the row as a whole, or what only a table has: name the columns.")
    inputs = frozenset(columns[number - 1].name for number in numbers)
    functions = sorted({int(oid) for oid in _FUNCTIONS.findall(parsed)})
    operators = sorted({int(oid) for oid in _operators(parsed)})
    cursor = await connection.execute(_CALLED, {"functions": functions, "operators": operators})
    called = [(str(name), str(kind), int(str(oid)), bool(quiet)) for name, kind, oid, quiet in await cursor.fetchall()]
    volatile = next((name for name, kind, _, _ in called if kind == "v"), "")
    is_portable = (
        all(kind == "i" and oid < _FIRST_NORMAL for _, kind, oid, _ in called)
        and not any(node in parsed for node in _NOT_IMMUTABLE)
        and all(oid == "0" for oid in _COLLATIONS.findall(parsed))
        and inputs.isdisjoint(texts)
        and all(column.type_oid < _FIRST_NORMAL for column in columns if column.name in inputs)
    )
    # A function that is leakproof tells nothing of its arguments, not even by failing for some of them.
    cannot_fail = all(quiet for _, _, _, quiet in called) and _HARMLESS.issuperset(_NODES.findall(parsed))
    return Answer("", inputs, inputs & texts, volatile, is_portable, cannot_fail)


def _operators(parsed: str) -> Iterator[str]:
    for one, several in _OPERATORS.findall(parsed):
        yield from several.split() if several else (one,)
