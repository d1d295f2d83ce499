"""How a table is cut, and the board of what is to be copied: walked at random with a world of rows beside it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

import pytest

from crossfade.catalog import Route, TableName
from crossfade.copy.parts import FORWARD, WHOLE, Board, Extent, Part, is_divisible, split
from crossfade.copy.phases import State, parents
from crossfade.mapping.shares import InRange
from tests.unit.copy.test_phases import key, name, plan, route

MIB = 1024**2


def ranges(parts: Iterable[Part]) -> list[tuple[int | None, int | None]]:
    return [(part.lower, part.upper) for part in parts]


def holders(parts: Iterable[Part], relation: TableName | None, value: int) -> int:
    """How many parts hold the row of that page (or key)."""
    return sum(
        part.relation == relation
        and (part.lower is None or part.lower <= value)
        and (part.upper is None or value < part.upper)
        for part in parts
    )


def test_a_small_table_is_one_part_without_bounds() -> None:
    assert split([Extent(None, 10, 80_000)], part_bytes=MIB, by_page=True) == WHOLE
    assert split([Extent(None, 0, 0)], part_bytes=MIB, by_page=True) == WHOLE
    assert split([], part_bytes=MIB, by_page=True) == WHOLE
    assert ranges(WHOLE) == [(None, None)]


def test_a_big_table_is_cut_by_its_pages() -> None:
    parts = split([Extent(None, 1000, 8 * MIB)], part_bytes=2 * MIB, by_page=True)
    assert ranges(parts) == [(None, 250), (250, 500), (500, 750), (750, None)]
    assert [part.number for part in parts] == [0, 1, 2, 3]
    assert {part.column for part in parts} == {"ctid"}


def test_toast_counts_but_parts_are_no_smaller_than_a_page() -> None:
    """G8: three pages whose values lie elsewhere are worth three parts, not two hundred and not one."""
    parts = split([Extent(None, 3, 200 * MIB)], part_bytes=MIB, by_page=True)
    assert ranges(parts) == [(None, 1), (1, 2), (2, None)]


def test_without_page_ranges_a_key_cuts_and_without_a_key_nothing() -> None:
    extent = Extent(None, 1000, 4 * MIB, "id", -10, 9)
    assert ranges(split([extent], part_bytes=2 * MIB, by_page=False)) == [(None, 0), (0, None)]
    assert split([extent], part_bytes=2 * MIB, by_page=False)[0].column == "id"
    assert split([Extent(None, 1000, 4 * MIB)], part_bytes=2 * MIB, by_page=False) == WHOLE


def test_leaves_are_parts_and_large_ones_are_cut() -> None:
    leaves = [Extent(name("a"), 10, MIB), Extent(name("b"), 500, 4 * MIB), Extent(name("c"), 0, 0)]
    parts = split(leaves, part_bytes=2 * MIB, by_page=True)
    assert [part.relation for part in parts] == [name("a"), name("b"), name("b"), name("c")]
    assert [part.number for part in parts] == [0, 1, 2, 3]


def test_a_single_leaf_of_one_part_is_read_through_the_root() -> None:
    assert split([Extent(name("a"), 1, 8192)], part_bytes=MIB, by_page=True) == WHOLE


@pytest.mark.parametrize("seed", range(100))
def test_every_row_is_in_exactly_one_part(seed: int) -> None:
    """Whatever was estimated: also rows on pages (or with keys) beyond what was there when the table was measured."""
    chance = random.Random(seed)
    by_page = chance.random() < 0.5
    relations = [None] if chance.random() < 0.5 else [name(f"leaf{n}") for n in range(chance.randint(1, 4))]
    extents = []
    for relation in relations:
        lowest = 0 if by_page else chance.randint(-(10**9), 10**9)
        length = chance.choice([0, 1, 2, 3, 100, 10**6])
        size = chance.randrange(100 * MIB)
        extents.append(Extent(relation, length, size, "" if by_page else "id", lowest, lowest + length - 1))
    parts = split(extents, part_bytes=chance.randint(8192, 10 * MIB), by_page=by_page)
    assert [part.number for part in parts] == list(range(len(parts)))
    if parts == WHOLE:
        return
    edges = [edge for part in parts for edge in (part.lower, part.upper) if edge is not None]
    for relation in relations:
        for value in [*edges, *(edge - 1 for edge in edges), -(10**12), 10**12]:
            assert holders(parts, relation, value) == 1
        own = [part for part in parts if part.relation == relation]
        assert all(part.lower is None or part.upper is None or part.lower < part.upper for part in own)


def test_rows_that_refer_to_rows_of_their_own_table_stay_together() -> None:
    """The target would refuse the first part's references to the second at the first one's COMMIT."""
    own = [key("tree", "tree")]
    assert not is_divisible(plan("tree"), own, enforced=True)
    assert is_divisible(plan("tree"), own, enforced=False)
    assert not is_divisible(plan("tree", as_origin=True), own, enforced=False)
    assert is_divisible(plan("child"), [key("child", "parent"), *own], enforced=True)


def test_rows_that_nobody_can_tell_from_those_of_another_source_stay_together() -> None:
    """Finished parts of an unfinished table must be taken out again, and nothing else."""
    apart = InRange("id", None, 7)
    both = plan("t", source="a")
    assert is_divisible(both, [], enforced=False)
    assert not is_divisible(dataclasses.replace(both, beside=(name("b"),)), [], enforced=False)
    assert is_divisible(dataclasses.replace(both, beside=(name("b"),), share=apart), [], enforced=False)


@pytest.mark.parametrize("seed", range(200))
def test_any_walk_copies_every_part_exactly_once(seed: int) -> None:
    """Workers, yields, rewrites, new snapshots: what ends up on the target is one snapshot's rows, each part once."""
    chance = random.Random(seed)
    plans = [plan(f"t{n}", size=chance.randrange(100)) for n in range(chance.randint(1, 5))]
    keys = [key(f"t{a}", f"t{b}") for a in range(len(plans)) for b in range(a) if chance.random() < 0.4]
    waits = parents(plans, keys, enforced=True)
    held: dict[Route, list[tuple[int, int]]] = {each.route: [] for each in plans}  # (snapshot, part) on the target
    states = {each.route: State.PENDING for each in plans}
    divided: dict[Route, tuple[Part, ...]] = {}
    for snapshot in range(100):
        board = Board(plans, waits, states)
        for each in board.pending:  # what the driver does at a new snapshot: empty, cut, begin
            held[each.route].clear()
            divided[each.route] = tuple(Part(number) for number in range(chance.choice([1, 1, 2, 5])))
            board.divide(each.route, divided[each.route])
        running: list[tuple[Route, Part]] = []
        while not board.is_idle:
            ready = board.ready()
            if ready and (not running or chance.random() < 0.5):
                chosen, part = chance.choice(ready)
                assert all(board.states[parent] is State.DONE for parent in waits[chosen.route])
                board.started(chosen.route, part)
                running.append((chosen.route, part))
                continue
            table, part = running.pop(chance.randrange(len(running)))
            happened = chance.random() if snapshot < 5 else 1.0
            if happened < 0.15:
                board.rewritten(table, part)
            elif happened < 0.3:
                board.given_back(table, part)
            else:
                assert all(taken == snapshot for taken, _ in held[table]), "rows of two snapshots in one table"
                held[table].append((snapshot, part.number))
                if board.finished(table, part):
                    assert board.states[table] is State.DONE
        states = {table: State.DONE if state is State.DONE else State.PENDING for table, state in board.states.items()}
        if board.is_done:
            break
    for table, parts in divided.items():
        assert sorted(number for _, number in held[table]) == [part.number for part in parts]


