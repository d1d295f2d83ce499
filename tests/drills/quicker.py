"""The shipped alert rules, made quicker: every duration divided, so that a drill takes seconds and not minutes.

What a rule looks at and how it decides stays as it is shipped. The invariant: no rule is added, left out or renamed.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

_WINDOW: Final = re.compile(r"\[(\d+)([smhd])\]")
_FOR: Final = re.compile(r"^(\s*(?:for|keep_firing_for): )(\d+)([smhd])$", re.MULTILINE)
_SECONDS_OF_LAG: Final = re.compile(r"(name: (?:\w*lag|slot_lost)_\w*seconds\}, expr: )vector\(([^)]*)\)")
_HOURS: Final = re.compile(r"(name: long_transaction_seconds\}, expr: )vector\(([^)]*)\)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def quicker(rules: str, factor: float) -> str:
    """Windows, waits and the thresholds that are ages, divided by `factor`."""
    made = _WINDOW.sub(lambda m: f"[{_milliseconds(m[1], m[2], factor)}]", rules)
    made = _FOR.sub(lambda m: f"{m[1]}{_milliseconds(m[2], m[3], factor)}", made)
    made = _SECONDS_OF_LAG.sub(lambda m: f"{m[1]}vector(({m[2]}) / {factor:g})", made)
    # What is counted in hours would still be minutes.
    made = _HOURS.sub(lambda m: f"{m[1]}vector(({m[2]}) / {factor * 12:g})", made)
    # Not how late the loop wakes: that is the daemon's own, which is no quicker than ever.
    return made.replace(
        f"event_loop_lag_seconds}}, expr: vector((0.5) / {factor:g})", "event_loop_lag_seconds}, expr: vector(0.5)"
    )


def waits(rules: str) -> dict[tuple[str, str], str]:
    """How long each alert waits as shipped, by name and severity: the longest of its rules."""
    found: dict[tuple[str, str], str] = {}
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                found[rule["alert"], rule["labels"]["severity"]] = rule.get("for", "at once")
    return found


def _milliseconds(number: str, unit: str, factor: float) -> str:
    return f"{max(1, round(int(number) * _UNITS[unit] * 1000 / factor))}ms"
