"""The mapping file: what it means, and every way of getting it wrong."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import TableName
from crossfade.faults import Misconfigured
from crossfade.mapping.idrules import IdPath, OtherOwner, RemapBy, RemapPaths
from crossfade.mapping.load import load_mapping, parse_mapping
from crossfade.mapping.plan import (
    Ambiguous,
    Const,
    LocalTime,
    Nonexistent,
    OnColumnAdded,
    OnMissing,
    OnOrphan,
    OnTruncate,
    Remap,
    Strategy,
)
from crossfade.mapping.reading import split_name
from crossfade.mapping.rules import Otherwise, ValueMap

WHOLE = """\
version: 1
schemas: {public: app}
exclude: [public.tmp_*]
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
  order: {from: public.orders.id, to: bigint, strategy: offset, by: -5}
policies:
  on_error: stop
  missing_row: stop
  truncate: stop
tables:
  app.accounts:
    from: public.users
    columns:
      id: {remap: user}
      full_name: name
      created_at: {timezone: America/New_York, ambiguous: earlier, nonexistent: error}
      last_login_at: {from: last_login, timezone: Europe/Berlin}
      on: {const: NO}
      verified: {const: false}
    drop: [password_md5]
  app.audit_log:
    append_only: true
    missing_row: insert
    orphan_id: error
    source_column_added: ignore
  app."odd.name":
