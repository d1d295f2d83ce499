"""The tables histories happen in: on the source as it is played, on the target as SQL, and the mapping between.

Each stands for cases of its own. Two targets are made of each: under replica role foreign keys keep their CASCADE (it
must never happen a second time); without it they are deferrable and passive, as `check` demands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.histories.values import Value, Values

# A text that begins like this is stored out of line: an UPDATE that does not assign it does not send it.
TOASTED: Final = "~"


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of one column to the parent's key, or of more: `also` are pairs of (its column, the parent's)."""

    column: str
    parent: str
    on_delete: str = "cascade"  # or "null"
    also: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, *(name for name, _ in self.also))

    def parent_columns(self, key: str) -> tuple[str, ...]:
        """Those of the parent, whose key is `key`, in the order of `columns`."""
        return (key, *(name for _, name in self.also))


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table. `columns` are (name, kind) in attribute order.

    `identity` is d, f or i as in a Relation message; `flags` the columns of the replica identity (for i), `key` those
    by which the target finds rows. `unique` are further unique columns, `deferrable` those of them that are deferred.
    `kept` has a target column that nothing feeds. `owned` has a key of a keyspace. `remapped` are columns by keyspace.
    `into` is the target table where it is another one, which has other sources as well: then `mine` is SQL over its row
    `t` that says whose the row is. `renamed` are columns with the target's names.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    identity: str = "d"
    unique: tuple[str, ...] = ()
    deferrable: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    dropped: tuple[str, ...] = ()
    remapped: tuple[tuple[str, str], ...] = ()
    owns: str = ""
    kept: bool = False
    append_only: bool = False
    moves: bool = True  # the key may change
    into: str = ""
    mine: str = "true"
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """The target table's name."""
        return self.into or self.name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    def kind(self, column: str) -> str:
        return dict(self.columns)[column]


_IS_OF_DOG: Final = "EXISTS (SELECT FROM crossfade.id_dog m WHERE m.new = t.{})"
_IS_OF_PARCEL: Final = "EXISTS (SELECT FROM crossfade.id_parcel m WHERE m.new = t.id)"

