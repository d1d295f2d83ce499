"""The id map's state against a small world: a source that writes WAL as PostgreSQL orders it, and a target.

The world knows what every row *is* (a serial number that no key change touches), so it can tell whether a change hit
the right row, and whether at each commit every reference on the target leads where it leads on the source.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from crossfade.catalog import TableName
from crossfade.mapping.plan import Keyspace, Strategy
from crossfade.wire.idstate import Created, IdState, Moved, in_order

KEYSPACE = Keyspace("user", TableName("public", "users"), "id", "integer", "uuid", Strategy.UUID7)


def state(*, cache_limit: int = 1_000) -> IdState:
    numbers = itertools.count(1)
    return IdState(KEYSPACE, lambda old: b"new%d" % next(numbers), cache_limit=cache_limit)


def known(**entries: bytes) -> IdState:
    """A state that has read `k1=b"X"` as the entry of b"1"."""
    made = state()
    for key, new in entries.items():
        made.learn(key.removeprefix("k").encode(), new)
    return made


# -- one rule at a time


def test_ids_are_ordered_as_numbers_each_once() -> None:
    assert in_order([b"9", b"100", b"12", b"9", b"101"]) == [b"9", b"12", b"100", b"101"]


def test_I1_an_id_is_given_at_first_sight_and_kept() -> None:
    ids = state()
    assert ids.missing([b"5", b"6"]) == {b"5", b"6"}
    ids.learn(b"6", b"six")
    ids.learn_absent([b"5", b"6"])
    assert ids.missing([b"5", b"6"]) == set()
    assert (ids.resolve_new(b"5"), ids.resolve_new(b"6")) == (None, b"six")
    new = ids.allocate(b"5")
    assert ids.resolve_new(b"5") == new
    assert ids.take_writes() == [Created([b"5"], [new])]
    assert ids.take_writes() == []
    with pytest.raises(ValueError, match="already in the map"):
        ids.allocate(b"5")


def test_an_old_image_never_allocates() -> None:
    ids = state()
    assert ids.resolve_old(b"5") == (None, None)
    assert ids.resolve_deleted(b"5") == (None, None)
    assert ids.resolve_owner(b"5") is None
    assert ids.take_writes() == []


def test_I5_a_changed_key_keeps_its_id_and_old_images_still_find_it() -> None:
    ids = known(k1=b"X")
    ids.begin_transaction()
    ids.learn_absent([b"2"])
    assert ids.resolve_owner(b"1") == b"X"
    ids.owner_key_changed(b"1", b"2")
    assert (ids.resolve_new(b"2"), ids.resolve_new(b"1")) == (b"X", None)
    assert ids.missing([b"1", b"2"]) == set()
    assert ids.resolve_old(b"1", b"2") == ids.resolve_old(b"1") == ids.resolve_deleted(b"1") == (b"X", None)
    assert ids.take_writes() == [Moved(b"1", b"2", b"X")]


def test_the_former_key_means_nothing_once_the_source_transaction_is_over() -> None:
    ids = known(k1=b"X")
    ids.learn_absent([b"2"])
    ids.owner_key_changed(b"1", b"2")
    ids.begin_transaction()
    assert ids.resolve_old(b"1") == (None, None)


def test_a_key_that_has_an_entry_gives_its_id_to_the_row_that_comes() -> None:
    ids = known(k1=b"X", k2=b"Z")
    ids.owner_key_changed(b"1", b"2")
    assert (ids.resolve_new(b"1"), ids.resolve_new(b"2")) == (b"X", b"Z")
    assert ids.resolve_old(b"1", b"2") == (b"X", None)
    assert ids.take_writes() == []


def test_keys_shifted_in_one_statement_are_told_apart() -> None:
    ids = known(k2=b"Y", k3=b"Z", k9=b"W")
    ids.begin_transaction()
    ids.learn_absent([b"4"])
    ids.owner_key_changed(b"3", b"4")
    ids.owner_key_changed(b"2", b"3")
    assert ids.resolve_old(b"3", b"4") == (b"Z", b"Y")  # the cascade of 3 becoming 4
    assert ids.resolve_old(b"2", b"3") == (b"Y", None)
    assert ids.resolve_old(b"3", b"9") == (b"Y", b"Z")  # whoever refers to 3 now and leaves it
    assert ids.resolve_old(b"3", b"3") == (b"Y", b"Z")  # another column of its identity changed
    assert ids.resolve_old(b"3", b"unheard of") == (b"Y", b"Z")
    assert ids.resolve_deleted(b"3") == (b"Y", b"Z")
    assert ids.resolve_owner(b"3") == b"Y"


def test_once_a_later_move_has_reached_a_table_earlier_ones_are_done_there() -> None:
    """Cascades come in the order of the moves: another row goes the way of the first by hand."""
    ids = known(k2=b"Y", k3=b"Z")
    ids.begin_transaction()
    ids.learn_absent([b"4"])
    ids.owner_key_changed(b"3", b"4")
    ids.owner_key_changed(b"2", b"3")
    first, second = ids.cascade_of(b"3", b"4"), ids.cascade_of(b"2", b"3")
    assert first is not None
    assert second is not None
    assert ids.resolve_old(b"3", b"4", since=first) == (b"Z", b"Y")
    assert ids.cascade_of(b"3", b"4", since=second) is None
    assert ids.resolve_old(b"3", b"4", since=second) == (b"Y", b"Z")
    ids.begin_transaction()
    ids.learn_absent([b"9"])
    ids.owner_key_changed(b"4", b"9")
    third = ids.cascade_of(b"4", b"9", since=second)
    assert third is not None
    assert third > second


def test_after_keys_changed_places_only_single_steps_are_cascades() -> None:
    """1 and 2 by way of 7: whoever goes from 1 to 2 at once did not follow, and refers to the new 1."""
    ids = known(k1=b"X", k2=b"Y")
    ids.begin_transaction()
    ids.learn_absent([b"7"])
    for old, to in ((b"1", b"7"), (b"2", b"1"), (b"7", b"2")):
        ids.owner_key_changed(old, to)
    assert (ids.resolve_new(b"1"), ids.resolve_new(b"2")) == (b"Y", b"X")
    assert ids.resolve_old(b"1", b"7") == (b"X", b"Y")  # late, perhaps, but the very step
    assert ids.resolve_old(b"1", b"2") == (b"Y", b"X")
    assert ids.resolve_old(b"2", b"1") == (b"Y", b"X")
    assert ids.resolve_old(b"7", b"2") == (b"X", None)
    ids.allocate(b"7")
    assert ids.resolve_old(b"1", b"7") == (b"Y", b"X")


def test_a_key_taken_again_in_the_transaction_has_two_meanings() -> None:
    ids = known(k1=b"X")
    ids.begin_transaction()
    ids.learn_absent([b"2"])
    ids.owner_key_changed(b"1", b"2")
    new = ids.allocate(b"1")
    assert ids.resolve_new(b"1") == ids.resolve_owner(b"1") == new
    assert ids.resolve_old(b"1") == (b"X", new)
    assert ids.take_writes() == [Moved(b"1", b"2", b"X"), Created([b"1"], [new])]


def test_a_rollback_forgets_allocations_moves_and_aliases_and_nothing_else() -> None:
    ids = known(k1=b"X", k7=b"S")
    ids.learn_absent([b"2", b"5"])
    ids.owner_key_changed(b"1", b"2")
    ids.allocate(b"5")
    ids.learn(b"8", b"E")
    ids.rollback()
    assert ids.known == {b"1": b"X", b"7": b"S", b"8": b"E"}
    assert ids.missing([b"2", b"5"]) == {b"2", b"5"}
    assert ids.resolve_old(b"1") == (b"X", None)
    assert ids.take_writes() == []


def test_a_commit_keeps_what_was_written_and_refuses_what_was_not() -> None:
    ids = state()
    new = ids.allocate(b"5")
    with pytest.raises(ValueError, match="unwritten"):
        ids.commit()
    assert ids.take_writes() == [Created([b"5"], [new])]
    ids.commit()
    ids.rollback()
    assert ids.known == {b"5": new}
    assert ids.take_writes() == []


def test_many_ids_are_made_at_once_and_taken_back_at_once() -> None:
    ids = known(k1=b"X")
    ids.learn_absent([b"2", b"3", b"4"])
    ids.owner_key_changed(b"1", b"2")
    assert ids.has_aliases
    ids.allocate_many([b"1", b"3"])
    new = ids.allocate(b"4")
    assert ids.resolve_new(b"2") == b"X"
    assert ids.take_writes() == [
        Moved(b"1", b"2", b"X"),
        Created([b"1", b"3", b"4"], [ids.known[b"1"], ids.known[b"3"], new]),
    ]
    with pytest.raises(ValueError, match="already in the map"):
        ids.allocate_many([b"9", b"3"])
    ids.learn(b"3", b"theirs")  # another stream was first
    assert ids.resolve_new(b"3") == b"theirs"
    ids.rollback()
    assert ids.known == {b"1": b"X"}
    assert not ids.has_aliases


def test_what_the_table_says_is_stale_until_our_writes_are_in_it() -> None:
    ids = known(k1=b"X")
    ids.learn_absent([b"2"])
    ids.owner_key_changed(b"1", b"2")
    ids.learn(b"1", b"X")  # read before the move was written
    assert ids.resolve_new(b"1") is None
    ids.take_writes()
    ids.learn(b"1", b"other")  # another stream made an entry behind our move
    assert ids.resolve_new(b"1") == b"other"


def test_I2_who_wrote_first_wins_and_a_rollback_forgets_that_too() -> None:
    ids = state()
    ids.allocate(b"5")
    ids.take_writes()
    ids.learn(b"5", b"theirs")
    assert ids.resolve_new(b"5") == b"theirs"
    ids.rollback()
    assert ids.missing([b"5"]) == {b"5"}


@pytest.mark.parametrize("read", [[], [b"1"], [b"2"]])
def test_a_key_does_not_change_before_the_map_was_read(read: list[bytes]) -> None:
    ids = state()
    ids.learn_absent(read)
    with pytest.raises(ValueError, match="before the map was read"):
        ids.owner_key_changed(b"1", b"2")


def test_a_key_without_entry_has_nothing_to_move() -> None:
    ids = state()
    ids.learn_absent([b"1", b"2"])
    ids.owner_key_changed(b"1", b"2")
    assert ids.take_writes() == []
    assert ids.resolve_old(b"1") == (None, None)


def test_the_cache_is_bounded_between_batches_and_whole_within_one() -> None:
    ids = state(cache_limit=6)
    for number in range(10):
        ids.learn(b"%d" % number, b"x")
    assert ids.missing(b"%d" % number for number in range(10)) == set()
    ids.commit()
    assert list(ids.known) == [b"7", b"8", b"9"]  # half of what it may hold, the newest
    ids.learn(b"10", b"x")
    ids.commit()
    assert len(ids.known) == 4


def test_C8_a_piece_keeps_all_its_ids_until_the_next_one_begins() -> None:
    ids = state(cache_limit=4)
    olds = [b"%d" % number for number in range(6)]
    ids.allocate_many(olds)
    ids.make_room()
    assert set(ids.known) == set(olds), "the table lacks them"
    ids.take_writes()
    ids.written()
    assert set(ids.known) == set(olds), "the piece is still to be encoded"
    ids.make_room()
    assert list(ids.known) == olds[-2:]
    ids.rollback()
    assert not ids.known


def test_what_was_made_for_many_at_once_is_forgotten_like_what_was_made_for_one() -> None:
    ids = state()
    ids.learn(b"1", b"x")
    ids.learn_absent([b"2", b"3", b"4"])
    ids.owner_key_changed(b"1", b"2")
    ids.allocate_many([b"3", b"4"])
    ids.owner_key_changed(b"3", b"1")
    ids.learn(b"4", b"stale")
    assert ids.resolve_new(b"4") != b"stale", "a write of ours waits for this key"
    ids.rollback()
    assert dict(ids.known) == {b"1": b"x"}
    ids.allocate_many([b"5"])
    ids.take_writes()
    ids.written()
    ids.learn(b"5", b"theirs")
    assert ids.resolve_new(b"5") == b"theirs", "once ours is written the table is right"
    ids.rollback()
    assert dict(ids.known) == {b"1": b"x"}


# -- all of them at once


@dataclass(frozen=True)
class Insert:
    table: str
    serial: int
    key: int


@dataclass(frozen=True)
class Update:
    table: str
    serial: int
    old: int
    new: int


@dataclass(frozen=True)
class Delete:
    table: str
    serial: int
    key: int


Change = Insert | Update | Delete
KEYS = range(1, 13)  # few, so that keys are neighbours, are taken again and meet what others left behind
REFERRING = ("profiles", "orders")


@dataclass
class Source:
    """users(id), and two tables that refer to it ON UPDATE CASCADE: profiles by its primary key, orders by a column.

    Rows are `serial -> key`. References may dangle after a DELETE (no ON DELETE here), never after a key change.
    """

    rng: random.Random
    users: dict[int, int] = field(default_factory=dict)
    profiles: dict[int, int] = field(default_factory=dict)
    orders: dict[int, int] = field(default_factory=dict)
    serials: Iterator[int] = field(default_factory=itertools.count)

    def rows(self, table: str) -> dict[int, int]:
        found: dict[int, int] = getattr(self, table)
        return found

    def transaction(self) -> list[Change]:
        """A few statements, as WAL has them: all rows of the parent first, then the cascades in the same order."""
        statements: list[Callable[[], list[Change]]] = [
            self.insert_user,
            self.insert_reference,
            self.shift,
            self.swap,
            self.move,
            self.delete,
            self.refer_elsewhere,
        ]
        return [change for _ in range(self.rng.randint(1, 6)) for change in self.rng.choice(statements)()]

    def free_key(self, taken: dict[int, int]) -> int:
        return self.rng.choice([key for key in KEYS if key not in taken.values()])

    def insert_user(self) -> list[Change]:
        if len(self.users) > 8:
            return []
        return [self._insert("users", self.free_key(self.users))]

    def insert_reference(self) -> list[Change]:
        table = self.rng.choice(REFERRING)
        if len(self.rows(table)) > 8:
            return []
        taken = self.profiles.values() if table == "profiles" else ()
        parents = [key for key in self.users.values() if key not in taken]
        orphaned = [key for key in KEYS if key not in taken]  # no declared foreign key, or one NOT VALID (I3)
        return [self._insert(table, self.rng.choice(parents if parents and self.rng.random() < 0.8 else orphaned))]

    def _insert(self, table: str, key: int) -> Change:
        serial = next(self.serials)
        self.rows(table)[serial] = key
        return Insert(table, serial, key)

    def shift(self) -> list[Change]:
        """UPDATE users SET id = id + 1 (or - 1), touching the rows in an order in which no key is taken twice."""
        step = self.rng.choice((1, -1))
        keys = sorted(self.users.values(), reverse=step > 0)
        wanted = [(key, key + step) for key in keys[: self.rng.randint(0, 4)]]
        return self._change_keys([(old, new) for old, new in wanted if self._is_free(new, wanted)])

    def _is_free(self, key: int, pairs: list[tuple[int, int]]) -> bool:
        leaving = {old for old, _ in pairs}
        return key not in self.users.values() or key in leaving

    def move(self) -> list[Change]:
        if not self.users:
            return []
        return self._change_keys([(self.rng.choice(list(self.users.values())), self.free_key(self.users))])

    def swap(self) -> list[Change]:
        """Three statements."""
        if len(self.users) < 2:
            return []
        one, two = self.rng.sample(list(self.users.values()), 2)
        aside = self.free_key(self.users)
        return [change for pair in ((one, aside), (two, one), (aside, two)) for change in self._change_keys([pair])]

    def _change_keys(self, pairs: list[tuple[int, int]]) -> list[Change]:
        done: list[tuple[int, int]] = []
        changes: list[Change] = []
        for old, new in pairs:
            if new in self.users.values() or new < 1:
                continue  # the unique index would refuse it: this row stays
            serial = next(serial for serial, key in self.users.items() if key == old)
            self.users[serial] = new
            changes.append(Update("users", serial, old, new))
            done.append((old, new))
        for old, new in done:
            for table in REFERRING:
                rows = self.rows(table)
                if table == "profiles" and new in rows.values():
                    for serial in [serial for serial, key in rows.items() if key == new]:
                        del rows[serial]  # somebody's trigger makes room, or the statement would have failed
                        changes.append(Delete(table, serial, new))
                for serial in [serial for serial, key in rows.items() if key == old]:
                    rows[serial] = new
                    changes.append(Update(table, serial, old, new))
        return changes

    def delete(self) -> list[Change]:
        table = self.rng.choice(("users", *REFERRING))
        rows = self.rows(table)
        if not rows:
            return []
        serial = self.rng.choice(list(rows))
        return [Delete(table, serial, rows.pop(serial))]

    def refer_elsewhere(self) -> list[Change]:
        table = self.rng.choice(REFERRING)
        rows = self.rows(table)
        if not rows:
            return []
        serial = self.rng.choice(list(rows))
        old, new = rows[serial], self.free_key(self.profiles)
        rows[serial] = new
        return [Update(table, serial, old, new)]


@dataclass
class Target:
    """The id map's table, and each row's new id; `profiles` and `users` are found by nothing but that id."""

    table: dict[bytes, bytes] = field(default_factory=dict)
    users: dict[bytes, int] = field(default_factory=dict)
    profiles: dict[bytes, int] = field(default_factory=dict)
    orders: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Target:
        return Target(dict(self.table), dict(self.users), dict(self.profiles), dict(self.orders))

    def read(self, ids: IdState, keys: set[bytes]) -> None:
        missing = ids.missing(keys)
        for key in missing & self.table.keys():
            ids.learn(key, self.table[key])
        ids.learn_absent(missing)

    def write(self, ids: IdState) -> None:
        for write in ids.take_writes():
            if isinstance(write, Moved):
                assert self.table.pop(write.old) == write.new
                assert write.to not in self.table, "the map would hold two ids for one key"
                self.table[write.to] = write.new
            else:
                for old, new in zip(write.olds, write.news, strict=True):
                    assert old not in self.table, "the map would hold two ids for one key"
                    self.table[old] = new
        ids.written()

    def apply(self, ids: IdState, change: Change) -> None:
        """What the applier does for each change, in its order."""
        if change.table == "users":
            self._user(ids, change)
        elif change.table == "profiles":
            self._profile(ids, change)
        elif isinstance(change, Delete):
            del self.orders[change.serial]  # found by a key of its own
        else:
            self.orders[change.serial] = given(ids, change.key if isinstance(change, Insert) else change.new)

    def _user(self, ids: IdState, change: Change) -> None:
        if isinstance(change, Insert):
            put(self.users, given(ids, change.key), change.serial)
            return
        found = ids.resolve_owner(text(change.old if isinstance(change, Update) else change.key))
        assert found is not None
        assert self.users.pop(found) == change.serial, "another user was hit"
        if isinstance(change, Update):
            ids.owner_key_changed(text(change.old), text(change.new))
            put(self.users, given(ids, change.new), change.serial)

    def _profile(self, ids: IdState, change: Change) -> None:
        if isinstance(change, Insert):
            put(self.profiles, given(ids, change.key), change.serial)
            return
        if isinstance(change, Update):
            first, other = ids.resolve_old(text(change.old), text(change.new))
        else:
            first, other = ids.resolve_deleted(text(change.key))
        assert first is not None
        found = first if first in self.profiles else other
        assert found is not None
        assert self.profiles.pop(found) == change.serial, "somebody else's profile was hit"
        if isinstance(change, Update):
            put(self.profiles, given(ids, change.new), change.serial)


def text(key: int) -> bytes:
    return b"%d" % key


def given(ids: IdState, key: int) -> bytes:
    known = ids.resolve_new(text(key))
    return ids.allocate(text(key)) if known is None else known


def put(rows: dict[bytes, int], new: bytes, serial: int) -> None:
    assert new not in rows, "two rows of the source became one"
    rows[new] = serial


def keys_of(changes: list[Change]) -> set[bytes]:
    found: set[bytes] = set()
    for change in changes:
        found |= {text(change.old), text(change.new)} if isinstance(change, Update) else {text(change.key)}
    return found


@pytest.mark.parametrize("cache_limit", [0, 3, 1_000])
@pytest.mark.parametrize("seed", range(60))
def test_every_change_hits_its_row_and_every_reference_leads_where_it_led(seed: int, cache_limit: int) -> None:
    rng = random.Random(seed)
    source = Source(rng)
    target = Target()
    ids = state(cache_limit=cache_limit)
    for _ in range(60):
        batch = [source.transaction() for _ in range(rng.randint(1, 3))]
        attempts = 1 + (rng.random() < 0.2)
        for attempt in range(attempts):
            before = target.copy()
            for transaction in batch:
                ids.begin_transaction()
                cuts = sorted(rng.sample(range(len(transaction) + 1), min(2, len(transaction))))
                for start, end in itertools.pairwise([0, *cuts, len(transaction)]):  # pieces of one transaction
                    piece = transaction[start:end]
                    target.read(ids, keys_of(piece))
                    for change in piece:
                        target.apply(ids, change)
                    target.write(ids)
            if attempt < attempts - 1:
                ids.rollback()
                target = before
        ids.commit()
        assert len(ids.known) <= cache_limit
        assert all(target.table[key] == new for key, new in ids.known.items()), "the cache differs from the table"
        assert len(set(target.table.values())) == len(target.table), "two keys share an id"
        assert target.users == {target.table[text(key)]: serial for serial, key in source.users.items()}
        assert target.profiles == {target.table[text(key)]: serial for serial, key in source.profiles.items()}
        assert target.orders == {serial: target.table[text(key)] for serial, key in source.orders.items()}
