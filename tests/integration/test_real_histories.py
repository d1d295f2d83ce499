"""Random histories as SQL on a real source, followed by a live daemon in big batches: both sides equal after each.

What a played source logs (test_fast_and_exact) may be what no server sends: here it is held against a real one's log,
and the daemon follows a server that writes the log itself. The daemon stands still while a story is told, so that it
meets as much of it as possible at once.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from tests.histories.frames import messages
from tests.histories.net import cells_at
from tests.histories.sql import LONG, SCHEMA, SESSION
from tests.histories.stories import Story, casts, expected, plots, reading, tell
from tests.histories.tables import MAPPING, TABLES, target_sql
from tests.integration.following import Followed, follow
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

EXAMPLES = max(15, int(os.environ.get("CROSSFADE_AGREE_EXAMPLES", "0")) // 20)
NAMES = tuple(table.name for table in TABLES)
# Besides constraints: a table with deferred checks to come is not truncated.
REFUSED = (psycopg.errors.IntegrityError, psycopg.errors.ObjectInUse)


def run(source: psycopg.Connection[tuple[object, ...]], story: Story, counts: Counter[str]) -> None:
    """Every transaction of the story; a statement the real server refuses is taken back alone, as applications do."""
    for stretch in story.stretches:
        for told in stretch.transactions:
            try:
                with source.transaction():
                    for statement in told.sql:
                        with contextlib.suppress(*REFUSED), source.transaction():
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


_CHANGES = (
    "SELECT data FROM pg_logical_slot_get_binary_changes('played', NULL, NULL, 'proto_version', '1',"
    " 'publication_names', 'crossfade,crossfade_append')"
)


def shortened(message: bytes) -> tuple[bytes, ...]:
    """A row message without the filling that makes its values long; anything else as it is."""
    if message[:1] not in (b"I", b"U", b"D"):
        return (message,)
    parts, at = [message[:5]], 5
    while at < len(message):
        parts.append(message[at : at + 1])
        cells, at = cells_at(message, at + 1)
        parts += [cell[:1] + cell[5:].removesuffix(b"x" * LONG) for cell in cells]
    return tuple(parts)


@pytest.mark.one_version
def test_the_played_source_logs_what_a_server_does(databases: Databases) -> None:
    """Message by message; the rows of one statement may come in another order."""
    databases.prepare(SCHEMA)
    databases.publish(*(name for name in NAMES if name != "logs"), append=["logs"])
    counts: Counter[str] = Counter()
    with databases.source.connect() as source:
        source.execute(SESSION)
        source.execute("SELECT pg_create_logical_replication_slot('played', 'pgoutput')")
        named = source.execute("SELECT relname, oid::bigint FROM pg_class WHERE relname = ANY (%s)", [list(NAMES)])
        oids: dict[str, int] = dict(named.fetchall())

        def logged() -> list[tuple[bytes, ...]]:
            found = [bytes(data) for (data,) in source.execute(_CHANGES).fetchall()]
            return [shortened(message) for message in found if message[:1] in (b"I", b"U", b"D", b"T")]

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(casts(), plots(unusual=True))
        def agree(cast: tuple[str, ...], plot: object) -> None:
            source.execute(f"TRUNCATE {', '.join(NAMES)}".encode())
            logged()
            story = tell(cast, plot, replica_role=True)  # type: ignore[arg-type]
            note(str(story))
            for told in (transaction for stretch in story.stretches for transaction in stretch.transactions):
                try:
                    with source.transaction():
                        for statement in told.sql:
                            source.execute(statement.encode())
                except (psycopg.errors.ForeignKeyViolation, psycopg.errors.ObjectInUse):
                    # It looks at references again and again while cascades run, we only in the end; and it truncates
                    # no table whose deferred checks are still to come.
                    counts["refused"] += 1
                    return
                counts["transactions"] += 1
                played = [shortened(message) for message in messages(told, oids)]
                assert Counter(logged()) == Counter(played)

        agree()
    assert counts["transactions"] > 20 * counts["refused"], counts
