"""The status document drawn for a terminal. Refuses to know where it came from; draws what it says, null as a dash."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crossfade.telemetry.document import StatusDocument, TableEntry

_PHASES: Final = {"failed": "bold red", "streaming": "bold green", "complete": "bold green"}
_LEVELS: Final = {"error": "red", "warning": "yellow"}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def render(document: StatusDocument) -> RenderableType:
    """The whole page, most important first."""
    parts: list[RenderableType] = [_headline(document), _facts(document)]
    if (error := document["error"]) is not None:
        retry = error["retry_in_seconds"]
        tail = "" if retry is None else f" (trying again in {retry:.0f} s)"
        parts.append(Text(f"error since {error['since']}: {error['text']}{tail}", style="red"))
    parts += [Text(f"{a['level']}: {a['text']}", style=_LEVELS.get(a["level"], "")) for a in document["alerts"]]
    if document["tables"]:
        parts.append(_tables(document["tables"]))
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


def _facts(document: StatusDocument) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    positions, copy, rates, slot = document["positions"], document["copy"], document["rates"], document["slot"]
    lag = "-" if document["lag_seconds"] is None else _duration(document["lag_seconds"])
    grid.add_row("lag", f"{lag}, {size(document['lag_bytes'])}")
    grid.add_row("positions", ", ".join(f"{name} {value or '-'}" for name, value in positions.items()))
    if slot is not None:
        state = "active" if slot["active"] else ("inactive" if slot["exists"] else "does not exist")
        limit = "" if slot["wal_keep_limit"] is None else f" of {size(slot['wal_keep_limit'])} allowed"
        status = f", wal_status {slot['wal_status']}" if slot["wal_status"] else ""
        grid.add_row("slot", f"{slot['name']} {state}, retains {size(slot['retained_bytes'])}{limit}{status}")
    if copy["tables_total"] and copy["percent"] != 100.0:
        eta = "-" if copy["eta_seconds"] is None else _duration(copy["eta_seconds"])
        percent = "-" if copy["percent"] is None else f"{copy['percent']:.1f} %"
        speed = "-" if copy["rows_per_second"] is None else f"{copy['rows_per_second']:,.0f} rows/s"
        tables = f"{copy['tables_done']} of {copy['tables_total']} tables"
        grid.add_row("copy", f"{percent}, {tables}, {copy['rows']:,} rows, {speed}, about {eta} left")
    if (transactions := rates["transactions_per_second"]) is not None:
        changes, received = rates["changes_per_second"] or 0, rates["bytes_per_second"] or 0
        grid.add_row(
            "rates", f"{transactions:,.1f} transactions/s, {changes:,.1f} changes/s, {size(received)}/s received"
        )
    return grid


def _tables(tables: list[TableEntry]) -> Table:
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (
        ("source", "left"),
        ("target", "left"),
        ("state", "left"),
        ("copied", "right"),
        ("of about", "right"),
    ):
        drawn.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    has_changes = any(table["changes"] for table in tables)
    if has_changes:
        for name in ("inserted", "updated", "deleted"):
            drawn.add_column(name, justify="right")
    for table in tables:
        estimated = f"{table['rows_estimated']:,}" if table["rows_estimated"] > 0 else "-"
        row = [table["source"], table["target"], table["state"], f"{table['rows_copied']:,}", estimated]
        if has_changes:
            row += [f"{table['changes'].get(op, 0):,}" for op in ("insert", "update", "delete")]
        drawn.add_row(*row)
    return drawn


def size(count: float | None) -> str:
    """Bytes for people: 1.5 MiB."""
    if count is None:
        return "-"
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"
