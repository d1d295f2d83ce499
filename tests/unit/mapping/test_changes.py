"""What a change of the mapping means for rows that are copied already."""

from __future__ import annotations

import pytest

from crossfade.mapping.changes import Changes, between
from crossfade.mapping.effects import Effect
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Plan
from crossfade.mapping.specchanges import between_specs
from tests.unit.mapping.builders import compiled, errors, key, reference, table

SOURCE = [
    table("public.users", "id int", "name text", "nick text", "at timestamp", "plan int", "n numeric(9,4)", pk="id",
          keys=[key("nick")]),
    table("public.orders", "id int", "user_id int", pk="id", references=[reference("user_id", "public.users")]),
    table("public.tmp_x", "id int", pk="id"),
]  # fmt: skip
TARGET = [
    table("app.users", "id uuid", "name text", "nick text", "at timestamptz", "plan text", "n numeric(9,4)",
          "extra text", pk="id", keys=[key("nick")]),
    table("app.orders", "id int", "user_id uuid", pk="id", references=[reference("user_id", "app.users")]),
]  # fmt: skip
BASE = """\
version: 1
schemas: {public: app}
exclude: [public.tmp_*]
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
policies: {truncate: apply}
tables:
  app.users:
    columns:
      id: {remap: user}
      at: {timezone: UTC}
      plan: {values: {1: free, 2: pro}}
      extra: {const: a}
"""

FREE, RESYNC, IMPOSSIBLE = Effect.FREE, Effect.RESYNC, Effect.IMPOSSIBLE
# What is replaced in BASE, by what; the effect, the subject and a part of the sentence; and by the files alone.
CASES = [
    ("# nothing", "", "", FREE, "", "", FREE),
    ("a comment", "version: 1\n", "version: 1  # one\n", FREE, "", "", FREE),
    ("a policy", "truncate: apply", "truncate: stop", FREE, "app.users", "truncate: stop, and was apply", FREE),
    ("an exclusion of nothing", "tmp_*]", "tmp_*, public.none]", FREE, "", "", IMPOSSIBLE),
    ("more values", "2: pro}", "2: pro, 3: max}", FREE, "app.users.plan", "a value map", FREE),
    ("fewer values", "1: free, 2: pro", "1: free", FREE, "app.users.plan", "a value map", FREE),
    ("other values", "2: pro}", "2: max}", RESYNC, "app.users.plan", "a value map", RESYNC),
    ("otherwise", "2: pro}}", "2: pro}, otherwise: null}", FREE, "app.users.plan", "a value map", FREE),
    ("another constant", "const: a", "const: b", RESYNC, "app.users.extra", "a constant (b), and was", RESYNC),
    ("another zone", "timezone: UTC", "timezone: Asia/Tokyo", RESYNC, "app.users.at", "(Asia/Tokyo), and was", RESYNC),
    ("stop at an overlap", "timezone: UTC", "timezone: UTC, ambiguous: error", FREE, "app.users.at", "local", FREE),
    ("another overlap", "timezone: UTC", "timezone: UTC, ambiguous: earlier", RESYNC, "app.users.at", "", RESYNC),
    ("no constant", "      extra: {const: a}\n", "", RESYNC, "app.users.extra", "is fed no more", RESYNC),
    ("from another column", "      extra: {const: a}\n", "      extra: nick\n", RESYNC, "app.users.extra",
     "is fed from nick, and was by a constant", RESYNC),
    ("uuid4", "strategy: uuid7", "strategy: uuid4", FREE, "ids.user", "new ones are uuid4", FREE),
    ("uuid5", "strategy: uuid7", "strategy: uuid5", IMPOSSIBLE, "ids.user", "ids that were given stay", IMPOSSIBLE),
    ("a filter", "  app.users:\n", "  app.users:\n    where: plan > 0\n", RESYNC, "app.users", "rows are chosen",
     RESYNC),
    ("by SQL", "const: a", "up: plan + 1", RESYNC, "app.users.extra", "SQL, and was a constant (a)", RESYNC),
    ("append only", "  app.users:\n", "  app.orders: {append_only: true}\n  app.users:\n", RESYNC, "app.orders",
     "UPDATEs and DELETEs are not published", RESYNC),
    ("a table leaves", "exclude: [public.tmp_*]", "exclude: [public.tmp_*, public.orders]", IMPOSSIBLE, "app.orders",
     "is made of public.orders no more", IMPOSSIBLE),
    ("an empty entry", "  app.users:\n", "  app.orders:\n  app.users:\n", FREE, "", "", FREE),
    ("a second target", "  app.users:\n", "  app.users:\n    drop: []\n", FREE, "", "", FREE),
]  # fmt: skip


def plan(mapping: str) -> Plan:
    result = compiled(mapping, SOURCE, TARGET)
    assert result.plan is not None, errors(result)
    return result.plan


@pytest.mark.parametrize(("old", "new", "effect", "subject", "sentence", "alone"), [each[1:] for each in CASES],
                         ids=[each[0] for each in CASES])  # fmt: skip
