"""Both sides compared as multisets of rows, by SQL that knows the mapping and shares no code with the daemon.

A table's rows are turned into one text each, in the target's shape, on the server that holds them; ids are taken back
through the id map, times through AT TIME ZONE. The invariant: two sides are called equal only when every row text
occurs equally often on both.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

import psycopg

from tests.oracles.world import CROSS, ZONE


@dataclass(frozen=True, slots=True)
class Pair:
    """One source table and the target table it became: the same list of expressions on either side."""

    name: str
    source: str  # SELECT list over public.<name>
    target: str  # SELECT list over app.<name>
    became: str = ""  # the target's name, when it is another one


def utc(column: str) -> str:
    """A local time of the source as the instant it is."""
    return f"{column} AT TIME ZONE '{ZONE}'"


def old_id(keyspace: str, column: str) -> str:
    """A target id taken back to the source's, as text."""
    return f"(SELECT m.old::text FROM crossfade.id_{keyspace} m WHERE m.new = t.{column})"


def _same(name: str, *columns: str) -> Pair:
    return Pair(name, ", ".join(columns), ", ".join(columns))


PAIRS: Final = (
    Pair(
        "accounts",
        f"id::text, code, balance, {utc('opened_at')}, note",
        f"{old_id('account', 'id')}, code, balance, opened_at, note",
    ),
    Pair(
        "transfers",
        f"id, txn_no, debit_id::text, debit_code, credit_id::text, credit_code, amount, {utc('made_at')}",
        f"id, txn_no, {old_id('account', 'debit_id')}, debit_code, {old_id('account', 'credit_id')}, credit_code,"
        " amount, made_at",
    ),
    _same("counter", "only_row", "n"),
    _same("ledger", "txn_no", "writer", "kind", "once_rows", "once_sum", "transfer_rows"),
    _same("once", "txn_no", "value", "body"),
    Pair("items", f"id, label, n, big, note, {utc('seen_at')}", "id, label, n, big, note, seen_at"),
    Pair("people", f"id::text, name, {utc('born')}, big", f"{old_id('person', 'id')}, name, born, big"),
    Pair("badges", "id, person_id::text, body", f"id, {old_id('person', 'person_id')}, body"),
    _same("twins", "a", "b", "big"),
    Pair("bulk", f"id, n, body, {utc('at')}", "id, n, body, at"),
    _same("marks", "id", "why"),
    _same("model_steps", "id"),
    *(_same(f"cross_{i}", "id", "n") for i in range(CROSS)),
)


def _digest(select: str, table: str) -> bytes:
    return (
        "SELECT count(*), coalesce(sum(('x' || left(md5(row), 15))::bit(60)::bigint), 0)::text FROM"
        f" (SELECT ROW({select})::text AS row FROM {table} t) rows"
    ).encode()


def _rows(select: str, table: str) -> bytes:
    return f"SELECT left(ROW({select})::text, 300) || ' md5 ' || md5(ROW({select})::text) FROM {table} t".encode()


def unequal(source: str, target: str, pairs: tuple[Pair, ...] = PAIRS) -> list[str]:
    """Where the two sides differ, one paragraph a table; empty when they are equal. Superuser connection strings."""
    found: list[str] = []
    options = "-c timezone=UTC -c jit=off"
    with psycopg.connect(source, options=options) as left, psycopg.connect(target, options=options) as right:
        for pair in pairs:
            ours, theirs = f"public.{pair.name}", f"app.{pair.became or pair.name}"
            one = left.execute(_digest(pair.source, ours)).fetchone()
            two = right.execute(_digest(pair.target, theirs)).fetchone()
            if one == two:
                continue
            expected = Counter(str(row[0]) for row in left.execute(_rows(pair.source, ours)))
            actual = Counter(str(row[0]) for row in right.execute(_rows(pair.target, theirs)))
            missing, surplus = expected - actual, actual - expected
            found.append(
                f"{pair.name}: source has {expected.total()} rows, target {actual.total()};"
                f" {missing.total()} missing, such as {[r[:160] for r in list(missing)[:3]]};"
                f" {surplus.total()} surplus, such as {[r[:160] for r in list(surplus)[:3]]}"
            )
        mapped = {name for pair in pairs for name in re.findall(r"crossfade\.id_(\w+)", pair.target)}
        for keyspace in sorted(mapped):
            row = right.execute(
                f"SELECT count(*), count(DISTINCT old), count(DISTINCT new) FROM crossfade.id_{keyspace}".encode()
            ).fetchone()
            assert row is not None
            if len(set(row)) != 1:
                found.append(f"id map {keyspace} is no bijection: {row[0]} entries, {row[1]} old, {row[2]} new ids")
    return found
