"""What is drained: tables, the rows they begin with, the changes that pile up, and the two shapes a target may have.

`plain` is the source's own shape, which every contender can make; `reshaped` remaps ids to uuid (version 7), turns
local times into `timestamptz`, renames and drops columns, which only crossfade is asked for. Every backlog ends with a
row in `bench_marks`, by which its end is recognised. Refuses to know the contenders. The invariant: the same size
makes the same rows, whoever is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench.compare import Compared, same
from tests.bench.ground import Ground, NotMeasured
from tests.servers.databases import Side

MARKS: Final = "CREATE TABLE {schema}.bench_marks (id integer PRIMARY KEY);"
_ZONE: Final = "America/New_York"
_QUICKLY: Final = "SET synchronous_commit = off;"  # for writing backlogs only: who writes them is not measured


@dataclass(frozen=True, slots=True)
class Shape:
    """One form of the target: its DDL, crossfade's mapping, and how it is compared with the source."""

    ddl: str
    mapping: str
    compared: tuple[Compared, ...]
    schema: str = "public"


@dataclass(frozen=True, slots=True)
class Backlog:
    """`fill` makes the rows there are before, `pile_up` the changes; both are given the source and a size.

    `tables` are published for everything, `appended` for INSERT alone (they have no key); `changes` says how many
    changes a backlog of a size has.
    """

    name: str
    ddl: str
    tables: tuple[str, ...]
    appended: tuple[str, ...]
    fill: Callable[[Ground, Side, int], None]
    pile_up: Callable[[Ground, Side, int], None]
    changes: Callable[[int], int]
    plain: Shape
    reshaped: Shape | None = None


def end_mark(source: Side) -> int:
    """Commit the row that ends a backlog; returns a position that its commit is past."""
    lsn = int(source.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))
    source.execute("INSERT INTO public.bench_marks VALUES (1)")
    return lsn


# -- wide rows: ten columns

EVENTS: Final = """
CREATE TABLE {schema}.events (
    id bigint PRIMARY KEY,
    account_id integer NOT NULL,
    kind varchar(20) NOT NULL,
    title text NOT NULL,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    active boolean NOT NULL,
    created_at timestamp NOT NULL,
    token uuid,
    note text);
"""
_COLUMNS: Final = "id, account_id, kind, title, quantity, price, active, created_at, token, note"
_EVENTS_RESHAPED: Final = """
CREATE SCHEMA app;
CREATE TABLE app.events (
    id uuid PRIMARY KEY,
    account_id integer NOT NULL,
    kind varchar(20) NOT NULL,
    label text NOT NULL,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL,
    token uuid);
"""
_EVENTS_MAPPING: Final = f"""\
version: 1
schemas: {{public: app}}
ids:
  event: {{from: public.events.id, to: uuid, strategy: uuid7}}
tables:
  app.events:
    columns:
      id: {{remap: event}}
      label: title
      created_at: {{timezone: {_ZONE}}}
    drop: [note]
"""
PLAIN_MAPPING: Final = "version: 1\nschemas: {public: public}\n"

EVENTS_PLAIN: Final = Shape(
    EVENTS.format(schema="public") + MARKS.format(schema="public"), PLAIN_MAPPING, (same("public.events", _COLUMNS),)
)
EVENTS_RESHAPED: Final = Shape(
    _EVENTS_RESHAPED + MARKS.format(schema="app"),
    _EVENTS_MAPPING,
    (
        Compared(
            "events",
            f"""SELECT ROW(id::text, account_id, kind, title, quantity, price, active,
                created_at AT TIME ZONE '{_ZONE}', token)::text FROM public.events""",
            """SELECT ROW(m.old::text, account_id, kind, label, quantity, price, active, created_at, token)::text
                FROM app.events t LEFT JOIN crossfade.id_event m ON m.new = t.id""",
        ),
    ),
    "app",
)


def insert_events(first: str, last: str) -> str:
    """An INSERT of the rows `first` to `last`, expressions in SQL; a row's values follow from its number."""
    return f"""
        INSERT INTO public.events ({_COLUMNS})
        SELECT i, (i * 7919) % 100000, 'kind ' || i % 20, 'the title of event ' || i, i % 1000, (i % 100000) / 100.0,
               i % 3 = 0, timestamp '2019-01-01' + i * interval '37 seconds',
               CASE WHEN i % 7 <> 0 THEN md5(i::text)::uuid END,
               CASE i % 10 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'a note that belongs to event ' || i END
        FROM generate_series({first}::bigint, {last}::bigint) i"""


