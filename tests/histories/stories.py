"""Random stories: statements in transactions in stretches, told to the played source; what the target must then show.

A step is a few small numbers, so that hypothesis can make a failing story short: whatever does not fit (a key that is
taken, a parent that is not there) is refused by the played source and leaves no trace. Between stretches somebody may
meddle with the target. The invariant: `shown` after transaction n is what any way of applying must show when it stands
at that transaction's end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hypothesis import strategies as st

from tests.histories.source import Logged, Refused, Row, Source
from tests.histories.tables import BECOMES, BY_NAME, FAMILIES, PARTS_OF, TAKEN_BACK, TOASTED, PartSpec, TableSpec
from tests.histories.values import KINDS, SAMPLED, TEXTS, Value, Values

Shown = Mapping[str, Counter[str]]
SEPARATOR: Final = "\x1f"
NULL: Final = "\x1e"

_OUTSIDE: Final = 900  # keys of owners that nobody moves: what refers to them loosely keeps its meaning
_PARKING: Final = 777  # where keys wait that change places


@dataclass(frozen=True, slots=True)
class Step:
    """One statement, or a few that belong together: what, in which table, on which key, with which values."""

    what: str
    table: int
    key: int
    value: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """What the source logged, the SQL that makes a real one log the like, and what follows from it."""

    logged: tuple[Logged, ...]
    sql: tuple[str, ...]
    shown: Shown
    must_stop: bool
    may_stop: bool


@dataclass(frozen=True, slots=True)
class Meddling:
    """Something done to the target behind the daemon's back: SQL for a superuser in replica role."""

    sql: str
    shown: Shown


@dataclass(slots=True)
class Stretch:
    """Transactions that may be applied together; then the meddling, once all of them are durable."""

    transactions: list[Transaction] = field(default_factory=list)
    meddling: Meddling | None = None


@dataclass(frozen=True, slots=True)
class Story:
    tables: tuple[str, ...]
    stretches: tuple[Stretch, ...]

    def __str__(self) -> str:
        lines = [f"tables {', '.join(self.tables)}"]
        for number, stretch in enumerate(self.stretches):
            lines.append(f"stretch {number}:")
            for transaction in stretch.transactions:
                lines.append("  transaction" + (" (must stop)" if transaction.must_stop else ""))
                lines += [f"    {message}" for message in transaction.logged]
            if stretch.meddling is not None:
                lines.append(f"  meddling: {stretch.meddling.sql}")
        return "\n".join(lines)


# Steps -------------------------------------------------------------------------------------------------------------

_Do = Callable[["_Teller", TableSpec, int, int], None]


