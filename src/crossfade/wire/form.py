"""In which form the values of a stream travel: text, or binary where every used column is known to mean the same.

Binary is cheaper for everybody and has no limit of half a gigabyte (F1), but a send function's bytes are only worth
something to the receive function of the same type: OIDs inside arrays and composites are those of one database (F15),
another type is another layout (F16), an OID means nothing elsewhere (F17). Refuses to know connections and settings.
The invariant: a type is on the list because a test has sent its values through both forms; what is not on the list
puts the whole stream into text, which can say everything.

PostgreSQL: sql-createsubscription ("binary"), protocol-logicalrep-message-formats ("TupleData").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Column, TableName
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import keyspaces_in
from crossfade.mapping.plan import ColumnPlan, Const, LocalTime, Plan, Remap, TablePlan
from crossfade.mapping.rules import Convert, ValueMap, Within
from crossfade.pgoutput.messages import Form
from crossfade.wire import references
from crossfade.wire.constants import binary_constant
from crossfade.wire.rewrites import text_only

# Types whose binary form is the same on every supported version, with the OIDs of the type and of its array. Left out
# on purpose: OIDs and what holds them, xid, pg_lsn and snapshots (F17), money (its scale is a locale's), xml (its
# encoding is declared inside), tsquery (its receive function refuses an empty one), "char", and whatever a user or an
# extension made.
BUILT_IN: Final = {
    "boolean": (16, 1000), "bytea": (17, 1001), "name": (19, 1003),
    "smallint": (21, 1005), "integer": (23, 1007), "bigint": (20, 1016), "numeric": (1700, 1231),
    "real": (700, 1021), "double precision": (701, 1022),
    "text": (25, 1009), "character varying": (1043, 1015), "character": (1042, 1014),
    "json": (114, 199), "jsonb": (3802, 3807), "uuid": (2950, 2951), "bit": (1560, 1561), "bit varying": (1562, 1563),
    "date": (1082, 1182), "time without time zone": (1083, 1183), "time with time zone": (1266, 1270),
    "timestamp without time zone": (1114, 1115), "timestamp with time zone": (1184, 1185), "interval": (1186, 1187),
    "inet": (869, 1041), "cidr": (650, 651), "macaddr": (829, 1040), "macaddr8": (774, 775),
    "point": (600, 1017), "lseg": (601, 1018), "path": (602, 1019), "box": (603, 1020), "polygon": (604, 1027),
    "line": (628, 629), "circle": (718, 719), "tsvector": (3614, 3643),
    "int4range": (3904, 3905), "int8range": (3926, 3927), "numrange": (3906, 3907), "daterange": (3912, 3913),
    "tsrange": (3908, 3909), "tstzrange": (3910, 3911),
    "int4multirange": (4451, 6150), "int8multirange": (4536, 6157), "nummultirange": (4532, 6151),
    "datemultirange": (4535, 6155), "tsmultirange": (4533, 6152), "tstzmultirange": (4534, 6153),
}  # fmt: skip
_SAFE: Final = frozenset(oid for pair in BUILT_IN.values() for oid in pair)

INT2, INT4, INT8, UUID, TEXT, VARCHAR, BPCHAR = 21, 23, 20, 2950, 25, 1043, 1042
TIMESTAMP, TIMESTAMPTZ = 1114, 1184
_INTERVAL: Final = frozenset(BUILT_IN["interval"])
# What an id can be in binary: an integer of any width, sixteen bytes, or text.
_IDS: Final = frozenset((INT2, INT4, INT8, UUID, TEXT, VARCHAR))
# Conversions of the codec's own, source type to target type. Not real to double precision: the server goes through
# text there, so that 0.1 stays 0.1, and the bytes alone do not say it. Not character to text: padding.
WIDENINGS: Final = frozenset(((INT2, INT4), (INT2, INT8), (INT4, INT8)))
_SAME_BYTES: Final = frozenset(
    (one, other) for one in (TEXT, VARCHAR) for other in (TEXT, VARCHAR, BPCHAR) if one != other
)
# The binary option of pgoutput exists since 14; an infinite interval since 17, as bytes that mean a finite one before.
_HAS_BINARY: Final = 140_000
_INFINITE_INTERVALS: Final = 170_000


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The first thing that keeps a stream in text: a column (None: the source's version) and why, to be put after
    "because"."""

    table: TableName | None
    column: str
    why: str

    def __str__(self) -> str:
        return f"{self.table}, column {self.column}: {self.why}" if self.table is not None else self.why


