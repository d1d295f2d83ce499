"""What a part asks of the source, as SQL."""

from __future__ import annotations

import pytest

from crossfade import statements
from crossfade.catalog import TableName
from tests.unit.copy.test_phases import plan


@pytest.mark.parametrize(
    ("column", "lower", "upper", "condition"),
    [
        ("ctid", None, 7, "\"ctid\" < '(7,0)'::tid"),
        ("ctid", 7, 9, "\"ctid\" >= '(7,0)'::tid AND \"ctid\" < '(9,0)'::tid"),
        ("ctid", 9, None, "\"ctid\" >= '(9,0)'::tid"),
        ('i"d', -5, 0, '"i""d" >= -5 AND "i""d" < 0'),
    ],
)
def test_a_part_selects_its_range(column: str, lower: int | None, upper: int | None, condition: str) -> None:
    only = statements.in_range(column, lower, upper)
    made = statements.copy_out(plan("t"), columns=("b", "a"), only_rows=only, is_binary=True)
    assert made.as_string(None) == (
        f'COPY (SELECT "b", "a" FROM ONLY "app"."t" WHERE {condition}) TO STDOUT (FORMAT binary)'
    )


def test_without_bounds_there_is_no_condition() -> None:
    assert statements.in_range("ctid", None, None) is None
    made = statements.copy_out(plan("t"), columns=("a",), relation=TableName("app", "leaf"))
    assert made.as_string(None) == 'COPY (SELECT "a" FROM ONLY "app"."leaf") TO STDOUT'
