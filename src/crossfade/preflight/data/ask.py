"""Puts the questions of `check --data` to the source, one after the other, until the time is up.

Read-only, one connection, one short transaction for each question, so that no snapshot is held longer than a question
takes. Refuses to judge. The invariant: what was not asked, not answered in time or refused by the server is in the
answers as that; a number is only ever one the source counted over the whole table.

PostgreSQL: runtime-config-client (`statement_timeout`), functions-info, catalog-pg-constraint, catalog-pg-index.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import args_row

from crossfade.catalog import TableName
from crossfade.preflight.data.asked import How, Question, Sized, Survey
from crossfade.preflight.data.clauses import Clause, ClauseKind
from crossfade.session.connect import Connection

SAMPLES: Final = 5
# Enough to tell one value from another, and no more of a document than a person wants to see.
_SHOWN: Final = 100
# What a table may keep us waiting for before its question counts as not answered; nobody queues behind us for longer.
_LOCK_PATIENCE: Final = "2s"
# Less is not worth a statement.
_LEAST_SECONDS: Final = 0.05

Sample = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """To one question. `rows` is None when it was not answered, and `why` then says what kept it.

    `samples` are keys of such rows as (column, text) pairs; with values, if those were asked for.
    """

    survey: Survey
    question: Question
    rows: int | None
    samples: tuple[Sample, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Size:
    """The largest value of a source column, in bytes as stored or sent (None: no row, or not answered)."""

    survey: Survey
    sized: Sized
    largest: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything asked. `rows` has how many rows of each source go into each target; `seconds` is how long it took."""

    answers: tuple[Answer, ...]
    sizes: tuple[Size, ...]
    rows: dict[tuple[TableName, TableName], int]
    seconds: float


LOST: Final = "the connection to the source was lost"
GAVE_WAY: Final = "somebody queued for a lock behind it"
LOCKED: Final = "somebody holds a lock on the table"
TIME_IS_UP: Final = "the time for --data was up"
# What is no single question's fault, so that asking them one by one would not help.
_OF_NO_ONE: Final = frozenset({LOST, LOCKED, TIME_IS_UP, GAVE_WAY})