def stream_form(plan: Plan, *, source_version: int, target_version: int, wanted: str) -> Form:
    """BINARY where it is `wanted` ("auto") and nothing stands against it. Versions as server_version_num."""
    if wanted == "text" or obstacle(plan, source_version=source_version, target_version=target_version) is not None:
        return Form.TEXT
    return Form.BINARY


def obstacle(plan: Plan, *, source_version: int, target_version: int) -> Obstacle | None:
    """What keeps the stream in text, for people; None when nothing does."""
    if source_version < _HAS_BINARY:
        return Obstacle(None, "", "sources before version 14 cannot send binary")
    for table in plan.tables:
        why = "" if table.where is None else _inputs(table.where)
        if why:
            return Obstacle(table.source, "where", why)
        for column in table.columns:
            why = _unsafe(column, table)
            if not why and column.source is not None and column.source.type_oid in _INTERVAL:
                # The older side would take the bytes of an infinite one for a finite one.
                newer, older = max(source_version, target_version), min(source_version, target_version)
                if older < _INFINITE_INTERVALS <= newer:
                    why = "intervals differ in binary between the two servers' versions"
            if why:
                fed_by = column.source if column.source is not None else column.target
                return Obstacle(table.source, fed_by.name, why)
    return None


def _unsafe(column: ColumnPlan, table: TablePlan) -> str:
    """Why this column needs text; "" when it does not."""
    source, target = column.source, column.target
    if isinstance(column.rule, Const):
        text = column.rule.text
        if text is None or binary_constant(text, target) is not None:
            return ""
        return f"the binary form of its constant for {_named(target)} is not known here"
    if isinstance(column.rule, Expression):
        return _computed(column, column.rule)
    if source is None:
        return ""
    pair = (source.type_oid, target.type_oid)
    if isinstance(column.rule, ValueMap | Convert | Within):
        return text_only(column)
    if keyspaces_in(column.rule):
        return references.text_only(column, table)
    if isinstance(column.rule, Remap):
        return "" if _IDS.issuperset(pair) else f"its ids are {_named(source)} and {_named(target)}"
    if isinstance(column.rule, LocalTime):
        return "" if pair == (TIMESTAMP, TIMESTAMPTZ) else f"its times are {_named(source)} and {_named(target)}"
    if source.type_oid not in _SAFE:
        return f"its type {_named(source)} is not safe in binary"
    if source.type_oid == target.type_oid or pair in WIDENINGS or pair in _SAME_BYTES:
        return ""
    return f"{_named(source)} becomes {_named(target)}"


def _computed(column: ColumnPlan, expression: Expression) -> str:
    if column.target.type_oid not in _SAFE or column.target.type_oid in _INTERVAL:
        return f"{_named(column.target)}, which its SQL makes, is not safe in binary"
    return _inputs(expression)


def _inputs(expression: Expression) -> str:
    """The target is given them as arrays of their types, and arrays of arrays there are none."""
    for each in expression.inputs:
        oid = each.source.type_oid
        if oid not in _SAFE or oid in _INTERVAL or each.source.element_type_kind:
            return f"its SQL reads {_named(each.source)}"
    return ""


def _named(column: Column) -> str:
    return column.type_name


__all__ = ["Form", "Obstacle", "obstacle", "stream_form"]
