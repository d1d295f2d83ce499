"""Whether a contender's target holds what the source holds: an order-independent checksum that each server computes.

A row becomes one text in the shape both sides share (ids taken back through the id map, local times through AT TIME
ZONE), the text a 64-bit hash, and the hashes are counted and added up. Refuses to know how rows got there. The
invariant: one row missing, surplus, doubled or different in one column makes the two sides unequal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

_OPTIONS: Final = "-c timezone=UTC -c jit=off -c work_mem=256MB -c extra_float_digits=1"


class WrongResult(AssertionError):
    """A contender's target does not hold what the source holds. The run has failed, however fast it was."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One table: a SELECT of one row text each, for the source and for the target."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Digest:
    rows: int
    total: str  # the hashes' sum, exact


def same(table: str, columns: str) -> Compared:
    """A table that is alike on both sides."""
    query = f"SELECT ROW({columns})::text FROM {table} t"
    return Compared(table, query, query)


def digests(dsn: str, queries: Sequence[str]) -> list[Digest]:
    """Rows and checksum of each query; a query returns one text a row."""
    found: list[Digest] = []
    with psycopg.connect(make_conninfo(dsn, options=_OPTIONS)) as session:
        for query in queries:
            row = session.execute(
                f"SELECT count(*), coalesce(sum(hashtextextended(r, 0)::numeric), 0)::text FROM ({query}) q(r)".encode()
            ).fetchone()
            assert row is not None
            found.append(Digest(int(row[0]), str(row[1])))
    return found


class Expectation:
    """What the source holds, computed once and compared with any number of targets."""

    def __init__(self, source_dsn: str) -> None:
        self._dsn = source_dsn
        self._known: dict[str, Digest] = {}

    def expect(self, queries: Sequence[str]) -> list[Digest]:
        """What these queries give on the source, which nobody writes to any more."""
        new = [query for query in queries if query not in self._known]
        if new:
            self._known.update(zip(new, digests(self._dsn, new), strict=True))
        return [self._known[query] for query in queries]

    def check(self, target_dsn: str, tables: tuple[Compared, ...], *, contender: str) -> int:
        """How many rows were compared. Raises `WrongResult` naming every table that differs."""
        wrong: list[str] = []
        rows = 0
        all_ours = self.expect([table.source for table in tables])
        all_theirs = digests(target_dsn, [table.target for table in tables])
        for table, ours, theirs in zip(tables, all_ours, all_theirs, strict=True):
            rows += ours.rows
            if ours != theirs:
                what = "different values" if ours.rows == theirs.rows else f"{theirs.rows:,} rows"
                wrong.append(f"{table.name}: the source has {ours.rows:,} rows, the target {what}")
        if wrong:
            raise WrongResult(f"{contender} made a wrong copy.\n" + "\n".join(wrong))
        return rows
