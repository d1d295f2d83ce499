"""What a reload (SIGHUP) may change while the daemon runs: log level, limits and thresholds, nothing else.

Refuses to read files. The invariant: what decides about rows, positions and connections stays as it was when the daemon
started; whoever changed that is told so.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from crossfade.settings import Settings

# Whole sections, and single keys of others.
TAKEN: Final = ("log", "guards", "alerts", "capacity")
TAKEN_KEYS: Final = ("source.disk_capacity", "target.disk_capacity")


def merged(running: Settings, fresh: Settings) -> tuple[Settings, list[str]]:
    """The settings from now on, and the keys that differ and take a restart."""
    update: dict[str, object] = {name: getattr(fresh, name) for name in TAKEN}
    for key in TAKEN_KEYS:
        section, _, name = key.partition(".")
        update[section] = getattr(running, section).model_copy(update={name: getattr(getattr(fresh, section), name)})
    taken = running.model_copy(update=update)
    return taken, sorted(_differing(taken, fresh))


def _differing(one: BaseModel, other: BaseModel, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in type(one).model_fields.items():
        mine, theirs = getattr(one, name), getattr(other, name)
        key = f"{prefix}{field.alias or name}"
        if isinstance(mine, BaseModel) and isinstance(theirs, BaseModel):
            found += _differing(mine, theirs, f"{key}.")
        elif mine != theirs:
            found.append(key)
    return found