TABLES: Final[tuple[TableSpec, ...]] = (
    TableSpec(
        "things",
        (("id", "int4"), ("u", "text"), ("n", "int4"), ("big", "text"), ("gone", "text"), ("note", "text"),
         ("huge", "text")),
        key=("id",), unique=("u",), dropped=("gone",), kept=True,
    ),
    TableSpec(
        "pairs", (("n", "int4"), ("a", "int4"), ("b", "text"), ("big", "text")), key=("a", "b"),
    ),
    TableSpec(
        "duos", (("n", "int4"), ("a", "int4"), ("b", "text"), ("big", "text")), key=("a", "b"),
    ),
    TableSpec(
        "nodes", (("id", "int4"), ("parent_id", "int4"), ("note", "text")), key=("id",),
        references=(Reference("parent_id", "nodes"),),
    ),
    TableSpec("parents", (("id", "int4"), ("name", "text")), key=("id",), unique=("name",)),
    TableSpec(
        "children", (("id", "int4"), ("parent_id", "int4"), ("other_id", "int4"), ("n", "int4")), key=("id",),
        references=(Reference("parent_id", "parents"), Reference("other_id", "parents", "null")),
    ),
    TableSpec("seats", (("id", "int4"), ("place", "int4"), ("note", "text")), key=("id",), deferrable=("place",)),
    TableSpec(
        "codes", (("id", "int4"), ("code", "text"), ("label", "text"), ("big", "text")), key=("code",), identity="i",
        unique=("id",),
    ),
    TableSpec("twins", (("a", "int4"), ("b", "text"), ("big", "text")), key=(), identity="f"),
    TableSpec(
        "fulls", (("id", "int4"), ("u", "int4"), ("n", "int4"), ("big", "text")), key=("id",), identity="f",
        unique=("u",),
    ),
    TableSpec("logs", (("line", "text"), ("at", "local")), key=(), append_only=True),
    TableSpec("shifts", (("id", "int4"), ("u", "int4"), ("n", "int4")), key=("id",), unique=("u",)),
    TableSpec(
        "owners", (("id", "int4"), ("name", "text"), ("big", "text"), ("boss_id", "int4")), key=("id",),
        unique=("name",), references=(Reference("boss_id", "owners", "null"),),
        remapped=(("id", "owner"), ("boss_id", "owner")), owns="owner",
    ),
    TableSpec(
        "owned", (("id", "int4"), ("owner_id", "int4"), ("second_id", "int4"), ("note", "text")), key=("id",),
        references=(Reference("owner_id", "owners"), Reference("second_id", "owners", "null")),
        remapped=(("owner_id", "owner"), ("second_id", "owner")),
    ),
    TableSpec(
        "members", (("owner_id", "int4"), ("slot", "int4"), ("n", "int4")), key=("owner_id", "slot"),
        references=(Reference("owner_id", "owners"),), remapped=(("owner_id", "owner"),),
    ),
    TableSpec(
        "loose", (("id", "int4"), ("owner_id", "int4"), ("n", "int4")), key=("id",),
        remapped=(("owner_id", "owner"),),
    ),
    TableSpec(
        "kinds",
        (("id", "int8"), ("i2", "int2"), ("v", "varchar"), ("f", "float8"), ("m", "numeric"), ("j", "jsonb"),
         ("y", "bytea"), ("a", "int4[]"), ("g", "uuid"), ("o", "bool"), ("at", "local")),
        key=("id",),
    ),
    TableSpec("stays", (("id", "int4"), ("v", "text"), ("big", "text")), key=("id",), unique=("v",), kept=True),
    TableSpec(
        "tickets", (("id", "int4"), ("n", "int4")), key=("id",), remapped=(("id", "ticket"),), owns="ticket",
        moves=False,
    ),
    TableSpec("ranks", (("id", "int4"), ("note", "text")), key=(), identity="f", deferrable=("id",)),
    TableSpec(
        "firm", (("id", "int4"), ("parent_id", "int4"), ("n", "int4")), key=("id",),
        references=(Reference("parent_id", "parents"),),
    ),
    TableSpec("rooms", (("id", "int4"), ("u", "int4"), ("big", "text")), key=("id",), unique=("u",)),
    TableSpec(
        "tags", (("n", "int4"), ("id", "text")), key=("id",), remapped=(("id", "tag"),), owns="tag",
    ),
    TableSpec(
        "tagged", (("id", "int4"), ("tag_id", "text")), key=("id",), references=(Reference("tag_id", "tags"),),
        remapped=(("tag_id", "tag"),),
    ),
    TableSpec(
        "leaders", (("id", "int4"), ("term", "int4")), key=("id",), remapped=(("id", "leader"),), owns="leader",
    ),
    TableSpec(
        "votes", (("leader_id", "int4"), ("term", "int4"), ("n", "int4")), key=("leader_id", "term"),
        references=(Reference("leader_id", "leaders", also=(("term", "term"),)),),
        remapped=(("leader_id", "leader"),),
    ),
    TableSpec("mapped", (("id", "int4"), ("code", "int4"), ("big", "text")), key=("id",)),
    TableSpec(
        "shared",
        (("id", "int4"), ("who_type", "text"), ("who_id", "int4"), ("readers", "int4[]"), ("body", "jsonb"),
         ("big", "text")),
        key=("id",),
    ),
    TableSpec(
        "pinned", (("n", "int4"), ("who_type", "text"), ("who_id", "int4")), key=("who_type", "who_id"),
    ),
    TableSpec(
        "boats", (("id", "int4"), ("label", "text"), ("big", "text")), key=("id",), into="crafts",
        mine="t.id < 100000", renamed=(("label", "name"),),
    ),
    TableSpec(
        "planes", (("n", "int4"), ("id", "int4"), ("big", "text")), key=("id",), identity="f",
        remapped=(("id", "plane"),), owns="plane", moves=False, into="crafts", mine="t.id >= 100000",
    ),
    TableSpec(
        "cats", (("id", "int4"), ("n", "int4")), key=("id",), remapped=(("id", "cat"),), owns="cat", into="pets",
        mine=f"NOT {_IS_OF_DOG.format('id')}",
    ),
    TableSpec(
        "dogs", (("id", "int4"), ("n", "int4"), ("big", "text")), key=("id",), remapped=(("id", "dog"),), owns="dog",
        into="pets", mine=_IS_OF_DOG.format("id"),
    ),
    TableSpec(
        "cat_meals", (("cat_id", "int4"), ("slot", "int4"), ("n", "int4")), key=("cat_id", "slot"),
        references=(Reference("cat_id", "cats"),), remapped=(("cat_id", "cat"),), into="meals",
        mine=f"NOT {_IS_OF_DOG.format('pet_id')}", renamed=(("cat_id", "pet_id"),),
    ),
    TableSpec(
        "dog_meals", (("slot", "int4"), ("dog_id", "int4"), ("n", "int4")), key=("dog_id", "slot"),
        references=(Reference("dog_id", "dogs"),), remapped=(("dog_id", "dog"),), into="meals",
        mine=_IS_OF_DOG.format("pet_id"), renamed=(("dog_id", "pet_id"),),
    ),
    TableSpec(
        "letters", (("id", "text"), ("n", "int4"), ("big", "text")), key=("id",), into="mail",
        mine=f"NOT {_IS_OF_PARCEL}",
    ),
    TableSpec(
        "parcels", (("id", "int4"), ("n", "int4"), ("big", "text")), key=("id",), remapped=(("id", "parcel"),),
        owns="parcel", into="mail", mine=_IS_OF_PARCEL,
    ),
)  # fmt: skip
BY_NAME: Final = {table.name: table for table in TABLES}