def test_a_part_is_not_given_out_twice() -> None:
    board = Board([plan("t")], {route("t"): set()}, {route("t"): State.PENDING})
    board.divide(route("t"), [Part(0), Part(1)])
    board.started(route("t"), Part(0))
    assert [part.number for _, part in board.ready()] == [1]
    with pytest.raises(ValueError, match="running"):
        board.started(route("t"), Part(0))
    board.started(route("t"), Part(1))
    assert board.ready() == []
    assert not board.finished(route("t"), Part(1))
    with pytest.raises(ValueError, match="done"):
        board.started(route("t"), Part(1))
    assert board.finished(route("t"), Part(0))
    assert board.is_done


def test_no_part_of_a_rewritten_table_begins_while_others_end() -> None:
    board = Board([plan("t")], {route("t"): set()}, {route("t"): State.PENDING})
    board.divide(route("t"), [Part(0), Part(1), Part(2)])
    board.started(route("t"), Part(0))
    board.started(route("t"), Part(1))
    board.rewritten(route("t"), Part(1))
    assert board.ready() == []
    board.finished(route("t"), Part(0))
    assert board.states[route("t")] is State.STALE
    assert board.is_idle
    assert not board.is_done


def test_a_table_that_runs_is_not_cut_again() -> None:
    board = Board([plan("t")], {route("t"): set()}, {route("t"): State.PENDING})
    board.divide(route("t"), [Part(0)])
    with pytest.raises(ValueError, match="divided"):
        board.divide(route("t"), [Part(0)])


def test_a_table_that_has_begun_is_finished_first() -> None:
    plans = [plan("big", size=9), plan("small", size=1)]
    board = Board(plans, parents(plans, [], enforced=False), {each.route: State.PENDING for each in plans})
    for each in plans:
        board.divide(each.route, [Part(0), Part(1)])
    board.started(route("small"), Part(0))
    assert [each.target.name for each, _ in board.ready()] == ["small", "big"]


def test_G4_what_is_there_is_brought_forward_before_another_part_is_copied() -> None:
    parts = (FORWARD, Part(0), Part(1), Part(2))
    board = Board([plan("a")], {route("a"): set()}, {route("a"): State.PENDING})
    board.divide(route("a"), parts, done={Part(0)})
    ((_, first),) = board.ready()
    assert first == FORWARD
    board.started(route("a"), FORWARD)
    assert board.ready() == [], "nobody joins in"
    board.given_back(route("a"), FORWARD)
    board.started(route("a"), FORWARD)
    assert not board.finished(route("a"), FORWARD)
    for part in (Part(1), Part(2)):
        ((_, following),) = board.ready()
        assert following == part
        board.started(route("a"), part)
    assert not board.finished(route("a"), Part(1))
    assert board.finished(route("a"), Part(2))
    assert board.is_done
