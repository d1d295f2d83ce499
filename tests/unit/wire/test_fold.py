"""What a batch does to each identity: against rows in a dict, changed one at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.catalog import ReplicaIdentity
from crossfade.faults import PlanMismatch, ProtocolViolation
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.wire.remarks import Remarks
from tests.unit.mapping.builders import compiled, key, name, table
from tests.unit.pgoutput.encoder import TOAST
from tests.unit.wire.conftest import Hot
from tests.unit.wire.tuples import OID, Cell, cells, delete, insert, update

MAPPING = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, to: bigint, strategy: offset, by: 1000}}
tables:
  app.users: {drop: [unused]}
"""
SOURCE = (
    table("public.items", "b text", "n int", "a int", "big text", pk="a"),
    table("public.pairs", "b text", "n int", "a int", "big text", pk="b a"),
    table("public.users", "id bigint", "boss bigint", "unused text", "name text", pk="id"),
    table("public.keyless", "a int", "b text", identity=ReplicaIdentity.FULL),
)
TARGET = (
    table("app.items", "big text", "a int", "b text", "n int", pk="a"),
    table("app.pairs", "b text", "n int", "a int", "big text", keys=[key("b a", primary=True)]),
    table("app.users", "id bigint", "boss bigint", "name text", pk="id"),
    table("app.keyless", "a int", "b text"),
)
RESULT = compiled(MAPPING, SOURCE, TARGET)


def plan(of: str) -> TablePlan:
    assert RESULT.plan is not None, RESULT.findings
    return RESULT.plan.by_source()[name(f"public.{of}")][0]


def relation(of: TablePlan, *, full: bool = False) -> Relation:
    identity = ReplicaIdentity.FULL if full or of.identity_is_full else ReplicaIdentity.DEFAULT
    columns = tuple(
        RelationColumn(one.name, one.type_oid, one.typmod, full or one.name in of.identity) for one in of.source_columns
    )
    return Relation(OID, of.source, identity, columns)


def folded(hot: Hot, frames: Sequence[bytes], of: str = "items", form: Form = Form.TEXT, *, full: bool = False) -> Any:
    made = hot.fold.TableFold(relation(plan(of), full=full), plan(of), form)
    hot.fold.fold(frames, {OID: made})
    return made


def images(rows: Any) -> list[list[Cell]]:
    return [cells(frame, offset) for frame, offset in zip(rows.frames, rows.offsets, strict=True)]


# single rules ----------------------------------------------------------


def test_a_row_that_came_and_went_is_nothing(hot: Hot) -> None:
    made = folded(hot, [insert([b"x", b"1", b"5", b"L"]), delete([None, None, b"5", None])])
    rows = made.rows()
    assert (made.inserts, made.updates, made.deletes, made.refused) == (1, 0, 1, "")
    assert [len(rows.inserts), len(rows.deletes), len(rows.updates), len(rows.moves)] == [0, 0, 0, 0]


def test_C3_an_insert_after_a_delete_is_both(hot: Hot) -> None:
    new = [b"y", None, b"5", None]
    rows = folded(hot, [delete([None, None, b"5", None]), insert(new)]).rows()
    assert images(rows.deletes) == [[None, None, b"5", None]]
    assert images(rows.inserts) == [new]
    assert rows.updates == []


@pytest.mark.parametrize("kinds", list(itertools.product("IUD", repeat=3)), ids="".join)
def test_C3_every_sequence_of_three_on_one_key(hot: Hot, kinds: tuple[str, ...]) -> None:
    before = None if kinds[0] == "I" else [b"before", b"0", b"5", b"big"]
    now, possible, frames = before, True, []
    for number, kind in enumerate(kinds):
        image = [b"i%d" % number, b"%d" % number, b"5", b"big%d" % number]
        possible = possible and (now is None) == (kind == "I")
        if kind == "D":
            frames.append(delete([None, None, b"5", None]))
            now = None
        else:
            frames.append(insert(image) if kind == "I" else update(image))
            now = image
    made = folded(hot, frames)
    if not possible:
        assert made.refused == "conflict"
        return
    rows = made.rows()
    lives_on = before is not None and not any(kind == "D" for kind in kinds)
    # Any tuple with the original key will do: the one of the first change.
    assert [image[2] for image in images(rows.deletes)] == ([] if before is None or lives_on else [b"5"])
    assert images(rows.inserts) == ([] if now is None or lives_on else [now])
    assert [images(each) for _, each in rows.updates] == ([[now]] if lives_on else [])


