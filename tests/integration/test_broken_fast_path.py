"""A fast path broken on purpose is caught: by random histories, or by a named one. What passes them could not fail.

Each variant takes away one thing the fast path is careful about. Random histories are searched until one tells it from
the exact path or from what the source held; nothing here is a switch of the daemon's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from crossfade import statements
from crossfade.lsn import Lsn
from crossfade.target import apply, arrays, gather, replay, sets
from crossfade.target.progress import Position
from crossfade.wire.batch import Batch
from crossfade.wire.idstate import IdState
from tests.histories.agreement import EVERYTHING, agree, assert_end, hunt
from tests.histories.stand import Stand, Way, stand
from tests.histories.stories import Step, tell
from tests.hot import from_source
from tests.servers.clusters import Pairs, Versions
from tests.servers.databases import make_roles

pytestmark = pytest.mark.one_version
Patch = pytest.MonkeyPatch
FOUR = [Step("insert", 0, number, number) for number in range(4)]


@pytest.fixture(scope="module")
def targets(postgres: Versions, _pairs: Pairs) -> Iterator[Stand]:
    with stand(_pairs.get(postgres, prepare=make_roles), replica_role=True) as found:
        yield found


def python_fold(patch: Patch) -> ModuleType:
    """The fold from its Python source, in place of the compiled one, whose methods nobody can replace."""
    module = from_source("wire.fold")
    patch.setattr(gather, "TableFold", module.TableFold)
    patch.setattr(gather, "fold", module.fold)
    return module


# The variants -----------------------------------------------------------------------------------------------------


def counts_compared_to_nothing(patch: Patch) -> None:
    step = sets.SetLevel._step

    def _step(self: Any, table: Any, work: Any, *rest: Any) -> None:
        at = len(work.steps)
        step(self, table, work, *rest)
        for each in work.steps[at:]:
            each.rows = -1

    patch.setattr(sets.SetLevel, "_step", _step)


def toast_not_carried(patch: Patch) -> None:
    module = python_fold(patch)
    filled = module.TableFold._filled

    def _filled(self: Any, frame: bytes, at: int, size: int, missing: Any, slot: Any, old_at: int) -> Any:
        image, slot.frame = slot.frame, None
        try:
            return filled(self, frame, at, size, missing, slot, old_at)
        finally:
            slot.frame = image

    patch.setattr(module.TableFold, "_filled", _filled)


def toast_is_null(patch: Patch) -> None:
    flags = arrays.flags
    patch.setattr(arrays, "flags", lambda count, value, form: flags(count, True, form))


def duplicates_deleted_together(patch: Patch) -> None:
    patch.setattr(statements, "_one_row", statements._matches)

    async def _run_one(self: Any, step: Any) -> None:
        await self._execute(step, step.text, step.parameters)

    patch.setattr(replay.Replayer, "_run_one", _run_one)


def duplicates_folded(patch: Patch) -> None:
    module = python_fold(patch)
    init = module.TableFold.__init__

    def told_apart(self: Any, relation: Any, plan: Any, form: Any) -> None:
        init(self, relation, plan, form)
        self._is_keyless = plan.append_only

    patch.setattr(module.TableFold, "__init__", told_apart)
    counts_compared_to_nothing(patch)


def insert_after_delete_merged(patch: Patch) -> None:
    module = python_fold(patch)
    insert = module.TableFold.insert

    def merged(self: Any, frame: bytes, at: int, size: int) -> None:
        key = None if self._is_keyless or self.refused else self._key(frame, at + 1, size)
        dead = [slot for slot in self._old if slot.frame is None and slot.key == key]
        if not dead or self._slots.get(key) is not None:
            insert(self, frame, at, size)
            return
        self.inserts += 1
        self._slots[key] = dead[0]
        dead[0].frame, dead[0].at, dead[0].unsent = frame, at + 1, 0

    patch.setattr(module.TableFold, "insert", merged)


def moves_as_updates_of_the_new_key(patch: Patch) -> None:
    module = python_fold(patch)
    move = module.TableFold._move

    def _move(self: Any, slot: Any, old_key: bytes, new_key: bytes) -> None:
        move(self, slot, old_key, new_key)
        self._moved, slot.has_moved = 0, False

    patch.setattr(module.TableFold, "_move", _move)


def ids_allocated_twice(patch: Patch) -> None:
    """Two rows that are new in one batch get one id."""
    allocate_many = IdState.allocate_many

    def allocate_same(self: IdState, olds: Any) -> None:
        allocate_many(self, olds)
        for old in olds[1:]:
            self.known[old] = self.known[olds[0]]

    patch.setattr(IdState, "allocate_many", allocate_same)


def acknowledged_by_the_first_end(patch: Patch) -> None:
    def end_lsn(self: Batch) -> Lsn:
        first = self.pieces[0].commit
        assert first is not None
        return first.end_lsn

    patch.setattr(Batch, "end_lsn", property(end_lsn))


def position_written_before_the_rows(patch: Patch) -> None:
    sets_transaction, exact = apply.Applier._set_transaction, apply.Applier._transaction

    async def ahead(self: Any, batch: Batch) -> None:
        text = f"UPDATE crossfade.progress SET end_lsn = '{batch.end_lsn}'"
        await self._connection.execute(text.encode())

    async def _set_transaction(self: Any, batch: Batch, *rest: Any, **named: Any) -> None:
        await ahead(self, batch)
        await sets_transaction(self, batch, *rest, **named)

    async def _transaction(self: Any, batch: Batch, *rest: Any) -> int:
        await ahead(self, batch)
        return await exact(self, batch, *rest)

    patch.setattr(apply.Applier, "_set_transaction", _set_transaction)
    patch.setattr(apply.Applier, "_transaction", _transaction)
    patch.setattr(Position, "check", lambda self, rows: None)


# Each with the tables in which it shows.
RANDOM = (
    (counts_compared_to_nothing, ("shifts",)),
    (toast_not_carried, ("things",)),
    (toast_is_null, ("things",)),
    (duplicates_deleted_together, ("twins",)),
    (duplicates_folded, ("twins",)),
    (insert_after_delete_merged, ("things",)),
    (ids_allocated_twice, ("loose",)),
    (acknowledged_by_the_first_end, ("shifts",)),
    (position_written_before_the_rows, ("things",)),
)


@pytest.mark.parametrize(("break_it", "cast"), RANDOM, ids=[each[0].__name__ for each in RANDOM])
def test_random_histories_catch(
    break_it: Callable[[Patch], None], cast: tuple[str, ...], targets: Stand, monkeypatch: Patch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        hunt(targets, 1000, cast)


def test_keys_that_change_places_tell_moves_from_updates(targets: Stand, monkeypatch: Patch) -> None:
    """Updates of the new keys would find as many rows as there should be: the values that were not sent tell them."""
    rows = [Step("insert", 0, number, 2 + number) for number in range(6)]
    swaps = [Step("swap_keys", 0, number, other) for number in range(6) for other in range(number)]
    story = tell(["things"], [([rows], None), *(([[swap]], None) for swap in swaps)], replica_role=True)
    way = Way("fast", True, EVERYTHING, EVERYTHING, few=1)
    assert agree(targets, story, way)[0].reasons == {"set": 1, "final moves": len(swaps)}
    moves_as_updates_of_the_new_key(monkeypatch)
    with pytest.raises(AssertionError):
        assert_end(story, targets.apply(targets.fast, story, way), is_exact=False)


def test_moved_owners_folded_never_reach_the_exact_path(targets: Stand, monkeypatch: Patch) -> None:
    """Rows would get other ids than they had, which a comparison through the map does not see: the level tells it."""
    monkeypatch.setattr(python_fold(monkeypatch).TableFold, "_owner_changes", lambda self, *rest: False)
    story = tell(["owners"], [([FOUR], None), ([[Step("shift", 0, 0, 1)]], None)], replica_role=True)
    fast = targets.apply(targets.fast, story, Way("fast", True, EVERYTHING, EVERYTHING, few=1))
    assert fast.reasons != {"set": 1, "exact id_moved": 1}, "test_what_forces_the_exact_path"


def test_former_keys_forgotten_between_pieces_take_the_wrong_row(targets: Stand, monkeypatch: Patch) -> None:
    """A cascade in a piece of its own, folded: its old image would mean the row of whoever has that key now."""
    pair = [Step("insert", 0, 1, 0), Step("insert", 0, 2, 0), Step("insert", 1, 1, 0), Step("insert", 1, 2, 1)]
    story = tell(["leaders", "votes"], [([pair], None), ([[Step("shift", 0, 0, 1)]], None)], replica_role=True)
    way = Way("fast", True, EVERYTHING, 1, few=1)
    agree(targets, story, way)
    monkeypatch.setattr(IdState, "has_aliases", False)
    with pytest.raises(AssertionError, match="votes: surplus"):
        assert_end(story, targets.apply(targets.fast, story, way), is_exact=False)


def test_deletes_after_inserts_leave_the_sets(targets: Stand, monkeypatch: Patch) -> None:
    """The server refuses such an order, so that it costs only speed: which level is reached tells it."""
    plan = sets.SetLevel._plan

    def _plan(self: Any, tables: Any, work: Any, *, is_final: bool) -> None:
        before, self._replica_role = self._replica_role, False
        related, self._related = self._related, {table.plan.target for table in tables}
        try:
            plan(self, tables, work, is_final=is_final)
        finally:
            self._replica_role, self._related = before, related

    monkeypatch.setattr(sets.SetLevel, "_plan", _plan)
    story = tell(["shifts"], [([FOUR], None), ([[Step("replace", 0, 0, 0)]], None)], replica_role=True)
    (fast,) = agree(targets, story, Way("", True, EVERYTHING, EVERYTHING, few=1))
    assert fast.reasons == {"set": 1, "exact unique": 1}, "test_C3_rows_that_are_replaced_stay_with_the_sets"
