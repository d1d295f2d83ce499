"""A played transaction as frames of the replication stream, in text or in binary, by the independent encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.histories.source import Cell, Logged, RowMessage, Toast
from tests.histories.stories import Transaction
from tests.histories.tables import BY_NAME, TableSpec
from tests.histories.values import KINDS
from tests.unit.pgoutput import encoder

_STEP = 1000  # log between two transactions


def frame(payload: bytes) -> bytes:
    """XLogData: its positions are those of nobody who reads them."""
    return b"w" + encoder.u64(0) + encoder.u64(0) + encoder.i64(0) + payload


def end_lsn(number: int) -> int:
    """The end of the n-th transaction's commit, from 1."""
    return number * _STEP + 50


START = end_lsn(0)


def _cell(kind: str, cell: Cell, *, binary: bool) -> bytes:
    if cell is None:
        return b"n"
    if isinstance(cell, Toast):
        return b"u"
    value = KINDS[kind].binary(cell) if binary else KINDS[kind].text(cell).encode()
    return (b"b" if binary else b"t") + encoder.i32(len(value)) + value


def _tuple(table: TableSpec, cells: Sequence[Cell], *, binary: bool) -> bytes:
    kinds = [kind for _, kind in table.columns]
    return encoder.i16(len(cells)) + b"".join(
        _cell(kind, cell, binary=binary) for kind, cell in zip(kinds, cells, strict=True)
    )


def relation(table: TableSpec, oid: int) -> bytes:
    flagged = table.names if table.identity == "f" else table.key
    columns = [(int(name in flagged), name, KINDS[kind].oid, -1) for name, kind in table.columns]
    identity = b"d" if not table.key and table.append_only else table.identity.encode()
    return encoder.relation(oid, "public", table.name, identity, columns)


def _row(message: RowMessage, oid: int, *, binary: bool) -> bytes:
    table = BY_NAME[message.table]
    body = message.tag.encode() + encoder.u32(oid)
    if message.old is not None:
        body += message.marker.encode() + _tuple(table, message.old, binary=binary)
    if message.new is not None:
        body += b"N" + _tuple(table, message.new, binary=binary)
    return body


def _named(logged: Iterable[Logged]) -> list[str]:
    """Tables in the order in which the stream must describe them."""
    names: dict[str, None] = {}
    for message in logged:
        for name in (message.table,) if isinstance(message, RowMessage) else message.tables:
            names[name] = None
    return list(names)


def messages(transaction: Transaction, oids: Mapping[str, int]) -> list[bytes]:
    """Its row messages and Truncates, in text."""
    return [
        _row(message, oids[message.table], binary=False)
        if isinstance(message, RowMessage)
        else encoder.truncate([oids[name] for name in message.tables], int(message.cascade))
        for message in transaction.logged
    ]


class Encoding:
    """One connection's stream: a relation is described before its first change, and again now and then."""

    def __init__(self, oids: Mapping[str, int], *, binary: bool, repeats: bool) -> None:
        self._oids = oids
        self._binary = binary
        self._repeats = repeats
        self._described: set[str] = set()
        self._number = 0

    def frames(self, transaction: Transaction) -> list[bytes]:
        """The whole transaction, Begin to Commit; numbers go up by one from 1."""
        self._number += 1
        final = self._number * _STEP
        payloads = [encoder.begin(final, self._number * 1_000_000, self._number)]
        for message in transaction.logged:
            for name in _named([message]):
                if name not in self._described or (self._repeats and self._number % 3 == 0):
                    payloads.append(relation(BY_NAME[name], self._oids[name]))
                    self._described.add(name)
            if isinstance(message, RowMessage):
                payloads.append(_row(message, self._oids[message.table], binary=self._binary))
            else:
                payloads.append(encoder.truncate([self._oids[name] for name in message.tables], int(message.cascade)))
        payloads.append(encoder.commit(final, end_lsn(self._number), self._number * 1_000_000))
        return [frame(payload) for payload in payloads]
