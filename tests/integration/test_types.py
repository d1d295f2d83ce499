"""Every type, every edge value, by copy and by stream (edge-cases, section F).

Each value sits in a row that is copied and in one that is streamed (inserted, updated, deleted by its old image); both
sides are compared as the server prints them under the same pinned settings. Our role carries contrary settings on the
source, so that one that nobody pinned would show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

import psycopg
import pytest
from psycopg import sql

from crossfade.pgoutput.messages import Form
from crossfade.wire.form import BUILT_IN
from tests.integration.following import SAME, Followed, follow, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import MODE_VARIABLE, Workspace
from tests.servers.databases import ROLE, Databases, make_roles

# The settings both sides are printed under for the comparison.
PINNED = {
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "3",
    "timezone": "UTC",
    "bytea_output": "hex",
}

# What an administrator may have set for our role, and what would change values' texts if we let it.
CONTRARY = "".join(
    f"DO $$ BEGIN EXECUTE format('ALTER ROLE {ROLE} IN DATABASE %I SET {setting}', current_database()); END $$;"
    for setting in (
        "datestyle = ''SQL, DMY''",
        "intervalstyle = ''sql_standard''",
        "extra_float_digits = 0",
        "timezone = ''Asia/Kolkata''",
        "bytea_output = ''escape''",
        "search_path = ''nowhere''",
        "client_encoding = ''LATIN1''",
    )
)

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'Happy, "very"', '');
CREATE TYPE pair AS (a int, b text, gone int, c numeric[]);
ALTER TYPE pair DROP ATTRIBUTE gone;
CREATE TYPE nest AS (p pair, m mood[]);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION is_short(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT length($1) < 10';
CREATE DOMAIN short AS text CHECK (public.is_short(VALUE));
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE DOMAIN early AS daterange CHECK (VALUE << daterange('2100-01-01', NULL));
"""

