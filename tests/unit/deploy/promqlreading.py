"""PromQL as the tests look at it: which series an expression names, inside which function, and which labels it leaves.

Parsed by promql-parser, which knows functions, their arguments and types as Prometheus does; what it refuses is a
ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import promql_parser as promql

from tests.unit.deploy.test_alerts import registry

_HOW: Final = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
_KEEPING: Final = {"topk", "bottomk"}  # aggregations that keep labels as they are


@dataclass(frozen=True, slots=True)
class Selector:
    """A series as an expression names it; `function` is what is called on its range, if it has one."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    function: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an expression is made of."""

    selectors: tuple[Selector, ...]
    groupings: frozenset[str]


def read(expr: str) -> Parsed:
    """Raises ValueError for what is no PromQL."""
    groupings: set[str] = set()
    selectors = tuple(_selectors(promql.parse(expr), "", groupings))
    return Parsed(selectors, frozenset(groupings))


def _selectors(node: promql.Expr, function: str, groupings: set[str]) -> Iterator[Selector]:
    match node:
        case promql.VectorSelector():
            matchers = tuple(
                (one.name, _HOW[str(one.op).removeprefix("MatchOp.")], one.value) for one in node.matchers.matchers
            )
            yield Selector(node.name or "", matchers, function)
        case promql.MatrixSelector():
            yield from _selectors(node.vector_selector, function, groupings)
        case promql.Call():
            for argument in node.args:
                yield from _selectors(argument, node.func.name, groupings)
        case promql.AggregateExpr():
            groupings.update(node.modifier.labels if node.modifier else ())
            yield from _selectors(node.expr, "", groupings)
        case promql.BinaryExpr():
            if node.modifier is not None:
                groupings.update(node.modifier.matching.labels if node.modifier.matching else ())
                groupings.update(node.modifier.group_labels or ())
            yield from _selectors(node.lhs, "", groupings)
            yield from _selectors(node.rhs, "", groupings)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selectors(node.expr, "", groupings)


def left(expr: str) -> set[str] | None:
    """The labels an expression's result carries at most; None where that cannot be told from the expression alone."""
    return _left(promql.parse(expr))


def _left(node: promql.Expr) -> set[str] | None:
    match node:
        case promql.AggregateExpr():
            if str(node.op) in _KEEPING:
                return _left(node.expr)
            return set(node.modifier.labels) if node.modifier else set()
        case promql.BinaryExpr():
            found = _left(node.rhs if isinstance(node.lhs, promql.NumberLiteral) else node.lhs)
            extra = node.modifier.group_labels if node.modifier else None
            return None if found is None else found | set(extra or ())
        case promql.ParenExpr() | promql.UnaryExpr():
            return _left(node.expr)
        case promql.Call() if node.func.name == "histogram_quantile":
            found = _left(node.args[-1])
            return None if found is None else found - {"le"}
    return None


def labels_of(metric: str) -> set[str]:
    """Those a metric of ours is scraped with."""
    return registry()[metric] | {"job", "instance"}
