"""Catalogs in a few words: `table("public.users", "id bigint!", "name text", pk="id")`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from textwrap import dedent

import psycopg

from crossfade.catalog import (
    Action,
    Catalog,
    Column,
    ForeignKey,
    Key,
    Leaf,
    ReplicaIdentity,
    Table,
    TableKind,
    TableName,
    Trigger,
)
from crossfade.findings import Finding, Severity
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.load import parse_mapping

_ALIASES = {
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "varchar": "character varying",
    "char": "character",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "float8": "double precision",
    "float4": "real",
}
_STORAGE = {"text": "x", "character varying": "x", "bytea": "x", "json": "x", "jsonb": "x", "numeric": "m"}


def name(text: str) -> TableName:
    schema, _, relation = text.partition(".")
    return TableName(schema, relation)


def column(text: str, number: int = 1) -> Column:
    """`name type[!] [=] [always|default|generated|virtual]`: `!` is NOT NULL, `=` a default, `<e>mood` an enum."""
    column_name, _, rest = text.partition(" ")
    words = rest.split()
    flags = {word for word in words if word in {"=", "always", "default", "generated", "virtual"}}
    type_text = " ".join(word for word in words if word not in flags)
    not_null = type_text.endswith("!")
    type_text = type_text.rstrip("!")
    kind = "b"
    if (match := re.match(r"<(\w)>", type_text)) is not None:
        kind = match[1]
        type_text = type_text[3:]
    array = "[]" if type_text.endswith("[]") else ""
    type_text = type_text.removesuffix("[]")
    match = re.fullmatch(r"([^()]+?)(?:\(([-\d, ]+)\))?", type_text)
    assert match is not None
    base = _ALIASES.get(match[1], match[1])
    typmod = -1
    full = base
    if match[2] is not None:
        numbers = [int(part) for part in match[2].split(",")]
        if base == "numeric":
            precision, scale = (*numbers, 0)[:2]
            typmod = ((precision << 16) | (scale & 0x7FF)) + 4
        elif base in {"character varying", "character"}:
            typmod = numbers[0] + 4
        else:
            typmod = numbers[0]
        words = base.split(" ", 1)
        arguments = f"({','.join(str(one) for one in numbers)})"
        full = f"{words[0]}{arguments} {words[1]}" if base.startswith("time") else f"{base}{arguments}"
    return Column(
        name=column_name,
        number=number,
        type_oid=0,
        type_name=full + array,
        base_type=base + array,
        typmod=typmod,
        type_kind="b" if array else kind,
        element_type_kind=kind if array else "",
        not_null=not_null or "always" in flags or "default" in flags,
        has_default="=" in flags,
        identity="a" if "always" in flags else "d" if "default" in flags else "",
        generated="s" if "generated" in flags else "v" if "virtual" in flags else "",
        storage="x" if array or kind == "d" else _STORAGE.get(base, "p"),
    )


def key(
    columns: str,
    *,
    key_name: str = "",
    primary: bool = False,
    unique: bool = True,
    exclusion: bool = False,
    deferrable: bool = False,
    partial: bool = False,
    expressions: bool = False,
    valid: bool = True,
    replica_identity: bool = False,
    usable: bool | None = None,
    nulls_not_distinct: bool = False,
) -> Key:
    names = tuple(columns.split())
    is_usable = unique and valid and not (partial or deferrable or expressions) and primary
    return Key(
        name=key_name or f"{'_'.join(names)}_{'pkey' if primary else 'key'}",
        columns=names,
        is_primary=primary,
        is_unique=unique,
        is_exclusion=exclusion,
        is_deferrable=deferrable,
        is_partial=partial,
        has_expressions=expressions,
        is_valid=valid,
        is_replica_identity=replica_identity,
        is_usable_identity=is_usable if usable is None else usable,
        nulls_not_distinct=nulls_not_distinct,
    )


def reference(
    columns: str,
    referenced: str,
    referenced_columns: str = "id",
    *,
    fk_name: str = "",
    on_delete: Action = Action.NO_ACTION,
    on_update: Action = Action.NO_ACTION,
    deferrable: bool = False,
    validated: bool = True,
) -> ForeignKey:
    names = tuple(columns.split())
    return ForeignKey(
        name=fk_name or f"{'_'.join(names)}_fkey",
        table=TableName("", ""),  # the table puts itself there
        columns=names,
        referenced=name(referenced),
        referenced_columns=tuple(referenced_columns.split()),
        on_delete=on_delete,
        on_update=on_update,
        is_deferrable=deferrable,
        is_initially_deferred=False,
        is_validated=validated,
    )


def table(
    text: str,
    *columns: str,
    pk: str | None = None,
    keys: Sequence[Key] = (),
    references: Iterable[ForeignKey] = (),
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT,
    kind: TableKind = TableKind.ORDINARY,
    persistence: str = "p",
    triggers: Sequence[Trigger] = (),
    leaves: Sequence[Leaf] = (),
    is_partition: bool = False,
    has_children: bool = False,
) -> Table:
    table_name = name(text)
    all_keys = (*((key(pk, primary=True),) if pk is not None else ()), *keys)
    primary = frozenset(name for one in all_keys if one.is_primary for name in one.columns)
    made = [column(one, number) for number, one in enumerate(columns, start=1)]
    made = [dataclasses.replace(one, not_null=True) if one.name in primary else one for one in made]
    return Table(
        name=table_name,
        oid=16384 + sum(map(ord, text)),
        kind=kind,
        persistence=persistence,
        owner="owner",
        replica_identity=identity,
        columns=tuple(made),
        keys=tuple(all_keys),
        foreign_keys=tuple(dataclasses.replace(one, table=table_name) for one in references),
        triggers=tuple(triggers),
        leaves=tuple(leaves),
        is_partition=is_partition,
        has_inheritance_children=has_children,
        row_security=False,
        row_security_forced=False,
        row_estimate=100,
        bytes=8192,
    )


def catalog(*tables: Table, version: int = 150018) -> Catalog:
    return Catalog(version=version, database="db", tables={one.name: one for one in tables})


def compiled(
    mapping: str,
    source: Sequence[Table],
    target: Sequence[Table],
    *,
    replica_role: bool = True,
    begun_with: Iterable[str] = (),
) -> Compiled:
    return compile_plan(
        parse_mapping(dedent(mapping)),
        catalog(*source),
        catalog(*target),
        workflow="shop",
        replica_role=replica_role,
        begun_with=[name(one) for one in begun_with],
    )


def errors(result: Compiled) -> list[Finding]:
    return [finding for finding in result.findings if finding.severity is Severity.ERROR]


def named(result: Compiled) -> list[str]:
    """Names of all findings, in order."""
    return [finding.name for finding in result.findings]


def with_oids(one: Table) -> Table:
    """The table with its built-in types' OIDs, by the driver's list; `column` leaves them out."""
    columns = []
    for column in one.columns:
        known = psycopg.postgres.types.get({"character": "bpchar"}.get(column.base_type, column.base_type.rstrip("[]")))
        oid = 0 if known is None else known.array_oid if column.base_type.endswith("[]") else known.oid
        columns.append(dataclasses.replace(column, type_oid=oid))
    return dataclasses.replace(one, columns=tuple(columns))