def test_C4_a_value_not_sent_is_that_of_the_image_before(hot: Hot) -> None:
    rows = folded(
        hot,
        [
            insert([b"x", b"1", b"5", b"LONG"]),
            update([b"x", b"2", b"5", TOAST]),
            update([b"x", b"3", b"6", TOAST], [None, None, b"5", None]),
        ],
    ).rows()
    assert images(rows.inserts) == [[b"x", b"3", b"6", b"LONG"]]


def test_C4_also_of_a_row_that_was_there_before(hot: Hot) -> None:
    first, second = update([b"x", b"1", b"5", b"LONG"]), update([TOAST, b"2", b"5", TOAST])
    rows = folded(hot, [first, second]).rows()
    assert [(unsent, images(each)) for unsent, each in rows.updates] == [
        (frozenset(), [[b"x", b"2", b"5", b"LONG"]]),
    ]


def test_D1_what_was_never_sent_is_named_by_its_places(hot: Hot) -> None:
    rows = folded(
        hot,
        [
            update([b"x", b"2", b"5", TOAST]),
            update([TOAST, b"2", b"4", TOAST]),
            update([b"x", b"3", b"3", TOAST]),
            update([b"x", b"3", b"2", b"all"]),
        ],
    ).rows()
    columns = [column.target.name for column in plan("items").columns]
    assert {
        frozenset(columns[place] for place in unsent): [image[2] for image in images(each)]
        for unsent, each in rows.updates
    } == {frozenset({"big"}): [b"3", b"5"], frozenset({"b", "big"}): [b"4"], frozenset(): [b"2"]}


def test_D2_under_FULL_the_old_tuple_has_what_the_new_one_has_not(hot: Hot) -> None:
    rows = folded(
        hot,
        [update([b"x", b"2", b"5", TOAST], [b"x", b"1", b"5", b"LONG"], b"O")],
        full=True,
    ).rows()
    assert [(unsent, images(each)) for unsent, each in rows.updates] == [(frozenset(), [[b"x", b"2", b"5", b"LONG"]])]


def test_D2_an_old_tuple_under_FULL_that_we_did_not_see_before_is_another_row(hot: Hot) -> None:
    made = folded(hot, [insert([b"x", b"1", b"5", b"big"]), delete([b"y", b"1", b"5", b"big"], b"O")], full=True)
    assert made.refused == "conflict"


def test_D3_of_a_K_tuple_only_the_identity_means_anything(hot: Hot) -> None:
    rows = folded(hot, [update([TOAST, b"2", b"6", TOAST], [None, None, b"5", None])]).rows()
    [(unsent, before, after)] = rows.moves
    assert {plan("items").columns[place].target.name for place in unsent} == {"b", "big"}
    assert (images(before), images(after)) == ([[None, None, b"5", None]], [[TOAST, b"2", b"6", TOAST]])


def test_D4_a_row_named_by_nothing_that_was_sent_is_refused(hot: Hot) -> None:
    assert folded(hot, [update([b"x", b"2", TOAST, None])]).refused == "wide_key"
    assert folded(hot, [delete([None, None, TOAST, None])]).refused == "wide_key"
    assert folded(hot, [insert([b"x", b"2", TOAST, None])]).refused == "wide_key"
    assert folded(hot, [update([b"x", b"2", TOAST, None], [None, None, TOAST, None])]).refused == "wide_key"


