# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""A run of uuid7 values as text: the one loop that makes an id for every new row.

Refuses to know clocks and randomness, which are handed in (`ids`). The invariant: within a run the values grow, because
the counter does.

Compiled where there is a compiler, see `native`; `uuids.pxd` holds the types for that.

RFC 9562, section 5.7: 48 bits of milliseconds, the version, 12 bits of counter, the variant, 62 bits of randomness.
"""

from __future__ import annotations

try:
    import cython
except ImportError:  # it is only there to compile
    from crossfade.wire import uncompiled as cython

if not cython.compiled:  # compiled code takes its twin from leaf.pxd
    from crossfade.wire.leaf import uuid_text


def uuid7_run(milliseconds: int, first: int, stop: int, noise: bytes, at: int) -> list[bytes]:
    """One for each counter of [first, stop), all within 12 bits, from eight bytes of `noise` each, beginning at `at`.

    Raises ValueError when there is too little noise.
    """
    if at < 0 or first < 0 or stop > 4096 or len(noise) < at + 8 * (stop - first):
        raise ValueError("too little randomness, or a counter of more than 12 bits")
    made: list[bytes] = []
    value = bytearray(milliseconds.to_bytes(6, "big") + bytes(10))
    data, rest = value, noise
    for counter in range(first, stop):
        data[6] = 112 | counter >> 8  # version 7
        data[7] = counter & 255
        data[8] = 128 | rest[at] & 63  # the variant
        for place in range(1, 8):
            data[8 + place] = rest[at + place]
        made.append(uuid_text(data, 0))
        at += 8
    return made
