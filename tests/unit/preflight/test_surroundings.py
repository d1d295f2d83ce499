"""Rules about what the tables stand on: facts in, remarks out, no server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.findings import Severity
from crossfade.mapping.plan import Plan
from crossfade.preflight import disk, layouts, leftovers, servers, types, zones
from crossfade.preflight.minors import KNOWN, KnownFault, first_good, known_faults
from crossfade.preflight.natures import (
    DatabaseCollation,
    PartitionedRoot,
    SequenceUse,
    SourceNatures,
    TargetNatures,
    WalRate,
    ZoneAnswers,
)
from crossfade.preflight.remarks import Remark, Side
from crossfade.wire.zones import Zone
from tests.unit.mapping.builders import compiled, name, table
from tests.unit.preflight.build import names, only, server, source

COLLATION = DatabaseCollation("en_US.UTF-8", "c", "2.36", "2.36")
SOURCE = SourceNatures(
    types={},
    collation=COLLATION,
    zones=(),
    index_bytes=0,
    large_objects=False,
    free_sequences=(),
    wal_rate=None,
)


def target(
    *,
    collation: DatabaseCollation = COLLATION,
    root: PartitionedRoot | None = None,
    sequences: tuple[SequenceUse, ...] = (),
) -> TargetNatures:
    return TargetNatures(
        types={},
        collation=collation,
        zones=(),
        sequences=sequences,
        id_sources=(),
        partitioned=() if root is None else (root,),
        merging=(),
    )


def plan(mapping: str = "", source: str = "at timestamp", to: str = "at timestamptz") -> Plan:
    made = compiled(
        "version: 1\nschemas: {public: public}\n" + mapping,
        [table("public.t", "id int", source, pk="id")],
        [table("public.t", "id int", to, pk="id")],
    )
    assert made.plan is not None, made.findings
    return made.plan


ZONED = "tables: {public.t: {columns: {at: {timezone: America/New_York}}}}"


def test_zones_are_asked_about_on_both_sides_of_every_change_of_clocks() -> None:
    asked = zones.instants(plan(ZONED))
    assert list(asked) == ["America/New_York"]
    spring = 1710054000  # 2024-03-10 07:00 UTC
    assert {spring - 1, spring} <= set(asked["America/New_York"])


def test_a_server_that_agrees_is_not_mentioned_and_one_that_differs_is_told_from_when() -> None:
    asked = zones.instants(plan(ZONED))
    instants = asked["America/New_York"]
    zone = Zone.load("America/New_York")
    right = tuple(zone.offset_at(instant) for instant in instants)
    assert list(zones.zones(Side.TARGET, asked, [ZoneAnswers(zone.name, right)])) == []
    abolished = tuple(-14400 if instant >= 1730610000 else zone.offset_at(instant) for instant in instants)
    finding = only(zones.zones(Side.TARGET, asked, [ZoneAnswers(zone.name, abolished)])).finding
    assert (finding.name, finding.severity, finding.subject) == ("time_zone_differs", Severity.WARNING, "target")
    assert "2024-11-03 06:00 UTC" in finding.sentence
    assert names(zones.zones(Side.SOURCE, asked, [ZoneAnswers(zone.name, None)])) == ["time_zone_unknown"]


@pytest.mark.parametrize(
    ("version", "found", "good"),
    [
        (180002, 0, 2), (180001, 2, 2), (170008, 0, 8), (170007, 2, 8), (170005, 7, 8), (170004, 7, 8), (170001, 8, 8),
        (160003, 10, 12), (150015, 2, 16), (150016, 0, 16), (150013, 6, 16), (140020, 2, 21), (140012, 8, 21),
        (130022, 0, 22), (130015, 6, 22), (130021, 4, 22), (190000, 0, 0),
    ],
)  # fmt: skip
def test_B15_minor_versions_and_what_they_lack(version: int, found: int, good: int) -> None:
    assert len(known_faults(version)) == found
    assert first_good(version) == good


@pytest.mark.parametrize("fault", KNOWN, ids=lambda fault: fault.what[:40])
def test_B15_each_fault_is_told_until_its_mending(fault: KnownFault) -> None:
    for major, mended in fault.mended_in.items():
        first = fault.since.get(major, 0)
        assert fault in known_faults(major * 10_000 + first)
        assert fault in known_faults(major * 10_000 + mended - 1)
        assert fault not in known_faults(major * 10_000 + mended)
        assert first == 0 or fault not in known_faults(major * 10_000 + first - 1)
        (said,) = [
            each.finding.sentence
            for each in servers.source(source(server=server(major * 10_000 + mended - 1)))
            if each.finding.name == "known_bad_minor"
        ]
        assert f"{fault.what} ({fault.page})" in said


def test_B15_a_fault_that_a_minor_version_brought() -> None:
    (brought,) = [fault for fault in KNOWN if fault.since]
    assert brought.since.keys() == brought.mended_in.keys()
    assert all(first < brought.mended_in[major] for major, first in brought.since.items())


def test_B15_every_fault_names_its_source() -> None:
    for fault in KNOWN:
        major, _, minor = fault.page.removeprefix("release-").partition("-")
        assert fault.mended_in[int(major)] == int(minor)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (PartitionedRoot(name("app.t"), "r", False, ()), ["target_without_partitions"]),
        (PartitionedRoot(name("app.t"), "l", False, ("FOR VALUES IN (1)",)), ["target_partitions_bounded"]),
        (PartitionedRoot(name("app.t"), "l", True, ("FOR VALUES IN (1)", "DEFAULT")), []),
        (PartitionedRoot(name("app.t"), "h", False, ("FOR VALUES WITH (modulus 1, remainder 0)",)), []),
    ],
)
def test_partitions(root: PartitionedRoot, said: list[str]) -> None:
    assert names(layouts.layouts(target(root=root))) == said


def test_hash_partitions_that_are_missing_are_made_by_the_sql() -> None:
    bounds = ("FOR VALUES WITH (modulus 2, remainder 1)", "FOR VALUES WITH (modulus 4, remainder 0)")
    found = only(layouts.layouts(target(root=PartitionedRoot(name("app.t"), "h", False, bounds))))
    assert "only 3/4 of all rows" in found.finding.sentence
    assert found.sql == (
        'CREATE TABLE "app"."t_h4_2" PARTITION OF "app"."t" FOR VALUES WITH (MODULUS 4, REMAINDER 2);',
    )


GIB = 1024**3


def _target_disk(rows_bytes: int, free: int | None) -> list[Remark]:
    made = compiled(
        "version: 1\nschemas: {public: public}\n",
        [replace(table("public.t", "id int", pk="id"), bytes=rows_bytes)],
        [table("public.t", "id int", pk="id")],
    )
    assert made.plan is not None
    return list(disk.target_disk(made.plan, SOURCE, server(max_wal_size="1024"), free=free))


@pytest.mark.parametrize(
    ("rows_bytes", "free", "severity"),
    [
        (GIB // 2, None, None),
        (2 * GIB, None, Severity.INFO),
        (9 * GIB, 100 * GIB, None),
        (9 * GIB, 12 * GIB, Severity.WARNING),
        (9 * GIB, 9 * GIB, Severity.ERROR),
    ],
)
def test_the_target_s_disk(rows_bytes: int, free: int | None, severity: Severity | None) -> None:
    said = _target_disk(rows_bytes, free)
    assert [each.finding.severity for each in said] == ([] if severity is None else [severity])


def test_the_source_s_disk() -> None:
    rate = WalRate(bytes=3600 * 1024**2, seconds=3600)  # a MiB a second
    assert list(disk.source_disk(rate, server(), free=None)) == []
    assert only(disk.source_disk(rate, server(), free=100 * GIB)).finding.severity is Severity.INFO
    short = only(disk.source_disk(rate, server(), free=10 * GIB)).finding
    assert short.severity is Severity.WARNING
    assert "room for 3 hours" in short.sentence
    limit = server(max_slot_wal_keep_size=str(200 * 1024))
    assert names(disk.source_disk(None, limit, free=100 * GIB)) == ["slot_wal_exceeds_disk"]
    (statement,) = only(disk.source_disk(None, limit, free=100 * GIB)).sql
    assert statement == "ALTER SYSTEM SET max_slot_wal_keep_size = '81920MB';"


def test_collations() -> None:
    made = plan(source="a text", to="a text")
    assert list(types.collations(made, SOURCE, target())) == []
    other = DatabaseCollation("C", "c", "", "")
    assert only(types.collations(made, SOURCE, target(collation=other))).finding.name == "collation_differs"
    old = DatabaseCollation("en_US.UTF-8", "c", "2.31", "2.36")
    finding = only(types.collations(made, SOURCE, target(collation=old))).finding
    assert (finding.name, finding.subject) == ("collation_outdated", "target")


def test_F27_sequences_are_set_by_their_whole_names() -> None:
    use = SequenceUse(name('app.It\'s "odd"'), name("public.t"), "id", True)
    said = only(leftovers.leftovers(plan(source="a text", to="a text"), SOURCE, target(sequences=(use,)))).finding
    assert said.remedy.splitlines()[1] == (
        'SELECT pg_catalog.setval(\'"app"."It\'\'s ""odd"""\','
        ' coalesce((SELECT max("id") + 1 FROM "public"."t"), 1), false);'
    )
