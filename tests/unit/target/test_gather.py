"""What the applier is given: in stream order, folded or not, cut where it must be, with the reason where it is not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from crossfade.catalog import ReplicaIdentity, Route
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.messages import Begin, Commit, Form, Relation, RelationColumn
from crossfade.pipe import EndOfStream, Idle, Pipe
from crossfade.target.gather import Gatherer, Ready
from crossfade.wire.batch import Batch
from tests.unit.mapping.builders import compiled, name, table
from tests.unit.wire.tuples import OID, TOAST, delete, insert, update

MANY = 30  # changes, more than are applied one by one


def plan(*, pk: str | None = "id") -> Plan:
    identity = ReplicaIdentity.DEFAULT if pk else ReplicaIdentity.FULL
    source = table("public.t", "id int!", "v text", pk=pk, identity=identity)
    result = compiled("version: 1\nschemas: {public: app}", [source], [table("app.t", "id int!", "v text", pk=pk)])
    assert result.plan is not None, result.findings
    return result.plan


PLAN = plan()
SOURCE = PLAN.tables[0]


def relation(oid: int = SOURCE.source_oid, at: str = "public.t") -> Relation:
    columns = tuple(
        RelationColumn(one.name, one.type_oid, one.typmod, one.name == "id") for one in SOURCE.source_columns
    )
    return Relation(oid, name(at), ReplicaIdentity.DEFAULT, columns)


def inserts(count: int, *, oid: int = SOURCE.source_oid, start: int = 0) -> list[bytes]:
    return [insert([str(start + number).encode(), b"x"], oid=oid) for number in range(count)]


def piece(
    number: int,
    frames: Sequence[bytes],
    *,
    shape: int = 0,
    is_first: bool = True,
    is_last: bool = True,
    truncates: bool = False,
    told: Relation | None = None,
) -> Piece:
    described = told or relation()
    return Piece(
        Begin(Lsn(number * 100), 0, number),
        is_first=is_first,
        relations={described.oid: described},
        shape=shape,
        frames=list(frames),
        commit=Commit(Lsn(number * 100), Lsn(number * 100 + 8), 0) if is_last else None,
        truncates=truncates,
        oids={described.oid} if frames and not truncates else set(),
        cost=100,
    )


async def gathered(
    items: Sequence[Piece | Idle],
    *,
    batch_bytes: int = 10_000,
    folds: bool = True,
    at_once: bool = True,
    turns: int = 0,
    of: Plan = PLAN,
    from_lsn: Lsn | None = None,
) -> list[Ready]:
    """What comes out when the applier takes everything late (`at_once`), or each item as soon as it is there; others
    have had so many `turns` before each item."""
    pipe = Pipe(1 << 30)
    late = {Route(name("public.t"), name("app.t")): from_lsn} if from_lsn is not None else {}
    gatherer = Gatherer(pipe, of, form=Form.TEXT, from_lsn=late, batch_bytes=batch_bytes, folds=folds)
    task = asyncio.create_task(gatherer.run())
    taken: list[Ready] = []
    await asyncio.sleep(0)  # it waits for the first of them
    for item in items:
        for _ in range(turns):
            await asyncio.sleep(0)
        pipe.put(item)
        if not at_once:
            await gatherer.ready()
            taken.append(gatherer.take())
    pipe.put(EndOfStream())
    for _ in range(50):  # let it gather all it can
        await asyncio.sleep(0)
    while not taken or not isinstance(taken[-1], EndOfStream):
        await gatherer.ready()
        taken.append(gatherer.take())
    await task
    return taken


def shown(taken: Sequence[Ready]) -> list[tuple[list[int], str] | str]:
    """The transactions and the reason of each batch."""
    return [
        ([each.begin.xid for each in one.pieces], one.reason) if isinstance(one, Batch) else type(one).__name__
        for one in taken
    ]


def test_what_has_arrived_is_one_batch_folded() -> None:
    taken = asyncio.run(gathered([piece(1, inserts(MANY)), piece(2, inserts(3, start=MANY))]))
    assert shown(taken) == [([1, 2], ""), "EndOfStream"]
    batch = taken[0]
    assert isinstance(batch, Batch)
    (fold,) = batch.tables
    assert (fold.inserts, len(fold.rows().inserts.offsets)) == (MANY + 3, MANY + 3)
    assert batch.end_lsn == Lsn(208)


def test_an_applier_that_keeps_up_gets_each_transaction_alone() -> None:
    taken = asyncio.run(gathered([piece(number, inserts(1)) for number in (1, 2, 3)], at_once=False))
    assert shown(taken) == [([1], "small"), ([2], "small"), ([3], "small"), "EndOfStream"]


def test_a_small_transaction_reaches_an_applier_that_waits_without_a_turn_in_between() -> None:
    async def run() -> None:
        pipe = Pipe(1 << 30)
        gatherer = Gatherer(pipe, PLAN, form=Form.TEXT, from_lsn={}, batch_bytes=10_000, folds=True)
        task = asyncio.create_task(gatherer.run())
        await asyncio.sleep(0)
        pipe.put(piece(1, inserts(1)))
        assert shown([gatherer.take()]) == [([1], "small")]
        assert (pipe.held, pipe.changes) == (100, 1)
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("at_once", [True, False])
def test_whoever_takes_it_the_order_is_that_of_the_stream(at_once: bool, turns: int) -> None:
    items: list[Piece | Idle] = [
        piece(1, inserts(2)),
        piece(2, inserts(MANY)),
        piece(3, inserts(1)),
        piece(4, [b"T"], truncates=True),
        piece(5, inserts(1)),
        piece(6, inserts(1), is_last=False),
        piece(6, inserts(1), is_first=False),
        piece(7, inserts(1)),
        Idle(Lsn(750)),
        piece(8, inserts(1), shape=1),
        piece(9, inserts(1)),
        piece(10, inserts(1), shape=2),
    ]
    taken = asyncio.run(gathered(items, at_once=at_once, turns=turns))
    told: list[object] = []
    for one in taken:
        told += [each.begin.xid for each in one.pieces] if isinstance(one, Batch) else [type(one).__name__]
    assert told == [1, 2, 3, 4, 5, 6, 6, 7, "Idle", 8, 9, 10, "EndOfStream"]
    for one in taken:
        assert not isinstance(one, Batch) or len({each.shape for each in one.pieces}) == 1
        assert not isinstance(one, Batch) or len(one.pieces) == 1 or all(each.is_whole for each in one.pieces)


def test_a_few_changes_are_not_folded_and_are_once_they_are_many() -> None:
    few = asyncio.run(gathered([piece(1, inserts(5)), piece(2, inserts(5, start=5))]))
    assert shown(few) == [([1, 2], "small"), "EndOfStream"]
    many = asyncio.run(gathered([piece(n, inserts(5, start=5 * n)) for n in range(1, 9)]))
    assert shown(many) == [(list(range(1, 9)), ""), "EndOfStream"]
    assert isinstance(many[0], Batch)
    (fold,) = many[0].tables
    assert fold.inserts == 40


def test_a_full_batch_is_followed_by_another() -> None:
    taken = asyncio.run(gathered([piece(n, inserts(MANY, start=MANY * n)) for n in range(5)], batch_bytes=200))
    assert shown(taken) == [([0, 1], ""), ([2, 3], ""), ([4], ""), "EndOfStream"]


def test_a_relation_of_another_shape_begins_a_batch() -> None:
    taken = asyncio.run(gathered([piece(1, inserts(MANY)), piece(2, inserts(MANY), shape=1)]))
    assert shown(taken) == [([1], ""), ([2], ""), "EndOfStream"]


def test_C16_a_truncate_is_alone() -> None:
    taken = asyncio.run(
        gathered([piece(1, inserts(MANY)), piece(2, [], truncates=True), piece(3, inserts(MANY, start=MANY))])
    )
    assert shown(taken) == [([1], ""), ([2], "truncate"), ([3], ""), "EndOfStream"]


def test_pieces_of_a_large_transaction_are_batches_of_their_own() -> None:
    taken = asyncio.run(
        gathered(
            [
                piece(1, inserts(MANY)),
                piece(2, inserts(MANY), is_last=False),
                piece(2, inserts(MANY, start=MANY), is_first=False),
                piece(3, inserts(MANY)),
            ]
        )
    )
    assert shown(taken) == [([1], ""), ([2], ""), ([2], ""), ([3], ""), "EndOfStream"]
    assert [one.is_whole for one in taken if isinstance(one, Batch)] == [True, False, False, True]


def test_an_idle_position_comes_behind_what_was_before_it() -> None:
    taken = asyncio.run(gathered([piece(1, inserts(MANY)), Idle(Lsn(150)), piece(2, inserts(MANY))]))
    assert shown(taken) == [([1], ""), "Idle", ([2], ""), "EndOfStream"]


def test_told_to_be_exact_nothing_is_folded_nor_cut() -> None:
    taken = asyncio.run(
        gathered([piece(1, inserts(MANY)), piece(2, [], truncates=True), piece(3, inserts(1), shape=1)], folds=False)
    )
    assert shown(taken) == [([1, 2, 3], "configured"), "EndOfStream"]


def test_C7_changes_of_rows_without_a_key_are_for_the_exact_path() -> None:
    frames = [*inserts(MANY), delete([b"1", b"x"], marker=b"O", oid=SOURCE.source_oid)]
    told = dataclasses.replace(relation(), replica_identity=ReplicaIdentity.FULL)
    taken = asyncio.run(gathered([piece(1, frames, told=told)], of=plan(pk=None)))
    assert shown(taken) == [([1], "no_key"), "EndOfStream"]
    assert isinstance(taken[0], Batch)
    assert not taken[0].tables


@pytest.mark.parametrize(
    "told", [relation(OID, "public.t"), relation(SOURCE.source_oid, "public.other")], ids=["other oid", "unknown"]
)
def test_E5_a_relation_that_is_not_the_mappings_is_left_to_the_exact_path_to_explain(told: Relation) -> None:
    taken = asyncio.run(gathered([piece(1, inserts(MANY, oid=told.oid), told=told)]))
    assert shown(taken) == [([1], "refused"), "EndOfStream"]


def test_bytes_that_are_no_message_are_left_to_the_exact_path_to_explain() -> None:
    broken = update([b"1", b"x"], oid=SOURCE.source_oid)[:-1]
    assert shown(asyncio.run(gathered([piece(1, [*inserts(MANY), broken])]))) == [([1], "refused"), "EndOfStream"]


def test_G6_what_the_copy_has_is_not_folded() -> None:
    early, late = piece(1, inserts(MANY)), piece(2, inserts(MANY, start=MANY))
    (batch, _) = asyncio.run(gathered([early, late], from_lsn=Lsn(150)))
    assert isinstance(batch, Batch)
    assert [fold.inserts for fold in batch.tables] == [MANY]
    (only, _) = asyncio.run(gathered([early], from_lsn=Lsn(150)))
    assert isinstance(only, Batch)
    assert (only.reason, list(only.tables)) == ("", [])


def test_one_transaction_can_be_folded_by_itself() -> None:
    gatherer = Gatherer(Pipe(1), PLAN, form=Form.TEXT, from_lsn={}, batch_bytes=1, folds=False)
    assert gatherer.folded(piece(1, [], truncates=True)).reason == "truncate"
    batch = gatherer.folded(piece(2, inserts(2)))
    assert [(fold.inserts, batch.reason) for fold in batch.tables] == [(2, "")]


def compound_plan() -> Plan:
    made = compiled(
        "version: 1\nids: {t: {from: [public.t.id, public.t.v], strategy: uuid7}}\n"
        "tables: {app.t: {from: public.t, columns: {new: [id, v]}}}\n",
        [table("public.t", "id int", "v text", pk="id v")],
        [table("app.t", "new uuid", pk="new")],
    )
    assert made.plan is not None, made.findings
    return made.plan


def test_D4_what_cannot_be_put_together_is_told_in_its_turn() -> None:
    """The transactions before it are applied first."""
    of = compound_plan()
    described = dataclasses.replace(
        relation(), columns=tuple(dataclasses.replace(one, is_key=True) for one in relation().columns)
    )
    good = piece(1, [insert([b"1", b"x"], oid=described.oid)], told=described)
    bad = piece(2, [update([b"2", TOAST], oid=described.oid)], told=described)
    taken = asyncio.run(gathered([good, bad], of=of))
    assert shown(taken) == [([1, 2], "refused"), "EndOfStream"]
    assert good.fault is None
    assert b'["1", "x"]' in good.frames[0]
    assert good.relations[described.oid].columns[-1].is_key
    assert bad.fault is not None
    assert "without the others" in str(bad.fault)
