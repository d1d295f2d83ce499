"""The status document drawn for a terminal, once or, with bars, again and again.

Refuses to know where it came from, and computes nothing. The invariant: what the document says is drawn, null as a
dash.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossfade.telemetry.amounts import duration, size
from crossfade.telemetry.document import StatusDocument, TableEntry

_PHASES: Final = {"failed": "bold red", "streaming": "bold green", "complete": "bold green"}
_LEVELS: Final = {"error": "red", "warning": "yellow"}
_HEADLINES: Final = {"ok": "bold green", "working": "bold cyan", "warning": "bold yellow", "error": "bold red"}
_FIRST: Final = {"running": 0, "failed": 0, "pending": 1, "done": 2}
_DISKS: Final = {"own": "of this host", "source": "of the source", "target": "of the target"}
_BAR: Final = 24  # columns
_PLAIN_WIDTH: Final = 140  # columns when nobody's terminal says otherwise


def console() -> Console:
    """Colours and width as the terminal has them; NO_COLOR and TERM=dumb are honoured by rich itself."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=int(os.environ.get("COLUMNS", _PLAIN_WIDTH)), no_color=True)


def render(
    document: StatusDocument,
    *,
    history: Text | None = None,
    most_tables: int | None = None,
    is_narrow: bool = False,
) -> RenderableType:
    """The whole page, most important first.

    `history` is how lag has been, for whoever watches; `most_tables` None draws all tables as they are listed, else so
    many, those under way first, with bars while they are copied. `is_narrow`: there is no room for all columns.
    """
    said = document["headline"]
    parts: list[RenderableType] = [
        _headline(document),
        Text(said["text"], style=_HEADLINES.get(said["level"], "bold")),
        _facts(document, history),
    ]
    if (error := document["error"]) is not None:
        retry = error["retry_in_seconds"]
        tail = "" if retry is None else f" (trying again in {retry:.0f} s)"
        parts.append(Text(f"error since {error['since']}: {error['text']}{tail}", style="red"))
    parts += [Text(f"{a['level']}: {a['text']}", style=_LEVELS.get(a["level"], "")) for a in document["alerts"]]
    if document["tables"]:
        parts += _listed(document, most_tables, is_narrow)
    parts += [Text(f"→ {step}") for step in document["next_steps"]]
    return Group(*parts)


def _headline(document: StatusDocument) -> Text:
    phase = document["phase"] or "not started"
    line = Text.assemble((document["name"], "bold"), "  ", (phase, _PHASES.get(phase, "bold cyan")))
    if document["phase_since"]:
        line.append(f" since {document['phase_since']}", style="dim")
    if document["paused"]:
        line.append(f"  paused: {document['paused']}", style="bold yellow")
    daemon = document["daemon"]
    if daemon is None:
        line.append("  no daemon here" + (", one leads elsewhere" if document["leader"] else ""), style="yellow")
    else:
        role = "leader" if document["leader"] else "standby"
        line.append(f"  {role} {daemon['host']} pid {daemon['pid']}", style="dim")
    return line


def _facts(document: StatusDocument, history: Text | None) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(min_width=_BAR * 3)
    positions, copy, rates, slot = document["positions"], document["copy"], document["rates"], document["slot"]
    grid.add_row("lag", f"{duration(document['lag_seconds'])}, {size(document['lag_bytes'])}")
    if history is not None:
        grid.add_row("", history)
    grid.add_row("positions", ", ".join(f"{name} {value or '-'}" for name, value in positions.items()))
    if slot is not None:
        state = "active" if slot["active"] else ("inactive" if slot["exists"] else "does not exist")
        limit = "" if slot["wal_keep_limit"] is None else f" of {size(slot['wal_keep_limit'])} allowed"
        status = f", wal_status {slot['wal_status']}" if slot["wal_status"] else ""
        grid.add_row("slot", f"{slot['name']} {state}, retains {size(slot['retained_bytes'])}{limit}{status}")
    for name, disk in document["disks"].items():
        share = disk["free_bytes"] / max(1, disk["capacity_bytes"])
        free = f"{size(disk['free_bytes'])} of {size(disk['capacity_bytes'])} free ({share:.0%})"
        grid.add_row("disk", f"{_DISKS.get(name, name)}: {free}")
    if copy["tables_total"] and copy["percent"] != 100.0:
        eta = duration(copy["eta_seconds"])
        percent = "-" if copy["percent"] is None else f"{copy['percent']:.1f} %"
        speed = "-" if copy["rows_per_second"] is None else f"{copy['rows_per_second']:,.0f} rows/s"
        tables = f"{copy['tables_done']} of {copy['tables_total']} tables"
        grid.add_row("copy", f"{percent}, {tables}, {copy['rows']:,} rows, {speed}, about {eta} left")
        if history is not None:
            grid.add_row("", _bar(copy["percent"], width=_BAR * 3))
    if (transactions := rates["transactions_per_second"]) is not None:
        changes, received = rates["changes_per_second"] or 0, rates["bytes_per_second"] or 0
        grid.add_row(
            "rates", f"{transactions:,.1f} transactions/s, {changes:,.1f} changes/s, {size(received)}/s received"
        )
    return grid


def _listed(document: StatusDocument, most: int | None, is_narrow: bool) -> list[RenderableType]:
    tables = document["tables"]
    if most is None:
        return [_tables(tables)]
    ordered = sorted(tables, key=lambda table: _FIRST.get(table["state"], 0))  # stable: else as listed
    is_copying = document["copy"]["percent"] != 100.0
    parts: list[RenderableType] = [
        _tables(
            ordered[:most], copy=is_copying or not is_narrow, bars=is_copying, changes=not (is_copying and is_narrow)
        )
    ]
    if len(ordered) > most:
        parts.append(Text(f"and {len(ordered) - most} more tables: `crossfade status` lists all", style="dim"))
    return parts


def _tables(tables: list[TableEntry], *, copy: bool = True, bars: bool = False, changes: bool = True) -> Table:
    """`copy`: how far each copy is, with `bars` drawn as well; `changes`: what was applied, if anything is known."""
    has_changes = changes and any(table["changes"] for table in tables)
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("source", "target", *(("state",) if copy else ())):
        drawn.add_column(name, no_wrap=True)
    if bars:
        drawn.add_column("")
    numbers = ("copied", *(("of about",) if copy else ()), *(("inserted", "updated", "deleted") if has_changes else ()))
    for name in numbers:
        drawn.add_column(name, justify="right", no_wrap=True)
    for table in tables:
        row: list[RenderableType] = [Text(table["source"]), Text(table["target"])]
        if copy:
            row.append(table["state"])
        if bars:
            row.append(_bar(_percent(table), width=_BAR))
        row.append(f"{table['rows_copied']:,}")
        if copy:
            row.append(f"{table['rows_estimated']:,}" if table["rows_estimated"] > 0 else "-")
        if has_changes:
            row += [f"{table['changes'].get(op, 0):,}" for op in ("insert", "update", "delete")]
        drawn.add_row(*row)
    return drawn


def _percent(table: TableEntry) -> float:
    """Statistics may promise too few rows: nothing is complete before it is done."""
    if table["state"] == "done":
        return 100.0
    return min(99.0, 100.0 * table["rows_copied"] / table["rows_estimated"]) if table["rows_estimated"] > 0 else 0.0


def _bar(percent: float | None, *, width: int) -> ProgressBar:
    return ProgressBar(total=100.0, completed=percent or 0.0, width=width)