def test_D4_a_long_key_that_the_old_tuple_tells_is_known(hot: Hot) -> None:
    rows = folded(hot, [update([b"x", b"2", TOAST, None], [None, None, b"5", None])]).rows()
    assert [images(each) for _, each in rows.updates] == [[[b"x", b"2", b"5", None]]]


def test_D5_an_old_key_that_is_the_new_one_is_no_move(hot: Hot) -> None:
    made = folded(hot, [update([b"x", b"2", b"5", None], [None, None, b"5", None])])
    assert not made.has_moves
    assert [images(each) for _, each in made.rows().updates] == [[[b"x", b"2", b"5", None]]]


def test_C5_a_chain_of_keys_moves_each_row_once(hot: Hot) -> None:
    old: list[Cell] = [None, None, None, None]
    made = folded(
        hot,
        [
            update([b"x", b"1", b"9", None], [*old[:2], b"3", None]),
            update([b"y", b"1", b"3", None], [*old[:2], b"2", None]),
            update([b"x", b"1", b"4", None], [*old[:2], b"9", None]),
        ],
    )
    assert made.has_moves
    [(unsent, before, after)] = made.rows().moves
    assert unsent == frozenset()
    assert images(before) == [[None, None, b"2", None], [None, None, b"3", None]]
    assert images(after) == [[b"y", b"1", b"3", None], [b"x", b"1", b"4", None]]


def test_a_row_that_came_back_to_its_key_has_not_moved(hot: Hot) -> None:
    made = folded(
        hot,
        [
            update([b"x", b"1", b"9", TOAST], [None, None, b"3", None]),
            update([b"y", b"1", b"3", TOAST], [None, None, b"9", None]),
        ],
    )
    assert not made.has_moves
    assert [images(each) for _, each in made.rows().updates] == [[[b"y", b"1", b"3", TOAST]]]


def test_a_row_that_moved_and_died_is_deleted_by_its_first_key(hot: Hot) -> None:
    made = folded(
        hot,
        [
            update([b"x", b"1", b"9", TOAST], [None, None, b"3", None]),
            delete([None, None, b"9", None]),
            insert([b"z", b"1", b"9", None]),
        ],
    )
    assert not made.has_moves
    rows = made.rows()
    assert images(rows.deletes) == [[None, None, b"3", None]]
    assert images(rows.inserts) == [[b"z", b"1", b"9", None]]


@pytest.mark.parametrize(
    "frames",
    [
        [insert([b"x", b"1", b"5", None]), insert([b"x", b"1", b"5", None])],
        [delete([None, None, b"5", None]), delete([None, None, b"5", None])],
        [delete([None, None, b"5", None]), update([b"x", b"1", b"5", None])],
        [update([b"x", b"1", b"6", None], [None, None, b"5", None]), update([b"x", b"1", b"5", None])],
        [insert([b"x", b"1", b"6", None]), update([b"x", b"1", b"6", None], [None, None, b"5", None])],
    ],
)
def test_what_the_frames_cannot_explain_is_a_conflict(hot: Hot, frames: list[bytes]) -> None:
    made = folded(hot, [*frames, insert([b"x", b"1", b"77", None])])
    assert made.refused == "conflict"
    assert made.inserts + made.updates + made.deletes == len(frames) + 1


def test_C7_rows_that_cannot_be_told_apart_are_inserted_only(hot: Hot) -> None:
    same = insert([b"1", b"x"])
    made = folded(hot, [same, same], "keyless")
    assert made.refused == ""
    assert images(made.rows().inserts) == [[b"1", b"x"]] * 2
    assert folded(hot, [same, delete([b"1", b"x"], b"O")], "keyless").refused == "no_key"
    assert folded(hot, [update([b"1", b"y"], [b"1", b"x"], b"O")], "keyless").refused == "no_key"


def test_an_append_only_table_takes_inserts_only(hot: Hot) -> None:
    of = dataclasses.replace(plan("items"), append_only=True, identity=(), key=())
    made = hot.fold.TableFold(relation(of), of, Form.TEXT)
    frames = [insert([b"x", b"1", b"5", None])] * 2
    hot.fold.fold(frames, {OID: made})
    assert made.refused == ""
    assert len(made.rows().inserts) == 2
    hot.fold.fold([update([b"x", b"1", b"5", None])], {OID: made})
    assert made.refused == "no_key"


