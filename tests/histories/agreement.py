"""What "fast and exact agree" means: one story applied both ways, and everything that must be the same afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.histories.stand import Outcome, Stand, Way
from tests.histories.stories import Story, casts, plots, tell

BATCHES = st.sampled_from([1 << 30, 2000, 1])
PIECES = st.sampled_from([1 << 30, 1 << 30, 3000, 600, 1])
FEW = st.sampled_from([1, 1, 1, 24])
COPIED = st.sampled_from([2, 200])
EVERYTHING = 1 << 30
QUIET = settings(deadline=None, database=None, print_blob=False, suppress_health_check=list(HealthCheck))


@dataclass(slots=True)
class Seen:
    """Over many stories: by which level and why batches were applied, and how stories ended."""

    stories: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.stories += 1
        self.levels += outcome.levels
        self.reasons += outcome.reasons
        self.conflicts += outcome.conflicts
        self.faults[type(outcome.fault).__name__ if outcome.fault is not None else "none"] += 1

    def __str__(self) -> str:
        return (
            f"{self.stories} stories; {dict(self.reasons)}; conflicts {dict(self.conflicts)}; ends {dict(self.faults)}"
        )


def agree(targets: Stand, story: Story, way: Way, *others: Way) -> list[Outcome]:
    """Apply a story exactly and fast, by other ways as well. Raises AssertionError for a wrong row, position,
    acknowledgement, count or end; returns what the fast path did by each way."""
    exact = targets.apply(targets.exact, story, way.by("exact"))
    assert_end(story, exact, is_exact=True)
    outcomes = [targets.apply(targets.fast, story, each.by("fast")) for each in (way, *others)]
    for fast in outcomes:
        assert_end(story, fast, is_exact=False)
        if exact.fault is None and fast.fault is None:
            assert fast.changes == exact.changes
            assert fast.conflicts["missing_row"] == exact.conflicts["missing_row"]
    return outcomes


def assert_end(story: Story, outcome: Outcome, *, is_exact: bool) -> None:
    """It stopped where it had to and nowhere else. A value that the target refuses, and that is gone in the end, is
    never met by a net effect: the fast path may pass it."""
    transactions = [told for stretch in story.stretches for told in stretch.transactions]
    stops = next((at for at, told in enumerate(transactions) if told.must_stop or told.may_stop), len(transactions))
    if is_exact or not any(told.may_stop for told in transactions):
        assert outcome.transactions == stops, f"ended at transaction {outcome.transactions}, not at {stops}"
        assert (outcome.fault is not None) is (stops < len(transactions)), f"ended with {outcome.fault}"
    else:
        assert outcome.transactions >= stops, f"ended at transaction {outcome.transactions}, before {stops}"


def hunt(targets: Stand, examples: int, cast: tuple[str, ...]) -> None:
    """Random stories of these tables by the fast path alone, all that can be in one batch, until one fails."""

    @settings(QUIET, max_examples=examples, phases=[Phase.generate], report_multiple_bugs=False)
    @given(plots(unusual=True), st.booleans())
    def run(plot: object, binary: bool) -> None:
        story = tell(cast, plot, replica_role=targets.replica_role)  # type: ignore[arg-type]
        note(str(story))
        way = Way("fast", binary, EVERYTHING, EVERYTHING, few=1)
        assert_end(story, targets.apply(targets.fast, story, way), is_exact=False)

    run()


def search(targets: Stand, examples: int) -> Seen:
    """Random stories until they are over, or one of them fails: then AssertionError, with the shortest one."""
    seen = Seen()

    @settings(QUIET, max_examples=examples, report_multiple_bugs=False)
    @given(casts(), plots(unusual=True), st.booleans(), BATCHES, PIECES, st.booleans(), FEW, COPIED)
    def run(
        cast: tuple[str, ...], plot: object, binary: bool, batch: int, piece: int, repeats: bool, few: int, copied: int
    ) -> None:
        story = tell(cast, plot, replica_role=targets.replica_role)  # type: ignore[arg-type]
        note(str(story))
        drawn = Way("", binary, batch, piece, repeats, few, copied)
        # Whatever was drawn: as few batches as can be, in the other form.
        together = Way("", not binary, EVERYTHING, piece, few=1, copied=copied)
        for fast in agree(targets, story, drawn, together):
            seen.add(fast)

    run()
    return seen
