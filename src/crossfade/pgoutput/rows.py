# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""The one loop of the reader that sees every row: how far a run of row messages goes, and how many of what are in it.

Refuses to know transactions, and looks no further into a message than its tag and relation. The invariant: it takes
only frames that are XLogData with an Insert, Update or Delete in it; whatever else comes is left to the caller.

Compiled where there is a compiler, see `native`; `rows.pxd` holds the types for that.

PostgreSQL: protocol-logicalrep-message-formats ("Insert", "Update", "Delete").
"""

from __future__ import annotations

from typing import Final

# What a frame costs in memory beyond its bytes: the header of a bytes object (33), what the allocator rounds up to
# (8 on average), its place in a list that grows by an eighth (9). The loop has the number written out.
FRAME_OVERHEAD: Final = 50


def take_rows(frames: list[bytes], at: int, room: int, counts: dict[bytes, int]) -> tuple[int, int]:
    """Walk the row messages from frame `at` on, until another frame comes or they hold `room` bytes.

    Returns the place of the first frame not taken and the bytes held by those taken. `counts` is added to: the number
    of messages by tag and relation OID, which are the first five bytes of each.
    """
    held = 0
    count = len(frames)
    known = b""  # the head of the frame before, and how many there have been of it
    times = 0
    while at < count and held < room:
        frame = frames[at]
        size = len(frame)
        data = frame
        # 'w' and three Int64 (walstream.HEADER), then the message's tag and the relation's OID; numbers are written out
        # because compiled code would look a name up each time.
        if size < 30 or data[0] != 119:
            break
        if times and data[25:30] == known:
            times += 1
        else:
            tag = data[25]
            if tag != 73 and tag != 85 and tag != 68:  # I, U, D
                break
            if times:
                counts[known] = counts.get(known, 0) + times
            known = data[25:30]
            times = 1
        held += size + 50
        at += 1
    if times:
        counts[known] = counts.get(known, 0) + times
    return at, held