def test_a_change_and_its_effect(
    old: str, new: str, effect: Effect, subject: str, sentence: str, alone: Effect
) -> None:
    assert old in BASE
    changed = BASE.replace(old, new, 1)
    changes = between(plan(BASE), plan(changed))
    assert changes.effect is effect, changes.lines()
    if subject:
        assert any(each.subject == subject and sentence in each.sentence for each in changes.all), changes.lines()
    else:
        assert changes.all == ()
    if effect is FREE and not changes.all:
        assert plan(BASE).mapping_hash == plan(changed).mapping_hash
    by_files = between_specs(parse_mapping(BASE), parse_mapping(changed))
    assert by_files.effect is alone, by_files.lines()
    assert by_files.effect.rank >= effect.rank, "what is free by the files alone must be free against the databases"


def test_whatever_makes_other_rows_is_never_free() -> None:
    """The hash is of what is done to rows; free changes of it are those listed above, all others are not."""
    told_free = {"more values", "fewer values", "otherwise", "uuid4"}
    for name, old, new, *_ in CASES:
        changed = plan(BASE.replace(old, new, 1))
        if changed.mapping_hash != plan(BASE).mapping_hash and name not in told_free:
            assert between(plan(BASE), changed).effect is not FREE, name


def test_a_keyspace_of_another_column_is_another_keyspace() -> None:
    source = [table("public.users", "id int", "no int", pk="id", keys=[key("no")])]
    target = [table("app.users", "id uuid", "no uuid", pk="id", keys=[key("no")])]
    base = "version: 1\nschemas: {public: app}\nids: {k: {from: public.users.id, strategy: uuid7}}\n"
    base += "tables:\n  app.users:\n    columns: {id: {remap: k}, no: {remap: k}}\n"
    old = compiled(base, source, target).plan
    new = compiled(base.replace("users.id", "users.no"), source, target).plan
    assert old is not None
    assert new is not None
    changes = between(old, new)
    assert changes.effect is IMPOSSIBLE
    assert "its map holds ids of public.users.id, not of public.users.no" in changes.all[0].sentence


def test_a_table_that_joins_must_be_copied() -> None:
    without = BASE.replace("public.tmp_*]", "public.tmp_*, public.orders]")
    changes = between(plan(without), plan(BASE))
    assert changes.effect is RESYNC
    assert [str(name) for name in changes.tables] == ["app.orders"]
    assert changes.lines()[-1] == "To be copied again: app.orders."


def test_a_polymorphic_pair_is_judged_like_a_value_map() -> None:
    source = [table("public.users", "id int", pk="id"), table("public.notes", "id int", "t text", "o int", pk="id")]
    target = [table("app.users", "id uuid", pk="id"), table("app.notes", "id int", "t text", "o uuid", pk="id")]
    base = "version: 1\nschemas: {public: app}\nids: {u: {from: public.users.id, strategy: uuid7}}\ntables:\n"
    base += "  app.users: {columns: {id: {remap: u}}}\n  app.notes: {columns: {o: {remap: {by: t, of: {User: u}}}}}\n"
    loose = base.replace("of: {User: u}", "of: {User: u}, otherwise: null")
    for before, word, effect in (
        (base, "of: {User: u, Admin: u}", FREE),
        (base, "of: {Admin: u}", FREE),
        (base, "of: {User: u}, otherwise: null", FREE),
        (loose, "of: {Admin: u}", RESYNC),
    ):
        old, new = (compiled(text, source, target).plan for text in (before, before.replace("of: {User: u}", word)))
        assert old is not None
        assert new is not None
        assert between(old, new).effect is effect, word


def test_the_worst_comes_first_and_decides() -> None:
    changed = BASE.replace("truncate: apply", "truncate: stop").replace("const: a", "const: b")
    changes = between(plan(BASE), plan(changed))
    assert changes.effect is RESYNC
    assert changes.all[0].subject == "app.users.extra"
    assert changes.all[-1].effect is FREE
    assert Changes(()).effect is FREE
    assert Changes(()).lines() == ["No difference in what becomes of any row."]


LISTED = "version: 1\ntables: {a.t: {from: [x.one, {table: x.two, columns: {v: w}}]}}\n"


@pytest.mark.parametrize(
    ("changed", "effect", "words"),
    [
        (LISTED.replace("[x.one", "[x.three, x.one"), Effect.RESYNC, "is made of x.three as well"),
        (LISTED.replace("x.one, ", ""), Effect.IMPOSSIBLE, "is made of x.one no more"),
        (LISTED.replace("v: w", "v: u"), Effect.RESYNC, "a.t (from x.two).v"),
        (LISTED.replace("{v: w}", "{v: w}, drop: [z]"), Effect.FREE, "drop lists other columns"),
        (LISTED.replace("x.one, {table: x.two, columns: {v: w}}", "{table: x.two, columns: {v: w}}, x.one"), None, ""),
    ],
)
def test_a_list_of_sources_is_compared_one_by_one(changed: str, effect: Effect | None, words: str) -> None:
    found = between_specs(parse_mapping(LISTED), parse_mapping(changed)).all
    assert [each.effect for each in found] == ([] if effect is None else [effect])
    assert all(words in f"{each.subject} {each.sentence}" for each in found)
