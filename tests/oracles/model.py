"""Random operations on the source, mirrored in a dict: the oldest oracle there is.

One session inserts, updates, deletes, moves and swaps keys, swaps unique values, truncates, rolls back to savepoints,
leaves TOASTed values alone, writes NULLs and text that breaks encoders, while plain Python does the same to dicts.
A step's number is written in its own transaction, so that a COMMIT whose answer was lost is looked up, never guessed.
Knows nothing of the daemon. The invariant: `items`, `people`, `badges` and `twins` are exactly what the source holds
after the last step that is known to be over.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psycopg

from tests.oracles.connection import LostError, Reconnecting, Session
from tests.oracles.verdict import Loop, Verdict
from tests.oracles.world import World
from tests.oracles.writers import Gate, weird_text

_TIMES: Final = (
    None, "infinity", "-infinity", "2018-03-11 02:30:00", "2018-11-04 01:30:00", "2018-11-04 00:59:59.999999",
    "1883-11-18 12:03:57", "0044-03-15 12:00:00 BC", "12024-02-29 23:59:59", "1970-01-01 00:00:00.000001",
    "2024-07-01 12:34:56.789", "2037-11-01 01:00:00", "2150-06-01 05:00:00",
)  # fmt: skip

Item = tuple[str | None, int | None, str | None, str | None, str | None]
Person = tuple[str | None, str | None, str | None]
Badge = tuple[int | None, str | None]
Twin = tuple[int | None, str | None, str | None]


@dataclass
class State:
    items: dict[int, Item] = field(default_factory=dict)
    people: dict[int, Person] = field(default_factory=dict)
    badges: dict[int, Badge] = field(default_factory=dict)
    twins: Counter[Twin] = field(default_factory=Counter)

    def copy(self) -> State:
        return State(dict(self.items), dict(self.people), dict(self.badges), Counter(self.twins))


class ModelWriter:
    """Runs transactions of random operations and keeps `state`, the dicts, in step."""

    def __init__(self, world: World, verdict: Verdict, gate: Gate, *, seed: int, pace: float, big: int = 9000) -> None:
        self.verdict = verdict
        self.gate = gate
        self.pace = pace
        self.random = random.Random(f"{seed}.model")
        self.state = State(twins=Counter({(i % 5, "twin", None): 4 for i in range(5)}))
        self.operations: Counter[str] = Counter()
        self._big = big
        self._step_number = 0
        self._next_id = 1
        self._undecided: tuple[int, State] | None = None
        self._connection = Reconnecting(world.source, "oracle model")
        self._loop = Loop("oracle.model", verdict, self.step)
        self._menu: tuple[tuple[int, Callable[[Session, State], None]], ...] = (
            (20, self._insert_item),
            (18, self._update_item),
            (8, self._touch_items),
            (8, self._delete_item),
            (6, self._move_item),
            (5, self._swap_items),
            (5, self._swap_labels),
            (2, self._refused_insert),
            (1, self._truncate_items),
            (12, self._insert_person),
            (8, self._update_person),
            (6, self._move_person),
            (4, self._delete_person),
            (10, self._insert_badge),
            (4, self._delete_badge),
            (1, self._truncate_people),
            (6, self._insert_twin),
            (6, self._update_twin),
            (6, self._delete_twin),
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        self._connection.drop()

    def settle(self, seconds: float = 30) -> None:
        """Find out about a COMMIT whose answer was lost. Call with the gate paused, before comparing."""
        for _ in range(int(seconds * 10)):
            try:
                with self._connection.session() as session:
                    self._decide(session)
                    return
            except LostError:
                time.sleep(0.1)
        raise TimeoutError("the source cannot be asked how the last transaction ended")

    def step(self) -> float:
        inside = self.gate.__enter__()
        if not inside:
            return 0.005
        try:
            with self._connection.session() as session:
                self._decide(session)
                self._transaction(session)
        except LostError:
            self.verdict.count("writers.connection_lost")
            return 0.1
        except (psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            self._connection.drop()
        finally:
            self.gate.__exit__()
        return self.pace * self.random.uniform(0.2, 1.8)

    def _decide(self, session: Session) -> None:
        if self._undecided is None:
            return
        number, after = self._undecided
        # The old session may still be finishing its COMMIT: its row lock makes this insert wait for the outcome.
        session.execute("INSERT INTO public.model_steps VALUES (%s) ON CONFLICT DO NOTHING", (-number,))
        row = session.execute("SELECT 1 FROM public.model_steps WHERE id = %s", (number,)).fetchone()
        if row is None:
            row = self._decide_late(session, number)
        if row is not None:
            self.state = after
            self.verdict.count("model.commit_answer_lost_but_done")
        self._undecided = None

    @staticmethod
    def _decide_late(session: Session, number: int) -> tuple[object, ...] | None:
        """Take the step's own number and give it back: if the first COMMIT is still on its way, this waits for it."""
        session.execute("BEGIN")
        try:
            session.execute("INSERT INTO public.model_steps VALUES (%s)", (number,))
        except psycopg.errors.UniqueViolation:
            return (1,)
        finally:
            session.execute("ROLLBACK")
        return None

    def _transaction(self, session: Session) -> None:
        rng = self.random
        self._step_number += 1
        after = self.state.copy()
        session.execute("BEGIN")
        for _ in range(rng.choice((1, 1, 2, 3, 5, 12))):
            if rng.random() < 0.15:
                kept = after.copy()
                session.execute("SAVEPOINT maybe")
                self._operation(session, after)
                if rng.random() < 0.5:
                    session.execute("ROLLBACK TO SAVEPOINT maybe")
                    after = kept
                    self.operations["rolled_back"] += 1
                else:
                    session.execute("RELEASE SAVEPOINT maybe")
            else:
                self._operation(session, after)
        session.execute("INSERT INTO public.model_steps VALUES (%s)", (self._step_number,))
        if rng.random() < 0.08:
            session.execute("ROLLBACK")
            self.operations["aborted"] += 1
            return
        self._undecided = (self._step_number, after)
        session.execute("COMMIT")
        self._undecided = None
        self.state = after
        self.verdict.count("model.transactions")

    def _operation(self, session: Session, state: State) -> None:
        (operation,) = self.random.choices([o for _, o in self._menu], [w for w, _ in self._menu])
        self.operations[operation.__name__.strip("_")] += 1
        operation(session, state)

    def _fresh(self) -> int:
        self._next_id += 1
        if self.random.random() < 0.2:  # ids come back, too (I4)
            return self.random.randint(1, self._next_id)
        return self._next_id

    def _blob(self) -> str | None:
        rng = self.random
        if rng.random() < 0.3:
            return None
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz\\\t\n", k=50)) * (rng.randint(1, self._big) // 50 + 1)

    # -- items: plain keys, a unique label, a value that is TOASTed

    def _insert_item(self, session: Session, state: State) -> None:
        rng = self.random
        key = self._fresh()
        if key in state.items:
            return
        label = None if rng.random() < 0.2 else f"label-{rng.random()}"
        item: Item = (label, rng.randint(-(2**31), 2**31 - 1), self._blob(), weird_text(rng), rng.choice(_TIMES))
        session.execute("INSERT INTO public.items VALUES (%s, %s, %s, %s, %s, %s::timestamp)", (key, *item))
        state.items[key] = item

    def _update_item(self, session: Session, state: State) -> None:
        if not state.items:
            return
        rng = self.random
        key = rng.choice(list(state.items))
        label, n, big, note, seen = state.items[key]
        which = rng.randrange(4)
        if which == 0:
            n = None if rng.random() < 0.2 else rng.randint(0, 9)
            session.execute("UPDATE public.items SET n = %s WHERE id = %s", (n, key))
        elif which == 1:
            big = self._blob()
            session.execute("UPDATE public.items SET big = %s WHERE id = %s", (big, key))
        elif which == 2:
            note = weird_text(rng)
            session.execute("UPDATE public.items SET note = %s WHERE id = %s", (note, key))
        else:
            seen = rng.choice(_TIMES)
            session.execute("UPDATE public.items SET seen_at = %s::timestamp WHERE id = %s", (seen, key))
        state.items[key] = (label, n, big, note, seen)

    def _touch_items(self, session: Session, state: State) -> None:
        remainder = self.random.randrange(3)
        session.execute("UPDATE public.items SET n = 7 WHERE id %% 3 = %s", (remainder,))
        for key, (label, _, big, note, seen) in state.items.items():
            if key % 3 == remainder:
                state.items[key] = (label, 7, big, note, seen)

    def _delete_item(self, session: Session, state: State) -> None:
        if not state.items:
            return
        key = self.random.choice(list(state.items))
        session.execute("DELETE FROM public.items WHERE id = %s", (key,))
        del state.items[key]

    def _move_item(self, session: Session, state: State) -> None:
        if not state.items:
            return
        key, new = self.random.choice(list(state.items)), self._fresh()
        if new in state.items:
            return
        session.execute("UPDATE public.items SET id = %s WHERE id = %s", (new, key))
        state.items[new] = state.items.pop(key)

    def _two_items(self, state: State) -> tuple[int, int] | None:
        if len(state.items) < 2:
            return None
        first, second = self.random.sample(list(state.items), 2)
        return first, second

    def _swap_items(self, session: Session, state: State) -> None:
        pair = self._two_items(state)
        if pair is None:
            return
        first, second = pair
        for new, old in ((-1, first), (first, second), (second, -1)):
            session.execute("UPDATE public.items SET id = %s WHERE id = %s", (new, old))
        state.items[first], state.items[second] = state.items[second], state.items[first]

    def _swap_labels(self, session: Session, state: State) -> None:
        pair = self._two_items(state)
        if pair is None:
            return
        first, second = pair
        one, two = state.items[first], state.items[second]
        for label, key in (("between", first), (one[0], second), (two[0], first)):
            session.execute("UPDATE public.items SET label = %s WHERE id = %s", (label, key))
        state.items[first], state.items[second] = (two[0], *one[1:]), (one[0], *two[1:])

    def _refused_insert(self, session: Session, state: State) -> None:
        if not state.items:
            return
        session.execute("SAVEPOINT refused")
        try:
            session.execute("INSERT INTO public.items (id) VALUES (%s)", (self.random.choice(list(state.items)),))
        except psycopg.errors.UniqueViolation:
            session.execute("ROLLBACK TO SAVEPOINT refused")
        else:
            self.verdict.violated("model", "the source took a key twice: the model is wrong")

    def _truncate_items(self, session: Session, state: State) -> None:
        session.execute("TRUNCATE public.items")
        state.items.clear()

    # -- people and badges: ids that become uuid, a foreign key that cascades

    def _insert_person(self, session: Session, state: State) -> None:
        key = self._fresh()
        if key in state.people:
            return
        person: Person = (weird_text(self.random), self.random.choice(_TIMES), self._blob())
        session.execute("INSERT INTO public.people VALUES (%s, %s, %s::timestamp, %s)", (key, *person))
        state.people[key] = person

    def _update_person(self, session: Session, state: State) -> None:
        if not state.people:
            return
        key = self.random.choice(list(state.people))
        name = weird_text(self.random)
        session.execute("UPDATE public.people SET name = %s WHERE id = %s", (name, key))
        state.people[key] = (name, *state.people[key][1:])

    def _move_person(self, session: Session, state: State) -> None:
        if not state.people:
            return
        key, new = self.random.choice(list(state.people)), self._fresh()
        if new in state.people:
            return
        session.execute("UPDATE public.people SET id = %s WHERE id = %s", (new, key))
        state.people[new] = state.people.pop(key)
        for badge, (person, body) in state.badges.items():
            if person == key:
                state.badges[badge] = (new, body)

    def _delete_person(self, session: Session, state: State) -> None:
        if not state.people:
            return
        key = self.random.choice(list(state.people))
        session.execute("DELETE FROM public.people WHERE id = %s", (key,))
        del state.people[key]
        state.badges = {badge: row for badge, row in state.badges.items() if row[0] != key}

    def _insert_badge(self, session: Session, state: State) -> None:
        key = self._fresh()
        if key in state.badges:
            return
        owner = self.random.choice([*state.people, None])
        badge: Badge = (owner, weird_text(self.random))
        session.execute("INSERT INTO public.badges VALUES (%s, %s, %s)", (key, *badge))
        state.badges[key] = badge

    def _delete_badge(self, session: Session, state: State) -> None:
        if not state.badges:
            return
        key = self.random.choice(list(state.badges))
        session.execute("DELETE FROM public.badges WHERE id = %s", (key,))
        del state.badges[key]

    def _truncate_people(self, session: Session, state: State) -> None:
        session.execute("TRUNCATE public.people, public.badges RESTART IDENTITY")
        state.people.clear()
        state.badges.clear()

    # -- twins: no key, rows that are the same (C7)

    def _insert_twin(self, session: Session, state: State) -> None:
        twin: Twin = (self.random.choice((None, 1, 2)), self.random.choice((None, "twin", "b")), self._blob())
        copies = self.random.randint(1, 3)
        for _ in range(copies):
            session.execute("INSERT INTO public.twins VALUES (%s, %s, %s)", twin)
        state.twins[twin] += copies

    def _one_twin(self, session: Session, state: State) -> tuple[Twin, str] | None:
        here = [twin for twin, count in state.twins.items() if count > 0]
        if not here:
            return None
        twin = self.random.choice(here)
        row = session.execute(
            """SELECT ctid::text FROM public.twins WHERE a IS NOT DISTINCT FROM %s AND b IS NOT DISTINCT FROM %s
               AND big IS NOT DISTINCT FROM %s LIMIT 1""",
            twin,
        ).fetchone()
        assert row is not None, "the model's twin is not on the source"
        return twin, str(row[0])

    def _update_twin(self, session: Session, state: State) -> None:
        found = self._one_twin(session, state)
        if found is None:
            return
        (a, b, big), place = found
        new: Twin = (self.random.randint(0, 3), b, big)
        session.execute("UPDATE public.twins SET a = %s WHERE ctid = %s::tid", (new[0], place))
        state.twins[a, b, big] -= 1
        state.twins[new] += 1
        state.twins += Counter()

    def _delete_twin(self, session: Session, state: State) -> None:
        found = self._one_twin(session, state)
        if found is None:
            return
        twin, place = found
        session.execute("DELETE FROM public.twins WHERE ctid = %s::tid", (place,))
        state.twins[twin] -= 1
        state.twins += Counter()