@dataclass(frozen=True, slots=True)
class PartSpec:
    """A further target of the source table `of`, that holds these columns of it. `sql` is its table on the target,
    `mapping` its entry, and `shown` an expression over it for each column, those of `made` coming last.

    `where` and `takes` are its condition, as SQL over the source and over a played row; `made` the same for what is
    computed of a row.
    """

    name: str
    of: str
    columns: tuple[str, ...]
    shown: tuple[str, ...]
    sql: str
    mapping: str
    where: str = "true"
    takes: Callable[[Values], bool] = lambda values: True
    made: tuple[tuple[str, Callable[[Values], Value]], ...] = ()


def _int(values: Values, name: str) -> int:
    return int(values[name] or 0)


PARTS: Final[tuple[PartSpec, ...]] = (
    PartSpec(
        "owner_notes", "owners", ("id", "big"),
        ("coalesce((SELECT m.old::text FROM crossfade.id_owner m WHERE m.new = t.owner_id), 'in no map')",
         "t.big"),
        "CREATE TABLE owner_notes (big text, owner_id uuid PRIMARY KEY REFERENCES owners {cascade})",
        "{from: public.owners, only: true, columns: {owner_id: {from: id, remap: owner}, big: big}}",
    ),
    PartSpec(
        "thing_notes", "things", ("id", "huge", "gone"), ("t.thing_id::text", "t.huge", "t.went"),
        "CREATE TABLE thing_notes (huge text, went text, thing_id int PRIMARY KEY)",
        "{from: public.things, only: true, columns: {thing_id: id, huge: huge, went: gone}}",
    ),
    PartSpec(
        "twin_letters", "twins", ("b",), ("t.letter",), "CREATE TABLE twin_letters (letter text)",
        "{from: public.twins, only: true, columns: {letter: b}}",
    ),
    PartSpec(
        "few_fulls", "fulls", ("id", "u", "n", "big"), ("t.id::text", "t.u::text", "t.n::text", "t.big"),
        "CREATE TABLE few_fulls (id int PRIMARY KEY, u int UNIQUE, n int, big text)",
        "{from: public.fulls, where: n > 2}",
        where="n > 2", takes=lambda values: _int(values, "n") > 2,
    ),
    PartSpec(
        "few_twins", "twins", ("a", "b"), ("t.a::text", "t.b"), "CREATE TABLE few_twins (b text, a int)",
        "{from: public.twins, only: true, where: a % 2 = 1, columns: {a: a, b: b}}",
        where="a % 2 = 1", takes=lambda values: values["a"] is not None and _int(values, "a") % 2 == 1,
    ),
    PartSpec(
        "few_shifts", "shifts", ("id", "n"), ("t.id::text", "t.n::text", "t.total::text"),
        "CREATE TABLE few_shifts (total bigint, id int PRIMARY KEY, n int)",
        '{from: public.shifts, only: true, where: "n % 2 = 0 OR u IS NULL",'
        ' columns: {id: id, n: n, total: {up: "coalesce(n, 0) + coalesce(u, 0)"}}}',
        where="n % 2 = 0 OR u IS NULL",
        takes=lambda values: values["u"] is None or (values["n"] is not None and _int(values, "n") % 2 == 0),
        made=(("coalesce(n, 0) + coalesce(u, 0)", lambda values: _int(values, "n") + _int(values, "u")),),
    ),
    PartSpec(
        "few_owned", "owned", ("id", "owner_id", "note"),
        ("t.id::text",
         ("(SELECT coalesce(min(m.old)::text, 'in no map') FROM crossfade.id_owner m WHERE m.new = t.owner_id"
         " HAVING t.owner_id IS NOT NULL)"),
         "t.note"),
        "CREATE TABLE few_owned (note text, owner_id uuid, id int PRIMARY KEY)",
        "{from: public.owned, only: true, where: id % 2 = 0, columns: {id: id, owner_id: owner_id, note: note}}",
        where="id % 2 = 0", takes=lambda values: _int(values, "id") % 2 == 0,
    ),
    PartSpec(
        "thing_sizes", "things", ("id",), ("t.id::text", "t.size::text"),
        "CREATE TABLE thing_sizes (size int, id int PRIMARY KEY)",
        '{from: public.things, only: true, columns: {id: id, size: {up: "length(big)"}}}',
        made=(("length(t.big)", lambda values: None if values["big"] is None else len(str(values["big"]))),),
    ),
)  # fmt: skip
PARTS_OF: Final = {table.name: [part for part in PARTS if part.of == table.name] for table in TABLES}
KEYSPACES: Final = ("duo", "owner", "ticket", "tag", "leader", "plane", "cat", "dog", "parcel")
# A keyspace's owner comes with those that refer to it, and a parent with its children: for choosing some.
FAMILIES: Final[tuple[tuple[str, ...], ...]] = (
    ("things",), ("pairs",), ("duos",), ("nodes",), ("parents", "children"), ("seats",), ("codes",), ("twins",),
    ("fulls",),
    ("logs",),
    ("shifts",), ("owners", "owned"), ("owners", "members"), ("owners", "loose"), ("kinds",), ("stays",), ("tickets",),
    ("ranks",), ("parents", "firm"), ("rooms",), ("tags", "tagged"), ("leaders", "votes"),
    ("mapped",), ("owners", "shared"), ("tickets", "shared"), ("owners", "pinned"),
    ("boats", "planes"), ("cats", "dogs"), ("cats", "cat_meals", "dogs", "dog_meals"), ("letters", "parcels"),
)  # fmt: skip

