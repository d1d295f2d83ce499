from __future__ import annotations

from crossfade.runtime.sampling import Oldest


def test_the_oldest_transaction_s_age_is_counted_from_when_it_was_first_seen() -> None:
    oldest = Oldest()
    assert oldest.seen("100", "100", 5.0) is None  # none is running
    assert oldest.seen("100", "101", 6.0) == 0.0
    assert oldest.seen("100", "250", 36.0) == 30.0
    assert oldest.seen("180", "250", 37.0) == 0.0  # it ended, another one is the oldest now
    assert oldest.seen("250", "250", 38.0) is None
    assert oldest.seen("180", "260", 39.0) == 0.0
    assert oldest.seen("180", "260", 30.0) == 0.0  # the server's clock was set back