def test_I5_a_change_of_the_keyspaces_own_column_is_refused(hot: Hot) -> None:
    moved = update([b"2", None, None, b"Ann"], [b"1", None, None, None])
    assert folded(hot, [moved], "users").refused == "id_moved"
    same = update([b"1", None, None, b"Ann"], [b"1", None, None, None])
    assert folded(hot, [same], "users").refused == ""
    full = update([b"2", None, None, b"Ann"], [b"1", None, None, b"Ann"], b"O")
    assert folded(hot, [full], "users", full=True).refused == "id_moved"


def test_an_unused_column_that_was_not_sent_is_nobodys(hot: Hot) -> None:
    rows = folded(hot, [update([b"1", None, TOAST, b"Ann"])], "users").rows()
    assert [unsent for unsent, _ in rows.updates] == [frozenset()]


def test_G6_what_is_in_the_copy_already_is_passed_over(hot: Hot) -> None:
    items = hot.fold.TableFold(relation(plan("items")), plan("items"), Form.TEXT)
    frames = [insert([b"x", b"1", b"5", None]), insert([b"1", b"x"], oid=77)]
    hot.fold.fold(frames, {OID: items}, frozenset({77}))
    assert items.inserts == 1
    hot.fold.fold(frames, {OID: items, 77: items}, frozenset({OID, 77}))
    assert items.inserts == 1


def test_oids_are_unsigned(hot: Hot) -> None:
    items = hot.fold.TableFold(relation(plan("items")), plan("items"), Form.TEXT)
    hot.fold.fold([insert([b"x", b"1", b"5", None], oid=2**32 - 1)], {2**32 - 1: items})
    assert items.inserts == 1


def test_deletes_and_updates_come_sorted_by_key(hot: Hot) -> None:
    numbers = [b"5", b"3", b"9", b"1"]
    rows = folded(
        hot,
        [delete([None, None, one, None]) for one in numbers]
        + [update([b"x", b"1", one + b"0", None]) for one in numbers],
    ).rows()
    assert [image[2] for image in images(rows.deletes)] == [b"1", b"3", b"5", b"9"]
    assert [image[2] for image in images(rows.updates[0][1])] == [b"10", b"30", b"50", b"90"]


# against the twin ----------------------------------------------------------

Row = dict[str, bytes | None]
NAMES = ("b", "n", "a", "big")
LONG = b"long " * 3


class Server:
    """A source of one table, changed row by row, which logs what pgoutput would send."""

    def __init__(self, identity: tuple[str, ...], form: Form, *, full: bool) -> None:
        self.identity = identity
        self.form = form
        self.full = full
        self.rows: dict[tuple[bytes | None, ...], Row] = {}
        self.frames: list[bytes] = []

    def key(self, row: Row) -> tuple[bytes | None, ...]:
        return tuple(row[one] for one in self.identity)

    def _old(self, row: Row) -> tuple[list[Cell], bytes]:
        if self.full:
            return [row[one] for one in NAMES], b"O"
        return [row[one] if one in self.identity else None for one in NAMES], b"K"

    def insert(self, row: Row) -> None:
        if self.key(row) in self.rows:
            return
        self.rows[self.key(row)] = row
        self.frames.append(insert([row[one] for one in NAMES], self.form))

    def delete(self, key: tuple[bytes | None, ...]) -> None:
        row = self.rows.pop(key, None)
        if row is not None:
            self.frames.append(delete(*self._old(row), self.form))

    def update(self, key: tuple[bytes | None, ...], row: Row, *, tells_key: bool) -> None:
        before = self.rows.get(key)
        if before is None or (self.key(row) != key and self.key(row) in self.rows):
            return
        del self.rows[key]
        self.rows[self.key(row)] = row
        new = [TOAST if row[one] == before[one] and (row[one] or b"").startswith(LONG) else row[one] for one in NAMES]
        if self.full or self.key(row) != key or tells_key:
            self.frames.append(update(new, *self._old(before), self.form))
        else:
            self.frames.append(update(new, form=self.form))


