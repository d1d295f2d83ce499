"""What a rule returns: a finding, and the SQL that would make it go away, kept apart by side.

Composes SQL text for a person to read, check and paste; nothing here is ever executed by us. Refuses to know any
rule. The invariant: identifiers are quoted always, so that what is pasted means exactly the object we looked at, and
destructive statements are said in a remedy but never put among the SQL to paste.

PostgreSQL: sql-syntax-lexical ("Identifiers and Key Words").
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.catalog import TableName
from crossfade.findings import Finding, Kind, Severity


class Side(enum.Enum):
    """Which database a remark is about; BOTH for our own configuration."""

    SOURCE = "source"
    TARGET = "target"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding about `side`, with the statements (each ending in a semicolon) a DBA of that side would run.

    `ours` are statements that `run` will execute by itself, because our role may.
    """

    finding: Finding
    side: Side
    sql: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()


def remark(
    side: Side,
    severity: Severity,
    name: str,
    subject: str,
    sentence: str,
    *,
    remedy: str = "",
    sql: Iterable[str] = (),
    ours: Iterable[str] = (),
    kind: Kind = Kind.READINESS,
) -> Remark:
    """Put one together; the remedy shows the SQL under its words, a statement per line."""
    statements = tuple(sql)
    text = "\n".join(part for part in (remedy, *statements) if part)
    return Remark(Finding(name, severity, kind, subject, sentence, text), side, statements, tuple(ours))


def quoted(name: str) -> str:
    """A delimited identifier: any name, as it is."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: TableName) -> str:
    """`"schema"."name"`."""
    return f"{quoted(name.schema)}.{quoted(name.name)}"


def literal(text: str) -> str:
    """A string constant that means the same whatever standard_conforming_strings says."""
    body = text.replace("'", "''")
    return f"E'{body}'".replace("\\", "\\\\") if "\\" in text else f"'{body}'"


def listed(names: Iterable[str], *, most: int = 5) -> str:
    """`a, b and 3 more`: a sentence stays a sentence, however many there are."""
    each = list(names)
    if len(each) > most:
        return f"{', '.join(each[:most])} and {len(each) - most} more"
    return ", ".join(each)


def size(number: int) -> str:
    """Bytes for people: 512 MiB, 1.5 GiB."""
    value = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
