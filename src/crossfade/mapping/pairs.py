"""Which source table becomes which target table: schemas, exclusions and `from`, resolved against both catalogs.

Refuses to know columns. The invariant: every table of a mapped schema is paired, excluded, reached through its
partition root, or the subject of an error; none is passed over in silence except views, which hold no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Catalog, Table, TableKind, TableName
from crossfade.mapping.collect import Collector, sql_name
from crossfade.mapping.places import Place, did_you_mean
from crossfade.mapping.spec import Spec, TableSpec

_THOROUGH_SEARCHES: Final = 20
_START_OVER: Final = "`crossfade teardown`, empty the target tables, `crossfade run`"
_VIEWS: Final = frozenset({TableKind.VIEW, TableKind.MATERIALIZED_VIEW})


@dataclass(frozen=True, slots=True)
class Pair:
    """One source table and its target. `spec` is what the mapping says of it in particular, if anything.

    `place` is where the mapping brings the two together: the table's own entry, or that of its schema.
    """

    source: Table
    target: Table
    spec: TableSpec | None
    place: Place


def pair_tables(
    spec: Spec, source: Catalog, target: Catalog, collect: Collector, *, begun_with: Collection[TableName] = ()
) -> tuple[Pair, ...]:
    """All pairs whose both sides exist and can be replicated, sorted by target name.

    `begun_with` are the source tables of a run that has begun, empty before: no other table can join it, and none of
    them can leave.
    """
    wanted = _wanted(spec, source, collect)
    _check_begun_with(frozenset(begun_with), spec, source, wanted, collect)
    names = _Names(target.tables)
    pairs = []
    for each in sorted(wanted, key=lambda each: each.target):
        from_table = source.tables[each.source]
        is_replicable = _check_source(from_table, each.place, collect)
        to_table = _target_table(each, from_table, target, names, collect)
        if is_replicable and to_table is not None:
            pairs.append(Pair(from_table, to_table, each.spec, each.place))
    _check_exclusions(spec, source, collect)
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A pair by its names: the source exists, the target may. `spec` and `place` are those of the `Pair`."""

    target: TableName
    source: TableName
    spec: TableSpec | None
    place: Place


def _wanted(spec: Spec, source: Catalog, collect: Collector) -> list[_Wanted]:
    """Pairs whose sources exist, those of one target together. A source given under `tables`, once or more often, is
    not given to its schema's rule."""
    wanted: list[_Wanted] = []
    taken: set[TableName] = set()
    names = _Names(source.tables)
    for target_name, entry in spec.tables.items():
        for table in entry.each:
            source_name = table.source or _source_by_schema(table, spec, source, names, collect)
            if source_name is None:
                continue
            if source_name not in source.tables:
                collect.error(
                    "source_table_missing",
                    table.source_place,
                    f"The source has no table {source_name}, which {target_name} is to be made of."
                    f"{names.near(source_name)}",
                    "Correct the name; names are exact, upper and lower case differ.",
                )
                continue
            taken.add(source_name)
            wanted.append(_Wanted(target_name, source_name, table, table.place))
    for source_schema, target_schema in spec.schemas.items():
        _by_schema(source_schema, target_schema, spec, source, taken, wanted, collect)
    return wanted


def _source_by_schema(
    table: TableSpec, spec: Spec, source: Catalog, names: _Names, collect: Collector
) -> TableName | None:
    """The source of a `tables` entry without `from`: the same name in a schema mapped to the target's."""
    candidates = [
        TableName(from_schema, table.target.name)
        for from_schema, to_schema in spec.schemas.items()
        if to_schema == table.target.schema
    ]
    existing = [name for name in candidates if name in source.tables]
    if len(existing) == 1:
        return existing[0]
    if len(existing) > 1:
        collect.error(
            "source_table_ambiguous",
            table.place,
            f"{table.target} could be made of {' or '.join(str(name) for name in existing)}.",
            "Say which with 'from'.",
        )
    elif candidates:
        collect.error(
            "source_table_missing",
            table.place,
            f"The source has no table {candidates[0]}, which {table.target} would be made of."
            f"{names.near(candidates[0])}",
            "Name the source table with 'from', or remove the entry.",
        )
    else:
        collect.error(
            "source_table_unknown",
            table.place,
            f"Nothing says which source table {table.target} is made of: no schema is mapped to "
            f"{table.target.schema!r}.",
            "Name the source table with 'from'.",
        )
    return None


