"""`crossfade check`: every blocker with its remedy, before anything is touched.

Arguments in, one call, exit code out. Refuses to judge. The invariant: what is found goes to stdout (text, or one
JSON document), and the exit code says which kind of person has to act.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.text import Text

from crossfade.cli.checked import explanation_document, look_document, print_explained, print_looked
from crossfade.cli.exits import USAGE
from crossfade.faults import Fault, Misconfigured
from crossfade.findings import Finding, Kind, Severity
from crossfade.mapping.load import load_mapping
from crossfade.mapping.places import did_you_mean
from crossfade.preflight.data.look import Looked, look
from crossfade.preflight.examine import Examined, examine
from crossfade.preflight.explain import Explained, explain, find
from crossfade.preflight.links import unreachable
from crossfade.preflight.remarks import Side
from crossfade.runtime.remapping import foresee
from crossfade.settings import Settings, load_settings

SCHEMA_VERSION: Final = 1

# The first kind that has an error decides (78, else 5, else 3).
_EXIT_CODES: Final = ((Kind.CONFIGURATION, 78), (Kind.UNREACHABLE, 5), (Kind.READINESS, 3))
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_TITLES: Final = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.INFO: "For your information"}


@dataclass(frozen=True, slots=True)
class Data:
    """`--data`: look at rows as well, for so many seconds; `show_values`: print values other than keys, too."""

    seconds: float
    show_values: bool


def exit_code(findings: Iterable[Finding]) -> int:
    """78, 5, 3 or 0: only errors count."""
    kinds = {finding.kind for finding in findings if finding.severity is Severity.ERROR}
    return next((code for kind, code in _EXIT_CODES if kind in kinds), 0)


def check(config: Path, json_output: bool, *, data: Data | None = None, table: str | None = None) -> int:
    """Examine both databases as `config` describes them; print all of it, return the exit code. Changes nothing.

    `data`: ask the source about its rows as well. `table`: explain that target table instead of telling what is fine.
    """
    try:
        settings = load_settings(config)
    except Misconfigured as fault:
        return _report((_refused(fault, str(config)),), (), json_output=json_output)
    examined, findings = asyncio.run(look_around(settings))
    if table is not None:
        return _explain(table, examined, findings, json_output=json_output)
    looked: Looked | None = None
    if data is not None:
        found = _look(settings, examined, data)
        looked = None if isinstance(found, Finding) else found
        findings = (*findings, *((found,) if isinstance(found, Finding) else found.findings))
        order = {severity: at for at, severity in enumerate(Severity)}
        findings = tuple(sorted(findings, key=lambda finding: order[finding.severity]))
    return _report(findings, examined.sql, json_output=json_output, looked=looked)


async def look_around(settings: Settings) -> tuple[Examined, tuple[Finding, ...]]:
    """Everything there is to say of the servers, the mapping and the tables; no row is read."""
    refused: tuple[Finding, ...] = ()
    spec = None
    try:
        spec = load_mapping(settings.mapping)
    except Misconfigured as fault:
        refused = (_refused(fault, str(settings.mapping)),)
    examined: Examined = await examine(settings, spec)
    findings = (*refused, *examined.findings)
    if spec is not None and examined.plan is not None:
        other = await foresee(settings, spec, examined.plan)
        findings = (*((other,) if other is not None else ()), *findings)
    return examined, findings


def _look(settings: Settings, examined: Examined, data: Data) -> Looked | Finding:
    if examined.plan is None or examined.source is None or examined.target is None:
        return Finding(
            "data_not_finished",
            Severity.WARNING,
            Kind.READINESS,
            "source",
            "No row was looked at: that takes both databases and a mapping without errors.",
            "Mend the errors, then check again.",
        )
    try:
        return asyncio.run(
            look(
                settings,
                examined.plan,
                examined.source,
                examined.target,
                replica_role=examined.replica_role,
                seconds=data.seconds,
                show_values=data.show_values,
            )
        )
    except Fault as fault:  # it answered a moment ago
        return unreachable(Side.SOURCE, fault, database="", role="").finding


def _explain(table: str, examined: Examined, findings: Sequence[Finding], *, json_output: bool) -> int:
    if examined.plan is None or examined.source is None or examined.target is None:
        return _report(findings, examined.sql, json_output=json_output)
    name = find(examined.plan, table)
    if name is None:
        names = sorted(str(each.target) for each in examined.plan.tables)
        sys.stderr.write(
            f"crossfade: the mapping fills no target table {table!r}.{did_you_mean(table, names)}\n"
            f"  It fills: {', '.join(names)}.\n"
        )
        return USAGE
    explained: tuple[Explained, ...] = explain(examined.plan, examined.source, examined.target, name)
    if json_output:
        sys.stdout.write(explanation_document(explained).decode() + "\n")
    else:
        print_explained(_console(), explained)
    return 0


def _refused(fault: Misconfigured, subject: str) -> Finding:
    return Finding(
        "configuration_refused", Severity.ERROR, Kind.CONFIGURATION, fault.where or subject, fault.what, fault.do
    )


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def _report(findings: Sequence[Finding], sql: Sequence[str], *, json_output: bool, looked: Looked | None = None) -> int:
    if json_output:
        data = look_document(looked) if looked is not None else None
        sys.stdout.write(document(findings, sql, data).decode() + "\n")
    else:
        _print(_console(), findings, sql, looked)
    return exit_code(findings)


def document(findings: Sequence[Finding], sql: Sequence[str], data: Mapping[str, object] | None = None) -> bytes:
    """The JSON form, for scripts; `schema_version` moves when a key changes its meaning. `data` only with --data."""
    code = exit_code(findings)
    said: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "ok": code == 0,
        "exit_code": code,
        "findings": [
            {
                "name": finding.name,
                "severity": finding.severity.value,
                "kind": finding.kind.value,
                "subject": finding.subject,
                "sentence": finding.sentence,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
        "sql": list(sql),
    }
    if data is not None:
        said["data"] = data
    return orjson.dumps(said, option=orjson.OPT_INDENT_2)


def _print(console: Console, findings: Sequence[Finding], sql: Sequence[str], looked: Looked | None) -> None:
    # Text objects, not markup: a subject may hold brackets.
    for severity in Severity:
        chosen = [finding for finding in findings if finding.severity is severity]
        if chosen:
            console.print(Text(f"{_TITLES[severity]} ({len(chosen)})", style=_STYLES[severity]))
        for finding in chosen:
            console.print(Text.assemble("  ", (finding.subject, "bold"), f"  [{finding.name}]"))
            for line in finding.sentence.splitlines():
                console.print(Text(f"    {line}"))
            for line in finding.remedy.splitlines():
                console.print(Text(f"      {line}", style="green"))
    if looked is not None:
        print_looked(console, looked)
    if sql:
        console.print(Text("\nSQL for a DBA, ready to paste:", style="bold"))
        for statement in sql:
            console.print(Text(statement))
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if errors:
        console.print(Text(f"\nNot ready: {errors} error{'' if errors == 1 else 's'}.", style="bold red"))
    else:
        console.print(Text("\nReady: `crossfade run` may start.", style="bold green"))