# Keys of `mapped` that its map names; stories stay within.
MAPPED_KEYS: Final = (*range(-40, 60), 777)
_PERSON: Final = (
    "CASE t.who_type WHEN 'T' THEN (t.who_id::int - 1000)::text WHEN 'O' THEN coalesce((SELECT m.old::text"
    " FROM crossfade.id_owner m WHERE m.new::text = t.who_id), 'in no map') ELSE t.who_id END"
)
# What a column shows on the target that is neither its value nor an id of one keyspace: an expression over the target's
# row that takes it back, or what becomes of its text, here and as SQL over the source's row.
_DUO: Final = "(SELECT m.old::json ->> {} FROM crossfade.id_duo m WHERE m.new = t.id)"
TAKEN_BACK: Final = {
    ("duos", "a"): _DUO.format(0),
    ("duos", "b"): _DUO.format(1),
    ("shared", "who_id"): _PERSON,
    ("pinned", "who_id"): _PERSON,
}
_CODES: Final = {"0": "zero", "1": 'o "n" e', "2": None, "3": "\\N"}
BECOMES: Final[dict[tuple[str, str], tuple[Callable[[str], str | None], str]]] = {
    ("mapped", "id"): (lambda text: f"k{text}", "'k' || t.id"),
    ("mapped", "code"): (
        lambda text: _CODES.get(text, "other"),
        ("CASE t.code WHEN 0 THEN 'zero' WHEN 1 THEN 'o \"n\" e' WHEN 2 THEN NULL WHEN 3 THEN '\\N'"
        " ELSE CASE WHEN t.code IS NOT NULL THEN 'other' END END"),
    ),
    ("shared", "readers"): (
        lambda text: text.replace("{1,", "{1001,").replace("3}", "1003}"),
        "replace(replace(t.readers::text, '{1,', '{1001,'), '3}', '1003}')",
    ),
    ("shared", "body"): (
        lambda text: text.replace('"a": 1', '"a": 1001'), "replace(t.body::text, '\"a\": 1', '\"a\": 1001')"
    ),
}  # fmt: skip