def _by_schema(
    source_schema: str,
    target_schema: str,
    spec: Spec,
    source: Catalog,
    taken: set[TableName],
    wanted: list[_Wanted],
    collect: Collector,
) -> None:
    fed = {each.target: each.source for each in reversed(wanted)}
    place = spec.places.get(f"schemas.{source_schema}", Place(1, 1))
    tables = sorted(name for name in source.tables if name.schema == source_schema)
    if not tables:
        schemas = {name.schema for name in source.tables}
        collect.error(
            "source_schema_missing",
            place,
            f"The source has no table in a schema {source_schema!r}.{did_you_mean(source_schema, schemas)}",
            "Correct the name, or grant crossfade's role USAGE on the schema.",
        )
    for name in tables:
        table = source.tables[name]
        if name in taken or table.is_partition or table.kind in _VIEWS:
            continue
        if any(exclusion.matches(name) for exclusion in spec.exclude):
            continue
        target_name = TableName(target_schema, name.name)
        if target_name in fed:
            collect.error(
                "target_table_taken",
                spec.tables[target_name].place if target_name in spec.tables else place,
                f"{name} would become {target_name}, which {fed[target_name]} already feeds.",
                f"Exclude {name}, give it another target with 'from', or make one table of both: under tables, "
                f"{target_name}: {{from: [{fed[target_name]}, {name}]}}.",
            )
            continue
        taken.add(name)
        fed[target_name] = name
        wanted.append(_Wanted(target_name, name, None, place))


def _check_begun_with(
    begun_with: frozenset[TableName],
    spec: Spec,
    source: Catalog,
    wanted: list[_Wanted],
    collect: Collector,
) -> None:
    """One error for each table that would join a running copy or leave it. Those that would join go out of `wanted`:
    all else that is missing for them (a target, a place in the publication) would lead nowhere."""
    if not begun_with:
        return
    hides_tables = collect.has_errors  # a schema misspelt is no table left out
    mapped = {each.source for each in wanted}
    for each in list(wanted):
        source_name = each.source
        if source_name in begun_with:
            continue
        wanted.remove(each)
        if each.target in spec.tables and spec.tables[each.target].sources:
            entry = f"take it out of the list that {each.target} is made from, and "
        else:
            entry = f"take {each.target} out of 'tables' and " if each.target in spec.tables else ""
        collect.error(
            "table_not_in_copy",
            each.place,
            f"{source_name} is not in the running copy, which began without it: neither its rows nor its changes are on"
            " the target, and no table can join a copy that has begun.",
            f"For now, {entry}leave it out with exclude: [{source_name}]; or start over with it: {_START_OVER}.",
        )
    for source_name in sorted(begun_with - mapped):
        if source_name in source.tables and not hides_tables:
            excluded = (exclusion.place for exclusion in spec.exclude if exclusion.matches(source_name))
            collect.error(
                "table_left_out",
                next(excluded, Place(1, 1)),
                f"{source_name} is in the running copy, and the mapping takes it no more.",
                f"Put it back, or start over without it: {_START_OVER}.",
            )


