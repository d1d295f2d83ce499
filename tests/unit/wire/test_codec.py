"""Tuples to rows and keys: one relation shape at a time, and the copy's lines by the same rules."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import ReplicaIdentity
from crossfade.copy.passage import passage
from crossfade.faults import PlanMismatch, Refused, RowRefused
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, Relation, RelationColumn
from crossfade.wire.codec import Key, RowCodec
from crossfade.wire.copycodec import CopyCodec
from crossfade.wire.fields import copy_escape, copy_unescape
from crossfade.wire.idstate import Created, IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone
from tests.unit.mapping.builders import compiled, name, reference, table

ZONES = {"America/New_York": Zone.load("America/New_York")}
MAPPING = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}
tables:
  app.users:
    columns: {full_name: name, at: {timezone: America/New_York}, kind: {const: old}, gone: {const: null}}
    drop: [pw]
"""
SOURCE = (
    table("public.users", "id int", "name text", "at timestamp", "pw text", "boss int", pk="id",
          references=[reference("boss", "public.users")]),
    table("public.friends", "a int", "b int", "n int", pk="b a",
          references=[reference("a", "public.users"), reference("b", "public.users")]),
    table("public.wide", "code text", "n int", pk="code"),
    table("public.keyless", "a int", "b text", identity=ReplicaIdentity.FULL),
)  # fmt: skip
TARGET = (
    table("app.users", "id uuid", "full_name text", "at timestamptz", "kind text!", "gone date", "boss uuid", pk="id"),
    table("app.friends", "a uuid", "b uuid", "n int", pk="a b"),
    table("app.wide", "code text", "n int", pk="code"),
    table("app.keyless", "a int", "b text"),
)


def plan(of: str, mapping: str = MAPPING) -> TablePlan:
    result = compiled(mapping, SOURCE, TARGET)
    assert result.plan is not None, result.findings
    return result.plan.by_source()[name(f"public.{of}")][0]


def ids(**known: str) -> dict[str, IdState]:
    """The keyspace with entries `_1="X"`: old id 1 is X; new ones are made as new:<old>."""
    result = compiled(MAPPING, SOURCE, TARGET)
    assert result.plan is not None
    state = IdState(result.plan.keyspaces["user"], lambda old: b"new:" + old)
    for old, new in known.items():
        state.learn(old.removeprefix("_").encode(), new.encode())
    return {"user": state}


def relation(of: TablePlan, *, full: bool = False) -> Relation:
    identity = ReplicaIdentity.FULL if full or of.identity_is_full else ReplicaIdentity.DEFAULT
    return Relation(
        of.source_oid,
        of.source,
        identity,
        tuple(
            RelationColumn(
                one.name, one.type_oid, one.typmod, identity is ReplicaIdentity.FULL or one.name in of.identity
            )
            for one in of.source_columns
        ),
    )


def codec(of: str, states: dict[str, IdState] | None = None) -> RowCodec:
    compiled_plan = plan(of)
    return RowCodec(relation(compiled_plan), compiled_plan, states or ids(), ZONES)


# rows -----------------------------------------------------------


def test_a_row_has_every_plan_column_in_plan_order() -> None:
    remarks = Remarks()
    row = codec("users", ids(_1="X")).row((b"1", b"Ann", b"2018-11-04 01:30:00", b"secret", None), None, remarks)
    assert row == [b"X", b"Ann", b"2018-11-04 06:30:00+00", b"old", None, None]
    assert remarks.clock == {"overlap": 1}


def test_D1_D2_three_kinds_of_cell_and_the_old_image_of_full() -> None:
    users = codec("users", ids(_1="X"))
    new: tuple[Cell, ...] = (b"1", UNCHANGED, None, UNCHANGED, None)
    assert users.row(new, None, Remarks())[1] is UNCHANGED
    assert users.row(new, (b"1", b"big", None, b"pw", None), Remarks())[1] == b"big"


def test_I1_I3_a_reference_is_an_orphan_until_its_parent_comes() -> None:
    states = ids()
    users, friends, remarks = codec("users", states), codec("friends", states), Remarks()
    assert friends.row((b"1", b"2", None), None, remarks)[:2] == [b"new:1", b"new:2"]
    assert remarks.orphans == {("user", b"1"): friends.plan, ("user", b"2"): friends.plan}
    assert users.row((b"2", None, None, None, b"2"), None, remarks)[0] == b"new:2"
    assert remarks.orphans == {("user", b"1"): friends.plan}


def test_all_ids_of_a_tuple_are_named_beforehand() -> None:
    wanted: dict[str, set[bytes]] = {"user": set()}
    codec("friends").ids_in((b"1", None, b"3"), wanted)
    codec("friends").ids_in((b"2", UNCHANGED, b"3"), wanted)
    assert wanted == {"user": {b"1", b"2"}}


def test_a_value_that_cannot_be_converted_is_refused_by_its_column() -> None:
    with pytest.raises(RowRefused) as refused:
        codec("users").row((b"1", None, b"someday", None, None), None, Remarks())
    assert "public.users, column at" in str(refused.value)
    assert "someday" not in str(refused.value)