# Case, column type, values as SQL literals of that type (NULL is tried with each).
VALUES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("F2", "bytea", (r"'\x'", r"'\x00'", r"'\x5c5c27225c785c303041'", r"'\xdeadbeef00ff'", "decode('4a', 'hex')")),
    ("F3", "json", (r"""'{"a": "\u0000"}'""", r"""'"\ud83d\ude00"'""", "'null'", "'[1,  2 ,3]'")),
    (
        "F4",
        "jsonb",
        ("""'{"b": 1, "a": 2, "a": 3}'""", "'1e400'", "'1.10'", r"""'"\\ \" \t \u00e9"'""", "'{}'", "'null'"),
    ),
    (
        "F5",
        "numeric",
        (
            "'NaN'",
            "'0'",
            "'-0.0'",
            "'1.50'",
            "'1e-16383'",
            "('9' || repeat('0', 131071))::numeric",
            "('0.' || repeat('7', 16383))::numeric",
        ),
    ),
    ("F5", "numeric(20,4)", ("'0.0001'", "'-9999999999999999.9999'", "'NaN'")),
    ("F5", "smallint", ("-32768", "32767")),
    ("F5", "integer", ("-2147483648", "2147483647")),
    ("F5", "bigint", ("-9223372036854775808", "9223372036854775807")),
    (
        "F6",
        "date",
        ("'4713-01-01 BC'", "'0001-01-01 BC'", "'infinity'", "'-infinity'", "'5874897-12-31'", "'2000-02-29'"),
    ),
    (
        "F6",
        "timestamp",
        (
            "'4713-11-24 00:00:00 BC'",
            "'0044-03-15 12:00:00.000001 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'1999-12-31 23:59:59.999999'",
        ),
    ),
    (
        "F6",
        "timestamptz",
        (
            "'4713-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'1890-01-01 00:00:00 Asia/Kolkata'",
            "'2024-10-27 01:30:00 Europe/London'",
        ),
    ),
    ("F7", "time", ("'24:00:00'", "'23:59:60'", "'00:00:00.000001'", "'00:00'")),
    ("F7", "timetz", ("'24:00:00+15:59'", "'12:00:00.123456-15:59:59'", "'12:00:00+05:30:17'")),
    (
        "F8",
        "interval",
        (
            "'1 mon -1 day +00:00:00.000001'",
            "'-1 year -2 mons 3 days -04:05:06.7'",
            "'1 month'",
            "'30 days'",
            "'178000000 years'",
            "'-178000000 years'",
            "'2147483647:59:59.999999'",
            "'0'",
        ),
    ),
    ("F9", "money", ("'0'", "'-92233720368547758.08'", "'92233720368547758.07'", "'1,234.56'")),
    ("F10", "char(5)", ("''", "'ab'", "'ab   '", "'  a'", "'éèêëē'")),
    ("F10", "varchar(5)", ("''", "'ab '", "'éèêëē'")),
    ("F10", '"char"', ("'a'", "''")),
    (
        "F11",
        "int[]",
        ("'{}'", "'[0:2]={1,2,3}'", "'[-1:0][2:3]={{1,2},{3,4}}'", "'{NULL,1}'", "'{{{1}},{{2}}}'"),
    ),
    (
        "F11",
        "text[]",
        (
            r"""'{NULL,"NULL",null,"null"}'""",
            r"""ARRAY['', 'a,b', '{', '"', E'\\', E'a\\b', ' lead', E'tab\tnl\n', E'\\N']""",
            "ARRAY[ARRAY['a','b'],ARRAY['c',NULL]]",
        ),
    ),
    ("F11", "timestamptz[]", ("""'{infinity,"2024-01-01 00:00:00+05:30"}'""",)),
    (
        "F12",
        "int4range",
        ("'empty'", "'(,)'", "'[1,5)'", "'(,5]'", "'[-2147483648,2147483647)'"),
    ),
    ("F12", "tstzrange", ("'[2024-01-01 00:00+05:30,infinity]'", "'(,\"2024-01-01 00:00:00+00\")'", "'empty'")),
    ("F12", "int4multirange", ("'{}'", "'{[1,3),[5,8)}'", "'{(,)}'")),
    ("F12", "floatrange", ("'[0.1,0.30000000000000004)'", "'[-Infinity,NaN]'")),
    ("F12", "early", ("'[2024-01-01,2024-02-01)'", "'(,2000-01-01)'")),
    (
        "F13",
        "pair",
        (
            "ROW(1, 'x', '{1.10,NULL}')::pair",
            "ROW(NULL, NULL, NULL)::pair",
            r"""ROW(0, E'a"b\\c,(d) \t', '{}')::pair""",
            "ROW(1, '', NULL)::pair",
        ),
    ),
    ("F13", "nest", (r"""ROW(ROW(1, 'a"b', '{1}')::pair, ARRAY['it''s ok', '']::mood[])::nest""",)),
    ("F13", "pair[]", (r"""ARRAY[ROW(1, 'a"b', '{1}')::pair, NULL, ROW(2, E'\\', NULL)::pair]""",)),
    ("F13", "mood", ("'sad'", "'it''s ok'", "'Happy, \"very\"'", "''")),
    ("F14", "positive", ("1", "2147483647")),
    ("F14", "short", ("''", "'short'", "'~'")),
    (
        "F18",
        "float8",
        (
            "'0'",
            "'-0'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0.1::float8 + 0.2::float8",
            "1e308",
            "5e-324",
            "'1.7976931348623157e308'",
            "'2.2250738585072014e-308'",
        ),
    ),
    ("F18", "real", ("'NaN'", "'-0'", "'1e-45'", "'3.4028235e38'", "'0.1'", "'16777217'")),
    ("F18", "point", ("'(0.1,-0)'", "'(NaN,Infinity)'")),
    ("F25", "uuid", ("'00000000-0000-0000-0000-000000000000'", "'{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}'")),
    ("F25", "inet", ("'10.1.2.3/8'", "'::ffff:1.2.3.4/128'", "'10.0.0.1'")),
    ("F25", "cidr", ("'10.0.0.0/8'", "'::/0'")),
    ("F25", "macaddr8", ("'08:00:2b:01:02:03:04:05'",)),
    ("F25", "bit(5)", ("B'10101'", "B'00000'")),
    ("F25", "varbit", ("B''", "B'1'", "B'0101'")),
    ("F25", "tsvector", ("'''a b'':1A,2B c:3'", "''", r"'''it''''s'':1'")),
    ("F25", "tsquery", ("'a & (b | !c:*A)'", "''")),
    ("F25", "jsonpath", ("'$.a[*] ? (@ > 1)'",)),
    ("F25", "boolean", ("true", "false")),
    ("F25", "box", ("'(1,1),(0,0)'",)),
    ("F25", "polygon", ("'((0,0),(1,1),(2,0))'",)),
    ("F16", "name", ("''", "'It''s a name'", "repeat('x', 63)")),
    ("F16", "real[]", ("'{0.1,NaN,-0}'",)),
    ("F16", "numeric[]", ("'{1.50,NaN,NULL}'",)),
    ("F16", "uuid[]", ("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'",)),
    ("F16", "jsonb[]", ("""ARRAY['{"a": [1, null]}'::jsonb, NULL]""",)),
    ("F16", "lseg", ("'[(0,0),(1,0.1)]'",)),
    ("F16", "path", ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'")),
    ("F16", "line", ("'{1,-1,0.1}'",)),
    ("F16", "circle", ("'<(1,2),0.1>'",)),
    ("F16", "macaddr", ("'08:00:2b:01:02:03'",)),
    ("F16", "int8range", ("'[1,9223372036854775807)'",)),
    ("F16", "numrange", ("'[1.10,)'", "'[0.1,0.1]'")),
    ("F16", "daterange", ("'[2024-01-01,infinity)'",)),
    ("F16", "tsrange", ("'(\"2024-01-01 00:00:00.000001\",)'",)),
    ("F16", "int8multirange", ("'{[1,2)}'",)),
    ("F16", "nummultirange", ("'{[1.10,2),(3,)}'",)),
    ("F16", "datemultirange", ("'{[2024-01-01,2024-02-01)}'",)),
    ("F16", "tsmultirange", ("'{[2024-01-01,2024-02-01)}'",)),
    ("F16", "tstzmultirange", ("'{[2024-01-01,2024-02-01)}'",)),
    (
        "F30",
        "text",
        (
            "''",
            r"E'\\.'",
            r"E'\\N'",
            r"E'\t\n\r\b\f\x0b\\'",
            r"E'line\\.\nline'",
            r"E'\\x41\\101\\n'",
            r"E'\r\n'",
            "repeat(E'\\\\\\t\\n', 20000)",
            "'😀 ü \u202e'",
            "' '",
            r"E'\x01\x1f\x7f'",
        ),
    ),
)