def _check_source(table: Table, place: Place, collect: Collector) -> bool:
    """Whether the table can be replicated at all (D16, partitions by their root, no old-style inheritance)."""
    name = table.name
    if table.kind in _VIEWS:
        collect.error(
            "source_is_view", place, f"{name} is a view: it has no rows of its own to replicate.", "Map its tables."
        )
    elif table.is_partition:
        collect.error(
            "source_is_partition",
            place,
            f"{name} is a partition; its rows are replicated as those of its partitioned table.",
            "Map the partitioned table instead.",
        )
    elif table.kind is TableKind.FOREIGN:
        collect.error(
            "source_is_foreign",
            place,
            f"{name} is a foreign table: its rows live elsewhere and are not in the write-ahead log.",
            f"Exclude it: exclude: [{name}].",
        )
    elif table.persistence != "p":
        kind = "unlogged" if table.persistence == "u" else "temporary"
        collect.error(
            "source_not_logged",
            place,
            f"{name} is {kind}: its changes are not in the write-ahead log and cannot be followed.",
            f"ALTER TABLE {sql_name(name)} SET LOGGED;\n-- or exclude it: exclude: [{name}]",
        )
    elif table.has_inheritance_children:
        collect.error(
            "source_has_children",
            place,
            f"Other tables inherit from {name} (INHERITS, not partitions); crossfade does not support that yet.",
            f"Exclude it (exclude: [{name}]), or turn the family into partitions.",
        )
    else:
        return _check_leaves(table, place, collect)
    return False


def _check_leaves(table: Table, place: Place, collect: Collector) -> bool:
    unlogged = [leaf.name for leaf in table.leaves if leaf.persistence != "p"]
    for leaf in unlogged:
        collect.error(
            "source_not_logged",
            place,
            f"{leaf}, a partition of {table.name}, is unlogged: its changes cannot be followed.",
            f"ALTER TABLE {sql_name(leaf)} SET LOGGED;",
        )
    return not unlogged


def _target_table(wanted: _Wanted, source: Table, target: Catalog, names: _Names, collect: Collector) -> Table | None:
    name, table, place = wanted.target, wanted.spec, wanted.place
    found = target.tables.get(name)
    if found is None:
        collect.error(
            "target_table_missing",
            place,
            f"The target has no table {name}, which {source.name} is to become.{names.near(name)}",
            f"Create it, name another target{' with from' if table is None else ''}, or leave {source.name} out with "
            f"exclude: [{source.name}].",
        )
        return None
    if found.kind in _VIEWS or found.kind is TableKind.FOREIGN:
        collect.error(
            "target_is_no_table",
            place,
            f"{name} on the target is no table but a view or foreign table.",
            "Map a table.",
        )
        return None
    if found.is_partition:
        collect.error(
            "target_is_partition",
            place,
            f"{name} on the target is a partition of another table.",
            "Name the partitioned table instead: PostgreSQL puts each row where it belongs.",
        )
        return None
    if found.persistence != "p" or any(leaf.persistence != "p" for leaf in found.leaves):
        collect.error(
            "target_not_logged",
            place,
            f"{name} on the target is unlogged: a crash would empty it while crossfade believes the rows are there.",
            f"ALTER TABLE {sql_name(name)} SET LOGGED;",
        )
        return None
    return found


def _check_exclusions(spec: Spec, source: Catalog, collect: Collector) -> None:
    for exclusion in spec.exclude:
        if not any(exclusion.matches(name) for name in source.tables):
            collect.warning(
                "exclusion_matches_nothing",
                exclusion.place,
                f"No table of the source matches {exclusion.pattern!r}.",
                "Correct or remove the pattern.",
            )


class _Names:
    """Suggestions among the tables of one catalog. The first few misses get a thorough search, which is slow; in a
    catalog of thousands where all are missed, the rest only get the same name in another schema or case."""

    def __init__(self, names: Iterable[TableName]) -> None:
        self._names = sorted(str(name) for name in names)
        self._by_relation: dict[str, str] = {}
        for name in sorted(names):
            self._by_relation.setdefault(name.name.casefold(), str(name))
        self._searches_left = _THOROUGH_SEARCHES

    def near(self, name: TableName) -> str:
        """` Did you mean 'app.users'?` or ''."""
        same = self._by_relation.get(name.name.casefold())
        if same is not None:
            return f" Did you mean {same!r}?"
        if self._searches_left == 0:
            return ""
        self._searches_left -= 1
        return did_you_mean(str(name), self._names)
