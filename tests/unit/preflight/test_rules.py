"""Every rule by itself: facts in, remarks out, no server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.faults import Transient, Unreachable
from crossfade.findings import Kind, Severity
from crossfade.lsn import Lsn
from crossfade.preflight import links
from crossfade.preflight.facts import Override, Replication, SourceFacts, StateSchema, TargetFacts
from crossfade.preflight.remarks import Side
from crossfade.preflight.rules import about_servers
from tests.unit.preflight.build import (
    BEGUN,
    BLOCKER,
    INTENT,
    LINK,
    ROLE,
    SLOT,
    SOURCE,
    TARGET,
    names,
    only,
    server,
    source,
    target,
)


def test_nothing_is_said_of_servers_that_are_as_they_should_be() -> None:
    assert names(about_servers(INTENT, SOURCE, TARGET)) == []


@pytest.mark.parametrize(
    ("facts", "name", "severity", "kind"),
    [
        (source(server=server(120020)), "version_too_old", Severity.ERROR, Kind.READINESS),
        (source(server=server(190000)), "version_unknown", Severity.WARNING, Kind.READINESS),
        (source(server=server(170005)), "known_bad_minor", Severity.WARNING, Kind.READINESS),
        (source(server=server(130021)), "known_bad_minor", Severity.WARNING, Kind.READINESS),
        (source(server=server(in_recovery=True)), "source_in_recovery", Severity.ERROR, Kind.CONFIGURATION),
        (source(server=server(wal_level="replica")), "wal_level", Severity.ERROR, Kind.READINESS),
        (source(server=server(encoding="SQL_ASCII")), "source_encoding", Severity.ERROR, Kind.READINESS),
        (
            source(server=server(output_plugin_libraries="test_decoding")),
            "output_plugin_not_allowed",
            Severity.ERROR,
            Kind.READINESS,
        ),
        (source(server=server(max_slot_wal_keep_size="64")), "slot_wal_limited", Severity.WARNING, Kind.READINESS),
        (source(server=server(max_slot_wal_keep_size="0")), "slot_wal_limited", Severity.WARNING, Kind.READINESS),
        (
            source(server=server(idle_replication_slot_timeout="60")),
            "slot_idle_timeout",
            Severity.WARNING,
            Kind.READINESS,
        ),
        (source(server=server(wal_sender_timeout="999")), "wal_sender_timeout", Severity.WARNING, Kind.READINESS),
        (
            source(server=server(synchronized_standby_slots="gone")),
            "standby_slots_inactive",
            Severity.WARNING,
            Kind.READINESS,
        ),
        (source(server=server(max_replication_slots="1")), "max_replication_slots", Severity.ERROR, Kind.READINESS),
        (source(senders_used=9), "max_wal_senders", Severity.ERROR, Kind.READINESS),
        (source(role=replace(ROLE, all_connections=93)), "max_connections", Severity.ERROR, Kind.READINESS),
        (source(role=replace(ROLE, may_replicate=False)), "role_without_replication", Severity.ERROR, Kind.READINESS),
        (source(link=replace(LINK, is_pooled=True)), "connection_pooler", Severity.ERROR, Kind.CONFIGURATION),
        (
            source(replication=Replication(None, None, Unreachable("No pg_hba.conf entry."))),
            "replication_refused",
            Severity.ERROR,
            Kind.UNREACHABLE,
        ),
        (source(overrides=(Override("lock_timeout", "5s"),)), "timeouts_overridden", Severity.INFO, Kind.READINESS),
        (
            source(link=replace(LINK, is_local=False, host="db", is_encrypted=True)),
            "weak_tls",
            Severity.WARNING,
            Kind.CONFIGURATION,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_the_source(facts: SourceFacts, name: str, severity: Severity, kind: Kind) -> None:
    remark = only(about_servers(INTENT, facts, TARGET))
    assert (remark.finding.name, remark.finding.severity, remark.finding.kind) == (name, severity, kind)
    assert remark.side is Side.SOURCE
    assert remark.finding.remedy


@pytest.mark.parametrize(
    "facts",
    [
        source(server=server(170008)),
        source(server=server(150016)),
        source(server=server(encoding="LATIN1")),
        source(server=server(output_plugin_libraries="pgoutput, test_decoding")),
        source(server=server(wal_sender_timeout="0")),
        source(server=server(wal_sender_timeout="1000")),
        source(
            server=server(synchronized_standby_slots='"standby"'),
            slots=(replace(SLOT, name="standby", active_pid=7),),
        ),
        source(senders_used=8),
        source(role=replace(ROLE, all_connections=92)),
        source(overrides=(Override("statement_timeout", "0"), Override("work_mem", "1GB"))),
        source(link=replace(LINK, is_local=False, host="db", sslmode="verify-full", is_encrypted=True)),
        source(role=replace(ROLE, is_superuser=True, all_connections=99)),
    ],
)
def test_what_is_right_with_the_source(facts: SourceFacts) -> None:
    assert names(about_servers(INTENT, facts, TARGET)) == []


@pytest.mark.parametrize(
    ("facts", "name", "severity"),
    [
        (target(server=server(in_recovery=True)), "target_in_recovery", Severity.ERROR),
        (target(server=server(default_transaction_read_only="on")), "target_read_only", Severity.WARNING),
        (target(server=server(fsync="off")), "target_not_durable", Severity.WARNING),
        (target(server=server(full_page_writes="off")), "target_not_durable", Severity.WARNING),
        (target(server=server(synchronous_standby_names="*")), "target_synchronous", Severity.INFO),
        (target(server=server(encoding="LATIN1")), "target_encoding", Severity.WARNING),
        (target(replica_role=False), "no_replica_role", Severity.INFO),
        (target(server=server(120001)), "version_too_old", Severity.ERROR),
        (target(link=replace(LINK, is_pooled=True)), "connection_pooler", Severity.ERROR),
        (target(system_identifier="1"), "same_database", Severity.ERROR),
        (
            target(state=StateSchema(exists=False, may_use=False, may_create=False, unwritable=())),
            "state_schema_missing",
            Severity.ERROR,
        ),
        (
            target(state=StateSchema(exists=True, may_use=True, may_create=False, unwritable=())),
            "state_schema_foreign",
            Severity.ERROR,
        ),
        (
            target(state=StateSchema(exists=True, may_use=True, may_create=True, unwritable=("progress",))),
            "state_tables_foreign",
            Severity.ERROR,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_the_target(facts: TargetFacts, name: str, severity: Severity) -> None:
    remark = only(about_servers(INTENT, SOURCE, facts))
    assert (remark.finding.name, remark.finding.severity) == (name, severity)


def test_two_databases_of_one_cluster_are_two_databases() -> None:
    facts = target(system_identifier="1", server=server(database="shop_new"))
    assert names(about_servers(INTENT, SOURCE, facts)) == []


def test_H3_before_version_15_there_is_nothing_to_grant() -> None:
    remark = only(about_servers(INTENT, SOURCE, target(replica_role=False, server=server(140020))))
    assert remark.sql == ()
    assert "superuser" in remark.finding.remedy


def test_one_side_alone_is_still_judged() -> None:
    bad = source(server=server(wal_level="minimal"), slots=(SLOT,))
    assert names(about_servers(INTENT, bad, None)) == ["wal_level"]  # whose slot it is, only the target could tell
    assert names(about_servers(INTENT, None, target(server=server(fsync="off")))) == ["target_not_durable"]


def test_B18_a_pooler_that_refuses_our_settings_is_called_a_pooler() -> None:
    fault = Unreachable("Cannot connect: FATAL: unsupported startup parameter in options: datestyle")
    remark = links.unreachable(Side.SOURCE, fault, database="shop", role="crossfade")
    assert remark.finding.name == "connection_pooler"


def test_a_server_that_starts_up_is_unreachable_for_now() -> None:
    remark = links.unreachable(Side.TARGET, Transient("Starting up."), database="shop", role="crossfade")
    assert (remark.finding.name, remark.finding.kind) == ("unreachable", Kind.UNREACHABLE)


def test_without_free_walsenders_their_limit_is_what_is_wrong_not_the_connection() -> None:
    facts = source(senders_used=10, replication=Replication(None, None, Unreachable("Refused.")))
    assert names(about_servers(INTENT, facts, TARGET)) == ["max_wal_senders"]


def test_B17_a_running_daemon_has_its_walsender_and_its_connections_already() -> None:
    facts = source(
        senders_used=9,
        role=replace(ROLE, all_connections=96, own_sessions=5, own_senders=1),
        slots=(SLOT, *(replace(SLOT, name=f"s{number}") for number in range(8))),
    )
    assert names(about_servers(INTENT, facts, target(begun=BEGUN, is_led=True))) == []
    # Whose sessions they are, nobody can tell while no daemon leads: they may be another workflow's.
    assert names(about_servers(INTENT, facts, target(begun=BEGUN))) == ["max_wal_senders", "max_connections"]


# -- slots


def judged(facts: SourceFacts, **begun: object) -> list[str]:
    remembered = replace(BEGUN, **begun) if begun else None  # type: ignore[arg-type]
    return names(about_servers(INTENT, facts, target(begun=remembered)))


AT = Lsn(0x2000)


def test_A9_a_slot_nobody_remembers_is_not_ours() -> None:
    assert judged(source(slots=(SLOT,))) == ["slot_exists"]
    assert names(about_servers(replace(INTENT, resuming=True), source(slots=(SLOT,)), TARGET)) == []


def test_A7_a_slot_may_stand_behind_its_progress_never_ahead() -> None:
    ahead = replace(SLOT, confirmed_flush=Lsn(AT + 1))
    assert judged(source(slots=(ahead,)), end_lsn=AT) == ["slot_moved"]
    for behind in (AT, Lsn(AT - 1)):
        assert judged(source(slots=(replace(SLOT, confirmed_flush=behind),)), end_lsn=AT) == []
    assert judged(source(slots=(ahead,)), end_lsn=None) == []


def test_A9_a_slot_that_is_gone_matters_once_there_is_a_position() -> None:
    assert judged(SOURCE, end_lsn=AT) == ["slot_missing"]
    assert judged(SOURCE, end_lsn=None) == []


def test_B10_another_system_identifier() -> None:
    assert judged(source(slots=(SLOT,)), system_identifier="9") == ["another_source"]


def test_the_slot_was_renamed_in_the_configuration() -> None:
    assert judged(source(slots=(SLOT,)), slot="before", end_lsn=AT) == ["slot_renamed"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"wal_status": "lost"}, "slot_lost"),
        ({"invalidation": "idle_timeout"}, "slot_lost"),
        ({"wal_status": "unreserved"}, "slot_nearly_lost"),
        ({"plugin": "wal2json"}, "slot_unfit"),
        ({"is_logical": False, "plugin": ""}, "slot_unfit"),
        ({"is_in_our_database": False}, "slot_unfit"),
        ({"active_pid": 7}, "slot_active"),
    ],
)
def test_what_can_be_wrong_with_our_slot(changes: dict[str, object], name: str) -> None:
    slot = replace(SLOT, **changes)  # type: ignore[arg-type]
    assert judged(source(slots=(slot,)), end_lsn=AT) == [name]


def test_somebody_elses_forgotten_slot() -> None:
    forgotten = replace(SLOT, name="old", retained_bytes=2 * 1024**3)
    assert judged(source(slots=(forgotten,))) == ["other_slot_retains_wal"]
    assert judged(source(slots=(replace(forgotten, active_pid=3),))) == []
    assert judged(source(slots=(replace(forgotten, retained_bytes=1000),))) == []


@pytest.mark.parametrize(
    ("blocker", "said"),
    [
        (BLOCKER, ["transaction_blocks_slot"]),
        (replace(BLOCKER, age_seconds=5), []),
        (replace(BLOCKER, age_seconds=None), ["transaction_running"]),
        (replace(BLOCKER, pid=None, gid="order 66"), ["transaction_blocks_slot"]),
        (replace(BLOCKER, pid=None, gid="order 66", age_seconds=5), []),
    ],
    ids=["B11-long", "B11-short", "B11-age-unknown", "C12-long", "C12-short"],
)
def test_transactions_a_new_slot_waits_for(blocker: object, said: list[str]) -> None:
    assert judged(source(blockers=(blocker,))) == said
    assert judged(source(blockers=(blocker,), slots=(SLOT,)), end_lsn=AT) == []  # the slot is there: nothing waits
