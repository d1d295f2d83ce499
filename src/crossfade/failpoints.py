"""Places where the tests may make the daemon die, stop or lie on purpose.

Inert unless the environment variable CROSSFADE_FAILPOINTS names some, comma-separated: `crash:<place>` ends the process
there as kill -9 would, `stop:<place>` stops it as SIGSTOP would, and a bare name switches a deliberately broken
variant on (`ack_early`, `cut_transactions`, `skip_cas`, `no_leader_lock`, `no_publication_guard`, `forget_touched`), so
that the fault suite can prove that it would notice; `fold_few` breaks nothing, but lets batches of a single change take
the way of large ones, and `refuse_forward` fails where nothing else is known to. Refuses to do anything an operator
could reach by configuration. The invariant: with the variable unset, every call is a set look-up that finds nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_ACTIVE: Final = frozenset(filter(None, os.environ.get("CROSSFADE_FAILPOINTS", "").split(",")))


def is_on(name: str) -> bool:
    """Whether a broken variant is switched on."""
    return name in _ACTIVE


def reached(place: str) -> None:
    """Die or stop here when told to."""
    if not _ACTIVE:
        return
    if f"crash:{place}" in _ACTIVE:
        os._exit(137)
    if f"stop:{place}" in _ACTIVE:
        os.kill(os.getpid(), signal.SIGSTOP)
