"""Merging two sorted streams: nothing lost, nothing counted twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossfade.demo.compare import Comparison, ForeignKeyResult, Line, MapResult, TableResult, merge

keys = st.lists(st.text(alphabet="ab.é😀", max_size=3)).map(sorted)


@given(keys, keys)
def test_every_line_comes_once_and_equal_keys_come_together(left: list[str], right: list[str]) -> None:
    pairs = list(merge([Line(key, "", 1) for key in left], [Line(key, "", 1) for key in right]))
    assert [one.key for one, _ in pairs if one is not None] == left
    assert [other.key for _, other in pairs if other is not None] == right
    together = Counter(one.key for one, other in pairs if one is not None and other is not None)
    assert together == Counter(left) & Counter(right)
    assert all(one.key == other.key for one, other in pairs if one is not None and other is not None)


def _result(**given: int) -> TableResult:
    numbers = {"source_rows": 5, "target_rows": 5, "equal": 5, "missing": 0, "extra": 0, "different": 0, **given}
    return TableResult("public.a", "app.a", **numbers)


def test_agreement_needs_rows_maps_and_foreign_keys() -> None:
    fine = _result()
    assert Comparison((fine,), (MapResult("id_a", 3, 0),), (ForeignKeyResult("a", "a_fkey", 0),)).agrees
    for spoiled in (_result(missing=1), _result(extra=1), _result(different=1)):
        assert not Comparison((fine, spoiled), (), ()).agrees
    assert not Comparison((fine,), (MapResult("id_a", 3, 1),), ()).agrees
    assert not Comparison((fine,), (), (ForeignKeyResult("a", "a_fkey", 1),)).agrees
