"""The schemas beside this file as catalogs, without a server: just enough SQL for how they are written.

One statement a line; a real server reads the same files in tests/integration/test_init.py, so what this misreads shows.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from crossfade.catalog import Catalog, Table, TableName
from tests.unit.mapping.builders import catalog, column, key, reference, table

HERE = Path(__file__).parent
LEGACY = (HERE / "legacy.sql").read_text()
NEW = (HERE / "new.sql").read_text()

_TABLE = re.compile(r"CREATE TABLE (\S+) \((.*)\);")
_ENUM = re.compile(r"CREATE TYPE (\S+) AS ENUM \((.*)\);")
_TYPES = {"serial": "integer!", "bigserial": "bigint!"}


def read_ddl(text: str) -> Catalog:
    """Tables, columns, primary and unique keys, foreign keys and enums."""
    enums = {name: tuple(re.findall(r"'([^']*)'", labels)) for name, labels in _ENUM.findall(text)}
    made: dict[str, Table] = {}
    for name, body in _TABLE.findall(text):
        made[name] = _table(name, re.split(r",\s(?![^()]*\))", body), enums, made)
    return catalog(*made.values())


def _table(name: str, parts: list[str], enums: dict[str, tuple[str, ...]], made: dict[str, Table]) -> Table:
    columns, keys, references, primary = [], [], [], ""
    labels: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if (composite := re.fullmatch(r"PRIMARY KEY \((.*)\)", part)) is not None:
            primary = composite[1].replace(",", "")
            continue
        match = re.fullmatch(
            r"(\w+) ([\w.]+(?:\([\d,]+\))?)( PRIMARY KEY)?( NOT NULL)?(?: DEFAULT (\w+))?( UNIQUE)?"
            r"(?: REFERENCES (\S+))?",
            part,
        )
        assert match is not None, part
        column_name, type_name = match[1], match[2]
        type_text = _TYPES.get(type_name, type_name)
        if type_name in enums:
            type_text = f"<e>{type_name}"
            labels[column_name] = enums[type_name]
        flags = ("!" if match[4] and "!" not in type_text else "") + (" =" if match[5] or "serial" in type_name else "")
        columns.append(f"{column_name} {type_text}{flags}")
        if match[3]:
            primary = column_name
        if match[6]:
            keys.append(key(column_name))
        if match[7]:
            parent = made.get(match[7])
            parent_key = parent.primary_key if parent is not None else None
            referenced = parent_key.columns[0] if parent_key is not None else primary
            references.append(reference(column_name, _full(match[7]), referenced))
    one = table(_full(name), *columns, pk=primary or None, keys=keys, references=references)
    return dataclasses.replace(
        one, columns=tuple(dataclasses.replace(each, labels=labels.get(each.name, ())) for each in one.columns)
    )


def _full(name: str) -> str:
    return name if "." in name else f"public.{name}"


def named(text: str) -> TableName:
    schema, _, relation = text.partition(".")
    return TableName(schema, relation)


__all__ = ["LEGACY", "NEW", "column", "named", "read_ddl"]
