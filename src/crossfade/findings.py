"""One thing `check` has to say: how bad, about what, in one sentence, and what to do about it.

The mapping compiler and every preflight rule return these instead of raising, so that a person gets all of them at
once. Refuses to know where a finding came from. The invariant: an ERROR means that nothing may be touched.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    ERROR = "error"  # nothing may start
    WARNING = "warning"  # may start; somebody should know
    INFO = "info"


class Kind(enum.Enum):
    """Which exit code an error of it means: 78, 5 or 3."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    READINESS = "readiness"


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is stable, snake_case, for scripts; `subject` an object ("source public.users", "mapping.yaml:9:5").

    `remedy` may hold SQL, a statement per line, ready to paste.
    """

    name: str
    severity: Severity
    kind: Kind
    subject: str
    sentence: str
    remedy: str