SINCE = 14  # multiranges, and the binary option of the stream


def _oid(kind: str) -> int:
    """A built-in type's OID, by the driver's list; 0 for what a user made."""
    base = kind.partition("(")[0].removesuffix("[]")
    known = psycopg.postgres.types.get({"char": "bpchar", "int": "int4"}.get(base, base))
    if known is None:
        return 0
    return known.array_oid if kind.endswith("[]") else known.oid


def _places(major: int, form: Form) -> list[int]:
    """The columns to test: types that servers of this version have; for binary, those that are on its list."""
    safe = {oid for pair in BUILT_IN.values() for oid in pair}
    return [
        at
        for at, (_, kind, _) in enumerate(VALUES)
        if (major >= SINCE or "multirange" not in kind) and (form is Form.TEXT or _oid(kind) in safe)
    ]


def test_F16_every_type_that_may_travel_in_binary_is_tried() -> None:
    """And as the array of at least one, since all arrays are made by the same two functions."""
    tried = {_oid(kind) for _, kind, _ in VALUES}
    assert [name for name, (oid, _) in BUILT_IN.items() if oid not in tried] == []
    assert len(tried.intersection(array for _, array in BUILT_IN.values())) >= 5


def test_F17_the_list_says_what_the_driver_says_and_holds_nothing_that_refers_to_one_database() -> None:
    for name, (oid, array) in BUILT_IN.items():
        known = psycopg.postgres.types.get({"character": "bpchar"}.get(name, name))
        assert known is not None
        assert (known.oid, known.array_oid) == (oid, array), name
    unsafe = ("oid", "regclass", "xid", "cid", "tid", "pg_lsn", "regtype", "money", "xml", '"char"', "record", "xid8")
    safe = {oid for pair in BUILT_IN.values() for oid in pair}
    for name in unsafe:
        known = psycopg.postgres.types.get(name)
        assert known is None or safe.isdisjoint((known.oid, known.array_oid)), name


def _inserts(first: int, places: Sequence[int]) -> str:
    """One row for each value of each type, all other columns NULL, and a row of NULLs."""
    rows = [f"INSERT INTO wide (id) VALUES ({first});"]
    number = first
    for at in places:
        for value in VALUES[at][2]:
            number += 1
            rows.append(f"INSERT INTO wide (id, c{at}) VALUES ({number}, {value});")
    return "SET search_path = public; SET client_encoding = 'UTF8';" + "\n".join(rows)