"""


def test_a_whole_mapping_is_read() -> None:
    spec = parse_mapping(WHOLE)
    assert spec.schemas == {"public": "app"}
    assert [exclusion.pattern for exclusion in spec.exclude] == ["public.tmp_*"]
    assert spec.exclude[0].matches(TableName("public", "tmp_1"))
    assert not spec.exclude[0].matches(TableName("public", "TMP_1"))
    user, order = spec.keyspaces["user"], spec.keyspaces["order"]
    assert (user.owner, user.column, user.to, user.strategy) == (("public", "users"), "id", "uuid", Strategy.UUID7)
    assert (order.strategy, order.by) == (Strategy.OFFSET, -5)
    accounts = spec.tables[TableName("app", "accounts")]
    assert accounts.source == ("public", "users")
    assert set(accounts.drop) == {"password_md5"}
    columns = accounts.columns
    assert columns["id"].rule == Remap("user")
    assert (columns["full_name"].source, columns["full_name"].rule) == ("name", None)
    assert columns["created_at"].rule == LocalTime("America/New_York", Ambiguous.EARLIER, Nonexistent.ERROR)
    assert columns["last_login_at"].source == "last_login"
    assert columns["last_login_at"].rule == LocalTime("Europe/Berlin", Ambiguous.LATER, Nonexistent.SHIFT)
    assert columns["on"].rule == Const("NO")
    assert columns["verified"].rule == Const("false")
    assert TableName("app", "odd.name") in spec.tables


def test_policies_are_inherited_and_repeated_under_a_table() -> None:
    spec = parse_mapping(WHOLE)
    assert spec.policies.missing_row is OnMissing.STOP
    assert spec.tables[TableName("app", "accounts")].policies == spec.policies
    audit = spec.tables[TableName("app", "audit_log")]
    assert audit.append_only
    assert audit.policies.missing_row is OnMissing.INSERT
    assert audit.policies.orphan_id is OnOrphan.ERROR
    assert audit.policies.source_column_added is OnColumnAdded.IGNORE
    assert audit.policies.truncate is OnTruncate.STOP


def test_places_are_those_of_the_file() -> None:
    spec = parse_mapping(WHOLE)
    assert spec.at(spec.places["tables.app.accounts.columns.full_name"]) == "mapping.yaml:16:7"
    assert spec.places["schemas.public"] == (2, 11)
    assert spec.tables[TableName("app", "accounts")].source_place == (13, 11)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", "true"),
        ("FALSE", "false"),
        ("~", None),
        ("null", None),
        ("", None),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("007", "7"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("0.10", "0.10"),
        ("1e400", "1e400"),
        ("-.inf", "-Infinity"),
        (".nan", "NaN"),
        ("'5'", "5"),
        ('"a\\tb"', "a\tb"),
    ],
)
def test_a_constant_is_what_postgresql_reads(written: str, text: str | None) -> None:
    spec = parse_mapping(f"version: 1\ntables:\n  a.b:\n    columns:\n      x: {{const: {written}}}\n")
    assert spec.tables[TableName("a", "b")].columns["x"].rule == Const(text)


def mapping(body: str) -> str:
    """A mapping whose one table has this body, from line 5 on."""
    lines = dedent(body).strip("\n").splitlines()
    head = "version: 1\nids: {user: {from: public.users.id, strategy: uuid7}}\ntables:\n  app.t:\n"
    return head + "".join(f"    {line}\n" for line in lines)


# What is wrong, and the line that says so (without the excerpt that follows it).
WRONG: list[tuple[str, str]] = [
    # YAML itself
    ("", "1:1: the mapping is empty. It needs at least 'version: 1' and 'schemas' or 'tables'."),
    ("# nothing but words\n", "1:1: the mapping is empty."),
    ("- a\n- b\n", "1:1: expected keys such as 'tables:', found a list."),
    ("just text", "1:1: expected keys such as 'tables:', found a text."),
    ("version: 1\ntables: [\n", "3:1: this is not YAML: "),
    ("version: 1\nschemas: a: b\n", "2:11: this is not YAML: mapping values are not allowed here."),
    ("version: 1\n\ttables: x\n", "2:1: this is not YAML: "),
    ("version: 1\ntables:\n  a.b: 'x\n", "4:1: this is not YAML: found unexpected end of stream"),
    ("version: 1\nschemas: {a: b}\n---\nversion: 1\n", "3:1: this is not YAML: "),
    ("version: 1\nschemas: &s {a: b}\n", "2:10: anchors are not supported: remove &s."),
    ("version: 1\nschemas: *s\n", "2:10: aliases are not supported: write out what *s stands for."),
    ("version: 1\nschemas: {a: !!str b}\n", "2:14: tags are not supported"),
    ("version: 1\nschemas: {a: b}\nschemas: {c: d}\n", "3:1: schemas: this key is already given in line 2."),
    ("version: 1\nschemas: {[a]: b}\n", "2:11: schemas: a key must be a plain name."),
    ("version: 1\nschemas: {a: b\x07}\n", "2:15: the character U+0007 is not allowed."),
    ("version: 1\nschemas: " + "[" * 90, "2:41: this is not YAML: nested too deeply."),
    ("version: 1\nschemas: {a: b}\n<<: {x: y}\n", "3:1: <<: unknown key."),
    # the top level
    ("schemas: {a: b}\n", "1:1: version: missing: write 'version: 1' first"),
    ("version: 2\nschemas: {a: b}\n", "1:10: version: this version of crossfade reads version 1, found the number 2."),
    ("version: true\nschemas: {a: b}\n", "1:10: version: this version of crossfade reads version 1, found the truth"),
    ("version: 1\n", "1:1: nothing is mapped: give 'schemas' or 'tables'."),
    ("version: 1\ntabels: {}\n", "2:1: tabels: unknown key. Did you mean 'tables'?"),
    ("version: 1\nxyz: {}\n", "2:1: xyz: unknown key. Known here: version, schemas, exclude, ids, policies, tables."),
    ("version: 1\nschemas: [public]\n", "2:10: schemas: expected a block of keys, found a list."),
    ("version: 1\nschemas: {public: [a, b]}\n", "2:19: schemas.public: expected the name of a target schema, found a"),
    (
        "version: 1\nschemas: {public: 5}\n",
        "2:19: schemas.public: expected the name of a target schema, found the number",
    ),
    (
        "version: 1\nschemas: {public: crossfade}\n",
        "2:19: schemas.public: the schema 'crossfade' holds crossfade's own",
    ),
    ("version: 1\nschemas: {a: b}\nexclude: a.b\n", "3:10: exclude: expected a list, found a text: put it in brackets"),
    ("version: 1\nschemas: {a: b}\nexclude: [tmp_*]\n", "3:11: exclude[0]: a pattern names schema and table: write "),
    ("version: 1\nschemas: {a: b}\nexclude: [5]\n", "3:11: exclude[0]: expected a pattern such as public.tmp_*, found"),
    # ids
    ("version: 1\nids: {u: x}\n", "2:10: ids.u: expected from, to and strategy, found a text."),
    ("version: 1\nids: {u: {from: a.b.c}}\n", "2:7: ids.u: 'strategy' is missing."),
    ("version: 1\nids: {u: {strategy: uuid7}}\n", "2:7: ids.u: 'from' is missing."),
    (
        "version: 1\nids: {u: {from: a.b, strategy: uuid7}}\n",
        "2:17: ids.u.from: expected schema.table.column, such as public.users.id.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: uuid8}}\n",
        "2:34: ids.u.strategy: expected uuid7, uuid4, uuid5, offset, sequence or table, found 'uuid8'.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: sequence}}\n",
        "2:7: ids.u: the strategy sequence needs 'sequence', its name.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: table}}\n",
        "2:7: ids.u: the strategy table needs 'table', its name.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: table, table: map}}\n",
        "2:48: ids.u.table: expected schema.table, such as public.users",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: uuid7, sequence: s.q}}\n",
        "2:51: ids.u.sequence: 'sequence' belongs to the strategy sequence, not to uuid7.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: sequence, sequence: s.q, to: uuid}}\n",
        "2:63: ids.u.to: the strategy sequence makes integers, not uuid.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: sequence, sequence: s.q, by: 1}}\n",
        "2:63: ids.u.by: 'by' belongs to the strategy offset, not to sequence.",
    ),
    (
        "version: 1\nids: {u: {from: [a.b.c], strategy: uuid7}}\n",
        "2:17: ids.u.from: expected two columns or more of one table, such as [public.accounts.tenant, public.accounts",
    ),
    (
        "version: 1\nids: {u: {from: [a.b.c, a.b.c], strategy: uuid7}}\n",
        "2:17: ids.u.from: expected two columns or more of one table",
    ),
    (
        "version: 1\nids: {u: {from: [a.b.c, a.x.d], strategy: uuid7}}\n",
        "2:17: ids.u.from: expected two columns or more of one table",
    ),
    (
        "version: 1\nids: {u: {from: [a.b.c, b], strategy: uuid7}}\n",
        "2:25: ids.u.from: expected schema.table.column, such as public.users.id.",
    ),
    ("version: 1\nids: {u: {from: a.b.c, strategy: offset}}\n", "2:7: ids.u: the strategy offset needs 'by'"),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: offset, by: x}}\n",
        "2:46: ids.u.by: expected a whole number, found a text.",
    ),
    ("version: 1\nids: {u: {from: a.b.c, strategy: offset, by: true}}\n", "2:46: ids.u.by: expected a whole number"),
    ("version: 1\nids: {u: {from: a.b.c, strategy: offset, by: 0}}\n", "2:46: ids.u.by: expected a number other than"),
    (
        "version: 1\nids: {u: {from: a.b.c, strategy: uuid4, by: 3}}\n",
        "2:45: ids.u.by: 'by' belongs to the strategy offset, not to uuid4.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, to: bigint, strategy: uuid4}}\n",
        "2:28: ids.u.to: the strategy uuid4 makes uuids, not bigint.",
    ),
    (
        "version: 1\nids: {u: {from: a.b.c, to: uuuid, strategy: uuid4}}\n",
        "2:28: ids.u.to: ids cannot become 'uuuid': expected uuid, text, smallint, integer or bigint.",
    ),
    ("version: 1\nids: {User: {from: a.b.c, strategy: uuid4}}\n", "2:7: ids.User: a keyspace's name is lower case"),
    (
        "version: 1\nids:\n  u: {from: a.b.c, strategy: uuid4}\n  v: {from: a.b.c, strategy: uuid7}\n",
        "4:3: ids.v: a.b.c already has ids.u.",
    ),
    # policies
    ("version: 1\npolicies: stop\n", "2:11: policies: expected keys, found a text."),
    (
        "version: 1\npolicies: {on_error: quarantine}\n",
        "2:22: policies.on_error: quarantine (on_error: quarantine): not yet supported by this version.",
    ),
    (
        "version: 1\npolicies: {missing_row: insrt}\n",
        "2:25: policies.missing_row: expected insert or stop, found 'insrt'. Did you mean 'insert'?",
    ),
    ("version: 1\npolicies: {truncate: [apply]}\n", "2:22: policies.truncate: expected apply or stop, found a list."),
    ("version: 1\npolicies: {truncat: apply}\n", "2:12: policies.truncat: unknown key. Did you mean 'truncate'?"),
    # tables
    ("version: 1\ntables: {users: {}}\n", "2:10: tables.users: expected schema.table, such as public.users"),
    ("version: 1\ntables: {a.b.c: {}}\n", "2:10: tables.a.b.c: expected schema.table, such as public.users"),
    ("version: 1\ntables: {a.b: x}\n", "2:15: tables.a.b: expected keys such as from and columns, found a text."),
    ("version: 1\ntables: {crossfade.progress: {}}\n", "2:10: tables.crossfade.progress: the schema 'crossfade' holds"),
    (
        f"version: 1\ntables: {{a.{'x' * 64}: {{}}}}\n",
        f"2:10: tables.a.{'x' * 64}: a name longer than 63 bytes cannot exist in PostgreSQL.",
    ),
    (mapping("dropp: [x]"), "5:5: tables.app.t.dropp: unknown key. Did you mean 'drop'?"),
    (mapping("where: a; b"), "5:12: tables.app.t.where: this holds a semicolon: it must be one expression."),
    (mapping("where: 5"), "5:12: tables.app.t.where: expected an SQL condition such as"),
    (mapping("only: true"), "5:5: tables.app.t.only: only the columns listed are taken, and none is: list them."),
    (mapping("only: true\ncolumns: {a: b}\ndrop: [c]"), "7:5: tables.app.t.drop: with 'only', columns that are not"),
    # several sources
    (mapping("from: []"), "5:11: tables.app.t.from: expected one source table or more, found an empty list."),
    (mapping("from: [a.b, users]"), "5:17: tables.app.t.from[1]: expected schema.table, such as public.users"),
    (mapping("from: [a.b, 5]"), "5:17: tables.app.t.from[1]: expected a source table such as public.users, or a block"),
    (mapping("from: [a.b, [a.c]]"), "5:17: tables.app.t.from[1]: expected a source table such as public.users, or a"),
    (mapping("from: [a.b, a.c, a.b]"), "5:22: tables.app.t.from[2]: this source is already given in line 5."),
    (mapping("from:\n  - a.b\n  - {table: a.b}"), "7:9: tables.app.t.from[1]: this source is already given in line 6."),
    (
        mapping("from: [{table: a.b, dropp: [c]}]"),
        "5:25: tables.app.t.from[0].dropp: unknown key. Did you mean 'drop'?",
    ),
    (mapping("from: [{columns: {a: b}}]"), "5:12: tables.app.t.from[0]: 'table' is missing: the source's name."),
    (
        mapping("from: [{table: users}]"),
        "5:20: tables.app.t.from[0].table: expected schema.table, such as public.users",
    ),
    (mapping("from: [{table: a.b, only: true}]"), "5:25: tables.app.t.from[0].only: unknown key."),
    (mapping("from: [{table: a.b, columns: {a: 5}}]"), "5:38: tables.app.t.from[0].columns.a: expected the name of a"),
    (mapping("from: [{table: a.b, drop: a}]"), "5:31: tables.app.t.from[0].drop: expected a list, found a text"),
    (
        mapping("from: [{table: a.b, where: x; y}]"),
        "5:32: tables.app.t.from[0].where: this holds a semicolon: it must be one expression",
    ),
    (
        mapping("from: [{table: a.b, where: x > 1}]\nwhere: x > 2"),
        "5:25: tables.app.t.from[0].where: there is a condition beside 'from' as well: give it once",
    ),
    (
        mapping("only: true\nfrom: [{table: a.b, columns: {x: y}}, a.c]"),
        "6:43: tables.app.t.from[1]: only the columns listed are taken, and none is: list them.",
    ),
    (
        mapping("only: true\ncolumns: {x: y}\nfrom: [{table: a.b, drop: [z]}]"),
        "7:25: tables.app.t.from[0].drop: with 'only', columns that are not listed are left out anyway.",
    ),
    (mapping("from: users"), "5:11: tables.app.t.from: expected schema.table"),
    (mapping("append_only: yes"), "5:18: tables.app.t.append_only: expected true or false, found a text."),
    (mapping("on_error: quarantine"), "5:15: tables.app.t.on_error: quarantine (on_error: quarantine): not yet"),
    (mapping("drop: password"), "5:11: tables.app.t.drop: expected a list, found a text: put it in brackets"),
    (mapping("drop: [a, b, a]"), "5:18: tables.app.t.drop[2]: 'a' is already dropped in line 5."),
    # columns
    (mapping("columns: [a]"), "5:14: tables.app.t.columns: expected a block of columns, found a list."),
    (mapping("columns: {a: 5}"), "5:18: tables.app.t.columns.a: expected the name of a source column, or a block"),
    (mapping("columns: {a: }"), "5:17: tables.app.t.columns.a: expected the name of a source column, or a block such"),
    (mapping("columns: {a: [b]}"), "5:18: tables.app.t.columns.a: expected the names of two columns or more, such as"),
    (mapping("columns: {a: [b, b]}"), "5:18: tables.app.t.columns.a: expected the names of two columns or more"),
    (
        mapping("columns: {a: {from: [b, 5]}}"),
        "5:29: tables.app.t.columns.a.from: expected the name of a source column",
    ),
    (
        mapping("columns: {a: {from: [b, c], timezone: UTC}}"),
        "5:33: tables.app.t.columns.a: several columns can only be an id together: write 'remap', or make the value by",
    ),
    (mapping("columns: {a: {}}"), "5:18: tables.app.t.columns.a: this block is empty"),
    (mapping("columns: {a: {form: b}}"), "5:19: tables.app.t.columns.a.form: unknown key. Did you mean 'from'?"),
    (mapping("columns: {a: {up: lower(a}}"), "5:23: tables.app.t.columns.a.up: this opens a ( that it does not close."),
    (mapping("columns: {a: {from: b, down: x}}"), "5:28: tables.app.t.columns.a.down: this needs 'up' beside it."),
    (mapping("columns: {a: {from: b, up: x}}"), "5:19: tables.app.t.columns.a: 'up' names the columns it reads itself"),
    (mapping("columns: {a: {up: x, const: 1}}"), "5:19: tables.app.t.columns.a: 'const' and 'up' exclude each other"),
    (
        mapping("columns: {a: {otherwise: error}}"),
        "5:19: tables.app.t.columns.a.otherwise: this needs 'values' beside it.",
    ),
    (
        mapping("columns: {a: {values: [x]}}"),
        "5:27: tables.app.t.columns.a.values: expected a block such as {1: free, 2: pro}, found a list.",
    ),
    (mapping("columns: {a: {values: {}}}"), "5:27: tables.app.t.columns.a.values: no value is mapped: write"),
    (mapping("columns: {a: {values: }}"), "5:26: tables.app.t.columns.a.values: no value is mapped: write"),
    (
        mapping("columns: {a: {values: {1: [x]}}}"),
        "5:31: tables.app.t.columns.a.values.1: expected one value, found a list.",
    ),
    (
        mapping("columns: {a: {values: {null: x}}}"),
        "5:28: tables.app.t.columns.a.values.null: NULL stays NULL in a value map.",
    ),
    (
        mapping("columns: {a: {values: {1: x}, otherwise: nul}}"),
        "5:46: tables.app.t.columns.a.otherwise: expected error, null or {const: …}, found 'nul'.",
    ),
    (
        mapping("columns: {a: {values: {1: x}, otherwise: {const: [1]}}}"),
        "5:46: tables.app.t.columns.a.otherwise: expected error, null or {const: …}, found a block of keys.",
    ),
    (
        mapping("columns: {a: {values: {1: x}, otherwise: {cost: 1}}}"),
        "5:46: tables.app.t.columns.a.otherwise: expected error, null or",
    ),
    (
        mapping("columns: {a: {values: {1: x}, cast: lossy}}"),
        "5:35: tables.app.t.columns.a: 'values' and 'cast' exclude each other: choose one.",
    ),
    (
        mapping("columns: {a: {cast: text}}"),
        "5:25: tables.app.t.columns.a.cast: expected lossy (what loses nothing needs no 'cast'), found 'text'.",
    ),
    (mapping("columns: {a: {remap: {user: b}}}"), "5:26: tables.app.t.columns.a.remap: 'by' is missing: write"),
    (
        mapping("columns: {a: {remap: {}}}"),
        "5:26: tables.app.t.columns.a.remap: 'by' is missing: write {by: owner_type",
    ),
    (mapping("columns: {a: {remap: {by: b}}}"), "5:26: tables.app.t.columns.a.remap: 'of' is missing: write {by:"),
    (
        mapping("columns: {a: {remap: {by: b, of: {U: usr}}}}"),
        "5:42: tables.app.t.columns.a.remap.of.U: there is no ids.usr. Did you mean 'user'?",
    ),
    (mapping("columns: {a: {remap: {by: b, of: {}}}}"), "5:38: tables.app.t.columns.a.remap.of: no keyspace is named"),
    (
        mapping("columns: {a: {remap: {by: b, of: {U: user}, otherwise: kep}}}"),
        "5:60: tables.app.t.columns.a.remap.otherwise: expected keep, error or null, found 'kep'. Did you mean 'keep'?",
    ),
    (mapping("columns: {a: {remap: []}}"), "5:26: tables.app.t.columns.a.remap: this list is empty: write {ids: user"),
    (mapping("columns: {a: {remap: [user]}}"), "5:27: tables.app.t.columns.a.remap: expected a block such as {ids: us"),
    (
        mapping("columns: {a: {remap: {ids: user}}}"),
        "5:26: tables.app.t.columns.a.remap: 'path' is missing: write {ids",
    ),
    (mapping("columns: {a: {remap: {path: $.a}}}"), "5:26: tables.app.t.columns.a.remap: 'ids' is missing: write {ids"),
    (
        mapping("columns: {a: {remap: {ids: user, path: owner}}}"),
        "5:44: tables.app.t.columns.a.remap.path: 'owner' is no path that is supported: write $.name",
    ),
    (
        mapping("columns: {a: {remap: [{ids: user, path: [$.a, $..b]}]}}"),
        "5:51: tables.app.t.columns.a.remap.path: '$..b' is no path that is supported",
    ),
    (mapping("columns: {a: {remap: usr}}"), "5:26: tables.app.t.columns.a.remap: there is no ids.usr. Did you mean"),
    (
        mapping("columns: {a: {timezone: America/New_Yrk}}"),
        "5:29: tables.app.t.columns.a.timezone: there is no time zone 'America/New_Yrk'. Did you mean",
    ),
    (
        mapping("columns: {a: {timezone: UTC, ambiguous: first}}"),
        "5:45: tables.app.t.columns.a.ambiguous: expected later, earlier or error, found 'first'.",
    ),
    (
        mapping("columns: {a: {timezone: UTC, nonexistent: later}}"),
        "5:47: tables.app.t.columns.a.nonexistent: expected shift or error, found 'later'.",
    ),
    (
        mapping("columns: {a: {from: b, ambiguous: later}}"),
        "5:28: tables.app.t.columns.a.ambiguous: this needs 'timezone'",
    ),
    (mapping("columns: {a: {const: [1]}}"), "5:26: tables.app.t.columns.a.const: expected one value, found a list."),
    (
        mapping("columns: {a: {const: 1, from: b}}"),
        "5:29: tables.app.t.columns.a: a 'const' takes nothing from the source",
    ),
    (
        mapping("columns: {a: {remap: user, timezone: UTC}}"),
        "5:32: tables.app.t.columns.a: 'remap' and 'timezone' exclude each other: choose one.",
    ),
    (mapping('columns: {a: {const: "a\\0b"}}'), "5:26: tables.app.t.columns.a.const: a NUL character is not allowed"),
    ('version: 1\nschemas: {a: b, "c\\0d": e}\n', "2:17: schemas: a NUL character is not allowed"),
    (
        mapping('columns: {a: {const: "\\ud83d"}}'),
        "5:26: tables.app.t.columns.a.const: the escape for U+D83D is half a",
    ),
    (
        mapping('columns: {a: {const: "\\ud83d\\ude00"}}'),
        "5:26: tables.app.t.columns.a.const: the escape for U+D83D is",
    ),
    ('version: 1\nschemas: {a: b, c: "x\\udfff"}\n', "2:20: schemas.c: the escape for U+DFFF is half a character"),
    ('version: 1\n"\\ud83d": 1\n', "2:1: the escape for U+D83D is half a character: write the character itself"),
    ('version: 1\nschemas: {a: "\\U00110000"}\n', "2:17: this is not YAML: the number here is too large."),
    ('version: 1\nschemas: {a: "\\UFFFFFFFF"}\n', "2:17: this is not YAML: the number here is too large."),
    (f"%YAML {'9' * 5000}.1\n---\nversion: 1\n", "1:7: this is not YAML: the number here is too large."),
    (mapping("columns:\n  a: b\n  a: c"), "7:7: tables.app.t.columns.a: this key is already given in line 6."),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_mapping_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_mapping(text)
    heads = [line for line in str(refused.value).split("\n") if line.startswith("mapping.yaml:")]
    assert heads[0].startswith(f"mapping.yaml:{message}"), str(refused.value)
    str(refused.value).encode()  # what is told can be printed


def test_a_value_map_knows_its_places() -> None:
    text = mapping("columns: {a: {from: b, values: {1: free, 'null': ~, 3: 007}, otherwise: {const: 1e400}}}")
    column = parse_mapping(text).tables[TableName("app", "t")].columns["a"]
    assert column.rule == ValueMap((("1", "free"), ("null", None), ("3", "7")), Otherwise.CONST, "1e400")
    assert [str(column.at(path)) for path in ("values.3", "otherwise", "elsewhere")] == ["5:57", "5:66", "5:15"]


def test_ids_inside_values() -> None:
    columns = {
        "a: {remap: {ids: user, path: $.owner}}": RemapPaths((IdPath("user", "$.owner", ("owner",)),)),
        "a: {remap: [{ids: user, path: ['$.x[*]', $]}]}": RemapPaths(
            (IdPath("user", "$.x[*]", ("x", -1)), IdPath("user", "$", ()))
        ),
        "a: {remap: {by: kind, of: {U: user, 1: user}}}": RemapBy(
            "kind", (("U", "user"), ("1", "user")), OtherOwner.ERROR
        ),
        "a: {remap: {by: kind, of: {U: user}, otherwise: null}}": RemapBy("kind", (("U", "user"),), OtherOwner.NULL),
    }
    for written, rule in columns.items():
        spec = parse_mapping(mapping(f"columns: {{{written}}}"))
        assert spec.tables[TableName("app", "t")].columns["a"].rule == rule, written


def test_the_line_and_a_caret_are_shown() -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_mapping(mapping("dropp: [x]"))
    assert str(refused.value) == (
        "mapping.yaml:5:5: tables.app.t.dropp: unknown key. Did you mean 'drop'?\n        dropp: [x]\n        ^"
    )


def test_all_problems_come_at_once_and_in_order() -> None:
    text = mapping("dropp: [x]\nwhere: a)\ncolumns: {a: {remap: usr}, b: 5}")
    with pytest.raises(Misconfigured) as refused:
        parse_mapping(text)
    heads = [line.split(": ")[0] for line in str(refused.value).split("\n") if line.startswith("mapping.yaml:")]
    assert heads == [f"mapping.yaml:{place}" for place in ("5:5", "6:12", "7:26", "7:35")]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.yaml: The mapping cannot be read: No such file"):
        load_mapping(tmp_path / "none.yaml")
    with pytest.raises(Misconfigured, match=r"The mapping cannot be read: Is a directory"):
        load_mapping(tmp_path)


def test_a_file_in_another_encoding_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes("version: 1\n# größe\n".encode("latin-1"))
    with pytest.raises(Misconfigured, match=r"mapping\.yaml:2:5: this file is not UTF-8 \(byte 0xF6\)"):
        load_mapping(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert load_mapping(path).meaning_hash == parse_mapping(WHOLE).meaning_hash


def refusal(text: str) -> str:
    """What is said of the text; of a mapping that can be read, just its file's name."""
    try:
        return f"{parse_mapping(text).file}:"
    except Misconfigured as refused:
        return str(refused)


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_refused(text: str) -> None:
    assert refusal(text).startswith("mapping.yaml:")


