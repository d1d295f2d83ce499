"""The one loop of the reader that sees every row: how far a run of row messages goes, and how many of what are in it.

Refuses to know transactions, and looks no further into a message than its tag and relation. The invariant: it takes
only frames that are XLogData with an Insert, Update or Delete in it; whatever else comes is left to the caller.

PostgreSQL: protocol-logicalrep-message-formats ("Insert", "Update", "Delete").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Int8 'w' and three Int64 before the message; its tag and relation OID after that (walstream.HEADER, written out here
# since constants of this module are what the loop is fastest with).
_XLOG_DATA: Final = 0x77
_TAG: Final = 25
_STOP: Final = 30
_INSERT: Final = 0x49
_UPDATE: Final = 0x55
_DELETE: Final = 0x44

# What a frame costs in memory beyond its bytes: the header of a bytes object (33), what the allocator rounds up to
# (8 on average), its place in a list that grows by an eighth (9).
FRAME_OVERHEAD: Final = 50


def take_rows(frames: Sequence[bytes], at: int, room: int, counts: dict[bytes, int]) -> tuple[int, int]:
    """Walk the row messages from frame `at` on, until another frame comes or they hold `room` bytes.

    Returns the place of the first frame not taken and the bytes held by those taken. `counts` is added to: the number
    of messages by tag and relation OID, which are the first five bytes of each.
    """
    held = 0
    size = len(frames)
    while at < size and held < room:
        frame = frames[at]
        head = frame[_TAG:_STOP]
        if len(head) < _STOP - _TAG or frame[0] != _XLOG_DATA:
            break
        if head in counts:
            counts[head] += 1
        elif head[0] == _INSERT or head[0] == _UPDATE or head[0] == _DELETE:
            counts[head] = 1
        else:
            break
        held += len(frame) + FRAME_OVERHEAD
        at += 1
    return at, held
