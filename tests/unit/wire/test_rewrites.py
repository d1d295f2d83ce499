"""Value maps and conversions of single values: both forms, and what has no answer is refused without being named."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import Column
from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import ColumnPlan, Rule
from crossfade.mapping.rules import Conversion, Convert, Otherwise, ValueMap, Within
from crossfade.pgoutput.messages import Form
from crossfade.wire.rewrites import Rewrite, rewriter, text_only
from tests.unit.mapping.builders import table, with_oids


def typed(name: str, kind: str) -> Column:
    made = with_oids(table("public.t", f"{name} {kind}")).columns[0]
    return dataclasses.replace(made, labels=("sad", "glad") if "<e>" in kind else ())


def planned(source: str, target: str, rule: Rule) -> ColumnPlan:
    return ColumnPlan(typed("b", target), typed("a", source), rule)


def both(source: str, target: str, rule: Rule) -> tuple[Rewrite, Rewrite]:
    made = planned(source, target, rule)
    assert text_only(made) == ""
    found = rewriter(made, Form.TEXT), rewriter(made, Form.BINARY)
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def test_a_value_map_in_both_forms() -> None:
    text, binary = both("int", "<e>mood", ValueMap((("1", "glad"), ("-2", None)), Otherwise.ERROR))
    assert (text(b"1"), text(b"-2")) == (b"glad", None)
    assert (binary((1).to_bytes(4, "big")), binary((-2).to_bytes(4, "big", signed=True))) == (b"glad", None)
    for unknown in (lambda: text(b"77"), lambda: binary((77).to_bytes(4, "big"))):
        with pytest.raises(RowRefused) as refused:
            unknown()
        assert "77" not in str(refused.value)


@pytest.mark.parametrize(
    ("otherwise", "default", "expected"), [(Otherwise.NULL, None, None), (Otherwise.CONST, "7", (b"7", b"\0\0\0\7"))]
)
def test_what_becomes_of_other_values(
    otherwise: Otherwise, default: str | None, expected: tuple[bytes, bytes] | None
) -> None:
    text, binary = both("<e>mood", "int", ValueMap((("sad", "1"),), otherwise, default))
    assert (text(b"glad"), binary(b"glad")) == (expected or (None, None))
    assert (text(b"sad"), binary(b"sad")) == (b"1", b"\0\0\0\1")


@pytest.mark.parametrize(
    ("source", "target", "rule", "why"),
    [
        ("numeric(3,0)", "text", ValueMap((("1", "a"),), Otherwise.ERROR), "its value map's keys"),
        ("int", "timestamptz", ValueMap((("1", "now"),), Otherwise.ERROR), "its value map's values"),
        ("int", "timestamptz", ValueMap((("1", None),), Otherwise.CONST, "now"), "its value map's values"),
        ("numeric(3,0)", "boolean", Convert(Conversion.TRUTH), "numeric(3,0) becomes boolean"),
        ("numeric", "int", Convert(Conversion.ROUNDED, is_lossy=True), "numeric becomes integer"),
        ("numeric", "float8", Convert(Conversion.BY_TARGET, is_lossy=True), "numeric becomes double precision"),
        ("char(3)", "text", ValueMap((("a  ", "b"),), Otherwise.ERROR), "its value map's keys"),
    ],
)
def test_what_keeps_a_stream_in_text(source: str, target: str, rule: Rule, why: str) -> None:
    assert why in text_only(planned(source, target, rule))


@pytest.mark.parametrize("width", [2, 4, 8])
def test_numbers_and_booleans(width: int) -> None:
    kind = {2: "int2", 4: "int4", 8: "int8"}[width]
    text, binary = both(kind, "boolean", Convert(Conversion.TRUTH))
    assert [text(b"0"), text(b"1")] == [b"f", b"t"]
    assert [binary(n.to_bytes(width, "big")) for n in (0, 1)] == [b"\0", b"\1"]
    for other in (2, -1):
        with pytest.raises(RowRefused):
            text(b"%d" % other)
        with pytest.raises(RowRefused):
            binary(other.to_bytes(width, "big", signed=True))
    text, binary = both(kind, "boolean", Convert(Conversion.TRUTH, is_lossy=True))
    assert text(b"-5") == b"t"
    assert binary((-5).to_bytes(width, "big", signed=True)) == b"\1"
    text, binary = both("boolean", kind, Convert(Conversion.NUMBER))
    assert [text(b"f"), text(b"t")] == [b"0", b"1"]
    assert [binary(b"\0"), binary(b"\1")] == [n.to_bytes(width, "big") for n in (0, 1)]


def test_a_boolean_as_a_word() -> None:
    text, binary = both("boolean", "varchar(5)", Convert(Conversion.WORD))
    assert [text(b"t"), text(b"f"), binary(b"\1"), binary(b"\0")] == [b"true", b"false", b"true", b"false"]
    with pytest.raises(ProtocolViolation):
        text(b"yes")


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.booleans())  # noqa: DTZ001  # local times
def test_a_timestamp_s_day(moment: datetime, is_lossy: bool) -> None:
    text, binary = both("timestamp", "date", Convert(Conversion.DAY, is_lossy=is_lossy))
    micros = (moment.replace(tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    shown = str(moment).rstrip("0") if moment.microsecond else str(moment)
    day = moment.toordinal() - datetime(2000, 1, 1).toordinal()  # noqa: DTZ001
    cells = (shown.encode(), micros.to_bytes(8, "big", signed=True))
    if is_lossy or moment.time() == datetime.min.time():
        assert text(cells[0]) == str(moment.date()).encode()
        assert binary(cells[1]) == day.to_bytes(4, "big", signed=True)
    else:
        for one, cell in zip((text, binary), cells, strict=True):
            with pytest.raises(RowRefused):
                one(cell)


def test_F6_days_at_the_ends_of_time() -> None:
    text, binary = both("timestamp", "date", Convert(Conversion.DAY))
    assert text(b"infinity") == b"infinity"
    assert binary((2**63 - 1).to_bytes(8, "big")) == (2**31 - 1).to_bytes(4, "big")
    assert binary((-(2**63)).to_bytes(8, "big", signed=True)) == (-(2**31)).to_bytes(4, "big", signed=True)
    assert text(b"4713-01-01 00:00:00 BC") == b"4713-01-01 BC"
    assert text(b"294276-12-31 00:00:00") == b"294276-12-31"
    with pytest.raises(ProtocolViolation):
        text(b"01/02/2024 00:00:00")


@pytest.mark.parametrize(
    ("text", "away", "even"),
    [
        (b"2.5", b"3", b"2"), (b"-2.5", b"-3", b"-2"), (b"0.49999", b"0", b"0"), (b"-0.4", b"0", b"0"),
        (b"1e+20", b"1" + 20 * b"0", b"1" + 20 * b"0"), (b"12345678901234567890.5",) + 2 * (None,), (b"-0", b"0", b"0"),
        (b"1e-300", b"0", b"0"),
    ],
)  # fmt: skip
def test_rounding(text: bytes, away: bytes | None, even: bytes | None) -> None:
    up = rewriter(planned("numeric", "int8", Convert(Conversion.ROUNDED, is_lossy=True)), Form.TEXT)
    half = rewriter(planned("float8", "int8", Convert(Conversion.ROUNDED_EVEN, is_lossy=True)), Form.TEXT)
    assert up is not None
    assert half is not None
    assert up(text) == (b"12345678901234567891" if away is None else away)
    assert half(text) == (b"12345678901234567890" if even is None else even)


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1" + 131_071 * b"0"])
def test_what_no_integer_is_near(text: bytes) -> None:
    up = rewriter(planned("numeric", "int8", Convert(Conversion.ROUNDED, is_lossy=True)), Form.TEXT)
    assert up is not None
    with pytest.raises(RowRefused):
        up(text)


def test_texts_are_cut_by_characters() -> None:
    text, binary = both("text", "varchar(3)", Convert(Conversion.CUT, is_lossy=True, limit=3))
    for one in (text, binary):
        assert one("äöüß".encode()) == "äöü".encode()
        assert one(b"a  b") == b"a  "
        assert one(b"abc") == b"abc"
    text, binary = both("char(5)", "text", Convert(Conversion.UNPADDED, is_lossy=True))
    assert text(b"ab   ") == binary(b"ab   ") == b"ab"
    text, _ = both("char(5)", "varchar(1)", Convert(Conversion.UNPADDED, is_lossy=True, limit=1))
    assert text(b"ab   ") == b"a"


def test_other_rules_are_none_of_its_business() -> None:
    made = planned("numeric", "float8", Convert(Conversion.BY_TARGET, is_lossy=True))
    assert rewriter(made, Form.TEXT) is None


@pytest.mark.parametrize(("lower", "upper"), [(None, 100), (-5, None), (-5, 100)])
def test_a_number_is_taken_within_its_bounds_alone(lower: int | None, upper: int | None) -> None:
    """The lower bound is the source's own, the upper one belongs to the next."""
    text, binary = both("int", "int8", Within(lower, upper))
    for number in (-6, -5, 0, 99, 100):
        is_within = (lower is None or lower <= number) and (upper is None or number < upper)
        for made, cell, wanted in (
            (text, str(number).encode(), str(number).encode()),
            (binary, number.to_bytes(4, "big", signed=True), number.to_bytes(8, "big", signed=True)),
        ):
            if is_within:
                assert made(cell) == wanted
                continue
            with pytest.raises(RowRefused, match="belongs to another source") as refused:
                made(cell)
            assert " -6" not in str(refused.value), "the number itself is nobody's business"


def test_a_number_that_the_target_may_not_hold_is_left_to_its_input_function() -> None:
    assert "becomes" in text_only(planned("int8", "int", Within(None, 100)))
