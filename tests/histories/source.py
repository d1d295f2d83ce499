"""A source database, played: statements in, the row messages a real server would log out, and what it holds then.

Constraints are checked as the server does it (unique ones row by row unless deferred, foreign keys at the statement's
end, deferred ones at the transaction's), cascades follow their parents in WAL, first come first served; a statement
that is refused changes nothing and logs nothing, nor does a transaction that fails at its end. The invariant: whatever
is logged, a real server could have logged.

PostgreSQL: protocol-logicalrep-message-formats; ExtractReplicaIdentity(); AfterTriggerEndQuery() for the order.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.histories import sql
from tests.histories.tables import BY_NAME, TABLES, TOASTED, TableSpec
from tests.histories.values import Value, Values


class Toast(enum.Enum):
    UNCHANGED = "not sent"


Cell = Value | Toast


@dataclass(frozen=True, slots=True)
class RowMessage:
    """`tag` is I, U or D; `marker` K or O says what `old` is."""

    tag: str
    table: str
    old: tuple[Cell, ...] | None
    marker: str
    new: tuple[Cell, ...] | None


@dataclass(frozen=True, slots=True)
class TruncateMessage:
    tables: tuple[str, ...]
    cascade: bool


Logged = RowMessage | TruncateMessage


@dataclass(slots=True)
class Row:
    """`kept` is what the target's unfed column holds for it; `is_lost` that somebody deleted it on the target."""

    values: Values
    kept: str = "fresh"
    is_lost: bool = False


class Refused(Exception):
    """The statement, or the transaction, was refused by the played server."""


Tables = dict[str, list[Row]]


@dataclass(slots=True)
class _Event:
    """A row change whose foreign keys are still to be looked after."""

    table: TableSpec
    before: Values
    after: Values | None


