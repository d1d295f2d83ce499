"""Messages split where they lie, from the Python source and compiled."""

from __future__ import annotations

from types import ModuleType

import pytest

from crossfade.copydata import HEADER, fields, head
from crossfade.faults import ProtocolViolation
from tests.hot import in_form


@pytest.fixture(params=["python", "compiled"])
def hot(request: pytest.FixtureRequest) -> ModuleType:
    return in_form(request.param, "copydata")


def message(tag: bytes, payload: bytes = b"") -> bytes:
    return tag + (4 + len(payload)).to_bytes(4, "big") + payload


ROWS = [b"one", b"", b"x" * 300, b"\0\xff"]
STREAM = b"".join(message(b"d", row) for row in ROWS)


def test_every_payload_comes_out_as_bytes_of_its_own(hot: ModuleType) -> None:
    rows: list[bytes] = []
    block = bytearray(b"??" + STREAM + b"behind")
    assert hot.split(block, 2, 2 + len(STREAM), rows) == 2 + len(STREAM)
    block[:] = bytes(len(block))
    assert rows == ROWS
    assert {type(row) for row in rows} == {bytes}


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_message_that_has_not_come_to_its_end_is_left(hot: ModuleType, cut: int) -> None:
    rows: list[bytes] = []
    at = hot.split(bytearray(STREAM), 0, cut, rows)
    assert b"".join(message(b"d", row) for row in rows) == STREAM[:at]
    assert hot.split(bytearray(STREAM), at, len(STREAM), rows) == len(STREAM)
    assert rows == ROWS


@pytest.mark.parametrize("other", [message(b"N", b"notice"), message(b"c"), b"d\0\0\0\3", b"d\xff\xff\xff\xffabc"])
def test_what_is_no_copydata_is_left_to_the_caller(hot: ModuleType, other: bytes) -> None:
    rows: list[bytes] = []
    block = bytearray(STREAM + other + STREAM)
    assert hot.split(block, 0, len(block), rows) == len(STREAM)
    assert rows == ROWS


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_messages_are_passed_over_up_to_a_header_that_is_not_there(hot: ModuleType, cut: int) -> None:
    """The last may end past what has come; with the rest of the block the count is that of all."""
    at, count = hot.pass_over(bytearray(STREAM), 0, cut)
    assert at + HEADER > cut
    assert hot.pass_over(bytearray(STREAM), at, len(STREAM)) == (len(STREAM), len(ROWS) - count)


@pytest.mark.parametrize("other", [message(b"N", b"notice"), b"d\0\0\0\3"])
def test_what_is_no_copydata_is_not_passed_over(hot: ModuleType, other: bytes) -> None:
    assert hot.pass_over(bytearray(STREAM + other), 0, len(STREAM + other)) == (len(STREAM), len(ROWS))


def test_a_message_says_its_type_and_size() -> None:
    assert head(message(b"d", b"abc"), 0) == (ord("d"), HEADER + 3)
    assert head(b"??" + message(b"E"), 2) == (ord("E"), HEADER)
    with pytest.raises(ProtocolViolation):
        head(b"d\0\0\0\3", 0)


def test_fields_go_by_their_letters() -> None:
    assert fields(b"SFEHLER\0VERROR\0C42704\0Mwords\0\0") == {
        "S": "FEHLER",
        "V": "ERROR",
        "C": "42704",
        "M": "words",
    }
