"""Facts in, remarks out: every rule of the preflight, in the order a person would want to read them.

Refuses to know connections. The invariant: a side that could not be seen takes none of the other side's remarks with
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crossfade.catalog import Catalog, TableName
from crossfade.mapping.plan import Plan
from crossfade.preflight import (
    capacity,
    disk,
    forms,
    layouts,
    leftovers,
    links,
    publications,
    rights,
    servers,
    slots,
    tables,
    types,
    uniqueness,
    zones,
)
from crossfade.preflight.facts import SourceAccess, SourceFacts, TargetAccess, TargetFacts
from crossfade.preflight.natures import SourceNatures, TargetNatures
from crossfade.preflight.remarks import Remark, Side
from crossfade.session.rowfilters import RowFilter


@dataclass(frozen=True, slots=True)
class Intent:
    """What the configuration asks for. `resuming`: the caller knows that this workflow has begun already; `wire` is
    `stream.wire`, `source_free` and `target_free` are those of `capacity`."""

    workflow: str
    slot: str
    publication: str
    append_publication: str
    workers: int
    resuming: bool
    wire: str = "auto"
    source_free: int | None = None
    target_free: int | None = None


def about_servers(intent: Intent, source: SourceFacts | None, target: TargetFacts | None) -> Iterator[Remark]:
    """What can be said without the mapping."""
    begun = target.begun if target is not None else None
    is_led = target is not None and target.is_led
    if source is not None:
        yield from links.links(Side.SOURCE, source.link)
        yield from links.replication(source.replication, source.role, senders_free=capacity.senders_free(source))
        yield from servers.source(source)
        yield from capacity.source(source, slot=intent.slot, workers=intent.workers, is_led=is_led)
        # Whose slot it is, only the target can tell: without it an existing slot is neither ours nor foreign.
        yield from slots.slots(
            source, slot=intent.slot, begun=begun, is_led=is_led, resuming=intent.resuming or target is None
        )
    if target is not None:
        yield from links.links(Side.TARGET, target.link)
        yield from servers.target(target)
        yield from capacity.connections(Side.TARGET, target.server, target.role, workers=intent.workers, is_led=is_led)
        yield from rights.state(target)
        yield from rights.replica_role(target)
    if source is not None and target is not None:
        yield from servers.identities(source.replication, source.server, target)


def about_source_tables(
    intent: Intent,
    plan: Plan,
    source: SourceFacts,
    catalog: Catalog,
    access: Mapping[TableName, SourceAccess],
    filters: Mapping[tuple[str, TableName], RowFilter],
    target: TargetFacts,
) -> Iterator[Remark]:
    """What needs the compiled mapping: reading the tables, and publishing them. `filters` are the publications' row
    filters."""
    needed = publications.wanted(
        plan, catalog, publication=intent.publication, append_publication=intent.append_publication
    )
    yield from rights.source(source.role, access.values())
    yield from publications.publications(needed, source, access, filters, begun=target.begun)
    yield from tables.partitions(plan, catalog)
    yield from forms.form(
        plan, wanted=intent.wire, source_version=source.server.version, target_version=target.server.version
    )


def about_target_tables(
    intent: Intent,
    plan: Plan,
    target: TargetFacts,
    catalog: Catalog,
    access: Mapping[TableName, TargetAccess],
) -> Iterator[Remark]:
    """The same for writing them."""
    yield from rights.target(target.role, access.values(), tables.written_columns(plan.tables))
    yield from tables.target_partitions(plan, catalog, replica_role=target.replica_role)
    yield from tables.target_rows(access, has_begun=intent.resuming or target.begun is not None)


def about_surroundings(
    intent: Intent,
    plan: Plan,
    source: SourceFacts,
    target: TargetFacts,
    around_source: SourceNatures,
    around_target: TargetNatures,
    catalogs: tuple[Catalog, Catalog],
) -> Iterator[Remark]:
    """What the tables stand on: types, collations, zones, partitions, space; and what is not replicated.

    `catalogs` are the source's and the target's.
    """
    yield from rights.id_sources(target.role, around_target.id_sources)
    yield from types.types(plan, around_source, around_target)
    yield from uniqueness.uniqueness(plan, *catalogs)
    yield from types.collations(plan, around_source, around_target)
    asked = zones.instants(plan)
    yield from zones.zones(Side.SOURCE, asked, around_source.zones)
    yield from zones.zones(Side.TARGET, asked, around_target.zones)
    yield from layouts.layouts(around_target)
    if target.begun is None and not intent.resuming:
        yield from disk.target_disk(plan, around_source, target.server, free=intent.target_free)
    yield from disk.source_disk(around_source.wal_rate, source.server, free=intent.source_free)
    yield from leftovers.leftovers(plan, around_source, around_target)
