"""Events with everything a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Mapping

from crossfade.catalog import Route, TableName
from crossfade.events import Applied, CopyState, Failed, Operation, Received, SourceSampled
from crossfade.lsn import NOWHERE, Lsn
from crossfade.telemetry.status import WatchedTable

USERS = TableName("public", "users")
ACCOUNTS = TableName("app", "accounts")
ORDERS = TableName("public", "orders")
APP_ORDERS = TableName("app", "orders")
OF_USERS = Route(USERS, ACCOUNTS)
TABLES = (WatchedTable(USERS, ACCOUNTS, 1000), WatchedTable(ORDERS, APP_ORDERS, 500))


class Clock:
    """Time that moves when told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def applied(
    end_lsn: int,
    *,
    transactions: int = 1,
    changes: Mapping[tuple[Route, Operation], int] | None = None,
    conflicts: Mapping[tuple[Route, str], int] | None = None,
    clock_notes: Mapping[tuple[Route, str], int] | None = None,
    commit_times: tuple[float, ...] = (),
    committed_at: float = 0.0,
) -> Applied:
    return Applied(
        end_lsn=Lsn(end_lsn),
        transactions=transactions,
        changes=changes or {},
        conflicts=conflicts or {},
        clock_notes=clock_notes or {},
        ids_created=2,
        ids_known=3,
        seconds=0.02,
        commit_times=commit_times,
        committed_at=committed_at,
        by_level="exact",
        reason="small",
    )


def received(
    position: int, *, size: int = 100, changes: Mapping[tuple[TableName, Operation], int] | None = None
) -> Received:
    return Received(size, 1, changes or {}, 0, Lsn(position))


def copied(
    state: str, rows: int, *, source: TableName = USERS, target: TableName = ACCOUNTS, estimated: int = 1000
) -> CopyState:
    return CopyState(source, target, state, rows, rows * 10, estimated, NOWHERE)


def failed(component: str = "apply", *, sqlstate: str = "23505", retry_in: float | None = 60.0) -> Failed:
    return Failed(component, "public.users: A unique key was violated.", sqlstate, sqlstate[:2] != "23", retry_in)


def sampled(flush: int = 5000, *, wal_status: str = "reserved", **others: object) -> SourceSampled:
    fields: dict[str, object] = {
        "now": 1_800_000_000.0,
        "flush_lsn": Lsn(flush),
        "slot_exists": True,
        "slot_active": True,
        "restart_lsn": Lsn(1000),
        "confirmed_flush_lsn": Lsn(2000),
        "retained_bytes": flush - 1000,
        "safe_wal_size": None,
        "wal_keep_limit": None,
        "wal_status": wal_status,
        "invalidation_reason": "",
        "clock_skew": 0.25,
    }
    return SourceSampled(**{**fields, **others})  # type: ignore[arg-type]
