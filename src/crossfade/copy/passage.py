"""How the rows of a table pass from one side to the other: as they are, in binary or in text, or converted.

Refuses to know connections. The invariant: rows pass untouched only where every column of the target is fed by a
column of the source without a rule; in binary only where `wire/form` says that the bytes mean the same on both sides.

PostgreSQL: sql-copy ("Binary Format").
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from crossfade.mapping.plan import Plan, TablePlan, Verbatim
from crossfade.statements import copied_columns
from crossfade.wire.form import WIDENINGS, Form, obstacle

# Any source sends COPY in binary; what `obstacle` asks of a source's version is what pgoutput needs.
_STREAMS_BINARY: Final = 140_000


@dataclass(frozen=True, slots=True)
class Passage:
    """`columns` are the source columns to select, in order, which are the target's when `is_verbatim`."""

    form: Form
    is_verbatim: bool
    columns: tuple[str, ...]


def passage(plan: TablePlan, whole: Plan, *, source_version: int, target_version: int, wanted: str = "auto") -> Passage:
    """Of one table of the plan. Versions as server_version_num; `wanted` "text" keeps everything in text."""
    alone = dataclasses.replace(whole, tables=(plan,))
    kept = obstacle(alone, source_version=max(source_version, _STREAMS_BINARY), target_version=target_version)
    form = Form.TEXT if kept is not None or wanted == "text" else Form.BINARY
    sources = [column.source for column in plan.columns if isinstance(column.rule, Verbatim)]
    names = tuple(source.name for source in sources if source is not None)
    # A widening keeps its meaning in text; in binary its bytes are for the codec to stretch.
    widens = form is Form.BINARY and any(
        column.source is not None and (column.source.type_oid, column.target.type_oid) in WIDENINGS
        for column in plan.columns
    )
    if len(names) != len(plan.columns) or widens or plan.expressions:
        return Passage(form, is_verbatim=False, columns=copied_columns(plan))
    return Passage(form, is_verbatim=True, columns=names)
