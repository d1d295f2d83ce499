"""The state table of a table's copy, walked at random with a world beside it; who waits for whom."""

from __future__ import annotations

import random

import pytest

from crossfade.catalog import Action, ForeignKey, Route, TableName
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


def route(text: str, source: str = "") -> Route:
    return Route(name(source or text), name(text))


def plan(text: str, *, size: int = 0, as_origin: bool = False, source: str = "") -> TablePlan:
    return TablePlan(
        source=name(source or text),
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
    states = {each.route: State.PENDING for each in plans}
    copied: set[Route] = set()
    for step in range(10_000):
        if all(state is State.DONE for state in states.values()):
            break
        ready = [each for each in runnable(plans, states, waits) if states[each.route] is State.PENDING]
        running = [each for each, state in states.items() if state is State.RUNNING]
        if not ready and not running:
            # Only a new snapshot helps: something must be waiting for it, else the driver would wait for ever.
            assert State.STALE in states.values()
            states = {each: State.DONE if state is State.DONE else State.PENDING for each, state in states.items()}
            continue
        if ready and (not running or chance.random() < 0.6):
            chosen = chance.choice(ready).route
            assert waits[chosen] <= copied, "a child before its parent"
            states[chosen] = advance(states[chosen], Started())
            continue
        chosen = chance.choice(running)
        happened = Finished() if step > 500 else chance.choice((Finished(), Yielded(), Rewritten()))
        states[chosen] = advance(states[chosen], happened)
        if isinstance(happened, Finished):
            assert chosen not in copied
            copied.add(chosen)
    assert copied == {each.route for each in plans}


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
    assert parents(plans, [key("child", "parent")], enforced=False) == {route("parent"): set(), route("child"): set()}


def test_a_table_applied_as_origin_waits_even_under_replica_role() -> None:
    plans = [plan("parent"), plan("child", as_origin=True)]
    assert parents(plans, [key("child", "parent")], enforced=False)[route("child")] == {route("parent")}


def test_a_self_reference_waits_for_nobody() -> None:
    assert parents([plan("tree")], [key("tree", "tree")], enforced=True) == {route("tree"): set()}


def test_the_unit_of_restart_reaches_both_ways() -> None:
    plans = [plan("a"), plan("b"), plan("c"), plan("alone")]
    waits = parents(plans, [key("b", "a"), key("c", "b")], enforced=True)
    assert connected([route("b")], waits) == {route("a"), route("b"), route("c")}
    assert connected([route("alone")], waits) == {route("alone")}


def test_the_biggest_goes_first() -> None:
    plans = [plan("small", size=1), plan("big", size=9), plan("middle", size=5)]
    states = {each.route: State.PENDING for each in plans}
    waits = parents(plans, [], enforced=True)
    assert [each.target.name for each in runnable(plans, states, waits)] == ["big", "middle", "small"]
    # And before it what has begun: it may have parts that nobody has taken.
    states[route("middle")] = State.RUNNING
    assert [each.target.name for each in runnable(plans, states, waits)] == ["middle", "big", "small"]


def test_who_refers_to_a_table_of_several_sources_waits_for_all_of_them() -> None:
    plans = [plan("parent", source="here"), plan("parent", source="there"), plan("child")]
    waits = parents(plans, [key("child", "parent")], enforced=True)
    assert waits[route("child")] == {route("parent", "here"), route("parent", "there")}
    states = {each.route: State.PENDING for each in plans}
    states[route("parent", "here")] = State.DONE
    assert [each.source.name for each in runnable(plans, states, waits)] == ["there"]