def _wide(places: Sequence[int]) -> str:
    columns = ", ".join(f"c{at} {VALUES[at][1]}" for at in places)
    return f"""{TYPES}
CREATE TABLE wide (id int PRIMARY KEY, {columns});
CREATE TABLE keyless (id int, {columns});
"""


def _major(postgres: Versions) -> int:
    return min(postgres.source.version_major, postgres.target.version_major)


@pytest.fixture(scope="module", params=list(Form), ids=lambda form: form.value)
def form(request: pytest.FixtureRequest) -> Form:
    """TEXT: every type, of which some cannot travel in binary. BINARY: those that can, and no other."""
    assert isinstance(request.param, Form)
    return request.param


@pytest.fixture(scope="module")
def followed(
    postgres: Versions, form: Form, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    """All values copied, then all of them streamed: 100,000 on."""
    places = _places(_major(postgres), form)
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("types"),
        replica_role=True,
        source=_wide(places) + "ALTER TABLE keyless REPLICA IDENTITY FULL;",
        target=_wide(places),
        rows=_inserts(0, places) + "INSERT INTO keyless SELECT * FROM wide;" + CONTRARY,
    ) as followed:
        followed.write(_inserts(100_000, places))
        yield followed


def _as_text(databases: Databases, column: str) -> list[list[tuple[object, ...]]]:
    """The source's values of a column, and the target's."""
    text = f"wide.{column}::text"  # of a composite, IS NOT NULL asks for every part
    query = f"SELECT id, {text} FROM public.wide WHERE {text} IS NOT NULL OR id IN (0, 100000) ORDER BY id"
    sides: list[list[tuple[object, ...]]] = []
    for side in (databases.source, databases.target):
        with side.connect(autocommit=True, client_encoding="UTF8", **PINNED) as connection:
            sides.append(list(connection.execute(query).fetchall()))
    return sides


@pytest.mark.parametrize("at", range(len(VALUES)), ids=[f"{case}-{kind.replace(' ', '_')}" for case, kind, _ in VALUES])
def test_F2_to_F18_every_value_is_the_same_by_copy_and_by_stream(
    followed: Followed, postgres: Versions, form: Form, at: int
) -> None:
    """Each edge value of each type, printed by both servers under the same settings: the same text."""
    if at not in _places(_major(postgres), form):
        pytest.skip(f"{VALUES[at][1]} does not travel in {form.value} here")
    source, target = _as_text(followed.databases, f"c{at}")
    assert len(source) == 2 * len(VALUES[at][2]) + 2, "the source has each value twice, and two NULLs"
    assert target == source


def test_F2_to_F18_every_value_is_found_again_by_an_old_image(followed: Followed) -> None:
    """Rows without a key, identified by all their columns: each is deleted by its values."""
    assert followed.target("SELECT count(*) FROM keyless WHERE id < 100000") != [(0,)]
    followed.write("UPDATE public.keyless SET id = id + 1", "DELETE FROM public.keyless")
    assert followed.target("SELECT id FROM keyless ORDER BY id") == []


def test_F16_the_stream_is_in_the_form_that_its_columns_allow(
    followed: Followed, postgres: Versions, form: Form
) -> None:
    source, target = postgres.source.version_major, postgres.target.version_major
    # Intervals became infinite in 17, in bytes that the versions before take for a finite one.
    allowed = source >= SINCE and (min(source, target) >= 17 or max(source, target) < 17)
    expected = form if allowed and os.environ.get(MODE_VARIABLE) != "text" else Form.TEXT
    said = [line for line in followed.daemon.text().splitlines() if "stream_form" in line]
    assert said
    assert all(f"in {expected.value} form" in each for each in said), said


NAMES = (
    "MixedCase",
    'quo"te',
    "with space",
    "select",
    "new\nline",
    "%s",
    "%(a)s",
    "{}",
    "{0}",
    "ünïcødé 😀",
    "back\\slash",
    "it's",
    "$1",
    "x" * 63,
)