def read_state(dsn: str, *, mapped: bool) -> State:
    """The same dicts read from a database: the source, or (`mapped`) the target with ids taken back by the id map."""
    schema = "app" if mapped else "public"
    person = "(SELECT m.old::text::int FROM crossfade.id_person m WHERE m.new = {0})" if mapped else "{0}"
    local = "({0} AT TIME ZONE 'America/New_York')::text" if mapped else "{0}::text"
    with psycopg.connect(dsn, options="-c timezone=UTC") as session:
        state = State()
        for key, *rest in session.execute(
            f"SELECT id, label, n, big, note, {local.format('seen_at')} FROM {schema}.items".encode()
        ):
            state.items[key] = tuple(rest)
        for key, *rest in session.execute(
            f"SELECT {person.format('id')}, name, {local.format('born')}, big FROM {schema}.people".encode()
        ):
            state.people[key] = tuple(rest)
        for key, *rest in session.execute(
            f"SELECT id, {person.format('person_id')}, body FROM {schema}.badges".encode()
        ):
            state.badges[key] = tuple(rest)
        for row in session.execute(f"SELECT a, b, big FROM {schema}.twins".encode()):
            state.twins[row] += 1
    return state


# A local time that never was comes back as the moment after the gap.
_THERE_AND_BACK: Final = {"2018-03-11 02:30:00": "2018-03-11 03:30:00"}


