"""`crossfade check`: every blocker with its remedy, before anything is touched.

Arguments in, one call, exit code out. Refuses to judge. The invariant: what is found goes to stdout (text, or one
JSON document), and the exit code says which kind of person has to act.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.text import Text

from crossfade.faults import Misconfigured
from crossfade.findings import Finding, Kind, Severity
from crossfade.mapping.load import load_mapping
from crossfade.preflight.examine import Examined, examine
from crossfade.settings import load_settings

SCHEMA_VERSION: Final = 1

# The first kind that has an error decides (DESIGN: 78, else 5, else 3).
_EXIT_CODES: Final = ((Kind.CONFIGURATION, 78), (Kind.UNREACHABLE, 5), (Kind.READINESS, 3))
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_TITLES: Final = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.INFO: "For your information"}


def exit_code(findings: Iterable[Finding]) -> int:
    """78, 5, 3 or 0: only errors count."""
    kinds = {finding.kind for finding in findings if finding.severity is Severity.ERROR}
    return next((code for kind, code in _EXIT_CODES if kind in kinds), 0)


def check(config: Path, json_output: bool) -> int:
    """Examine both databases as `config` describes them; print all of it, return the exit code. Changes nothing."""
    try:
        settings = load_settings(config)
    except Misconfigured as fault:
        return _report((_refused(fault, str(config)),), (), json_output=json_output)
    refused: tuple[Finding, ...] = ()
    spec = None
    try:
        spec = load_mapping(settings.mapping)
    except Misconfigured as fault:
        refused = (_refused(fault, str(settings.mapping)),)
    examined: Examined = asyncio.run(examine(settings, spec))
    return _report((*refused, *examined.findings), examined.sql, json_output=json_output)


def _refused(fault: Misconfigured, subject: str) -> Finding:
    return Finding(
        "configuration_refused", Severity.ERROR, Kind.CONFIGURATION, fault.where or subject, fault.what, fault.do
    )


def _report(findings: Sequence[Finding], sql: Sequence[str], *, json_output: bool) -> int:
    code = exit_code(findings)
    if json_output:
        sys.stdout.write(document(findings, sql).decode() + "\n")
    else:
        _print(Console(file=sys.stdout, highlight=False, soft_wrap=True), findings, sql)
    return code


def document(findings: Sequence[Finding], sql: Sequence[str]) -> bytes:
    """The JSON form, for scripts; `schema_version` moves when a key changes its meaning."""
    code = exit_code(findings)
    return orjson.dumps(
        {
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
        },
        option=orjson.OPT_INDENT_2,
    )


def _print(console: Console, findings: Sequence[Finding], sql: Sequence[str]) -> None:
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
    if sql:
        console.print(Text("\nSQL for a DBA, ready to paste:", style="bold"))
        for statement in sql:
            console.print(Text(statement))
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if errors:
        console.print(Text(f"\nNot ready: {errors} error{'' if errors == 1 else 's'}.", style="bold red"))
    else:
        console.print(Text("\nReady: `crossfade run` may start.", style="bold green"))