@dataclass(slots=True)
class Source:
    """The played database. `tables` are lists in physical order: an updated row moves to the end.

    `sql` are the statements for a real server, which may order the rows of one otherwise.
    """

    tables: Tables = field(default_factory=lambda: {table.name: [] for table in TABLES})
    log: list[Logged] = field(default_factory=list)
    sql: list[str] = field(default_factory=list)
    # An update that did not send everything hit a row the target lost: whoever applies it must stop.
    must_stop: bool = False
    # A value was written that a constraint of the target's own refuses: it may stop, if it meets the value.
    may_stop: bool = False
    _events: deque[_Event] = field(default_factory=deque)
    _is_cascading: bool = False

    # transactions --------------------------------------------------------------------------------------------------

    def copy(self) -> Source:
        return Source(
            {name: [Row(dict(r.values), r.kept, r.is_lost) for r in rows] for name, rows in self.tables.items()}
        )

    def statement(self, run: Callable[[], None]) -> bool:
        """Run it with its cascades; False, and nothing happened, when the server refuses it."""
        saved, length, told = self.copy().tables, len(self.log), len(self.sql)
        flags = self.must_stop, self.may_stop
        try:
            run()
            self._cascade()
            self._check_references()
        except Refused:
            self._events.clear()
            self._is_cascading = False
            self.tables = saved
            del self.log[length:]
            del self.sql[told:]
            self.must_stop, self.may_stop = flags
            return False
        return True

    def commit(self) -> None:
        """Raises Refused when a deferred constraint does not hold."""
        for table in TABLES:
            for column in table.deferrable:
                seen = [row.values[column] for row in self.tables[table.name] if row.values[column] is not None]
                if len(seen) != len(set(seen)):
                    raise Refused

    # statements ----------------------------------------------------------------------------------------------------

    def insert(self, table: TableSpec, values: Values) -> None:
        self._require_unique(table, values, but=None)
        self.sql.append(sql.insert(table, values))
        self.tables[table.name].append(Row(dict(values)))
        self.log.append(RowMessage("I", table.name, None, "", self._cells(table, values)))
        self._notice(table, values)

    def update(self, table: TableSpec, rows: Sequence[Row], assign: Callable[[Values], Values]) -> None:
        """Each of `rows` in turn gets what `assign` makes of its values."""
        if table.append_only:
            raise Refused
        if not self._is_cascading:
            self.sql += sql.update(table, [(row.values, assign(dict(row.values))) for row in rows])
        for row in rows:
            if any(other is row for other in self.tables[table.name]):
                self._update(table, row, assign(dict(row.values)))

    def delete(self, table: TableSpec, rows: Sequence[Row]) -> None:
        if table.append_only:
            raise Refused
        if not self._is_cascading:
            self.sql += sql.delete(table, [row.values for row in rows])
        for row in rows:
            held = self.tables[table.name]
            held[:] = [other for other in held if other is not row]
            self.log.append(RowMessage("D", table.name, *self._old(table, row.values), None))
            self._events.append(_Event(table, row.values, None))

    def truncate(self, names: Sequence[str], *, cascade: bool) -> None:
        """CASCADE adds what refers to them; without it that is refused."""
        reached = list(names)
        for name in reached:
            for table in TABLES:
                if any(reference.parent == name for reference in table.references) and table.name not in reached:
                    if not cascade:
                        raise Refused
                    reached.append(table.name)
        self.sql.append(sql.truncate(names, cascade=cascade))
        for name in reached:
            self.tables[name].clear()
        self.log.append(TruncateMessage(tuple(reached), cascade))

    # what the server does ------------------------------------------------------------------------------------------

    def _update(self, table: TableSpec, row: Row, after: Values) -> None:
        before = dict(row.values)
        self._require_unique(table, after, but=row)
        sent = tuple(
            Toast.UNCHANGED if after[name] is before[name] and _is_toasted(after[name]) else after[name]
            for name in table.names
        )
        # What is stored out of line is always logged, changed or not (D5).
        changed = any(after[name] != before[name] or _is_toasted(before[name]) for name in table.key)
        old, marker = self._old(table, before) if table.identity == "f" or changed else (None, "")
        row.values = after
        held = self.tables[table.name]
        held[:] = [other for other in held if other is not row]
        held.append(row)
        self.log.append(RowMessage("U", table.name, old, marker, sent))
        self._notice(table, after)
        if row.is_lost:
            if table.identity != "f" and any(
                cell is Toast.UNCHANGED
                for name, cell in zip(table.names, sent, strict=True)
                if name not in table.dropped
            ):
                self.must_stop = True
            row.is_lost, row.kept = False, "fresh"
        self._events.append(_Event(table, before, after))

    def _old(self, table: TableSpec, values: Values) -> tuple[tuple[Cell, ...], str]:
        if table.identity == "f":
            return self._cells(table, values), "O"
        return tuple(values[name] if name in table.key else None for name in table.names), "K"

    @staticmethod
    def _cells(table: TableSpec, values: Values) -> tuple[Cell, ...]:
        return tuple(values[name] for name in table.names)

    def _require_unique(self, table: TableSpec, values: Values, *, but: Row | None) -> None:
        keys = [(column,) for column in table.unique]
        if table.key:
            keys.append(table.key)
            if any(values[name] is None for name in table.key):
                raise Refused
        for columns in keys:
            wanted = tuple(values[name] for name in columns)
            if None in wanted:
                continue
            for row in self.tables[table.name]:
                if row is not but and tuple(row.values[name] for name in columns) == wanted:
                    raise Refused

    def _notice(self, table: TableSpec, values: Values) -> None:
        if table.name == "things" and values["n"] == 13:
            self.may_stop = True

    def _cascade(self) -> None:
        self._is_cascading = True
        while self._events:
            event = self._events.popleft()
            for table in TABLES:
                for reference in table.references:
                    if reference.parent != event.table.name:
                        continue
                    referred = reference.parent_columns(event.table.key[0])
                    was = [event.before[name] for name in referred]
                    becomes = [event.after[name] for name in referred] if event.after is not None else None
                    if was == becomes:
                        continue
                    columns = reference.columns
                    rows = [row for row in self.tables[table.name] if [row.values[name] for name in columns] == was]
                    if becomes is not None:
                        self.update(table, rows, _assigning(dict(zip(columns, becomes, strict=True))))
                    elif reference.on_delete == "null":
                        self.update(table, rows, _assigning(dict.fromkeys(columns)))
                    else:
                        self.delete(table, rows)
        self._is_cascading = False

    def _check_references(self) -> None:
        for table in TABLES:
            for reference in table.references:
                parent = BY_NAME[reference.parent]
                referred = reference.parent_columns(parent.key[0])
                there = {tuple(row.values[name] for name in referred) for row in self.tables[parent.name]}
                for row in self.tables[table.name]:
                    value = tuple(row.values[name] for name in reference.columns)
                    if None not in value and value not in there:
                        raise Refused


def _assigning(values: Mapping[str, Value]) -> Callable[[Values], Values]:
    return lambda before: {**before, **values}


def _is_toasted(value: Value) -> bool:
    return isinstance(value, str) and value.startswith(TOASTED)