def replayed(rows: dict[tuple[bytes | None, ...], Row], result: Any, server: Server, of: TablePlan) -> Any:
    """Rows after deletes, updates, moves (all taken out first) and inserts, each of them exactly one row."""
    rows = dict(rows)
    at_place = [NAMES.index(column.source.name) for column in of.columns if column.source is not None]

    def key_of(image: list[Cell]) -> tuple[Any, ...]:
        return tuple(image[NAMES.index(one)] for one in server.identity)

    def merged(before: Row, image: list[Cell], unsent: frozenset[int]) -> Row:
        kept = {NAMES[at_place[place]] for place in unsent}
        assert kept == {one for one, cell in zip(NAMES, image, strict=True) if cell is TOAST}
        return {one: before[one] if one in kept else cell for one, cell in zip(NAMES, image, strict=True)}  # type: ignore[misc]

    for image in images(result.deletes):
        del rows[key_of(image)]
    for unsent, each in result.updates:
        for image in images(each):
            rows[key_of(image)] = merged(rows[key_of(image)], image, unsent)
    parked = [
        merged(rows.pop(key_of(old)), new, unsent)
        for unsent, before, after in result.moves
        for old, new in zip(images(before), images(after), strict=True)
    ]
    for row in parked:
        assert server.key(row) not in rows
        rows[server.key(row)] = row
    for image in images(result.inserts):
        assert key_of(image) not in rows
        assert TOAST not in image
        rows[key_of(image)] = dict(zip(NAMES, image, strict=True))  # type: ignore[arg-type]
    return rows


VALUES = {
    "b": st.sampled_from([b"p", b"q", LONG + b"k"]),
    "n": st.sampled_from([None, b"1", b"2"]),
    "a": st.sampled_from([b"1", b"2", b"3", b"4"]),
    "big": st.sampled_from([None, b"", b"x", LONG, LONG + b"2"]),
}
ROWS = st.fixed_dictionaries(VALUES)
CHANGES = st.lists(st.tuples(st.sampled_from("IUUUD"), ROWS, ROWS, st.booleans(), st.booleans()), max_size=25)


@settings(deadline=None, max_examples=400)
@given(
    before=st.lists(ROWS, max_size=5),
    changes=CHANGES,
    of=st.sampled_from(["items", "pairs"]),
    form=st.sampled_from(Form),
    full=st.booleans(),
)
def test_C3_C4_C5_D1_D2_D5_any_history_in_one_step_is_the_history(
    hot: Hot, before: list[Row], changes: list[tuple[Any, ...]], of: str, form: Form, full: bool
) -> None:
    of_plan = plan(of)
    server = Server(of_plan.identity, form, full=full)
    for row in before:
        server.insert(row)
    at_first, server.frames = dict(server.rows), []
    for kind, one, other, tells_key, changes_key in changes:
        if kind == "I":
            server.insert(one)
        elif kind == "D":
            server.delete(server.key(one))
        else:
            target = other if changes_key else other | {part: one[part] for part in server.identity}
            server.update(server.key(one), target, tells_key=tells_key)
    made = folded(hot, server.frames, of, form, full=full)
    if made.refused == "wide_key":  # an UPDATE by a long key that was not sent: D4
        assert not full
        assert of == "pairs"
        return
    assert made.refused == ""
    result = made.rows()
    assert replayed(at_first, result, server, of_plan) == server.rows
    assert bool(result.moves) == made.has_moves
    # No row is named twice, and none that came out as it went in is missing its turn.
    named = [str(image) for each in (result.deletes, *(rows for _, rows in result.updates)) for image in images(each)]
    assert len(named) == len(set(named))


# damage ----------------------------------------------------------

