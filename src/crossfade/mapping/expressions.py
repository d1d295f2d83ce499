"""SQL of the mapping file, judged: what the server says of each expression becomes part of the plan, or an error.

`questions` lists what must be asked of the target before the plan is compiled, `session/expressions` asks it. Refuses
to parse SQL (the server does that). The invariant: an expression in a plan is one expression of the server's own
grammar, reads source columns and nothing else, calls nothing volatile, and every input that may come without its value
is one that cannot, or its result is left alone when it does.

PostgreSQL: xfunc-volatility.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crossfade.catalog import Catalog, Column, ReplicaIdentity, TableName
from crossfade.mapping.collect import Collector, sql_name
from crossfade.mapping.compoundnames import is_compound
from crossfade.mapping.derived import Expression, Input
from crossfade.mapping.onesql import problem_of, words_of
from crossfade.mapping.pairs import Pair, pair_tables
from crossfade.mapping.places import Place
from crossfade.mapping.published import may_be_toasted, published_columns
from crossfade.mapping.rules import Sql
from crossfade.mapping.spec import Spec

_TEXT_OID: Final = 25


@dataclass(frozen=True, slots=True)
class Question:
    """One expression over the columns of `over` (of the source, or of the target for a way back).

    `target` and `column` are what it is to be assigned to; a condition has no column, a way back no table: it may be
    the value of one of the source columns in `gives`.
    """

    over: TableName
    sql: str
    target: TableName | None
    column: str
    gives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """`problem` is a sentence, '' when the server takes the expression. `inputs` are the columns it reads, `texts` the
    columns whose types the target does not know, `volatile` a function that may give anything each time it is asked.
    Of a way back, `result` is its type, `unfit` says in the server's words why it is no value of a source column, and
    `narrowed` are those that may round, cut or refuse it.
    """

    problem: str = ""
    inputs: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    volatile: str = ""
    is_portable: bool = False
    cannot_fail: bool = False
    result: str = ""
    unfit: Mapping[str, str] = field(default_factory=dict)
    narrowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the columns it is about, and those that `Question.gives` names."""

    question: Question
    columns: tuple[Column, ...]
    gives: tuple[Column, ...] = ()


Answers = Mapping[Question, Answer]


def questions(spec: Spec, source: Catalog, target: Catalog) -> list[Asked]:
    """Every expression of the mapping whose tables exist and which is one expression at all."""
    found: list[Asked] = []
    for pair in pair_tables(spec, source, target, Collector(spec)):  # what is wrong with them is told elsewhere
        if pair.spec is None:
            continue
        columns = published_columns(pair.source)
        if pair.spec.where is not None:
            found.append(Asked(_condition(pair), columns))
        for name, entry in pair.spec.columns.items():
            if isinstance(entry.rule, Sql):
                found.append(Asked(_up(pair, name, entry.rule), columns))
                if entry.rule.down is not None:
                    way_back = _down(pair, entry.rule)
                    given = tuple(column for column in columns if column.name in way_back.gives)
                    found.append(Asked(way_back, pair.target.columns, given))
    return [asked for asked in found if not problem_of(asked.question.sql)]


def _condition(pair: Pair) -> Question:
    assert pair.spec is not None
    assert pair.spec.where is not None
    return Question(pair.source.name, pair.spec.where.up, pair.target.name, "")


def _up(pair: Pair, name: str, rule: Sql) -> Question:
    return Question(pair.source.name, rule.up, pair.target.name, name)


def _down(pair: Pair, rule: Sql) -> Question:
    assert rule.down is not None
    words = words_of(rule.up)
    given = tuple(column.name for column in published_columns(pair.source) if column.name in words)
    return Question(pair.target.name, rule.down, None, "", given)


