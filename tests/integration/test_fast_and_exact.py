"""Random histories, applied exactly and fast: both must show what the source held, at the same positions.

A played source (tests/histories) logs what a real one could: unchanged TOAST, keys that move in chains and cascades,
unique values that change hands, duplicates without a key, TRUNCATE, rows that the target lost behind our back. Each
history is applied by the real applier to real targets, in text and in binary, in batches and pieces of any size. A
failure is shown as the shortest history that hypothesis finds. CROSSFADE_AGREE_EXAMPLES makes it thousands
(`make agree`).
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from crossfade.faults import RowRefused
from crossfade.mapping.compoundnames import is_compound
from crossfade.pgoutput.decode import decode
from crossfade.pgoutput.messages import Form, Relation
from crossfade.wire.fold import TableFold
from tests.histories.agreement import EVERYTHING, QUIET, agree, search
from tests.histories.frames import Encoding, relation
from tests.histories.net import State, folded, one_by_one, used
from tests.histories.source import RowMessage
from tests.histories.stand import Stand, Way, stand
from tests.histories.stories import Step, casts, plots, tell
from tests.histories.tables import BY_NAME
from tests.servers.clusters import Pairs, Versions
from tests.servers.databases import make_roles

pytestmark = pytest.mark.one_version

EXAMPLES = int(os.environ.get("CROSSFADE_AGREE_EXAMPLES", "60"))


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
def targets(request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs) -> Iterator[Stand]:
    with stand(_pairs.get(postgres, prepare=make_roles), replica_role=request.param) as found:
        yield found


def test_fast_and_exact_end_alike(targets: Stand) -> None:
    seen = search(targets, EXAMPLES)
    print(seen)
    wanted = {"set", "exact", "final"} if targets.replica_role else {"set", "exact"}
    assert wanted <= set(seen.levels), f"some level was never reached: {seen}"


def insert(key: int, value: int = 0) -> Step:
    return Step("insert", 0, key, value)


def levels(
    targets: Stand, table: str, *transactions: Sequence[Step], first: Sequence[Step], piece_bytes: int = EVERYTHING
) -> Counter[str]:
    """Apply `first` as a stretch of its own, then the transactions as one batch; by which levels they went, and why."""
    story = tell([table], [([first], None), (transactions, None)], replica_role=targets.replica_role)
    text = Way("", False, EVERYTHING, piece_bytes, few=1)
    found: Counter[str] = Counter()
    for fast in agree(targets, story, text, dataclasses.replace(text, binary=True)):
        found += fast.reasons
    return found


FOUR = [insert(0, 0), insert(1, 1), insert(2, 2), insert(3, 3)]


def test_C3_rows_that_are_replaced_stay_with_the_sets(targets: Stand) -> None:
    """Deleted and inserted again under their keys and with others' unique values: deletes come before inserts."""
    passed = [Step("pass_on", 0, 0, 10), Step("pass_on", 0, 1, 20)]
    assert levels(targets, "shifts", [Step("replace", 0, 0, 0)], [Step("replace", 0, 1, 1)], first=FOUR) == {"set": 4}
    assert levels(targets, "shifts", passed, first=FOUR) == {"set": 4}


def test_C1_unique_values_that_change_places(targets: Stand) -> None:
    """The set level is refused by the server, final state takes both rows out first; else the exact path is asked."""
    expected = {"set": 2, "final unique": 2} if targets.replica_role else {"set": 2, "exact unique": 2}
    swap = [Step("swap_unique", 0, 0, 1), Step("swap_unique", 0, 0, 1)]  # an updated row is the last of its table
    for table in ("shifts", "rooms", "things"):
        assert levels(targets, table, swap, first=FOUR) == expected, table


def test_C5_keys_that_move_in_a_chain(targets: Stand) -> None:
    expected = {"set": 2, "final moves": 2} if targets.replica_role else {"set": 2, "exact moves": 2}
    for table in ("shifts", "things", "pairs"):
        assert levels(targets, table, [Step("shift", 0, 0, 1)], first=FOUR) == expected, table
        assert levels(targets, table, [Step("swap_keys", 0, 0, 1)], first=FOUR) == expected, table


