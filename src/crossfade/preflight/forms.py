"""In which form the stream will travel, when it is not the better one.

Refuses to know what makes a type safe (`wire/form` does). The invariant: whoever has values that only binary can carry
hears of it before the first of them stops the stream for good (F1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.findings import Severity
from crossfade.mapping.plan import Plan
from crossfade.preflight.remarks import Remark, Side, listed, remark
from crossfade.wire.form import BUILT_IN, obstacle

_BYTEA: Final = frozenset(BUILT_IN["bytea"])


def form(plan: Plan, *, wanted: str, source_version: int, target_version: int) -> Iterator[Remark]:
    """What keeps the stream in text, and whether that can hurt. Versions as server_version_num."""
    found = obstacle(plan, source_version=source_version, target_version=target_version)
    if wanted != "text" and found is None:
        return
    large = [
        f"{table.source}.{column.source.name}"
        for table in plan.tables
        for column in table.columns
        if column.source is not None and column.source.type_oid in _BYTEA
    ]
    if wanted == "text":
        subject, why = "stream.wire", 'the configuration says `[stream] wire = "text"`'
    else:
        assert found is not None
        subject, why = (f"source {found.table}" if found.table is not None else "source"), str(found)
    sentence = f"Changes will come in text, because {why}."
    if large:
        sentence += (
            f" A bytea above 500 MB cannot: in text it does not fit a message, and the slot would stand before that"
            f" change for good ({listed(large)})."
        )
    yield remark(
        Side.SOURCE,
        Severity.WARNING if large else Severity.INFO,
        "stream_in_text",
        subject,
        sentence,
        remedy="If nobody stores such values, nothing; else give that column a type that travels in binary"
        " (docs/mapping.md), or do not map it." * bool(large),
    )