class _Teller:
    """Tells steps to a source."""

    def __init__(self, *, replica_role: bool) -> None:
        self.source = Source()
        self.replica_role = replica_role
        self.counter = 0

    # values

    def values(self, table: TableSpec, key: int, value: int) -> Values:
        made: Values = {}
        for at, (name, kind) in enumerate(table.columns):
            made[name] = self.value(table, name, kind, key, value + at * (1 + value % 3))
        for reference in table.references:
            parent = BY_NAME[reference.parent]
            for row in self.source.tables[parent.name] if reference.also else ():
                if row.values[parent.key[0]] == made[reference.column]:
                    made |= {name: row.values[referred] for name, referred in reference.also}
        return made

    def value(self, table: TableSpec, name: str, kind: str, key: int, value: int) -> Value:
        reference = next((each for each in table.references if each.column == name), None)
        if reference is not None:
            parent = BY_NAME[reference.parent]
            there = [row.values[parent.key[0]] for row in self.source.tables[parent.name]]
            if name in table.key:
                return there[value % len(there)] if there else None
            return there[value % (len(there) + 1)] if value % (len(there) + 1) < len(there) else None
        if (table.name, name) in {("loose", "owner_id"), ("shared", "who_id")}:
            return (None, _OUTSIDE, _OUTSIDE + 1)[value % 3]
        if (table.name, name) == ("shared", "who_type"):
            return (None, "T", "O", "X")[value % 4]
        if name == "term":
            return value % 3
        if name in table.key or (name == "id" and table.name != "ranks"):
            return self.key_part(table, name, kind, key)
        if table.name == "ranks" and name == "id":
            return value % 6
        if name in table.unique or name in table.deferrable:
            return value % 6 or None if kind == "int4" else (None, "a", "b", 'c"', "d,", "e\\", "f\t")[value % 7]
        if name in ("big", "huge", "gone"):
            self.counter += 1
            return (None, f"s{value % 3}", f"{TOASTED}{value}.{self.counter}", f'{TOASTED}\\N\t"{value}')[value % 4]
        if kind in SAMPLED:
            return None if value % 7 == 6 else value
        if kind in ("text", "varchar"):
            return TEXTS[value % len(TEXTS)]
        return None if value % 6 == 5 else value % 6

    def key_part(self, table: TableSpec, name: str, kind: str, key: int) -> Value:
        if table.name in ("pairs", "duos"):
            return key % 3 if name == "a" else ("x", f"{TOASTED}wide", 'y\\\t"')[key // 3 % 3]
        if table.name == "pinned":
            return ("T", "O", "X")[key % 3] if name == "who_type" else _OUTSIDE + key // 3
        if kind == "text":
            return f"k{key}" if key % 3 else f'k\\{key}"'
        if table.name == "owners" and key >= 6:
            return _OUTSIDE + key - 6
        return key

    # rows

    def rows(self, table: TableSpec, key: int) -> list[Row]:
        """One row, if there are any: the higher the key, the later it was written."""
        held = self.source.tables[table.name]
        return [held[key % len(held)]] if held else []

    def assign(self, table: TableSpec, key: int, value: int, names: Sequence[str]) -> Callable[[Values], Values]:
        made = self.values(table, key, value)
        chosen = {name: made[name] for name in names}
        return lambda before: {**before, **chosen}

    def free(self, table: TableSpec, mask: int) -> list[str]:
        """Some columns that are not of the key; at least one where there are any."""
        names = [name for name in table.names if name not in table.key and name != "id"]
        return [name for at, name in enumerate(names) if mask >> at & 1] or names[:1]

    def do(self, run: Callable[[], None]) -> bool:
        return self.source.statement(run)


def _insert(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    values = teller.values(table, key, value)
    if "slot" in table.key:
        values["slot"] = key % 3
    teller.do(lambda: teller.source.insert(table, values))


def _insert_many(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    for at in range(2 + value % 7):
        _insert(teller, table, key + at, value + at * 5)


def _update(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    names = teller.free(table, value)
    if names:
        teller.do(
            lambda: teller.source.update(table, teller.rows(table, key), teller.assign(table, key, value // 3, names))
        )


def _update_all(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    names = [name for name in teller.free(table, value) if name not in (*table.unique, *table.deferrable)]
    if names:
        rows = list(teller.source.tables[table.name])
        teller.do(lambda: teller.source.update(table, rows, teller.assign(table, key, value // 3, names)))


def _delete(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    teller.do(lambda: teller.source.delete(table, teller.rows(table, key)))


def _delete_some(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    rows = teller.source.tables[table.name]
    chosen = [row for at, row in enumerate(rows) if (at + key) % (1 + value % 3) == 0]
    teller.do(lambda: teller.source.delete(table, chosen))


def _may_move(teller: _Teller, table: TableSpec) -> bool:
    return bool(table.key) and table.moves and (teller.replica_role or table.name != "stays")


def _may_shift(teller: _Teller, table: TableSpec) -> bool:
    """Its key is a number of its own."""
    is_number = _may_move(teller, table) and table.kind(table.key[0]) in ("int4", "int8")
    return is_number and not any(table.key[0] in reference.columns for reference in table.references)


def _rekey(teller: _Teller, table: TableSpec, rows: list[Row], key: int, value: int) -> None:
    """Give rows another key, sometimes with other columns, sometimes without a change at all."""
    if not _may_move(teller, table):
        return
    made = teller.values(table, key, value)
    if "slot" in table.key:
        made["slot"] = key % 3
    names = [*table.key, *(teller.free(table, value // 7) if value % 3 == 0 else ())]
    chosen = {name: made[name] for name in names}
    if table.name == "owners" and any(int(row.values["id"] or 0) >= _OUTSIDE for row in rows):
        return
    if table.name == "owners" and int(chosen["id"] or 0) >= _OUTSIDE:
        return
    teller.do(lambda: teller.source.update(table, rows, lambda before: {**before, **chosen}))


def _move(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    _rekey(teller, table, teller.rows(table, key), value % 9, value // 9)


def _shift(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """UPDATE t SET id = id + 1, met in an order in which no key is taken (C5); of leaders perhaps with the term."""
    if not _may_shift(teller, table):
        return
    column, by = table.key[0], 1 if value % 2 else -1
    rows = [row for row in teller.source.tables[table.name] if int(row.values[column] or 0) < _PARKING]
    if table.name == "mapped" and not all(-40 < int(row.values[column] or 0) < 59 for row in rows):
        return
    rows.sort(key=lambda row: -by * int(row.values[column] or 0))
    shifted = (column, "term") if table.name == "leaders" and value % 3 else (column,)
    teller.do(
        lambda: teller.source.update(
            table, rows, lambda before: {**before, **{name: int(before[name] or 0) + by for name in shifted}}
        )
    )


def _swap_keys(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """Two rows change keys by way of a third (C5)."""
    if not _may_shift(teller, table):
        return
    one, other = teller.rows(table, key), teller.rows(table, value % 9)
    if len(one) != 1 or len(other) != 1 or one[0] is other[0]:
        return
    column = table.key[0]
    first, second = one[0].values[column], other[0].values[column]
    if int(first or 0) >= _OUTSIDE or int(second or 0) >= _OUTSIDE:
        return
    for row, becomes in ((one[0], _PARKING), (other[0], first), (one[0], second)):
        teller.do(_set(teller, table, row, {column: becomes}))


def _swap_unique(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """Two rows change a unique value: by way of NULL or another value, or straight where it is deferred (C1)."""
    columns = [name for name in (*table.unique, *table.deferrable) if name != "id"]
    one, other = teller.rows(table, key), teller.rows(table, value % 9)
    if not columns or len(one) != 1 or len(other) != 1 or one[0] is other[0] or table.key == (columns[0],):
        return
    column = columns[0]
    first, second = one[0].values[column], other[0].values[column]
    if table.deferrable:
        teller.do(_set(teller, table, one[0], {column: second}))
        teller.do(_set(teller, table, other[0], {column: first}))
        return
    parking: Value = None if value % 2 else (99 if table.kind(column) == "int4" else "z")
    for row, becomes in ((one[0], parking), (other[0], first), (one[0], second)):
        teller.do(_set(teller, table, row, {column: becomes}))


def _set(teller: _Teller, table: TableSpec, row: Row, values: Values) -> Callable[[], None]:
    """An UPDATE of the one row: looked for by identity, as a refused statement may have put another in its place."""
    key = {name: row.values[name] for name in table.key}

    def run() -> None:
        rows = [each for each in teller.source.tables[table.name] if each is row]
        if not rows and table.key:
            rows = [e for e in teller.source.tables[table.name] if all(e.values[n] == v for n, v in key.items())]
        teller.source.update(table, rows, lambda before: {**before, **values})

    return run


def _replace(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """DELETE and INSERT of one key: nothing of the old row may live on (C3)."""
    _delete(teller, table, key, value)
    _insert(teller, table, key, value)


def _pass_on(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """A row goes, another key takes its unique value (C2)."""
    columns = [name for name in table.unique if name != "id" and name not in table.key]
    rows = teller.rows(table, key)
    if not columns or not rows:
        return
    given = {name: rows[0].values[name] for name in columns}
    _delete(teller, table, key, value)
    values = {**teller.values(table, value % 9, value), **given}
    teller.do(lambda: teller.source.insert(table, values))


def _truncate(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    teller.do(lambda: teller.source.truncate([table.name], cascade=value % 2 == 0))


def _poison(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    if table.name == "things":
        teller.do(_set(teller, table, rows[0], {"n": 13}) if (rows := teller.rows(table, key)) else lambda: None)


def _again(teller: _Teller, table: TableSpec, key: int, value: int) -> None:
    """A second row like the first, where nothing forbids it (C7)."""
    rows = teller.source.tables[table.name]
    if not table.key and rows:
        values = dict(rows[key % len(rows)].values)
        teller.do(lambda: teller.source.insert(table, values))
    else:
        _insert(teller, table, key, value)


STEPS: Final[Mapping[str, _Do]] = {
    "insert": _insert,
    "insert_many": _insert_many,
    "update": _update,
    "update_all": _update_all,
    "delete": _delete,
    "delete_some": _delete_some,
    "move": _move,
    "shift": _shift,
    "swap_keys": _swap_keys,
    "swap_unique": _swap_unique,
    "replace": _replace,
    "pass_on": _pass_on,
    "again": _again,
    "truncate": _truncate,
    "poison": _poison,
}
_OFTEN: Final = (
    "insert",
    "insert_many",
    "insert_many",
    "update",
    "update",
    "update",
    "update_all",
    "delete",
    "move",
    "again",
)
# What forces the exact path for a whole batch comes last and seldom.
_MENU: Final = (*_OFTEN, *STEPS.keys() - {"truncate", "poison"})
_MEDDLED: Final = ("things", "stays", "pairs", "fulls", "kinds", "codes", "firm", "rooms", "shifts", "boats")


# What the target shows ---------------------------------------------------------------------------------------------


def _row_shown(table: TableSpec, row: Row) -> str:
    parts: list[str] = []
    for name, kind in table.columns:
        value = row.values[name]
        if name not in table.dropped:
            shown = None if value is None else KINDS[kind].shown(value)
            if shown is not None and (table.name, name) in BECOMES:
                shown = BECOMES[table.name, name][0](shown)
            parts.append(NULL if shown is None else shown)
    if table.name == "mapped":
        code = row.values["code"]
        parts.append(NULL if code is None else str(code != 0).lower())
    if table.name == "things":
        n = row.values["n"]
        parts.append(NULL if n is None else str(int(n) * 2))
    if table.name == "nodes":
        parts.append("7")
    if table.kept:
        parts.append(row.kept)
    return SEPARATOR.join(parts)


def _target_expressions(table: TableSpec) -> list[str]:
    remapped = dict(table.remapped)
    found: list[str] = []
    for name in table.names:
        if name in table.dropped:
            continue
        target = {"note": "remark"}.get(name, name) if table.name == "things" else dict(table.renamed).get(name, name)
        text = TAKEN_BACK.get((table.name, name), f"t.{target}::text")
        if name in remapped:
            known = f"(SELECT m.old::text FROM crossfade.id_{remapped[name]} m WHERE m.new = t.{target})"
            text = f"CASE WHEN t.{target} IS NOT NULL THEN coalesce({known}, 'in no map') END"
        found.append(text)
    own = {"things": ["t.twice::text"], "nodes": ["t.const::text"], "mapped": ["t.truth::text"]}
    found += own.get(table.name, [])
    if table.kept:
        found.append("t.kept")
    return found


def _source_expressions(table: TableSpec) -> list[str]:
    found = [
        BECOMES[table.name, name][1]
        if (table.name, name) in BECOMES
        else f"(t.{name} AT TIME ZONE 'America/New_York')::text"
        if kind == "local"
        else f"t.{name}::text"
        for name, kind in table.columns
        if name not in table.dropped
    ]
    own = {"things": ["(t.n * 2)::text"], "nodes": ["'7'"], "mapped": ["(t.code <> 0)::text"]}
    found += own.get(table.name, [])
    if table.kept:
        found.append("'fresh'")
    return found


def _select(name: str, expressions: Sequence[str], table: str) -> str:
    listed = ", ".join(f"coalesce({text}, chr(30))" for text in expressions)
    return f"SELECT '{name}', concat_ws(chr(31), {listed}) FROM public.{table} t"


def expected(tables: Sequence[str]) -> str:
    """SQL for a real source: what `reading` must find on the target nobody meddled with."""
    selects = [_select(name, _source_expressions(BY_NAME[name]), name) for name in tables]
    selects += [
        _select(part.name, [*(f"t.{column}::text" for column in part.columns), *_made(part)], name)
        + f" WHERE {part.where}"
        for name in tables
        for part in PARTS_OF[name]
    ]
    return " UNION ALL ".join(selects)


def reading(tables: Sequence[str]) -> str:
    """SQL for the target: one row a row, its table and what `shown` holds of it."""
    selects = [
        _select(name, _target_expressions(BY_NAME[name]), BY_NAME[name].target) + f" WHERE {BY_NAME[name].mine}"
        for name in tables
    ]
    selects += [_select(part.name, part.shown, part.name) for name in tables for part in PARTS_OF[name]]
    return " UNION ALL ".join(selects)


def _shown(source: Source, tables: Sequence[str]) -> Shown:
    """What the target is to hold, its tables' parts included: nobody meddles with those."""
    shown = {
        name: Counter(_row_shown(BY_NAME[name], row) for row in source.tables[name] if not row.is_lost)
        for name in tables
    }
    for name in tables:
        for part in PARTS_OF[name]:
            taken = [row for row in source.tables[name] if part.takes(row.values)]
            shown[part.name] = Counter(_part_shown(part, row) for row in taken)
    return shown


def _part_shown(part: PartSpec, row: Row) -> str:
    values = ((row.values[name], BY_NAME[part.of].kind(name)) for name in part.columns)
    parts = [NULL if value is None else KINDS[kind].shown(value) for value, kind in values]
    made = (make(row.values) for _, make in part.made)
    return SEPARATOR.join([*parts, *(NULL if value is None else str(value) for value in made)])


def _made(part: PartSpec) -> list[str]:
    return [f"({text})::text" for text, _ in part.made]


# Telling -----------------------------------------------------------------------------------------------------------


def tell(
    tables: Sequence[str],
    plot: Sequence[tuple[Sequence[Sequence[Step]], Step | None]],
    *,
    replica_role: bool,
) -> Story:
    """Play the steps: stretches of transactions of steps, each stretch with the meddling that follows it."""
    teller = _Teller(replica_role=replica_role)
    stretches: list[Stretch] = []
    for transactions, meddling in plot:
        stretch = Stretch()
        for steps in transactions:
            before = teller.source
            teller.source = before.copy()
            for step in steps:
                STEPS[step.what](teller, BY_NAME[tables[step.table % len(tables)]], step.key, step.value)
            try:
                teller.source.commit()
            except Refused:
                teller.source = before
                continue
            source = teller.source
            if source.log:
                shown = _shown(source, tables)
                stretch.transactions.append(
                    Transaction(tuple(source.log), tuple(source.sql), shown, source.must_stop, source.may_stop)
                )
            source.log, source.sql = [], []
            source.must_stop = source.may_stop = False
        if meddling is not None:
            stretch.meddling = _meddle(teller, tables, meddling)
        stretches.append(stretch)
    return Story(tuple(tables), tuple(stretches))


def _meddle(teller: _Teller, tables: Sequence[str], step: Step) -> Meddling | None:
    meddled = [name for name in tables if name in _MEDDLED]
    if not meddled:
        return None
    table = BY_NAME[meddled[step.table % len(meddled)]]
    rows = [row for row in teller.source.tables[table.name] if not row.is_lost]
    if table.kept and step.value % 2:
        for row in rows:
            row.kept = "kept"
        return Meddling(f"UPDATE public.{table.target} SET kept = 'kept'", _shown(teller.source, tables))
    if not rows:
        return None
    row = rows[step.key % len(rows)]
    where = " AND ".join(f"{name} = {_literal(row.values[name])}" for name in table.key)
    row.is_lost = True
    return Meddling(f"DELETE FROM public.{table.target} WHERE {where}", _shown(teller.source, tables))


def _literal(value: Value) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


_steps = st.builds(Step, st.sampled_from(_MENU), st.integers(0, 3), st.integers(0, 8), st.integers(0, 500))
_RARE: Final = (*_MENU, *_MENU, "truncate", "poison", "poison")
_rare = st.builds(Step, st.sampled_from(_RARE), st.integers(0, 3), st.integers(0, 8), st.integers(0, 500))
_transactions = st.lists(_steps, min_size=1, max_size=8)
_unusual = st.lists(_rare, min_size=1, max_size=8)
_meddlings = st.one_of(
    st.none(), st.builds(Step, st.just("meddle"), st.integers(0, 3), st.integers(0, 8), st.integers(0, 9))
)
_Plot = list[tuple[list[list[Step]], Step | None]]


def plots(*, unusual: bool) -> st.SearchStrategy[_Plot]:
    """Stretches of transactions, and what is done to the target after each. `unusual`: with TRUNCATE and values that
    the target refuses, which the fast path leaves to the exact one."""
    transactions = _unusual if unusual else _transactions
    return st.lists(st.tuples(st.lists(transactions, min_size=1, max_size=6), _meddlings), min_size=1, max_size=4)


def casts() -> st.SearchStrategy[tuple[str, ...]]:
    """Which tables play: one family, or a few of them together."""
    return st.lists(st.sampled_from(FAMILIES), min_size=1, max_size=3, unique=True).map(
        lambda families: tuple(dict.fromkeys(name for family in families for name in family))
    )
