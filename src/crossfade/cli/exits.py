"""How a command ends: its exit code, and the one place where a fault is told to a person.

Scripts and service units branch on these codes (a unit does not restart on 2, 3 and 78), so they are one table.
Refuses to know what commands do. The invariant: a fault is printed once, on stderr, without a traceback; anything that
is no fault is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from crossfade.faults import Fault, Policy

DONE: Final = 0
RUNTIME: Final = 1  # a restart may help
USAGE: Final = 2
NO: Final = 3  # the answer is no, a restart will not help
LOCKED: Final = 4
UNREACHABLE: Final = 5
CONFIGURATION: Final = 78  # sysexits.h, EX_CONFIG
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells expect

_BY_POLICY: Final[Mapping[Policy, int]] = {
    Policy.REFUSED: NO,
    Policy.LOCKED: LOCKED,
    Policy.UNREACHABLE: UNREACHABLE,
    Policy.CONFIGURATION: CONFIGURATION,
}


def code_of(fault: Fault) -> int:
    """The exit code a fault means when it ends a process."""
    return _BY_POLICY.get(fault.policy, RUNTIME)


def tell(text: str) -> None:
    """One line (or paragraph) to stderr, which is for people; stdout is for data."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """One line of the answer to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def finish(call: Callable[[], int]) -> NoReturn:
    """Run a command to its end and leave with its code."""
    try:
        code = call()
    except Fault as fault:
        tell(f"crossfade: {fault}")
        code = code_of(fault)
    except BaseExceptionGroup as group:
        # A task group wraps what one of its tasks raised; the first fault is the cause, the rest its wake.
        cause = _first_fault(group)
        if cause is None:
            raise
        tell(f"crossfade: {cause}")
        code = code_of(cause)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read us (`| head`) has enough; the interpreter must not complain about it while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    raise SystemExit(code)


def _first_fault(group: BaseExceptionGroup[BaseException]) -> Fault | None:
    for error in group.exceptions:
        found = _first_fault(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Fault):
            return found
    return None
