"""Random histories as SQL on a real source, followed by a live daemon in big batches: both sides equal after each.

What a played source logs (test_fast_and_exact) may be what no server sends; here the server writes the log itself. The
daemon stands still while a story is told, so that it meets as much of it as possible at once.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from tests.histories.sql import SCHEMA, SESSION
from tests.histories.stories import Story, casts, expected, plots, reading, tell
from tests.histories.tables import MAPPING, TABLES, target_sql
from tests.integration.following import Followed, follow
from tests.servers.daemon import Workspace

EXAMPLES = max(15, int(os.environ.get("CROSSFADE_AGREE_EXAMPLES", "0")) // 20)
NAMES = tuple(table.name for table in TABLES)


def run(source: psycopg.Connection[tuple[object, ...]], story: Story, counts: Counter[str]) -> None:
    """Every transaction of the story; a statement the real server refuses is taken back alone, as applications do."""
    for stretch in story.stretches:
        for told in stretch.transactions:
            try:
                with source.transaction():
                    for statement in told.sql:
                        with contextlib.suppress(psycopg.errors.IntegrityError), source.transaction():
                            counts["statements"] += 1
                            source.execute(statement.encode())
                            counts["done"] += 1
            except psycopg.errors.IntegrityError:
                counts["transactions refused"] += 1


@pytest.mark.one_version
@pytest.mark.parametrize("replica_role", [True, False], ids=["replica", "origin"])
def test_both_sides_are_equal_after_random_histories(workspace: Workspace, replica_role: bool) -> None:
    target = target_sql(replica_role=replica_role).replace("CHECK (n <> 13)", "")  # nothing here is to be refused
    followed = follow(workspace, MAPPING, source=SCHEMA, target=target, append=['"public"."logs"'])
    counts: Counter[str] = Counter()
    number = int(os.environ.get("CROSSFADE_AGREE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CROSSFADE_AGREE_SEED={number}")

    # The source keeps what one story left, so that a failure cannot be made short by telling others.
    @seed(number)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(casts(), plots(unusual=True))
    def agree(cast: tuple[str, ...], plot: object) -> None:
        story = tell(cast, plot, replica_role=replica_role)  # type: ignore[arg-type]
        note(str(story))
        with followed.databases.source.connect(autocommit=True) as source:
            source.execute(SESSION)
            followed.at_once_by(lambda: run(source, story, counts))
            compare(followed)
            source.execute(f"TRUNCATE {', '.join(NAMES)}".encode())

    agree()
    assert counts["done"] > counts["statements"] * 0.7, counts
    followed.stop()


def compare(followed: Followed) -> None:
    wanted = Counter(followed.source(expected(NAMES)))
    found = Counter(followed.target(reading(NAMES)))
    assert found == wanted, f"missing {wanted - found}, surplus {found - wanted}"
