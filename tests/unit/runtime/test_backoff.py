"""How long to wait before trying again."""

from __future__ import annotations

import itertools
import random

import pytest

from crossfade.runtime.backoff import LONGEST, SHORTEST, Backoff


@pytest.mark.parametrize("seed", range(50))
def test_K5_waits_stay_between_the_shortest_and_the_longest(seed: int) -> None:
    backoff = Backoff(random.Random(seed).uniform)
    waits = [backoff.following() for _ in range(200)]
    assert min(waits) >= SHORTEST
    assert max(waits) <= LONGEST
    assert all(later <= max(3 * earlier, SHORTEST * 3) for earlier, later in itertools.pairwise(waits))


def test_K5_it_grows_to_the_longest_and_stays_there() -> None:
    backoff = Backoff(lambda _, high: high)
    waits = [backoff.following() for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[0] == SHORTEST * 3
    assert waits[-1] == LONGEST


def test_what_worked_starts_over() -> None:
    backoff = Backoff(lambda _, high: high)
    first = backoff.following()
    for _ in range(10):
        backoff.following()
    backoff.reset()
    assert backoff.following() == first


def test_two_daemons_are_not_in_step() -> None:
    one, other = Backoff(random.Random(1).uniform), Backoff(random.Random(2).uniform)
    assert [one.following() for _ in range(5)] != [other.following() for _ in range(5)]