ESCAPES = st.one_of(
    st.integers(0, 0xFF).map("\\x{:02x}".format),
    st.integers(0, 0xFFFF).map("\\u{:04X}".format),
    st.integers(0, 0xFFFFFFFF).map("\\U{:08x}".format),
)


@given(st.lists(ESCAPES, max_size=8), st.sampled_from(['{{"{}": 1}}', 'version: "{}"', 'tables: {{x: "{}"}}']))
def test_any_escape_is_read_or_refused(escapes: list[str], around: str) -> None:
    assert refusal(around.format("".join(escapes))).encode().startswith(b"mapping.yaml:")


@given(st.lists(st.sampled_from([*" \n:-[]{}&*!|>'\"%@`#,", "a", "1", "tables", "version: 1\n"]), max_size=40))
def test_any_heap_of_yaml_signs_is_refused_or_read(parts: list[str]) -> None:
    text = "".join(parts)
    assert refusal(text).startswith("mapping.yaml:")


def test_an_empty_value_means_nothing_special() -> None:
    spec = parse_mapping("version: 1\nschemas: {a: b}\nexclude:\nids:\npolicies:\ntables:\n")
    assert (spec.exclude, spec.keyspaces, spec.tables) == ((), {}, {})


def test_the_hash_is_of_the_meaning() -> None:
    first = "version: 1\ntables:\n  app.t: {from: x.y, columns: {a: b, c: {timezone: UTC}}, drop: [a, b]}\n"
    same = """\
        # another file, the same mapping
        tables:
            app.t:
                drop: [b, a]
                missing_row: insert
                columns:
                    c: {ambiguous: later, timezone: "UTC"}
                    a: {from: b}
                from: "x.y"
        policies: {truncate: apply, on_error: stop}
        version: 1
    """
    assert parse_mapping(first).meaning_hash == parse_mapping(dedent(same)).meaning_hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{public: app}", "{public: apq}"),
        ("public.tmp_*", "public.temp_*"),
        ("strategy: uuid7", "strategy: uuid5"),
        ("by: -5", "by: 5"),
        ("missing_row: stop", "missing_row: insert"),
        ("from: public.users\n", "from: public.people\n"),
        ("full_name: name", "full_name: title"),
        ("ambiguous: earlier", "ambiguous: later"),
        ("{const: false}", "{const: true}"),
        ("[password_md5]", "[]"),
        ("append_only: true", "append_only: false"),
        ("orphan_id: error", "orphan_id: allocate"),
        ("Europe/Berlin", "Europe/Paris"),
    ],
)
def test_another_meaning_has_another_hash(old: str, new: str) -> None:
    assert WHOLE.count(old) >= 1
    assert parse_mapping(WHOLE).meaning_hash != parse_mapping(WHOLE.replace(old, new)).meaning_hash


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda part: "\0" not in part), min_size=1, max_size=3))
def test_quoted_names_are_read_back(parts: list[str]) -> None:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert split_name(quoted) == tuple(parts)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', 'a"b', '"a"b', 'a."b'])
def test_half_a_name_is_none(text: str) -> None:
    assert split_name(text) is None


def test_what_is_said_beside_several_sources_holds_for_each() -> None:
    spec = parse_mapping(
        mapping("""
            from:
              - public.users
              - {table: legacy.clients, columns: {name: client, note: {const: old}}, drop: [fax], where: "not gone"}
            columns: {name: full_name, at: made}
            drop: [password]
        """)
    )
    one, other = spec.tables[TableName("app", "t")].each
    assert (one.source, other.source) == (TableName("public", "users"), TableName("legacy", "clients"))
    assert {name: each.source for name, each in one.columns.items()} == {"name": "full_name", "at": "made"}
    assert {name: each.source for name, each in other.columns.items()} == {"name": "client", "at": "made", "note": None}
    assert (sorted(one.drop), sorted(other.drop)) == (["password"], ["fax", "password"])
    assert one.where is None
    assert other.where is not None
    assert [str(each.place) for each in (one, other)] == ["6:9", "7:9"]


def test_one_source_in_a_list_is_one_source() -> None:
    listed, plain = (parse_mapping(mapping(f"from: {written}")) for written in ("[public.users]", "public.users"))
    assert listed.meaning_hash == plain.meaning_hash