def test_C8_each_piece_of_a_large_transaction_finds_its_level(targets: Stand) -> None:
    """Told is the slowest of them."""
    touched = [Step("update_all", 0, 0, value) for value in (2, 8, 20)]
    swaps = [*touched, Step("swap_unique", 0, 0, 1), *touched]
    moves = [*touched, Step("swap_keys", 0, 0, 1), *touched]
    final = "final_pieces" if targets.replica_role else "exact_pieces"
    for steps, expected in ((touched, "set_pieces"), (swaps, f"{final} unique"), (moves, f"{final} moves")):
        found = levels(targets, "things", steps, first=FOUR, piece_bytes=600)
        assert found == {"set": 2, expected: 2}, expected


def test_C18_rows_that_the_target_lost(targets: Stand) -> None:
    """A complete image puts the row back, a DELETE passes, an image that is not complete stops at its transaction."""
    lost = Step("meddle", 0, 0, 0)
    for table, step, missing in (("shifts", "update_all", 1), ("rooms", "delete_some", 1), ("things", "update_all", 0)):
        story = tell([table], [([FOUR], lost), ([[Step(step, 0, 0, 2)]], None)], replica_role=targets.replica_role)
        assert story.stretches[1].transactions[0].must_stop is (missing == 0)
        ways = [Way("", binary, EVERYTHING, EVERYTHING, few=1) for binary in (False, True)]
        for fast in agree(targets, story, *ways):
            assert fast.conflicts["missing_row"] == missing
            assert fast.reasons == ({"set": 1, "exact row_count": 1} if missing else {"set": 1}), table


def test_C18_a_lost_row_that_is_replaced(targets: Stand) -> None:
    """DELETE and INSERT of a key whose row is gone from the target: where foreign keys make inserts come first, the
    DELETE must not find the new row."""
    lost, again = Step("meddle", 0, 0, 0), Step("replace", 0, 0, 0)
    for table in ("firm", "shifts"):
        story = tell([table], [([FOUR], lost), ([[again]], None)], replica_role=targets.replica_role)
        ways = [Way("", binary, EVERYTHING, EVERYTHING, few=1) for binary in (False, True)]
        for fast in agree(targets, story, *ways):
            assert fast.conflicts["missing_row"] == 1, table


def test_a_batch_that_fails_leaves_its_good_transactions(targets: Stand) -> None:
    """The third of five is refused by the target: two are durable, and the position is theirs."""
    told = [[insert(number, number)] for number in range(5)]
    told[2] = [Step("poison", 0, 0, 0)]
    story = tell(["things"], [(told, None)], replica_role=targets.replica_role)
    for binary in (False, True):
        (fast,) = agree(targets, story, Way("", binary, EVERYTHING, EVERYTHING, few=1))
        assert fast.transactions == 2
        assert isinstance(fast.fault, RowRefused)


def test_what_forces_the_exact_path(targets: Stand) -> None:
    """TRUNCATE, keys of a keyspace that move (I5), rows that cannot be told apart (C7): each by its name."""
    assert levels(targets, "things", [Step("truncate", 0, 0, 0)], first=FOUR) == {"set": 2, "exact truncate": 2}
    assert levels(targets, "owners", [Step("shift", 0, 0, 1)], first=FOUR) == {"set": 2, "exact id_moved": 2}
    assert levels(targets, "twins", [Step("delete", 0, 0, 0)], first=FOUR) == {"set": 2, "exact no_key": 2}


def test_I5_cascades_in_later_pieces_mean_former_keys(targets: Stand) -> None:
    """1 becomes 2 and 2 becomes 3 in one statement, whose cascades change another key column as well: each follows in
    a piece of its own, where the former key 2 is the new one of somebody else."""
    pair = [insert(1), insert(2), Step("insert", 1, 1, 0), Step("insert", 1, 2, 1)]
    plot = [([pair], None), ([[Step("shift", 0, 0, 1)]], None)]
    story = tell(["leaders", "votes"], plot, replica_role=targets.replica_role)
    ways = [Way("", binary, EVERYTHING, 1, few=1) for binary in (False, True)]
    for fast in agree(targets, story, *ways):
        assert fast.reasons["exact_pieces id_moved"] == 1
        assert not fast.conflicts


def test_I5_a_reference_moved_by_hand_after_keys_changed_places(targets: Stand) -> None:
    """Owners 0 and 1 change keys by way of a third, and then a member of the new 0 goes to the new 1: no cascade."""
    told = [
        insert(0), Step("insert", 1, 0, 0), Step("insert_many", 0, 0, 1), Step("insert", 1, 0, 1),
        Step("swap_keys", 0, 0, 1), Step("move", 1, 0, 127),
    ]  # fmt: skip
    story = tell(["owners", "members"], [([told], None)], replica_role=targets.replica_role)
    agree(targets, story, *(Way("", binary, EVERYTHING, EVERYTHING, few=1) for binary in (False, True)))