class Asker:
    """Asks on one connection until `seconds` have passed."""

    def __init__(self, connection: Connection, *, seconds: float, show_values: bool) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds
        self._began = time.monotonic()
        self._show_values = show_values
        self._answers: list[Answer] = []
        self._sizes: list[Size] = []
        self._rows: dict[tuple[TableName, TableName], int] = {}
        self._gives_way = False
        self._gave_up = False

    @property
    def pid(self) -> int:
        """Our session on the source, for whoever looks who waits for it."""
        return self._connection.info.backend_pid

    def give_way(self) -> None:
        """The statement that runs is about to be cancelled, for somebody waits behind its lock."""
        self._gives_way = True

    def give_up(self) -> None:
        """Nobody looks any more who waits for us: ask nothing further."""
        self._gave_up = True

    async def ask(self, surveys: Sequence[Survey]) -> Answers:
        """All of it, in the order given; what is cheap for a table before what is dear for any."""
        for survey in surveys:
            await self._in_passing(survey)
        for survey in surveys:
            for question in survey.questions:
                if question.how is not How.IN_PASSING:
                    await self._alone(survey, question)
        return Answers(tuple(self._answers), tuple(self._sizes), self._rows, time.monotonic() - self._began)

    async def _in_passing(self, survey: Survey) -> None:
        """Count everything that one reading of the table can count."""
        questions = [question for question in survey.questions if question.how is How.IN_PASSING]
        if not questions and not survey.sized:
            return
        counts = [sql.SQL("count(*) FILTER (WHERE {})").format(question.where) for question in questions]
        sizes = [_largest(each) for each in survey.sized]
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join([sql.SQL("count(*)"), *counts, *sizes]), survey.rows
        )
        row, why = await self._row(query)
        if row is None and why not in _OF_NO_ONE and len(questions) + len(sizes) > 1:
            # One of them the server could not evaluate: which one?
            for question in questions:
                await self._alone(survey, question)
            for each in survey.sized:
                row, why = await self._row(sql.SQL("SELECT {} FROM {}").format(_largest(each), survey.rows))
                self._sizes.append(Size(survey, each, _number(row, 0), why))
            return
        if row is not None:
            self._rows[survey.source, survey.target] = _number(row, 0) or 0
        for at, question in enumerate(questions, 1):
            await self._answered(survey, question, _number(row, at), why)
        for at, each in enumerate(survey.sized, 1 + len(questions)):
            self._sizes.append(Size(survey, each, _number(row, at), why))

    async def _alone(self, survey: Survey, question: Question) -> None:
        if question.how is How.GROUPS:
            query = sql.SQL(
                "SELECT coalesce(sum(g.rows), 0)::int8 FROM (SELECT count(*) AS rows FROM {} WHERE {} GROUP BY {}"
                " HAVING count(*) > 1) AS g"
            ).format(survey.rows, question.where, sql.SQL(", ").join(question.group))
        else:
            query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(survey.rows, question.where)
        row, why = await self._row(query)
        await self._answered(survey, question, _number(row, 0), why)

    async def _answered(self, survey: Survey, question: Question, rows: int | None, why: str) -> None:
        samples = await self._samples(survey, question) if rows else ()
        self._answers.append(Answer(survey, question, rows, samples, why))

    async def _samples(self, survey: Survey, question: Question) -> tuple[Sample, ...]:
        """Keys of a few of the rows; none when there is no time left for them."""
        names = list(survey.key)
        if self._show_values:
            names += [name for name in question.columns if name not in names]
        shown = sql.SQL(", ").join(
            sql.SQL("coalesce(pg_catalog.left(s.{}::text, {}), 'NULL')").format(
                sql.Identifier(name), sql.Literal(_SHOWN)
            )
            for name in names
        )
        if question.how is How.GROUPS:
            # The rows of one group stand together, so that a person sees who shares with whom.
            query = sql.SQL(
                "SELECT {0} FROM {1} WHERE {2} AND ({3}) IN (SELECT {3} FROM {1} WHERE {2} GROUP BY {3}"
                " HAVING count(*) > 1 LIMIT {4}) ORDER BY {3} LIMIT {4}"
            ).format(shown, survey.rows, question.where, sql.SQL(", ").join(question.group), sql.Literal(SAMPLES))
        else:
            query = sql.SQL("SELECT {} FROM {} WHERE {} LIMIT {}").format(
                shown, survey.rows, question.where, sql.Literal(SAMPLES)
            )
        found, _ = await self._fetch(query)
        return tuple(tuple(zip(names, map(str, row), strict=True)) for row in found or ())

    async def _row(self, query: sql.Composed) -> tuple[tuple[object, ...] | None, str]:
        found, why = await self._fetch(query)
        return (found[0] if found else None), why

    def _is_lost(self) -> bool:
        return self._connection.closed or self._gave_up

    async def _fetch(self, query: sql.Composed) -> tuple[list[tuple[object, ...]] | None, str]:
        if self._is_lost():
            return None, LOST
        left = self._until - time.monotonic()
        if left < _LEAST_SECONDS:
            return None, TIME_IS_UP
        self._gives_way = False  # of a statement that ended by itself before it was cancelled
        try:
            async with self._connection.transaction():
                await self._connection.execute(
                    "SELECT pg_catalog.set_config('statement_timeout', %s, true),"
                    " pg_catalog.set_config('lock_timeout', %s, true)",
                    (f"{int(left * 1000)}ms", _LOCK_PATIENCE),
                )
                cursor = await self._connection.execute(query)
                return await cursor.fetchall(), ""
        except psycopg.errors.QueryCanceled:
            return None, GAVE_WAY if self._gives_way else TIME_IS_UP
        except psycopg.errors.LockNotAvailable:
            return None, LOCKED
        except psycopg.Error as error:
            if self._is_lost():
                return None, LOST
            # The text may hold values of rows.
            return None, f"the source could not evaluate it (SQLSTATE {error.sqlstate})"


def _largest(sized: Sized) -> sql.Composed:
    return sql.SQL("max({}(s.{}))::int8").format(
        sql.Identifier("pg_catalog", sized.measure), sql.Identifier(sized.column)
    )


def _number(row: tuple[object, ...] | None, at: int) -> int | None:
    value = row[at] if row is not None else None
    return None if value is None else int(str(value))


