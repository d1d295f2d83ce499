"""The state table of a table's copy, walked at random with a world beside it; who waits for whom."""

from __future__ import annotations

import random

import pytest

from crossfade.catalog import Action, ForeignKey, TableName
from crossfade.copy.phases import (
    NEXT,
    Event,
    Finished,
    Rewritten,
    Started,
    State,
    Yielded,
    advance,
    connected,
    parents,
    runnable,
)
from crossfade.mapping.plan import Policies, TablePlan

EVENTS = (Started, Finished, Yielded, Rewritten)


def name(text: str) -> TableName:
    return TableName("app", text)


def plan(text: str, *, size: int = 0, as_origin: bool = False) -> TablePlan:
    return TablePlan(
        source=name(text),
        target=name(text),
        source_oid=1,
        is_partitioned=False,
        source_columns=(),
        columns=(),
        identity=(),
        identity_is_full=False,
        key=(),
        key_is_unique=True,
        append_only=False,
        applied_as_origin=as_origin,
        moves_by_reinsert=False,
        overrides_identity=False,
        writable=(),
        owns=None,
        policies=Policies(),
        row_estimate=0,
        bytes_estimate=size,
    )


def key(child: str, parent: str) -> ForeignKey:
    return ForeignKey(
        "fk", name(child), ("a",), name(parent), ("id",), Action.NO_ACTION, Action.NO_ACTION, False, False, True
    )


@pytest.mark.parametrize("seed", range(200))
def test_any_walk_copies_every_table_exactly_once(seed: int) -> None:
    """Random tables, foreign keys and misfortunes: parents come first, nothing done is touched, all get done."""
    chance = random.Random(seed)
    plans = [plan(f"t{n}", size=chance.randrange(100)) for n in range(chance.randint(1, 7))]
    keys = [key(f"t{a}", f"t{b}") for a in range(len(plans)) for b in range(a) if chance.random() < 0.4]
    waits = parents(plans, keys, enforced=True)
    states = {each.target: State.PENDING for each in plans}
    copied: set[TableName] = set()
    for step in range(10_000):
        if all(state is State.DONE for state in states.values()):
            break
        ready = [each for each in runnable(plans, states, waits) if states[each.target] is State.PENDING]
        running = [each for each, state in states.items() if state is State.RUNNING]
        if not ready and not running:
            # Only a new snapshot helps: something must be waiting for it, else the driver would wait for ever.
            assert State.STALE in states.values()
            states = {each: State.DONE if state is State.DONE else State.PENDING for each, state in states.items()}
            continue
        if ready and (not running or chance.random() < 0.6):
            chosen = chance.choice(ready).target
            assert waits[chosen] <= copied, "a child before its parent"
            states[chosen] = advance(states[chosen], Started())
            continue
        chosen = chance.choice(running)
        happened = Finished() if step > 500 else chance.choice((Finished(), Yielded(), Rewritten()))
        states[chosen] = advance(states[chosen], happened)
        if isinstance(happened, Finished):
            assert chosen not in copied
            copied.add(chosen)
    assert copied == {each.target for each in plans}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_done_table_stays_done(event: type[Event]) -> None:
    with pytest.raises(ValueError, match="done"):
        advance(State.DONE, event())


def test_what_the_table_does_not_have_cannot_happen() -> None:
    for state in State:
        for event in EVENTS:
            if (state, event) not in NEXT:
                with pytest.raises(ValueError, match=event.__name__):
                    advance(state, event())


def test_nobody_waits_where_foreign_keys_are_not_enforced() -> None:
    plans = [plan("parent"), plan("child")]
    assert parents(plans, [key("child", "parent")], enforced=False) == {name("parent"): set(), name("child"): set()}


def test_a_table_applied_as_origin_waits_even_under_replica_role() -> None:
    plans = [plan("parent"), plan("child", as_origin=True)]
    assert parents(plans, [key("child", "parent")], enforced=False)[name("child")] == {name("parent")}


def test_a_self_reference_waits_for_nobody() -> None:
    assert parents([plan("tree")], [key("tree", "tree")], enforced=True) == {name("tree"): set()}


def test_the_unit_of_restart_reaches_both_ways() -> None:
    plans = [plan("a"), plan("b"), plan("c"), plan("alone")]
    waits = parents(plans, [key("b", "a"), key("c", "b")], enforced=True)
    assert connected([name("b")], waits) == {name("a"), name("b"), name("c")}
    assert connected([name("alone")], waits) == {name("alone")}


def test_the_biggest_goes_first() -> None:
    plans = [plan("small", size=1), plan("big", size=9), plan("middle", size=5)]
    states = {each.target: State.PENDING for each in plans}
    waits = parents(plans, [], enforced=True)
    assert [each.target.name for each in runnable(plans, states, waits)] == ["big", "middle", "small"]
    # And before it what has begun: it may have parts that nobody has taken.
    states[name("middle")] = State.RUNNING
    assert [each.target.name for each in runnable(plans, states, waits)] == ["middle", "big", "small"]
