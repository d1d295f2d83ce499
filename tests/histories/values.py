"""Values as the wire has them: one column type's text, its binary, and what the target shows of it.

Written from the manual by hand, like the encoder of messages, so that nothing of the daemon's is checked against
itself. A value is what the played source holds: an int, a str, or one of the named samples of a type.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Value = int | str | None
Values = dict[str, Value]  # a row, by column

# Text that breaks encoders: COPY's escapes, array literals' quotes, the spelling of NULL in both, nothing at all.
TEXTS: Final[tuple[str | None, ...]] = (
    "plain", None, "", "NULL", "\\N", 'quo"te', "{a,b}", "tab\there", "line\nbreak", "back\\slash", "\r", "ünïcode ✓",
    "\\.", " spaces ", "'", ",", "null", "{}", "\x01", "\\x41",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A column type: its OID, how values look on the wire, and as text on the target (`shown`)."""

    oid: int
    sql: str
    text: Callable[[Value], str]
    binary: Callable[[Value], bytes]
    shown: Callable[[Value], str]


def _int(size: int) -> Callable[[Value], bytes]:
    return lambda value: int(value or 0).to_bytes(size, "big", signed=True)


def _utf8(value: Value) -> bytes:
    return str(value).encode()


# Samples by name: (text as the server prints it, binary as its send function makes it, text on the target).
Sample = tuple[str, bytes, str]


def _numeric(weight: int, sign: int, scale: int, *digits: int) -> bytes:
    return struct.pack(f"!hhHh{len(digits)}h", len(digits), weight, sign, scale, *digits)


def _timestamp(micros: int) -> bytes:
    return struct.pack("!q", micros)


_DAY: Final = 86_400_000_000
_HOUR: Final = 3_600_000_000
FLOATS: Final[Sequence[Sample]] = (
    ("0", struct.pack("!d", 0.0), "0"),
    ("-0", struct.pack("!d", -0.0), "-0"),
    ("NaN", struct.pack("!d", float("nan")), "NaN"),
    ("0.1", struct.pack("!d", 0.1), "0.1"),
    ("-Infinity", struct.pack("!d", float("-inf")), "-Infinity"),
    ("1e+300", struct.pack("!d", 1e300), "1e+300"),
)
NUMERICS: Final[Sequence[Sample]] = (
    ("0", _numeric(0, 0, 0), "0"),
    ("1.50", _numeric(0, 0, 2, 1, 5000), "1.50"),
    ("-123456.7", _numeric(1, 0x4000, 1, 12, 3456, 7000), "-123456.7"),
    ("NaN", _numeric(0, 0xC000, 0), "NaN"),
)
JSONS: Final[Sequence[Sample]] = tuple(
    (text, b"\x01" + text.encode(), text) for text in ('{"a": 1}', "null", '["\\t", "}"]', '{"k": "quo\\"te, \\\\"}')
)
BYTEAS: Final[Sequence[Sample]] = tuple(
    ("\\x" + octets.hex(), octets, "\\x" + octets.hex()) for octets in (b"", b"\x00\xff\\", b"{},", b"\n\t\r")
)
ARRAYS: Final[Sequence[Sample]] = (
    ("{}", struct.pack("!iiI", 0, 0, 23), "{}"),
    ("{1,NULL,3}", struct.pack("!iiIii", 1, 1, 23, 3, 1) + b"\0\0\0\4\0\0\0\1" + b"\xff" * 4 + b"\0\0\0\4\0\0\0\3",
     "{1,NULL,3}"),
)  # fmt: skip
UUIDS: Final[Sequence[Sample]] = tuple(
    (f"00000000-0000-4000-8000-{n:012d}", bytes.fromhex(f"0000000000004000800000{n:010d}"),
     f"00000000-0000-4000-8000-{n:012d}")
    for n in range(4)
)  # fmt: skip
# Local times of New York, as UTC on the target: in winter, in summer, in the gap, in the overlap, and never.
LOCALS: Final[Sequence[Sample]] = (
    ("2000-01-01 00:00:00", _timestamp(0), "2000-01-01 05:00:00+00"),
    ("2000-07-01 12:30:00.000001", _timestamp(182 * _DAY + 12 * _HOUR + _HOUR // 2 + 1),
     "2000-07-01 16:30:00.000001+00"),
    ("2018-03-11 02:30:00", _timestamp(6644 * _DAY + 2 * _HOUR + _HOUR // 2), "2018-03-11 07:30:00+00"),
    ("2018-11-04 01:30:00", _timestamp(6882 * _DAY + _HOUR + _HOUR // 2), "2018-11-04 06:30:00+00"),
    ("infinity", _timestamp(2**63 - 1), "infinity"),
    ("-infinity", _timestamp(-(2**63)), "-infinity"),
)  # fmt: skip
BOOLS: Final[Sequence[Sample]] = (("t", b"\x01", "true"), ("f", b"\x00", "false"))


def _sampled(oid: int, sql: str, samples: Sequence[Sample]) -> Kind:
    def pick(value: Value) -> Sample:
        return samples[int(value or 0) % len(samples)]

    return Kind(oid, sql, lambda v: pick(v)[0], lambda v: pick(v)[1], lambda v: pick(v)[2])


def _plain(oid: int, sql: str, binary: Callable[[Value], bytes]) -> Kind:
    return Kind(oid, sql, str, binary, str)


KINDS: Final[Mapping[str, Kind]] = {
    "int2": _plain(21, "smallint", _int(2)),
    "int4": _plain(23, "integer", _int(4)),
    "int8": _plain(20, "bigint", _int(8)),
    "text": _plain(25, "text", _utf8),
    "varchar": _plain(1043, "character varying", _utf8),
    "float8": _sampled(701, "double precision", FLOATS),
    "numeric": _sampled(1700, "numeric", NUMERICS),
    "jsonb": _sampled(3802, "jsonb", JSONS),
    "bytea": _sampled(17, "bytea", BYTEAS),
    "int4[]": _sampled(1007, "integer[]", ARRAYS),
    "uuid": _sampled(2950, "uuid", UUIDS),
    "bool": _sampled(16, "boolean", BOOLS),
    "local": _sampled(1114, "timestamp without time zone", LOCALS),
}
SAMPLED: Final[frozenset[str]] = frozenset(KINDS) - {"int2", "int4", "int8", "text", "varchar"}