# keys -----------------------------------------------------------


def test_D3_an_old_key_is_read_from_its_identity_columns_only() -> None:
    friends = codec("friends", ids(_1="X", _2="Y"))
    assert friends.plan.key == ("b", "a")
    assert friends.key_of_old((b"1", b"2", None), None, Remarks()) == Key((b"Y", b"X"))


def test_a_key_no_map_knows_identifies_no_row() -> None:
    assert codec("friends", ids(_1="X")).key_of_old((b"1", b"2", None), None, Remarks()) == Key(())


def test_D4_a_key_that_was_not_sent_is_refused_with_the_remedy() -> None:
    wide = codec("wide")
    remedy = "ALTER TABLE public.wide REPLICA IDENTITY FULL"
    with pytest.raises(RowRefused) as refused:
        wide.key_of_row(wide.row((UNCHANGED, b"1"), None, Remarks()))
    assert remedy in str(refused.value)
    with pytest.raises(RowRefused) as refused:
        wide.key_of_old((UNCHANGED, b"1"), None, Remarks())
    assert remedy in str(refused.value)


def test_D7_keyless_rows_are_known_by_all_their_columns() -> None:
    assert codec("keyless").key_of_old((b"1", None), None, Remarks()) == Key((b"1", None))


# keys that move (I5) -----------------------------------------------------------


def moved(*moves: tuple[str, str], **known: str) -> tuple[RowCodec, dict[str, IdState]]:
    """`friends` after these changes of users' keys in this transaction."""
    states = ids(**known)
    states["user"].begin_transaction()
    states["user"].learn_absent([each.encode() for pair in moves for each in pair])
    for before, after in moves:
        states["user"].owner_key_changed(before.encode(), after.encode())
    return codec("friends", states), states


def test_I5_a_cascade_finds_its_row_by_the_former_id() -> None:
    friends, _ = moved(("1", "9"), _1="X", _2="Y")
    assert friends.key_of_old((b"1", b"2", None), (b"9", b"2", b"0"), Remarks()) == Key((b"Y", b"X"))
    assert friends.row((b"9", b"2", b"0"), None, Remarks(), is_update=True)[:2] == [b"X", b"Y"]


def test_I5_a_reference_that_waits_for_its_own_cascade_keeps_its_id_and_is_no_orphan() -> None:
    friends, states = moved(("1", "9"), _1="X")
    remarks = Remarks()
    assert friends.row((b"9", b"1", b"0"), None, remarks, is_update=True)[:2] == [b"X", b"X"]
    assert friends.kept((b"1", b"1", None), (b"9", b"1", b"0")) == {1}
    assert not remarks.orphans
    assert not any(isinstance(write, Created) for write in states["user"].take_writes())


def test_I5_cascades_come_in_the_order_of_the_moves() -> None:
    """3 to 4, 2 to 3, 1 to 2: (2, 3) becomes (2, 4) while 2 still means its former holder; then it becomes (3, 4)."""
    friends, _ = moved(("3", "4"), ("2", "3"), ("1", "2"), _1="X", _2="Y", _3="Z")
    first = friends.key_of_old((b"2", b"3", None), (b"2", b"4", b"0"), Remarks())
    assert first.cells == (b"Z", b"Y")
    second = friends.key_of_old((b"2", b"4", None), (b"3", b"4", b"0"), Remarks())
    assert second.cells == (b"Z", b"Y")
    # Later, somebody changes n of the row that is (2, 3) now: of those who were 1 and 2.
    assert friends.key_of_old((b"2", b"3", None), (b"2", b"3", b"9"), Remarks()).cells == (b"Y", b"X")


def test_a_key_of_two_ambiguous_references_has_four_meanings() -> None:
    friends, _ = moved(("3", "4"), ("2", "3"), ("1", "2"), _1="X", _2="Y", _3="Z")
    found = friends.key_of_old((b"2", b"3", None), None, Remarks())
    assert found.cells == (b"Y", b"X"), "what is deleted refers to the live entries"
    assert {found.cells, *found.others} == set(itertools.product((b"Y", b"Z"), (b"X", b"Y")))
    assert len(found.others) == 3


# shapes -----------------------------------------------------------


def shape(of: TablePlan, **changes: object) -> Relation:
    """The relation with one column changed: `n={"typmod": 5}`, `n=None` (gone)."""
    plain = relation(of)
    columns = []
    for one in plain.columns:
        change = changes.pop(one.name, {})
        if change is not None:
            assert isinstance(change, dict)
            columns.append(dataclasses.replace(one, **change))
    columns += [RelationColumn(added, 23, -1, False) for added in changes]
    return dataclasses.replace(plain, columns=tuple(columns))


def build(of: TablePlan, changed: Relation) -> RowCodec:
    return RowCodec(changed, of, ids(), ZONES)