def test_F27_any_identifier(workspace: Workspace) -> None:
    """Schemas, tables, columns, enums, the publication: whatever PostgreSQL allows in a name is only a name."""
    databases = workspace.databases
    script, wanted = [], []
    for at, name in enumerate(NAMES):
        table = sql.Identifier(NAMES[at - 1], name)
        columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(one)) for one in NAMES)
        script.append(
            sql.SQL(
                "CREATE SCHEMA {schema}; CREATE TYPE {type} AS ENUM ('a', 'b');"
                "CREATE TABLE {table} ({key} int PRIMARY KEY, {columns}, kind {type},"
                " up int REFERENCES {table} DEFERRABLE)"
            ).format(
                schema=sql.Identifier(NAMES[at - 1]),
                type=sql.Identifier(NAMES[at - 1], "kind " + name[:50]),
                table=table,
                key=sql.Identifier("the key"),
                columns=columns,
            )
        )
        wanted.append(table)
    schema = sql.SQL(";").join(script).as_string(None)
    databases.prepare(schema, schema)
    row = sql.SQL("INSERT INTO {} ({}, {}, kind, up) VALUES ({}, 'v', 'a', {})")
    write = [
        row.format(table, sql.Identifier("the key"), sql.Identifier(NAMES[at]), 1, 1) for at, table in enumerate(wanted)
    ]
    databases.source.execute(sql.SQL(";").join(write))
    databases.publish(*(table.as_string(None) for table in wanted), publication='"Select"')
    schemas = ", ".join(
        f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(name, ensure_ascii=False)}" for name in NAMES
    )
    workspace.write(f"version: 1\nschemas: {{{schemas}}}\n", extra='[stream]\npublication = "Select"\n')
    daemon = workspace.daemon()
    daemon.wait_for_phase("streaming")
    followed = Followed(databases, workspace, daemon)
    followed.write(
        sql.SQL(";").join(
            sql.SQL(
                "UPDATE {} SET {} = 'w', kind = 'b'; INSERT INTO {} VALUES (2, 'x'), (3, NULL);"
                "DELETE FROM {} WHERE {} = 3"
            ).format(table, sql.Identifier(NAMES[at]), table, table, sql.Identifier("the key"))
            for at, table in enumerate(wanted)
        ),
        sql.SQL("TRUNCATE {}").format(wanted[0]),
    )
    with databases.source.connect() as source, databases.target.connect() as target:
        for at, table in enumerate(wanted):
            query = sql.SQL("SELECT t.* FROM {} t ORDER BY 1").format(table)
            rows = target.execute(query).fetchall()
            assert rows == source.execute(query).fetchall()
            assert len(rows) == (0 if at == 0 else 2)
    followed.stop()


LOCAL = (
    "2018-11-04 01:30:00",
    "2018-11-04 00:59:59.999999",
    "2018-11-04 02:00:00",
    "2018-03-11 02:30:00",
    "2018-03-11 01:59:59.5",
    "1800-01-01 00:00:00",
    "0044-03-15 12:00:00 BC",
    "9999-12-31 23:59:59",
    "infinity",
    "-infinity",
)


def test_F19_local_times_become_utc_and_the_odd_ones_are_counted(workspace: Workspace) -> None:
    """A gap and an overlap of New York, by copy and by stream: as PostgreSQL reads them, or as told."""
    mapping = (
        SAME
        + """
tables:
  public.t:
    columns:
      at: {timezone: America/New_York}
      early: {timezone: America/New_York, ambiguous: earlier}
"""
    )
    values = ", ".join(f"({{}} + {at}, '{text}', '{text}')" for at, text in enumerate(LOCAL))
    followed = follow(
        workspace,
        mapping,
        source="CREATE TABLE t (id int PRIMARY KEY, at timestamp, early timestamp)",
        target="CREATE TABLE t (id int PRIMARY KEY, at timestamptz, early timestamptz)",
        rows=f"INSERT INTO t VALUES {values.replace('{}', '0')}, (99, NULL, NULL)",
    )
    followed.write(f"INSERT INTO t VALUES {values.replace('{}', '100')}", "UPDATE t SET at = at WHERE id < 100")
    zone = "'America/New_York'"
    assert followed.target("SELECT id, at::text FROM t ORDER BY id") == followed.source(
        f"SELECT id, (at AT TIME ZONE {zone})::text FROM t ORDER BY id"
    )
    near = "at BETWEEN '1000-01-01' AND '3000-01-01'"
    odd = f"SELECT extract(epoch FROM at - early)::int, count(*) FROM t WHERE {near} GROUP BY 1"
    assert sorted(followed.target(odd)) == [(0, 2 * 5), (3600, 2)]
    assert followed.metric("crossfade_clock_notes_total", kind="overlap", table="public.t") >= 4
    assert followed.metric("crossfade_clock_notes_total", kind="gap", table="public.t") >= 4
    followed.stop()