async def clauses(connection: Connection, roots: Sequence[int]) -> tuple[Clause, ...]:
    """What the target tables of these oids demand in SQL of their own."""
    found: list[Clause] = []
    for query in (_CHECKS, _INDEXES, _PARTITIONS):
        cursor = connection.cursor(row_factory=args_row(_clause))
        await cursor.execute(query, {"oids": list(roots)})
        found += await cursor.fetchall()
    return tuple(found)


def _clause(kind: str, schema: str, table: str, name: str, *fields: Any) -> Clause:
    texts, predicate, columns, is_portable = fields
    return Clause(
        TableName(schema, table),
        name,
        ClauseKind(kind),
        tuple(text or "true" for text in texts),
        predicate or "",
        tuple(columns),
        bool(is_portable),
    )


def _portable(tree: str, catalog: str, oid: str) -> str:
    """SQL that tells whether the source may evaluate an expression of the target: `tree` is its node tree's text, and
    it belongs to the object `oid` of that catalog.

    Which functions it calls, only the tree says: the server records no dependency on its own ones. A volatile one could
    do anything on the source; one of the target's own would not be there, or be another.
    """
    return rf"""NOT EXISTS (SELECT FROM pg_catalog.regexp_matches({tree}, ':(?:op)?funcid (\d+)', 'g') AS f(id)
                       JOIN pg_catalog.pg_proc p ON p.oid = f.id[1]::oid
                       WHERE p.provolatile = 'v' OR p.pronamespace <> 'pg_catalog'::regnamespace)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                           WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = {oid}
                             AND d.refclassid IN ('pg_catalog.pg_type'::regclass, 'pg_catalog.pg_proc'::regclass,
                                                  'pg_catalog.pg_operator'::regclass))"""


_CHECKS: Final = (
    r"""
    SELECT 'check', n.nspname::text, c.relname::text, k.conname::text,
           ARRAY[pg_catalog.pg_get_expr(k.conbin, k.conrelid)], NULL,
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)),
           k.conkey IS NOT NULL
           AND """
    + _portable("k.conbin::text", "pg_constraint", "k.oid")
    + r"""
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'c' AND k.conrelid = ANY (%(oids)s::oid[])
      AND (pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean IS NOT FALSE
    ORDER BY 2, 3, 4
    """
)

_INDEXES: Final = (
    r"""
    SELECT 'unique', n.nspname::text, c.relname::text, i.relname::text,
           ARRAY(SELECT pg_catalog.pg_get_indexdef(x.indexrelid, place.n, false)
                 FROM pg_catalog.generate_series(1, x.indnkeyatts) AS place(n) ORDER BY place.n),
           pg_catalog.pg_get_expr(x.indpred, x.indrelid),
           ARRAY(SELECT DISTINCT a.attname::text FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = x.indexrelid
                   AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = x.indrelid),
           """
    + _portable("coalesce(x.indexprs::text, '') || coalesce(x.indpred::text, '')", "pg_class", "x.indexrelid")
    + r"""
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE x.indrelid = ANY (%(oids)s::oid[]) AND x.indisunique AND x.indisvalid
      AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)
    ORDER BY 2, 3, 4
    """
)

# Hash partitions take every row between them (unless one is missing, which nobody makes on purpose), and their
# condition holds the oid of the target's table.
_PARTITIONS: Final = """
    WITH RECURSIVE tree(root, member) AS (
        SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(oids)s::oid[]) AND c.relkind = 'p'
        UNION ALL
        SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.member
    )
    SELECT 'partitions', n.nspname::text, c.relname::text, '',
           ARRAY(SELECT coalesce(pg_catalog.pg_get_partition_constraintdef(l.oid), 'true')
                 FROM tree t JOIN pg_catalog.pg_class l ON l.oid = t.member AND l.relkind <> 'p' WHERE t.root = c.oid),
           NULL,
           ARRAY(SELECT DISTINCT a.attname::text FROM tree t
                 JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = t.member
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
                 WHERE t.root = c.oid),
           NOT EXISTS (SELECT FROM tree t JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = t.member
                       WHERE t.root = c.oid AND (p.partexprs IS NOT NULL OR p.partstrat = 'h'))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(oids)s::oid[]) AND c.relkind = 'p'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p
                      WHERE p.partrelid = c.oid AND (p.partdefid <> 0 OR p.partstrat = 'h'))
    ORDER BY 2, 3
    """