SOURCE: Final = """
CREATE TABLE things (id int PRIMARY KEY, u text UNIQUE, n int, big text, gone text, note text, huge text);
CREATE TABLE pairs (n int, a int, b text, big text, PRIMARY KEY (a, b));
CREATE TABLE duos (n int, a int, b text, big text, PRIMARY KEY (a, b));
CREATE TABLE nodes (id int PRIMARY KEY, parent_id int REFERENCES nodes ON DELETE CASCADE ON UPDATE CASCADE, note text);
CREATE TABLE parents (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE children (id int PRIMARY KEY, parent_id int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
    other_id int REFERENCES parents ON DELETE SET NULL ON UPDATE CASCADE, n int);
CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED, note text);
CREATE TABLE codes (id int PRIMARY KEY, code text NOT NULL UNIQUE, label text, big text);
ALTER TABLE codes REPLICA IDENTITY USING INDEX codes_code_key;
CREATE TABLE twins (a int, b text, big text);
ALTER TABLE twins REPLICA IDENTITY FULL;
CREATE TABLE fulls (id int PRIMARY KEY, u int UNIQUE, n int, big text);
ALTER TABLE fulls REPLICA IDENTITY FULL;
CREATE TABLE logs (line text, at timestamp);
CREATE TABLE shifts (id int PRIMARY KEY, u int UNIQUE, n int);
CREATE TABLE owners (id int PRIMARY KEY, name text UNIQUE, big text,
    boss_id int REFERENCES owners ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE owned (id int PRIMARY KEY, owner_id int REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE,
    second_id int REFERENCES owners ON DELETE SET NULL ON UPDATE CASCADE, note text);
CREATE TABLE members (owner_id int REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE, slot int, n int,
    PRIMARY KEY (owner_id, slot));
CREATE TABLE loose (id int PRIMARY KEY, owner_id int, n int);
CREATE TABLE kinds (id bigint PRIMARY KEY, i2 smallint, v varchar, f float8, m numeric, j jsonb, y bytea, a int[],
    g uuid, o boolean, at timestamp);
CREATE TABLE mapped (id int PRIMARY KEY, code int, big text);
CREATE TABLE shared (id int PRIMARY KEY, who_type text, who_id int, readers int[], body jsonb, big text);
CREATE TABLE pinned (n int, who_type text, who_id int, PRIMARY KEY (who_type, who_id));
CREATE TABLE boats (id int PRIMARY KEY, label text, big text);
CREATE TABLE planes (n int, id int PRIMARY KEY, big text);
ALTER TABLE planes REPLICA IDENTITY FULL;
CREATE TABLE cats (id int PRIMARY KEY, n int);
CREATE TABLE dogs (id int PRIMARY KEY, n int, big text);
CREATE TABLE cat_meals (cat_id int REFERENCES cats ON DELETE CASCADE ON UPDATE CASCADE, slot int, n int,
    PRIMARY KEY (cat_id, slot));
CREATE TABLE dog_meals (slot int, dog_id int REFERENCES dogs ON DELETE CASCADE ON UPDATE CASCADE, n int,
    PRIMARY KEY (dog_id, slot));
CREATE TABLE letters (id text PRIMARY KEY, n int, big text);
CREATE TABLE parcels (id int PRIMARY KEY, n int, big text);
CREATE TABLE stays (id int PRIMARY KEY, v text UNIQUE, big text);
CREATE TABLE tickets (id int PRIMARY KEY, n int);
CREATE TABLE ranks (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text);
ALTER TABLE ranks REPLICA IDENTITY FULL;
CREATE TABLE firm (id int PRIMARY KEY, parent_id int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE, n int);
CREATE TABLE rooms (id int PRIMARY KEY, u int, big text, EXCLUDE USING btree (u WITH =));
CREATE TABLE tags (n int, id text PRIMARY KEY);
CREATE TABLE tagged (id int PRIMARY KEY, tag_id text REFERENCES tags ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE leaders (id int PRIMARY KEY, term int NOT NULL, UNIQUE (id, term));
CREATE TABLE votes (leader_id int, term int, n int, PRIMARY KEY (leader_id, term),
    FOREIGN KEY (leader_id, term) REFERENCES leaders (id, term) ON DELETE CASCADE ON UPDATE CASCADE);
"""

