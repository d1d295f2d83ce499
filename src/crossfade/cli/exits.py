"""How a command ends: its exit code, and the one place where a fault is told to a person.

Scripts and service units branch on these codes (a unit does not restart on 2, 3 and 78), so they are one table.
Refuses to know what commands do. The invariant: a fault is printed once, on stderr, without a traceback; anything that
is no fault is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
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


def crash(_kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """What the interpreter calls for an error nobody foresaw: places and types, no texts.

    A server's message or a value in an exception's text may hold a row (promise 6); our own texts hold none.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        is_ours = type(leaf).__module__.split(".")[0] == "crossfade"
        tell(f"crossfade: this is a bug, please report it: {type(leaf).__name__}" + (f": {leaf}" if is_ours else ""))
        for frame in traceback.extract_tb(leaf.__traceback__):
            tell(f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _first_fault(group: BaseExceptionGroup[BaseException]) -> Fault | None:
    return next((error for error in _leaves(group) if isinstance(error, Fault)), None)