@pytest.mark.one_version
def test_F19_error_policies_stop_at_the_row_and_never_tell_it(workspace: Workspace) -> None:
    """`ambiguous: error`: a local time that occurred twice stops the stream; mended by a later choice, it goes on."""
    mapping = SAME + "tables:\n  public.t: {columns: {at: {timezone: America/New_York, ambiguous: error}}}\n"
    followed = follow(
        workspace,
        mapping,
        source="CREATE TABLE t (id int PRIMARY KEY, at timestamp)",
        target="CREATE TABLE t (id int PRIMARY KEY, at timestamptz)",
    )
    followed.databases.source.execute("INSERT INTO t VALUES (1, '2018-11-04 01:30')")
    error = followed.failure()
    assert "public.t" in error
    assert "column at" in error
    assert "ambiguous: later" in error
    assert "01:30" not in followed.daemon.text()
    assert followed.target("SELECT count(*) FROM t") == [(0,)]
    followed.stop()
    workspace.write(mapping.replace("ambiguous: error", "ambiguous: later"))
    followed.daemon.start().wait_until_caught_up()
    assert followed.target("SELECT at::text FROM t") == [("2018-11-04 06:30:00+00",)]
    followed.stop()


@pytest.mark.one_version
def test_F1_a_value_whose_text_is_too_long_for_a_message_is_explained(workspace: Workspace) -> None:
    """A bytea of 540 MB: the walsender cannot print it and never will; the reason, what it means and the way out.

    In binary it passes: `make memory` has one of 600 MB. Slow by its size, so it runs on one version only.
    """
    followed = follow(
        workspace, source="CREATE TABLE t (id int PRIMARY KEY, big bytea)", extra='[stream]\nwire = "text"\n'
    )
    followed.write("INSERT INTO t VALUES (1, 'small')")
    followed.databases.source.execute("INSERT INTO t VALUES (2, convert_to(repeat('x', 540000000), 'UTF8'))")
    followed.daemon.wait_for_phase("failed", timeout=60)
    error = followed.failure()
    assert "bytea above 500 MB" in error
    assert "The slot cannot pass that change" in error
    assert "In binary it passes" in error
    assert "teardown" in error
    assert followed.target("SELECT id FROM t") == [(1,)]
    followed.stop()


def test_F1_F15_check_says_what_keeps_the_stream_in_text(workspace: Workspace) -> None:
    """One column of an enum, and every bytea beside it has to be printed: whoever stores large ones hears of it now."""
    mood = "CREATE TYPE mood AS ENUM ('a');"
    one, two = "CREATE TABLE t (id int PRIMARY KEY, m mood)", "CREATE TABLE u (id int PRIMARY KEY, big bytea)"
    workspace.databases.prepare(f"{mood}{one};{two}", f"{mood}{one};{two}")
    auto = '[stream]\nwire = "auto"\n'  # whatever the mode: text that was asked for is another finding
    workspace.write(SAME, extra=auto)
    findings = json.loads(workspace.run("check", "--json").stdout)["findings"]
    (found,) = [each for each in findings if each["name"] == "stream_in_text"]
    assert (found["severity"], found["subject"]) == ("warning", "source public.t")
    assert "column m" in found["sentence"]
    assert "public.u.big" in found["sentence"]
    workspace.write(SAME + "exclude: [public.t]\n", extra=auto)
    findings = json.loads(workspace.run("check", "--json").stdout)["findings"]
    is_old = workspace.databases.source.value("SELECT current_setting('server_version_num')::int") < 140_000
    assert [each["subject"] for each in findings if each["name"] == "stream_in_text"] == ["source"] * is_old
    workspace.write(SAME + "exclude: [public.t]\n", extra='[stream]\nwire = "text"\n')
    findings = json.loads(workspace.run("check", "--json").stdout)["findings"]
    assert [each["subject"] for each in findings if each["name"] == "stream_in_text"] == ["stream.wire"]


@pytest.mark.one_version
def test_E4_F16_a_column_that_becomes_another_type_is_refused_in_binary_too(workspace: Workspace) -> None:
    """Its bytes would be read as those of the type it had: the shape is looked at before the first row."""
    followed = follow(workspace, source="CREATE TABLE t (id int PRIMARY KEY, n int)")
    followed.write("INSERT INTO t VALUES (1, 1)")
    followed.databases.source.execute("ALTER TABLE t ALTER n TYPE bigint; INSERT INTO t VALUES (2, 2)")
    error = followed.failure()
    assert "Column n changed its type on the source" in error
    assert followed.target("SELECT id, n FROM t") == [(1, 1)]
