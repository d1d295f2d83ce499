"""What the compiler calls exact is exact on real servers, and what it calls checked changes nothing silently.

Every pair of types the compiler lets pass is fed with the source's own text of its edge values (F3-F7, F10, F14, F18,
F31). The value is then read back through the target: it must be the same again, or have been refused with an error.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import psycopg

from crossfade.mapping.conversions import CHAR, TEXT, VARCHAR, Fit, judge
from tests.servers.databases import Databases
from tests.unit.mapping.builders import column

VALUES = {
    "smallint": ["0", "-32768", "32767"],
    "integer": ["0", "-2147483648", "2147483647"],
    "bigint": ["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "numeric": ["0", "NaN", "1.50", "-99999999.99", "123456789012345678901234567890.123456789", "0.005"],
    "real": ["0.1", "NaN", "-0", "3.4028235e38", "1e-45", "Infinity", "16777217"],
    "double precision": ["0.1", "-0", "1.7976931348623157e308", "NaN"],
    "text": ["", "a b  ", "x" * 30, "  ", "\\N", "1", "{}", "11111111-2222-3333-4444-555555555555"],
    "character varying": ["", "ab ", "x" * 30, "7"],
    "character": ["a", "abc"],
    "uuid": ["11111111-2222-3333-4444-555555555555"],
    "timestamp without time zone": ["2024-01-01 12:34:56.123456", "infinity", "4713-01-01 00:00:00 BC"],
    "timestamp with time zone": ["2024-01-01 12:34:56.123456+00", "-infinity"],
    "date": ["2024-02-29", "infinity", "4713-01-01 BC", "294276-01-01", "5874897-12-31"],
    "time without time zone": ["24:00:00", "12:34:56.123456"],
    "time with time zone": ["12:00:00.5+05:30:15"],
    "interval": ["1 mon -3 days 04:05:06.123456"],
    "json": ['{"b":1,"a":2}', '"\\u0000"', "1e2"],
    "jsonb": ['{"a": 1.10}'],
    "inet": ["10.0.0.1/8"],
    "cidr": ["10.0.0.0/8"],
    "bit": ["101", "10101"],
    "bit varying": ["", "1", "10101010"],
    "boolean": ["t"],
    "name": ["x" * 63],
    "macaddr": ["08:00:2b:01:02:03"],
    "integer[]": ["{1,NULL,3}", "[0:1]={4,5}"],
    "bigint[]": ["{9223372036854775807}"],
    "text[]": ['{"NULL",NULL,"a\\"b"}'],
}
TYPES = (
    *("int2", "int4", "int8", "numeric", "numeric(10,2)", "numeric(12,2)", "numeric(8,2)", "numeric(12,4)"),
    *("numeric(5)", "numeric(20)", "float4", "float8", "text", "varchar", "varchar(20)", "varchar(50)", "varchar(3)"),
    *("char(3)", "char(5)", "uuid", "timestamp", "timestamp(3)", "timestamptz", "timestamptz(0)", "date", "time"),
    *("time(2)", "timetz", "interval", "interval(3)", "json", "jsonb", "inet", "cidr", "bit(3)", "bit(5)", "varbit"),
    *("varbit(4)", "boolean", "name", "macaddr", "int4[]", "int8[]", "text[]"),
)
_SQL = {"timetz": "time with time zone"}
_STRINGS = {TEXT, VARCHAR, CHAR}


def sent(connection: psycopg.Connection[tuple[object, ...]], text: str, type_name: str) -> str | None:
    """The text through the type's input and output functions, as COPY moves it; None when it is refused."""
    name = f"c{TYPES.index(type_name)}"
    escaped = text.replace("\\", "\\\\")
    try:
        with connection.cursor().copy(f"COPY pg_temp.moved ({name}) FROM STDIN") as copy:  # type: ignore[arg-type]
            copy.write(f"{escaped}\n")
    except psycopg.DataError:
        return None
    with connection.cursor().copy(f"COPY pg_temp.moved ({name}) TO STDOUT") as copy:  # type: ignore[arg-type]
        line = b"".join(bytes(chunk) for chunk in copy)
    connection.execute("DELETE FROM pg_temp.moved")
    return line.decode().removesuffix("\n").replace("\\\\", "\\")


def is_same(before: str, after: str, source: str, target: str) -> bool:
    """Equal, or unequal only as the compiler's own sentence says."""
    if before == after:
        return True
    if source in _STRINGS and target in _STRINGS:  # padding, and cut trailing spaces
        return before.rstrip(" ") == after.rstrip(" ")
    if target == "boolean":  # spelled in one of the ways it reads
        return (before.strip(" ").lower() in {"t", "true", "1", "on", "y", "yes"}) is (after == "t")
    if source == "date":
        return after.replace(" 00:00:00", "") == before
    if (source, target) == ("json", "jsonb"):  # spelling, order of keys
        return True
    try:
        return Decimal(before) == Decimal(after)  # trailing zeros
    except InvalidOperation:
        return False


def test_F31_no_pair_that_is_let_pass_changes_a_value(databases: Databases) -> None:
    tried = 0
    with databases.target.connect(datestyle="ISO, YMD", timezone="UTC", extra_float_digits="3") as connection:
        columns = ", ".join(f"c{number} {name}" for number, name in enumerate(TYPES))
        connection.execute(f"CREATE TEMP TABLE moved ({columns})")  # type: ignore[arg-type]
        for source in TYPES:
            described = column(f"a {_SQL.get(source, source)}")
            texts = (sent(connection, text, source) for text in VALUES[described.base_type])
            values = [text for text in texts if text is not None]
            assert values, f"no value for {source}"
            for target in TYPES:
                other = column(f"b {_SQL.get(target, target)}")
                fit = judge(described, other).fit
                for value in values if fit is not Fit.REFUSED else ():
                    tried += 1
                    arrived = sent(connection, value, target)
                    what = f"{source} to {target}: {value!r} arrived as {arrived!r}"
                    if arrived is None:
                        assert fit is Fit.CHECKED, what
                    else:
                        assert is_same(value, arrived, described.base_type, other.base_type), what
    assert tried > 1000