def test_I5_a_reference_that_follows_and_goes_on_by_hand(targets: Stand) -> None:
    """2 becomes 1 and 1 becomes 0; then the member that came to 1 with its owner is given to 0, as a cascade of the
    other would be. No row of the former 1 is there, and the one that is found must be given its new key."""
    rows = [insert(1, 0), insert(2, 1), Step("insert", 1, 0, 1)]
    told = [Step("shift", 0, 0, 0), Step("move", 1, 0, 0)]
    story = tell(["owners", "members"], [([rows], None), ([told], None)], replica_role=targets.replica_role)
    moved = story.stretches[1].transactions[0].logged[-1]
    assert moved == RowMessage("U", "members", (1, 0, None), "K", (0, 0, 2))
    agree(targets, story, *(Way("", binary, EVERYTHING, EVERYTHING, few=1) for binary in (False, True)))


def test_I5_a_reference_that_goes_the_way_of_a_cascade_by_hand(targets: Stand) -> None:
    """1 becomes 2 and 2 becomes 3; when the cascades are done, the member of the new 2 is given to 3 as well."""
    rows = [insert(1, 0), insert(2, 1), Step("insert", 1, 0, 0), Step("insert", 1, 0, 1)]
    told = [Step("shift", 0, 0, 1), Step("move", 1, 1, 1)]
    story = tell(["owners", "members"], [([rows], None), ([told], None)], replica_role=targets.replica_role)
    *_, cascade, moved = story.stretches[1].transactions[0].logged
    assert cascade == RowMessage("U", "members", (1, 0, None), "K", (2, 0, 2))
    assert moved == RowMessage("U", "members", (2, 0, None), "K", (3, 1, 2))
    agree(targets, story, *(Way("", binary, EVERYTHING, EVERYTHING, few=1) for binary in (False, True)))


def test_the_fold_is_the_net_effect(targets: Stand) -> None:
    """Without a server: what a fold says of each table is what its changes do one by one."""
    if not targets.replica_role:
        pytest.skip("no target is asked")
    outcomes: Counter[str] = Counter()
    plans = {
        each.source.name: each
        for each in targets.exact.plan.tables
        if each.target.name == BY_NAME[each.source.name].target
    }
    oids = {name: plan.source_oid for name, plan in plans.items()}
    relations: dict[str, Relation] = {}
    for name, oid in oids.items():
        described = decode(memoryview(relation(BY_NAME[name], oid)))
        assert isinstance(described, Relation)
        relations[name] = described

    @settings(QUIET, max_examples=3 * EXAMPLES)
    @given(casts(), plots(unusual=False), st.booleans())
    def compare(cast: tuple[str, ...], plot: object, binary: bool) -> None:
        story = tell(cast, plot, replica_role=True)  # type: ignore[arg-type]
        note(str(story))
        encoding = Encoding(oids, binary=binary, repeats=False)
        states: dict[str, State] = {name: {} for name in cast}
        for stretch in story.stretches:
            frames: dict[str, list[bytes]] = {name: [] for name in cast}
            for transaction in stretch.transactions:
                rows = [message for message in transaction.logged if isinstance(message, RowMessage)]
                sent = [frame for frame in encoding.frames(transaction) if frame[25:26] in b"IUD"]
                for message, frame in zip(rows, sent, strict=True):
                    frames[message.table].append(frame)
            for name in cast:
                table = BY_NAME[name]
                # Compound columns are there before anything is folded; their way is the stand's.
                if table.key and frames[name] and not any(map(is_compound, plans[name].used)):
                    fold = TableFold(relations[name], plans[name], Form.BINARY if binary else Form.TEXT)
                    after = one_by_one(states[name], frames[name], table)
                    said = folded(states[name], frames[name], relations[name], fold)
                    states[name] = after
                    outcomes[fold.refused or "folded"] += 1
                    outcomes["moves"] += fold.has_moves
                    assert said is None or used(said, table) == used(after, table), name

    compare()
    assert outcomes["folded"] > 10 * outcomes["id_moved"], outcomes
    assert outcomes["moves"] > 0, outcomes
    assert set(outcomes) <= {"folded", "moves", "id_moved"}, "a valid history was refused"
