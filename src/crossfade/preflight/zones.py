"""Whether the daemon and both servers agree on the time zones the mapping names.

The daemon converts local times by its own tz database; the application on the target will ask the server's. Refuses to
know rows. The invariant: agreement is never assumed of a zone that was not compared at each of its transitions.

PostgreSQL: datetime-config-files, functions-datetime ("AT TIME ZONE"); its zones come with the server or the system.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crossfade.findings import Severity
from crossfade.mapping.plan import LocalTime, Plan
from crossfade.preflight.natures import ZoneAnswers
from crossfade.preflight.remarks import Remark, Side, remark
from crossfade.wire.zones import DAY, Zone

# Where applications keep their times: what differs before is of interest to historians, what differs after to nobody
# yet, since rules repeat.
_FROM: Final = -20 * 365 * DAY  # 1950
_TO: Final = 70 * 365 * DAY  # 2040
# Between our own transitions a server may have others: no zone keeps one offset for less than some weeks on purpose.
_STEP: Final = 20 * DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SYSTEM: Final = Path("/usr/share/zoneinfo/tzdata.zi")


def instants(plan: Plan) -> Mapping[str, tuple[int, ...]]:
    """The moments to compare, in unix seconds, for each zone of the plan: both sides of each transition, and others."""
    names = sorted(
        {column.rule.zone for table in plan.tables for column in table.columns if isinstance(column.rule, LocalTime)}
    )
    return {name: _instants(Zone.load(name)) for name in names}


def _instants(zone: Zone) -> tuple[int, ...]:
    chosen = set(range(_FROM, _TO, _STEP))
    for start in zone.transitions():
        if _FROM <= start < _TO:
            chosen |= {start - 1, start}
    return tuple(sorted(chosen))


def zones(side: Side, asked: Mapping[str, Sequence[int]], answers: Sequence[ZoneAnswers]) -> Iterator[Remark]:
    """Compare a server's answers with our own."""
    for answer in answers:
        if answer.offsets is None:
            yield remark(
                side,
                Severity.WARNING,
                "time_zone_unknown",
                side.value,
                f"The server knows no time zone {answer.zone}; the mapping names it, and the daemon knows it.",
                remedy="Update the server's tz database (with its minor version, or the system's package tzdata),"
                " before anybody asks it for local times of that zone.",
            )
            continue
        zone = Zone.load(answer.zone)
        differing = [
            instant
            for instant, offset in zip(asked[answer.zone], answer.offsets, strict=True)
            if zone.offset_at(instant) != offset
        ]
        if differing:
            yield remark(
                side,
                Severity.WARNING,
                "time_zone_differs",
                side.value,
                f"The server and the daemon (tz database {ours()}) do not agree about {answer.zone}: first at"
                f" {_EPOCH + timedelta(seconds=differing[0]):%Y-%m-%d %H:%M} UTC, at {len(differing)} of"
                f" {len(asked[answer.zone])} moments between 1950 and 2040.",
                remedy="Update the older one: the daemon's comes with its system (or the Python package tzdata), the"
                " server's with its minor version or its system.",
            )


def ours() -> str:
    """The version of the daemon's tz database, as far as it tells."""
    try:
        first = _SYSTEM.read_text("ascii", "replace").splitlines()[0]
        return first.removeprefix("# version ").strip()
    except (OSError, IndexError):
        pass
    try:
        return importlib.metadata.version("tzdata")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
