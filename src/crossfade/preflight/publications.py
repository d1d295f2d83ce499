"""What must be published, and whether that is what the source publishes.

Two publications: one for every operation, one of INSERT and TRUNCATE for append_only tables. Refuses to know who
makes them. The invariant: a publication that differs in any way from the plan is an ERROR, because the stream would
miss changes, or bring what nobody can place (C17, E9, E10, E12). A row filter may be there or not where it is the
mapping's own condition (E11).

PostgreSQL: sql-createpublication, logical-replication-publication, logical-replication-row-filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from crossfade.catalog import Catalog, TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import Plan
from crossfade.preflight.facts import Begun, Publication, SourceAccess, SourceFacts
from crossfade.preflight.remarks import Remark, Side, listed, qualified, quoted, remark
from crossfade.session.rowfilters import RowFilter

EVERY: tuple[str, ...] = ("insert", "update", "delete", "truncate")
APPENDED: tuple[str, ...] = ("insert", "truncate")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A publication as the plan needs it. `alone` are tables whose inheritance children must stay out (G9), `filters`
    the conditions of those that may have a row filter (`Plan.row_filters`)."""

    name: str
    operations: tuple[str, ...]
    tables: tuple[TableName, ...]
    alone: frozenset[TableName]
    filters: Mapping[TableName, str]


def wanted(plan: Plan, source: Catalog, *, publication: str, append_publication: str) -> tuple[Wanted, ...]:
    """The publications this plan needs: those that have a table."""
    alone = frozenset(name for name, table in source.tables.items() if table.has_inheritance_children)
    both = (
        Wanted(publication, EVERY, plan.published, alone, plan.row_filters),
        Wanted(append_publication, APPENDED, plan.append_only, alone, plan.row_filters),
    )
    return tuple(each for each in both if each.tables)


def create_statement(publication: Wanted) -> str:
    """The CREATE PUBLICATION of it, for a DBA or for us."""
    return (
        f"CREATE PUBLICATION {quoted(publication.name)} FOR TABLE {_tables(publication)}"
        f" WITH ({_options(publication)});"
    )


def publications(
    needed: tuple[Wanted, ...],
    facts: SourceFacts,
    access: Mapping[TableName, SourceAccess],
    filters: Mapping[tuple[str, TableName], RowFilter],
    *,
    begun: Begun | None,
) -> Iterator[Remark]:
    """Compare each; a missing one is no problem while nothing has begun and our role may make it. `filters` are the row
    filters there are, by publication and table."""
    for each in needed:
        found = facts.publications.get(each.name)
        if found is None:
            owned = all(name in access and access[name].owns for name in each.tables)
            yield _missing(each, begun=begun, may_create=owned and facts.role.may_create_in_database)
        else:
            there = {table: found for (name, table), found in filters.items() if name == each.name}
            yield from _compared(each, found, there, has_begun=begun is not None)


def _missing(each: Wanted, *, begun: Begun | None, may_create: bool) -> Remark:
    subject = f"source publication {each.name}"
    if begun is not None and begun.end_lsn is not None:
        return remark(
            Side.SOURCE,
            Severity.ERROR,
            "publication_gone",
            subject,
            "The publication is gone. Changes made meanwhile cannot be decoded, not even after it is made again (E8).",
            remedy="`crossfade teardown`, empty the target tables, and begin again.",
        )
    if may_create:
        return remark(
            Side.SOURCE,
            Severity.INFO,
            "publication_will_be_created",
            subject,
            f"The publication does not exist; `crossfade run` will make it, for {_count(each.tables)}.",
            remedy="Nothing.",
            ours=[create_statement(each)],
        )
    return remark(
        Side.SOURCE,
        Severity.ERROR,
        "publication_missing",
        subject,
        "The publication does not exist, and our role may not make it (that takes CREATE on the database and ownership"
        f" of {_count(each.tables)}).",
        remedy="As a role that owns the tables, or a superuser:",
        sql=[create_statement(each)],
    )