@dataclass(frozen=True, slots=True)
class Expressions:
    """What the server said; None where nobody asked it, and the inputs are whatever columns' names the text holds."""

    answers: Answers | None = field(default=None)

    def condition(self, pair: Pair, collect: Collector) -> Expression | None:
        """The row filter of a pair, if it has one."""
        if pair.spec is None or pair.spec.where is None:
            return None
        place = pair.spec.where.place
        found = self._judged(pair, _condition(pair), place, "where", collect)
        if found is not None:
            self._check_condition(pair, found, place, collect)
        return found

    def up(self, pair: Pair, target: Column, rule: Sql, place: Place, collect: Collector) -> Expression | None:
        """What a target column is computed by."""
        found = self._judged(pair, _up(pair, target.name, rule), place, target.name, collect)
        if found is None:
            return None
        if rule.down is not None:
            self._check_down(pair, rule, found, place, target.name, collect)
        wide = _unsent(pair, found)
        if wide and len(found.inputs) > 1:
            collect.error(
                "expression_unsent",
                place,
                f"{target.name} is made of {wide[0]} and other columns. {wide[0]} may be stored out of line; an UPDATE "
                "that leaves it alone does not send it, and the expression cannot be evaluated then.",
                f"On the source: ALTER TABLE {sql_name(pair.source.name)} REPLICA IDENTITY FULL;",
            )
        return dataclasses.replace(found, down=rule.down)

    def inputs(self, pair: Pair) -> frozenset[str]:
        """All source columns that expressions of the pair read."""
        if pair.spec is None:
            return frozenset()
        asked = [_up(pair, name, each.rule) for name, each in pair.spec.columns.items() if isinstance(each.rule, Sql)]
        if pair.spec.where is not None:
            asked.append(_condition(pair))
        known = frozenset(column.name for column in pair.source.columns)
        return frozenset[str]().union(*(self._answer(each).inputs for each in asked)) & known

    def _answer(self, question: Question) -> Answer:
        if self.answers is None:
            return Answer(inputs=words_of(question.sql))
        return self.answers.get(question, Answer(problem="it could not be examined"))

    def _judged(self, pair: Pair, question: Question, place: Place, what: str, collect: Collector) -> Expression | None:
        problem = problem_of(question.sql)
        if problem:
            collect.error("expression_refused", place, f"{what}: it {problem}.", "Write one SQL expression.")
            return None
        answer = self._answer(question)
        if answer.problem:
            collect.error(
                "expression_refused",
                place,
                f"{what}: {answer.problem}",
                f"Write an SQL expression over the columns of {pair.source.name}; the search path is pg_catalog alone, "
                "so functions and types of other schemas are named with their schema.",
            )
            return None
        if answer.volatile:
            collect.error(
                "expression_volatile",
                place,
                f"{what}: {answer.volatile} is volatile: it may give another value each time a row is looked at.",
                "Use what is immutable or stable, or let a default of the target column do it.",
            )
            return None
        inputs = [
            Input(column, _as_text(column) if column.name in answer.texts else column)
            for column in published_columns(pair.source)
            if column.name in answer.inputs
        ]
        if not inputs:
            collect.error(
                "expression_of_nothing",
                place,
                f"{what}: it reads no column of {pair.source.name}.",
                "Give the column a {const: …}, or a default on the target.",
            )
            return None
        is_known = self.answers is not None
        return Expression(
            question.sql,
            tuple(inputs),
            None,
            collect.at(place),
            is_portable=is_known and answer.is_portable,
            cannot_fail=is_known and answer.cannot_fail,
        )

    def _check_condition(self, pair: Pair, found: Expression, place: Place, collect: Collector) -> None:
        if pair.spec is not None and pair.spec.append_only:
            return
        wide = _unsent(pair, found)
        full = f"On the source: ALTER TABLE {sql_name(pair.source.name)} REPLICA IDENTITY FULL;"
        if wide:
            collect.error(
                "filter_unsent",
                place,
                f"where: {wide[0]} may be stored out of line; an UPDATE that leaves it alone does not send it, and "
                "whether the row is to be taken cannot be told then.",
                full,
            )
            return
        others = [
            column.name
            for column in published_columns(pair.source)
            if column.name not in found.names and may_be_toasted(column) and not is_compound(column.name)
        ]
        if others and pair.source.replica_identity is not ReplicaIdentity.FULL:
            collect.warning(
                "filter_incomplete_row",
                place,
                f"where: a row that starts to match by an UPDATE comes without long values that did not change "
                f"({others[0]}), and cannot be inserted then: the stream stops.",
                f"Nothing to do where such values stay under 2,000 bytes. {full}",
            )

    def _check_down(self, pair: Pair, rule: Sql, up: Expression, place: Place, name: str, collect: Collector) -> None:
        problem = problem_of(rule.down or "")
        answer = Answer()
        if problem:
            problem = f"it {problem}."
        else:
            answer = self._answer(_down(pair, rule))
            problem = answer.problem or (f"{answer.volatile} is volatile." if answer.volatile else "")
        given = up.gives_back(name)
        column = pair.source.column(given) if given is not None else None
        if column is None:
            collect.warning(
                "down_unclear",
                place,
                f"{name}: down: up reads {', '.join(sorted(up.names))}; which of them down is the value of cannot be "
                "told, and going back fills none of them.",
                "Compute the target column from one column of the source, or leave 'down' out.",
            )
        elif not problem and column.name in answer.unfit:
            problem = (
                f"it is {answer.result}, and goes back to {pair.source.name}.{column.name}, which is "
                f"{column.type_name}; the target says: {answer.unfit[column.name]}."
            )
        elif not problem and column.name in answer.narrowed:
            collect.warning(
                "down_narrowed",
                place,
                f"{name}: down: it is {answer.result}, and goes back to {pair.source.name}.{column.name}, which is "
                f"{column.type_name}: a value that does not fit would be rounded or refused then.",
                f"Cast it to {column.type_name}, if that is what is meant.",
            )
        if problem:
            collect.error(
                "expression_refused",
                place,
                f"{name}: down: {problem}",
                f"Write an SQL expression over the columns of {pair.target.name}, or leave 'down' out: going back then "
                "does not fill the source column.",
            )


def _unsent(pair: Pair, expression: Expression) -> list[str]:
    """Inputs that may come without their value."""
    if pair.source.replica_identity is ReplicaIdentity.FULL or (pair.spec is not None and pair.spec.append_only):
        return []
    return [each.source.name for each in expression.inputs if may_be_toasted(each.source)]


def _as_text(column: Column) -> Column:
    return dataclasses.replace(
        column, type_oid=_TEXT_OID, type_name="text", base_type="text", typmod=-1, type_kind="b", element_type_kind=""
    )