def test_E3_a_column_that_is_gone_is_refused_unless_it_was_dropped_from_the_mapping() -> None:
    users = plan("users")
    with pytest.raises(Refused) as refused:
        build(users, shape(users, name=None))
    assert "Column name" in str(refused.value)
    assert "teardown" in str(refused.value)
    assert build(users, shape(users, pw=None)).row((b"1", b"Ann", None, None), None, Remarks())[1] == b"Ann"


def test_E4_a_column_that_changed_its_type_is_refused() -> None:
    users = plan("users")
    for change in ({"type_oid": 99}, {"typmod": 12}):
        with pytest.raises(Refused, match="changed its type"):
            build(users, shape(users, name=change))
    assert build(users, shape(users, pw={"type_oid": 99}))


def test_E4_a_varchar_of_another_length_is_the_same() -> None:
    """Longer since the plan was compiled, or shorter still in what was written before it grew."""
    users = plan("users")
    columns = tuple(
        dataclasses.replace(one, type_oid=1043, typmod=14) if one.name == "name" else one
        for one in users.source_columns
    )
    users = dataclasses.replace(users, source_columns=columns)
    for typmod in (14, 20, -1, 13):
        assert build(users, shape(users, name={"typmod": typmod}))


def test_E1_an_added_column_stops_or_is_passed_by() -> None:
    users = plan("users")
    with pytest.raises(PlanMismatch) as refused:
        build(users, shape(users, added={}))
    assert "added" in str(refused.value)
    assert "source_column_added: ignore" in str(refused.value)
    lax = plan("users", MAPPING + "policies: {source_column_added: ignore}\n")
    row = build(lax, shape(lax, added={})).row((b"1", b"Ann", None, None, None, b"7"), None, Remarks())
    assert row[1] == b"Ann"


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    users = plan("users")
    plain = relation(users)
    turned = dataclasses.replace(plain, columns=plain.columns[::-1])
    row = build(users, turned).row((None, b"pw", None, b"Ann", b"1"), None, Remarks())
    assert row[:2] == [b"new:1", b"Ann"]


def test_D8_another_replica_identity_is_refused() -> None:
    friends = plan("friends")
    with pytest.raises(PlanMismatch, match="replica identity"):
        build(friends, shape(friends, a={"is_key": False}))
    assert build(friends, relation(friends, full=True)), "FULL flags them all and sends more than needed (D9)"
    keyless = plan("keyless")
    with pytest.raises(PlanMismatch, match="replica identity"):
        build(keyless, dataclasses.replace(relation(keyless), replica_identity=ReplicaIdentity.DEFAULT))


# the copy -----------------------------------------------------------

texts = st.one_of(st.none(), st.binary(max_size=20).filter(lambda value: b"\0" not in value))
numbers = st.integers(0, 9).map(lambda number: b"%d" % number)
times = st.sampled_from([None, b"infinity", b"2018-11-04 01:30:00", b"2018-03-11 02:30:00", b"0044-03-15 12:00:00 BC"])


@given(st.lists(st.tuples(numbers, texts, times, texts, st.one_of(st.none(), numbers)), max_size=5))
def test_copy_and_stream_make_the_same_rows(rows: list[tuple[bytes | None, ...]]) -> None:
    known = {f"_{number}": f"new:{number}" for number in range(10)}
    users = plan("users")
    streamed = RowCodec(relation(users), users, ids(**known), ZONES)
    copied = CopyCodec(users, Form.TEXT, ids(**known), ZONES)
    by_stream, by_copy = Remarks(), Remarks()
    expected = [streamed.row(row, None, by_stream) for row in rows]
    # The dropped column is not copied at all.
    lines = [b"\t".join(copy_escape(row[at]) for at in (0, 1, 2, 4)) + b"\n" for row in rows]
    wanted: dict[str, list[bytes]] = {"user": []}
    block = copied.read(lines)
    copied.ids_in(block, wanted)
    assert sorted(wanted["user"]) == sorted(cell for row in rows for cell in (row[0], row[4]) if cell is not None)
    made = copied.convert(block, by_copy).split(b"\n")
    assert made.pop() == b""
    assert [[copy_unescape(field) for field in line.split(b"\t")] for line in made] == expected
    assert by_copy.clock == by_stream.clock


def test_lines_of_a_table_that_is_not_reshaped_are_passed_as_they_are() -> None:
    def is_verbatim(of: str) -> bool:
        result = compiled(MAPPING, SOURCE, TARGET)
        assert result.plan is not None, result.findings
        return passage(plan(of), result.plan, source_version=150_000, target_version=150_000).is_verbatim

    assert is_verbatim("wide")
    assert not is_verbatim("users")


def test_a_line_that_cannot_be_converted_is_refused_by_its_column() -> None:
    codec = CopyCodec(plan("users"), Form.TEXT, ids(_1="X"), ZONES)
    rows = codec.read([b"1\tAnn\tsomeday\t\\N\n"])
    with pytest.raises(RowRefused) as refused:
        codec.convert(rows, Remarks())
    assert "public.users, column at" in str(refused.value)
    assert "someday" not in str(refused.value)