_TARGET: Final = """
CREATE TABLE things (huge text, id bigint PRIMARY KEY, u text UNIQUE, n int CHECK (n <> 13), big text,
    kept text DEFAULT 'fresh', twice int GENERATED ALWAYS AS (n * 2) STORED, remark text);
CREATE TABLE pairs (a int, b text, n bigint, big text, PRIMARY KEY (a, b));
CREATE TABLE duos (big text, id uuid PRIMARY KEY, n int);
CREATE TABLE nodes (id int PRIMARY KEY, parent_id int REFERENCES nodes {cascade}, note text, const int);
CREATE TABLE parents (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE children (id int PRIMARY KEY, parent_id int REFERENCES parents {cascade},
    other_id int REFERENCES parents {null}, n int);
CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED, note text);
CREATE TABLE codes (id int PRIMARY KEY, code text NOT NULL UNIQUE, label text, big text);
CREATE TABLE twins (a int, b text, big text);
CREATE TABLE fulls (id int PRIMARY KEY, u int UNIQUE, n int, big text);
CREATE TABLE logs (line text, at timestamptz);
CREATE TABLE shifts (id int PRIMARY KEY, u int UNIQUE, n int);
CREATE TABLE owners (id uuid PRIMARY KEY, name text UNIQUE, big text, boss_id uuid REFERENCES owners {null});
CREATE TABLE owned (id int PRIMARY KEY, owner_id uuid REFERENCES owners {cascade},
    second_id uuid REFERENCES owners {null}, note text);
CREATE TABLE members (owner_id uuid REFERENCES owners {cascade}, slot int, n int, PRIMARY KEY (slot, owner_id));
CREATE TABLE loose (id int PRIMARY KEY, owner_id uuid, n int);
CREATE TABLE kinds (id bigint PRIMARY KEY, i2 int, v text, f float8, m numeric, j jsonb, y bytea, a int[],
    g uuid, o boolean, at timestamptz) PARTITION BY HASH (id);
CREATE TABLE mapped (id text PRIMARY KEY, code text, truth boolean, big text);
CREATE TABLE shared (id int PRIMARY KEY, who_type text, who_id text, readers bigint[], body jsonb, big text);
CREATE TABLE pinned (n int, who_type text, who_id text, PRIMARY KEY (who_type, who_id));
CREATE TABLE kinds_0 PARTITION OF kinds FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE kinds_1 PARTITION OF kinds FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE stays (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text UNIQUE, big text,
    kept text DEFAULT 'fresh');
CREATE TABLE crafts (big text, id bigint PRIMARY KEY, name text, n int, kept text DEFAULT 'fresh');
CREATE TABLE pets (n int, big text, id uuid PRIMARY KEY);
CREATE TABLE meals (pet_id uuid REFERENCES pets {cascade}, n int, slot int, PRIMARY KEY (slot, pet_id));
CREATE TABLE mail (id text PRIMARY KEY, big text, n int);
CREATE TABLE tickets (id bigint PRIMARY KEY, n int);
CREATE TABLE ranks (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text);
CREATE TABLE firm (id int PRIMARY KEY DEFERRABLE, parent_id int REFERENCES parents DEFERRABLE, n int);
CREATE TABLE rooms (id int PRIMARY KEY, u int, big text, EXCLUDE USING btree (u WITH =));
CREATE TABLE tags (n int, id uuid PRIMARY KEY);
CREATE TABLE tagged (id int PRIMARY KEY, tag_id uuid REFERENCES tags {cascade});
CREATE TABLE leaders (id uuid PRIMARY KEY, term int NOT NULL, UNIQUE (id, term));
CREATE TABLE votes (leader_id uuid, term int, n int, PRIMARY KEY (leader_id, term),
    FOREIGN KEY (leader_id, term) REFERENCES leaders (id, term) {cascade});
"""

