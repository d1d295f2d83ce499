"""wire.fields and wire.ids against the server's own casts, AT TIME ZONE and COPY (F6, F19, F30)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.fields import copy_escape, copy_unescape, timestamp_to_utc
from crossfade.wire.ids import normalise
from crossfade.wire.zones import Zone
from tests.servers.databases import Databases

Row = tuple[object, ...]

TEXTS = (
    "4713-01-02 00:00:00 BC",
    "0001-01-01 00:00:00",
    "0001-12-31 23:59:59.999999 BC",
    "0005-02-29 12:00:00 BC",
    "0005-02-28 23:00:00.000001 BC",
    "1582-10-10 10:10:10",
    "1883-11-18 12:03:57.5",
    "1900-02-28 23:59:59",
    "1999-12-31 23:59:59.9",
    "2000-02-29 00:00:00",
    "2011-12-30 12:00:00",
    "2018-03-11 02:30:00.25",
    "2018-11-04 01:30:00.10002",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "294276-12-30 23:59:59.999999",
    "infinity",
    "-infinity",
)
ZONES = ("America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "UTC")


@pytest.fixture
def server(databases: Databases) -> Iterator[psycopg.Connection[Row]]:
    with databases.source.connect(datestyle="ISO", timezone="UTC", client_encoding="UTF8") as connection:
        yield connection


@pytest.mark.parametrize("name", ZONES)
def test_F6_F19_timestamps_are_printed_as_the_server_prints_them(server: psycopg.Connection[Row], name: str) -> None:
    # Random instants go through the server's output function first, so that our input is its very form.
    rng = random.Random(name)
    seconds = [rng.randrange(-63_082_281_600, 31_556_952_000) for _ in range(1_500)]
    near = [rng.randrange(0, 900_000_000) for _ in range(1_500)]
    server.execute("CREATE TEMP TABLE asked (n int GENERATED ALWAYS AS IDENTITY, at timestamp)")
    with server.cursor().copy("COPY asked (at) FROM STDIN") as copy:
        for text in TEXTS:
            copy.write_row((text,))
    server.execute(
        "INSERT INTO asked (at) SELECT timestamp '2000-01-01' + make_interval(secs => s) + make_interval(secs => f) "
        "FROM unnest(%s::float8[], %s::float8[]) AS given (s, f)",
        (seconds + near, [rng.choice((0.0, 0.5, 0.25, 0.123456, 0.000001)) for _ in seconds + near]),
    )
    rows = server.execute(
        sql.SQL("SELECT at::text, (at AT TIME ZONE {})::text FROM asked ORDER BY n").format(sql.Literal(name))
    ).fetchall()
    assert len(rows) > 3_000
    zone = Zone.load(name)
    for local, expected in rows:
        ours, _ = timestamp_to_utc(str(local).encode(), zone, Ambiguous.LATER, Nonexistent.SHIFT)
        assert ours.decode() == expected, local


def texts() -> list[bytes]:
    rng = random.Random(30)
    special = [*"\\\t\n\r\b\f\v\x01\x1b\x7f'\",.Nxb0:ü€😀 "]
    made = ["".join(rng.choices(special, k=rng.randrange(12))).encode() for _ in range(2_000)]
    return [b"", rb"\N", b"\\", b"\\.", b"\\.\n", b"NULL", b"a" * 100_000, *made]


def test_F30_the_server_reads_what_we_escape(server: psycopg.Connection[Row]) -> None:
    given = texts()
    server.execute("CREATE TEMP TABLE kept (n int, value text)")
    with server.cursor().copy("COPY kept FROM STDIN") as copy:
        for number, value in enumerate([*given, None]):
            copy.write(b"%d\t%s\n" % (number, copy_escape(value)))
    back = [value for (value,) in server.execute("SELECT value FROM kept ORDER BY n")]
    assert back == [*(value.decode() for value in given), None]


def test_F30_we_read_what_the_server_escapes(server: psycopg.Connection[Row]) -> None:
    given = texts()
    server.execute("CREATE TEMP TABLE kept (n int GENERATED ALWAYS AS IDENTITY, value text)")
    with server.cursor() as cursor:
        cursor.executemany("INSERT INTO kept (value) VALUES (%s)", [(value.decode(),) for value in given])
        cursor.execute("INSERT INTO kept (value) VALUES (NULL)")
        with cursor.copy("COPY (SELECT n, value FROM kept ORDER BY n) TO STDOUT") as copy:
            lines = b"".join(bytes(part) for part in copy).split(b"\n")
    assert lines.pop() == b""
    fields = [line.split(b"\t") for line in lines]
    assert all(len(field) == 2 for field in fields)
    assert [copy_unescape(value) for _, value in fields] == [*given, None]
    assert [value for _, value in fields] == [copy_escape(value) for value in [*given, None]]


@pytest.mark.parametrize(
    "field",
    [rb"\x41", rb"\101", rb"\1", rb"\x4", rb"\xg", rb"\q\N", rb"a\Nb", rb"\1234", rb"\x414", rb"\bx\v", rb"\\x41"],
)
def test_F30_every_escape_means_to_us_what_it_means_to_copy(server: psycopg.Connection[Row], field: bytes) -> None:
    server.execute("CREATE TEMP TABLE kept (value text)")
    with server.cursor().copy("COPY kept FROM STDIN") as copy:
        copy.write(field + b"\n")
    ((theirs,),) = server.execute("SELECT value FROM kept").fetchall()
    ours = copy_unescape(field)
    assert ours is not None
    assert ours.decode() == theirs


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "uuid"),
        ("{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", "uuid"),
        ("a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "uuid"),
        ("a0eebc999c0b4ef8bb6d6bb9bd380a11", "uuid"),
        ("+7", "smallint"),
        (" -0012 ", "integer"),
        ("-0", "bigint"),
        ("-9223372036854775808", "bigint"),
        ("x 1", "text"),
    ],
)
def test_I7_ids_are_spelled_as_the_server_spells_them(
    server: psycopg.Connection[Row], spelling: str, kind: str
) -> None:
    ((theirs,),) = server.execute(
        sql.SQL("SELECT {}::{}::text").format(sql.Literal(spelling), sql.SQL(kind))
    ).fetchall()
    assert normalise(spelling.encode(), kind).decode() == theirs