FRAMES = [
    insert([b"x", b"1", b"5", b"big"]),
    insert([None, None, b"5", b""], Form.BINARY),
    update([b"x", b"2", b"5", TOAST]),
    update([b"x", b"2", b"5", TOAST], [None, None, b"5", None]),
    update([b"x", b"2", b"5", None], [b"x", b"1", b"5", b"big"], b"O", Form.BINARY),
    delete([None, None, b"5", None]),
    delete([b"x", b"1", b"5", b"big"], b"O", Form.BINARY),
]


def encoded(hot: Hot, frame: bytes) -> None:
    """Fold and encode, as what the key's walk does not reach is read by the encoder."""
    form = Form.BINARY if b"b\0\0\0" in frame else Form.TEXT
    made = hot.fold.TableFold(relation(plan("items")), plan("items"), form)
    hot.fold.fold([frame], {OID: made})
    encoder = hot.encode.Encoder(relation(plan("items")), plan("items"), form, {}, {})
    rows = made.rows()
    encoder.copy_data(rows.inserts, 0, len(rows.inserts), Remarks())


@pytest.mark.parametrize("frame", FRAMES, ids=["I", "I-binary", "U", "U-key", "U-full", "D-key", "D-full"])
def test_every_strict_prefix_is_a_violation_and_nothing_else(hot: Hot, frame: bytes) -> None:
    encoded(hot, frame)
    for size in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            encoded(hot, frame[:size])
    with pytest.raises(ProtocolViolation):
        encoded(hot, frame + b"n")


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(FRAMES), st.lists(st.tuples(st.integers(25, 200), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_bytes_are_read_or_a_violation(hot: Hot, frame: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(frame)
    for at, byte in damage:
        damaged[at % len(frame)] = byte
    made = hot.fold.TableFold(relation(plan("items")), plan("items"), Form.TEXT)
    encoder = hot.encode.Encoder(relation(plan("items")), plan("items"), Form.TEXT, {}, {})
    if damaged[25:26] == b"T":
        with pytest.raises(ValueError, match="a truncate cannot be folded"):
            hot.fold.fold([bytes(damaged)], {OID: made})
        return
    with contextlib.suppress(ProtocolViolation):
        hot.fold.fold([bytes(damaged)], {OID: made})
        if not made.refused:
            rows = made.rows()
            encoder.copy_data(rows.inserts, 0, len(rows.inserts), Remarks())
            encoder.arrays(rows.deletes, [1], Remarks())


def test_a_length_near_the_largest_stays_inside_its_frame(hot: Hot) -> None:
    for length in (b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\0\1\0"):
        frame = insert([b"x", b"1", b"5", b"big"]).replace(b"t\0\0\0\1x", b"t" + length + b"x")
        with pytest.raises(ProtocolViolation):
            encoded(hot, frame)


def test_a_key_in_the_other_form_is_a_violation(hot: Hot) -> None:
    with pytest.raises(ProtocolViolation):
        folded(hot, [insert([b"x", b"1", b"5", b"big"], Form.BINARY)], form=Form.TEXT)
    with pytest.raises(ProtocolViolation):
        folded(hot, [delete([None, None, b"5", None], form=Form.TEXT)], form=Form.BINARY)


def test_another_number_of_columns_is_a_violation(hot: Hot) -> None:
    with pytest.raises(ProtocolViolation):
        folded(hot, [insert([b"x", b"1", b"5"])])


def test_a_relation_that_is_not_the_plans_is_refused_before_its_first_row(hot: Hot) -> None:
    described = relation(plan("items"))
    unkeyed = dataclasses.replace(
        described, columns=tuple(dataclasses.replace(one, is_key=False) for one in described.columns)
    )
    with pytest.raises(PlanMismatch):
        hot.fold.TableFold(unkeyed, plan("items"), Form.TEXT)


def test_a_change_of_a_relation_nobody_described_is_a_violation(hot: Hot) -> None:
    with pytest.raises(ProtocolViolation):
        hot.fold.fold([insert([b"1"], oid=99)], {})