def _compared(
    each: Wanted, found: Publication, filters: Mapping[TableName, RowFilter], *, has_begun: bool
) -> Iterator[Remark]:
    published = {table.name for table in found.tables}
    filtered = [table.name for table in found.tables if table.is_filtered]
    foreign = [name for name in filtered if name not in filters or not filters[name].is_ours]
    # A table whose filter changes looks to the running daemon as if it had been taken out for a while.
    unfiltered = frozenset(published.difference(filtered)) if has_begun else frozenset[TableName]()
    differences = [
        *_named("lacks", [name for name in each.tables if name not in published]),
        *_named("has besides", [table.name for table in found.tables if table.name not in each.tables]),
        *_named("has a row filter on", [name for name in foreign if name not in each.filters]),
        *_named(
            "has, as far as the server can tell, another row filter than the mapping's `where` on",
            [name for name in foreign if name in each.filters],
        ),
        *_named("has a column list for", [table.name for table in found.tables if table.columns is not None]),
    ]
    if found.schemas:
        differences.append(f"publishes whole schemas ({listed(found.schemas)})")
    if found.operations != frozenset(each.operations):
        has = ", ".join(name for name in EVERY if name in found.operations) or "nothing"
        differences.append(f"publishes {has} instead of {', '.join(each.operations)}")
    if not found.via_root:
        differences.append("has publish_via_partition_root off")
    if found.publishes_generated:
        differences.append("publishes generated columns")
    if found.all_tables:
        differences = ["is FOR ALL TABLES, which takes in every new table as well"]
        sql = [f"DROP PUBLICATION {quoted(each.name)};", create_statement(each)]
    else:
        generated = ", publish_generated_columns = none" if found.publishes_generated else ""
        sql = [
            _set_tables(each, without_filter=unfiltered),
            f"ALTER PUBLICATION {quoted(each.name)} SET ({_options(each)}{generated});",
        ]
    if differences:
        yield remark(
            Side.SOURCE,
            Severity.ERROR,
            "publication_differs",
            f"source publication {each.name}",
            f"The publication is not what the mapping needs: it {'; it '.join(differences)}.",
            remedy="Choose another stream.publication, or, as its owner (changes made while it differed are not"
            " replicated: once crossfade has begun, the tables concerned must be copied again):",
            sql=sql,
        )
    elif not has_begun and (more := [name for name in each.tables if name in each.filters and name not in filtered]):
        yield remark(
            Side.SOURCE,
            Severity.INFO,
            "publication_may_filter",
            f"source publication {each.name}",
            f"The source sends all rows of {listed(map(str, more))}, of which the mapping takes only some. It may leave"
            " out the others by itself.",
            remedy="Nothing needs to be done. To send less, before the first `crossfade run` and not after it:"
            f" {_set_tables(each)}",
        )


def _named(words: str, names: list[TableName]) -> list[str]:
    return [f"{words} {listed(map(str, names))}"] if names else []


def _count(tables: tuple[TableName, ...]) -> str:
    return f"{len(tables)} table{'' if len(tables) == 1 else 's'}"


def _set_tables(publication: Wanted, *, without_filter: Collection[TableName] = ()) -> str:
    return f"ALTER PUBLICATION {quoted(publication.name)} SET TABLE {_tables(publication, without_filter)};"


def _tables(publication: Wanted, without_filter: Collection[TableName] = ()) -> str:
    return ", ".join(_table(publication, name, is_filtered=name not in without_filter) for name in publication.tables)


def _table(publication: Wanted, name: TableName, *, is_filtered: bool) -> str:
    only = "ONLY " if name in publication.alone else ""
    where = f" WHERE ({publication.filters[name]})" if is_filtered and name in publication.filters else ""
    return f"{only}{qualified(name)}{where}"


def _options(publication: Wanted) -> str:
    return f"publish = '{', '.join(publication.operations)}', publish_via_partition_root = true"