MAPPING = """\
version: 1
schemas: {public: public}
ids:
  owner: {from: public.owners.id, to: uuid, strategy: uuid7}
  duo: {from: [public.duos.a, public.duos.b], to: uuid, strategy: uuid7}
  ticket: {from: public.tickets.id, to: bigint, strategy: offset, by: 1000}
  tag: {from: public.tags.id, to: uuid, strategy: uuid4}
  leader: {from: public.leaders.id, to: uuid, strategy: uuid7}
  plane: {from: public.planes.id, to: bigint, strategy: offset, by: 100000}
  cat: {from: public.cats.id, to: uuid, strategy: uuid7}
  dog: {from: public.dogs.id, to: uuid, strategy: uuid4}
  parcel: {from: public.parcels.id, to: text, strategy: uuid7}
tables:
  public.crafts:
    from:
      - {table: public.boats, columns: {name: label}}
      - public.planes
  public.pets: {from: [public.cats, public.dogs]}
  public.meals:
    from: [{table: public.cat_meals, columns: {pet_id: cat_id}}, {table: public.dog_meals, columns: {pet_id: dog_id}}]
  public.mail: {from: [public.letters, public.parcels]}
  public.things:
    columns:
      remark: {from: note}
    drop: [gone]
  public.duos:
    columns:
      id: [a, b]
  public.nodes:
    columns:
      const: {const: 7}
  public.logs:
    append_only: true
    columns:
      at: {timezone: America/New_York}
  public.owners:
    columns:
      id: {remap: owner}
  public.members:
    columns:
      owner_id: {remap: owner}
  public.loose:
    columns:
      owner_id: {remap: owner}
  public.tags:
    columns:
      id: {remap: tag}
  public.leaders:
    columns:
      id: {remap: leader}
  public.votes:
    columns:
      leader_id: {remap: leader}
  public.tickets:
    columns:
      id: {remap: ticket}
  public.twins: {}
  public.fulls: {}
  public.shifts: {}
  public.owned: {}
  public.kinds:
    columns:
      at: {timezone: America/New_York}
"""


MAPPING += f"""\
  public.mapped:
    columns:
      id: {{values: {{{", ".join(f"{key}: k{key}" for key in MAPPED_KEYS)}}}}}
      code: {{values: {{0: zero, 1: 'o "n" e', 2: null, 3: '\\N'}}, otherwise: {{const: other}}}}
      truth: {{from: code, cast: lossy}}
  public.shared:
    columns:
      who_id: {{remap: {{by: who_type, of: {{T: ticket, O: owner}}, otherwise: keep}}}}
      readers: {{remap: ticket}}
      body: {{remap: {{ids: ticket, path: $.a}}}}
  public.pinned:
    columns:
      who_id: {{remap: {{by: who_type, of: {{T: ticket, O: owner}}, otherwise: keep}}}}
"""
MAPPING += "".join(f"  public.{part.name}: {part.mapping}\n" for part in PARTS)


def target_sql(*, replica_role: bool) -> str:
    """The target's tables, for a role that may set session_replication_role and for one that may not."""
    text = _TARGET + ";\n".join(part.sql for part in PARTS)
    if replica_role:
        return text.format(cascade="ON DELETE CASCADE ON UPDATE CASCADE", null="ON DELETE SET NULL ON UPDATE CASCADE")
    return text.format(cascade="DEFERRABLE", null="DEFERRABLE")
