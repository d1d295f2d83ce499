"""Where the compiler's rooms leave what they found, in one voice and without repeating themselves.

Refuses to know any rule. The invariant: findings keep the order in which they were found, each is told once.
"""

from __future__ import annotations

from crossfade.catalog import TableName
from crossfade.findings import Finding, Kind, Severity
from crossfade.mapping.compoundnames import readable
from crossfade.mapping.places import Place
from crossfade.mapping.spec import Spec


class Collector:
    """Gathers findings about one mapping."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._findings: dict[Finding, None] = {}

    def error(self, name: str, where: Place | str, sentence: str, remedy: str) -> None:
        """Nothing may start. `where` is a place in the mapping or the words for an object."""
        self._add(name, Severity.ERROR, where, sentence, remedy)

    def warning(self, name: str, where: Place | str, sentence: str, remedy: str) -> None:
        """May start; somebody should know."""
        self._add(name, Severity.WARNING, where, sentence, remedy)

    def _add(self, name: str, severity: Severity, where: Place | str, sentence: str, remedy: str) -> None:
        subject = self._spec.at(where) if isinstance(where, Place) else where
        finding = Finding(name, severity, Kind.CONFIGURATION, subject, readable(sentence), readable(remedy))
        self._findings[finding] = None

    def at(self, place: Place) -> str:
        """A place as findings name it: `mapping.yaml:9:5`."""
        return self._spec.at(place)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Errors first, each group in the order found."""
        return tuple(sorted(self._findings, key=lambda finding: finding.severity is not Severity.ERROR))

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self._findings)


def quoted(name: str) -> str:
    """An identifier as SQL for a person to paste: quoted when it must be."""
    if name.isascii() and name.replace("_", "a").isalnum() and name == name.lower() and not name[0].isdigit():
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def sql_name(name: TableName) -> str:
    """A table's name as SQL for a person to paste."""
    return f"{quoted(name.schema)}.{quoted(name.name)}"
