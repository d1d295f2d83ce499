"""What a compiled mapping does to rows, as one hash: the same hash, the same rows on the target.

Refuses to look at how the mapping is written: comments, order, policies and `drop` lists change what crossfade does
about surprises and not what a row becomes, so an operator may change them under a running copy. The invariant: two
plans with the same hash write the same target rows from the same source rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from crossfade.mapping.derived import Expression
from crossfade.mapping.plan import Ambiguous, Const, Keyspace, LocalTime, Remap, Rule, TablePlan, Verbatim
from crossfade.mapping.rules import Within, described


def meaning_hash(tables: Iterable[TablePlan], keyspaces: Mapping[str, Keyspace]) -> str:
    """SHA-256, in hex. Names are lists, since a name may hold a dot."""
    meaning = {
        "version": 1,
        "keyspaces": {
            name: [
                *(*keyspace.owner, keyspace.column, keyspace.strategy.value, keyspace.by),
                *(keyspace.taken_from or ()),
            ]
            for name, keyspace in keyspaces.items()
        },
        "tables": sorted(table_meaning(table) for table in tables),
    }
    canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def table_meaning(table: TablePlan) -> list[object]:
    """What makes the rows of one table, as JSON values."""
    return [
        [*table.target],
        [*table.source],
        table.append_only,
        sorted(
            [column.target.name, column.source.name if column.source is not None else None, rule_meaning(column.rule)]
            for column in table.columns
        ),
        *([] if table.where is None else [["where", table.where.sql]]),
    ]


def rule_meaning(rule: Rule) -> list[object]:
    """What makes a value, as JSON values."""
    match rule:
        case Remap(keyspace):
            return ["remap", keyspace]
        case LocalTime(zone, ambiguous):
            # `error` writes no row otherwise than the default does; where it stopped, the default is the way on. The
            # same goes for times that never were, so that only one meaning is left there.
            return ["timezone", zone, (Ambiguous.LATER if ambiguous is Ambiguous.ERROR else ambiguous).value, "shift"]
        case Const(text):
            return ["const", text]
        case Verbatim() | Within():  # what is refused was never written
            return ["as it is"]
        case Expression(sql):
            return ["sql", sql]
        case _:
            return described(rule)
