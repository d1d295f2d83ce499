"""A few rows for every table of a schema, made from its catalog: references hold, codes and keys are unique."""

from __future__ import annotations

from crossfade.catalog import Catalog, Column, Table
from crossfade.mapping.conversions import length_limit

ROWS = 5


def rows(catalog: Catalog, first: int = 1, last: int = ROWS) -> str:
    """INSERTs for rows `first` to `last` of each table, in the catalog's order (parents first)."""
    return "\n".join(
        f"INSERT INTO {table.name} ({', '.join(column.name for column in table.columns)}) VALUES "
        + ", ".join(
            f"({', '.join(_value(table, column, i, catalog) for column in table.columns)})"
            for i in range(first, last + 1)
        )
        + ";"
        for table in catalog.tables.values()
    )


def _value(table: Table, column: Column, i: int, catalog: Catalog) -> str:
    for key in table.foreign_keys:
        if key.columns == (column.name,):
            parent = catalog.tables[key.referenced]
            if parent is table:
                return "NULL" if i == 1 else "1"
            referred = parent.column(key.referenced_columns[0])
            assert referred is not None
            return _value(parent, referred, i, catalog)
    if column.labels:
        return f"'{column.labels[i % len(column.labels)]}'"
    match column.base_type:
        case "smallint" | "integer" | "bigint":
            return str(i)
        case "numeric":
            return f"{i}.25"
        case "boolean":
            return "true" if i % 2 else "false"
        case "date":
            return f"DATE '2024-01-01' + {i}"
        case "timestamp without time zone":
            return f"TIMESTAMP '2024-03-30 22:15:00.5' + interval '{7 * i} hours'"  # clocks change in between
        case "jsonb":
            return f"""'{{"a": {i}}}'"""
        case _:
            limit = length_limit(column)
            return f"'{f'{i}:{column.name}'[: limit or 60]}'"