def _in_transactions(statement: str, total: int, size: int) -> str:
    """A block that runs `statement` (which names `first` and `last`) over 1..total, `size` to a transaction."""
    return f"""{_QUICKLY}
        DO $$
        DECLARE first bigint; last bigint;
        BEGIN
            FOR n IN 0 .. ({total} - 1) / {size} LOOP
                first := n::bigint * {size} + 1;
                last := least(first + {size} - 1, {total});
                {statement};
                COMMIT;
            END LOOP;
        END $$"""


def _script(source: Side, text: str) -> None:
    """Statements one after the other on one connection; a block that commits must not be in a transaction."""
    with source.connect() as session:
        for statement in text.split(";\n", 1) if text.startswith(_QUICKLY) else [text]:
            session.execute(statement.encode())


def _nothing(ground: Ground, source: Side, size: int) -> None:
    pass


def insert_backlog(ground: Ground, source: Side, size: int) -> None:
    """`size` rows, 1,000 to a transaction."""
    _script(source, _in_transactions(insert_events("first", "last"), size, 1000))


def fill_events(ground: Ground, source: Side, size: int) -> None:
    """`size` rows in one transaction."""
    source.execute(f"{_QUICKLY} {insert_events('1', str(size))}; ANALYZE public.events")


def _update_backlog(ground: Ground, source: Side, size: int) -> None:
    """One UPDATE of all rows, then single-row ones for a tenth of them, each its own transaction."""
    source.execute(f"{_QUICKLY} UPDATE public.events SET quantity = quantity + 1, price = price + 0.01")
    one = f"""UPDATE public.events SET title = 'a new title for event ' || id, active = NOT active
              WHERE id = (first * 7919) % {size} + 1"""
    _script(source, _in_transactions(one, size // 10, 1))


# -- pgbench

_PGBENCH: Final = """
CREATE TABLE public.pgbench_branches (bid integer PRIMARY KEY, bbalance integer, filler character(88));
CREATE TABLE public.pgbench_tellers (tid integer PRIMARY KEY, bid integer, tbalance integer, filler character(84));
CREATE TABLE public.pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84));
CREATE TABLE public.pgbench_history (
    tid integer, bid integer, aid integer, delta integer, mtime timestamp, filler character(22));
"""
_PGBENCH_RESHAPED: Final = """
CREATE SCHEMA app;
CREATE TABLE app.branches (id uuid PRIMARY KEY, balance integer);
CREATE TABLE app.tellers (id uuid PRIMARY KEY, branch_id uuid, balance integer, filler character(84));
CREATE TABLE app.accounts (id uuid PRIMARY KEY, branch_id uuid, balance integer, filler character(84));
CREATE TABLE app.history (
    teller_id uuid, branch_id uuid, account_id uuid, delta integer, mtime timestamptz, filler character(22));
"""
_PGBENCH_MAPPING: Final = f"""\
version: 1
schemas: {{public: app}}
ids:
  branch: {{from: public.pgbench_branches.bid, to: uuid, strategy: uuid7}}
  teller: {{from: public.pgbench_tellers.tid, to: uuid, strategy: uuid7}}
  account: {{from: public.pgbench_accounts.aid, to: uuid, strategy: uuid7}}
tables:
  app.branches:
    from: public.pgbench_branches
    columns: {{id: {{from: bid, remap: branch}}, balance: bbalance}}
    drop: [filler]
  app.tellers:
    from: public.pgbench_tellers
    columns: {{id: {{from: tid, remap: teller}}, branch_id: {{from: bid, remap: branch}}, balance: tbalance}}
  app.accounts:
    from: public.pgbench_accounts
    columns: {{id: {{from: aid, remap: account}}, branch_id: {{from: bid, remap: branch}}, balance: abalance}}
  app.history:
    from: public.pgbench_history
    append_only: true
    columns:
      teller_id: {{from: tid, remap: teller}}
      branch_id: {{from: bid, remap: branch}}
      account_id: {{from: aid, remap: account}}
      mtime: {{timezone: {_ZONE}}}
"""


def _mapped(name: str, source: str, target: str, **ids: str) -> Compared:
    """A pgbench table and what it became; `ids` say which column is taken back through which map."""
    joins = " ".join(f"LEFT JOIN crossfade.id_{ks} {col} ON {col}.new = t.{col}" for col, ks in ids.items())
    return Compared(
        name,
        f"SELECT ROW({source})::text FROM public.pgbench_{name}",
        f"SELECT ROW({target})::text FROM app.{name} t {joins}",
    )


_PGBENCH_PLAIN_SHAPE: Final = Shape(
    _PGBENCH + MARKS.format(schema="public"),
    "version: 1\nschemas: {public: public}\ntables:\n  public.pgbench_history:\n    append_only: true\n",
    (
        same("public.pgbench_branches", "bid, bbalance, filler"),
        same("public.pgbench_tellers", "tid, bid, tbalance, filler"),
        same("public.pgbench_accounts", "aid, bid, abalance, filler"),
        same("public.pgbench_history", "tid, bid, aid, delta, mtime, filler"),
    ),
)
_PGBENCH_RESHAPED_SHAPE: Final = Shape(
    _PGBENCH_RESHAPED + MARKS.format(schema="app"),
    _PGBENCH_MAPPING,
    (
        _mapped("branches", "bid::text, bbalance", "id.old::text, balance", id="branch"),
        _mapped(
            "tellers",
            "tid::text, bid::text, tbalance, filler",
            "id.old::text, branch_id.old::text, balance, filler",
            id="teller",
            branch_id="branch",
        ),
        _mapped(
            "accounts",
            "aid::text, bid::text, abalance, filler",
            "id.old::text, branch_id.old::text, balance, filler",
            id="account",
            branch_id="branch",
        ),
        _mapped(
            "history",
            f"tid::text, bid::text, aid::text, delta, mtime AT TIME ZONE '{_ZONE}', filler",
            "teller_id.old::text, branch_id.old::text, account_id.old::text, delta, mtime, filler",
            teller_id="teller",
            branch_id="branch",
            account_id="account",
        ),
    ),
    "app",
)


def _pgbench(ground: Ground, *arguments: str) -> None:
    program = ground.program("pgbench")
    if program is None:
        raise NotMeasured("pgbench was not found beside the server, nor on the PATH.")
    ground.client([program, *arguments], PGOPTIONS="-c synchronous_commit=off -c client_min_messages=warning")


def _fill_pgbench(ground: Ground, source: Side, size: int) -> None:
    """Scale 10 for 100,000 transactions, less for fewer."""
    _pgbench(ground, "-i", "-q", "-I", "g", "-s", str(max(1, size // 10_000)), source.admin)
    source.execute("ANALYZE")


def _tpcb_backlog(ground: Ground, source: Side, size: int) -> None:
    """`size` transactions of pgbench's own TPC-B, four clients."""
    arguments = ("-n", "-c", "4", "-t", str(size // 4), "-M", "prepared", "--random-seed=1")
    _pgbench(ground, *arguments, source.admin)


_SOURCE_EVENTS: Final = EVENTS.format(schema="public") + MARKS.format(schema="public")
_EVENT_TABLES: Final = ("public.events", "public.bench_marks")

BACKLOGS: Final[Mapping[str, Backlog]] = {
    backlog.name: backlog
    for backlog in (
        Backlog(
            "insert_backlog",
            _SOURCE_EVENTS,
            _EVENT_TABLES,
            (),
            _nothing,
            insert_backlog,
            lambda size: size,
            EVENTS_PLAIN,
            EVENTS_RESHAPED,
        ),
        Backlog(
            "tpcb_backlog",
            _PGBENCH + MARKS.format(schema="public"),
            (*(f"public.pgbench_{name}" for name in ("branches", "tellers", "accounts")), "public.bench_marks"),
            ("public.pgbench_history",),
            _fill_pgbench,
            _tpcb_backlog,
            lambda size: size * 4,
            _PGBENCH_PLAIN_SHAPE,
            _PGBENCH_RESHAPED_SHAPE,
        ),
        Backlog(
            "update_backlog",
            _SOURCE_EVENTS,
            _EVENT_TABLES,
            (),
            fill_events,
            _update_backlog,
            lambda size: size + size // 10,
            EVENTS_PLAIN,
            EVENTS_RESHAPED,
        ),
    )
}
# What the table of docs/performance.md is about, and what QUICK makes of it.
SIZES: Final[Mapping[str, int]] = {"insert_backlog": 1_000_000, "tpcb_backlog": 100_000, "update_backlog": 500_000}