def differences(model: State, seen: State, *, mapped: bool, where: str) -> list[str]:
    """Where a database and the dicts disagree, table by table; the first few keys of each kind."""
    found: list[str] = []

    def compare(table: str, expected: dict[int, tuple[object, ...]], actual: dict[int, tuple[object, ...]]) -> None:
        for what, keys in (
            ("missing", expected.keys() - actual.keys()),
            ("surplus", actual.keys() - expected.keys()),
            ("different", {k for k in expected.keys() & actual.keys() if expected[k] != actual[k]}),
        ):
            if keys:
                found.append(f"{where} {table}: {len(keys)} {what}, such as {sorted(keys, key=str)[:5]}")

    def back(value: str | None) -> str | None:
        return _THERE_AND_BACK.get(value, value) if mapped and value is not None else value

    compare("items", {k: (*v[:4], back(v[4])) for k, v in model.items.items()}, dict(seen.items))
    compare("people", {k: (v[0], back(v[1]), v[2]) for k, v in model.people.items()}, dict(seen.people))
    compare("badges", dict(model.badges), dict(seen.badges))
    surplus, missing = seen.twins - model.twins, model.twins - seen.twins
    if surplus or missing:
        found.append(f"{where} twins: {surplus.total()} surplus, {missing.total()} missing")
    return found
