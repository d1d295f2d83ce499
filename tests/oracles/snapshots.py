"""Reads the target over and over, and says when what it shows was never a state of the source.

Every look is one statement, so one snapshot. Knows the workloads' invariants and nothing of the daemon. What it
guards is the promise that a source transaction arrives whole and in commit order: money neither made nor lost, a
ledger without holes that never gets shorter (not even across restarts of anything), five tables that move together,
append-only rows exactly once.
"""

from __future__ import annotations

from typing import Final

import psycopg

from tests.oracles.connection import LostError, Reconnecting
from tests.oracles.verdict import Loop, Verdict
from tests.oracles.world import CROSS, OPENING, World

_LIGHT: Final = (
    "SELECT (SELECT n FROM app.counter), (SELECT coalesce(max(txn_no), 0) FROM app.ledger),"
    " (SELECT count(*) FROM app.ledger WHERE txn_no > %s), (SELECT count(*) FROM app.accounts),"
    " (SELECT coalesce(sum(balance), 0)::bigint FROM app.accounts), ARRAY["
    + ", ".join(f"(SELECT coalesce(max(n), 0) FROM app.cross_{i})" for i in range(CROSS))
    + "]"
)
_WHOLE: Final = """
SELECT (SELECT n FROM app.counter),
       (SELECT ARRAY[count(*), coalesce(min(txn_no), 1), coalesce(max(txn_no), 0),
                     coalesce(sum(once_rows), 0)::bigint, coalesce(sum(once_sum), 0)::bigint,
                     coalesce(sum(transfer_rows), 0)::bigint] FROM app.ledger),
       (SELECT ARRAY[count(*), coalesce(sum(value), 0)::bigint] FROM app.once),
       (SELECT count(*) FROM app.transfers),
       (SELECT count(*) FROM app.accounts a LEFT JOIN (
               SELECT id, sum(amount) AS amount FROM (
                   SELECT credit_id AS id, amount FROM app.transfers
                   UNION ALL SELECT debit_id, -amount FROM app.transfers) moved GROUP BY id) m ON m.id = a.id
               WHERE a.balance <> %s + coalesce(m.amount, 0)),
       (SELECT count(*) FROM app.transfers t
               LEFT JOIN app.accounts d ON d.id = t.debit_id LEFT JOIN app.accounts c ON c.id = t.credit_id
               WHERE d.code IS DISTINCT FROM t.debit_code OR c.code IS DISTINCT FROM t.credit_code)
"""
_READY: Final = "SELECT phase FROM crossfade.workflows"


class SnapshotChecker:
    """`start()` it before the daemon; it begins to judge when a workflow's phase is first `streaming`.

    `assume_ready` skips that (targets made by hand). `whole_every` says how often the expensive look is taken.
    """

    def __init__(
        self, world: World, verdict: Verdict, *, assume_ready: bool = False, whole_every: int = 12, rest: float = 0.01
    ) -> None:
        self.world = world
        self.verdict = verdict
        self.ready = assume_ready
        self.furthest = 0  # the longest ledger seen; the target may never show a shorter one again
        self._whole_every = whole_every
        self._rest = rest
        self._looks = 0
        self._connection = Reconnecting(
            world.target, "oracle snapshots", options="-c default_transaction_read_only=on -c jit=off"
        )
        self._loop = Loop("oracle.snapshots", verdict, self.look)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        self._connection.drop()

    def look(self) -> float:
        """One look. Returns how long to rest before the next one."""
        try:
            with self._connection.session() as session:
                if not self.ready:
                    return self._wait_for_ready(session)
                self._looks += 1
                if self._looks % self._whole_every == 0:
                    self._whole(session)
                else:
                    self._light(session)
        except LostError:
            self.verdict.count("snapshots.connection_lost")
            return 0.1
        except psycopg.errors.QueryCanceled:
            self.verdict.count("snapshots.timed_out")
            return 0.1
        return self._rest

    def _wait_for_ready(self, session: psycopg.Connection[tuple[object, ...]]) -> float:
        try:
            row = session.execute(_READY).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return 0.05
        self.ready = row is not None and row[0] == "streaming"
        return 0.0 if self.ready else 0.05

    def _light(self, session: psycopg.Connection[tuple[object, ...]]) -> None:
        seen = self.furthest
        row = session.execute(_LIGHT, (max(0, seen - 200),)).fetchone()
        assert row is not None
        n, last, recent, accounts, total, cross = row
        self.verdict.count("snapshots")
        assert isinstance(last, int)
        self._ledger(n, last)
        if recent != last - max(0, seen - 200):
            self.verdict.violated("ledger", f"holes: {recent} entries after {max(0, seen - 200)}, the last is {last}")
        if accounts != self.world.accounts or total != self.world.total:
            self.verdict.violated("bank", f"{accounts} accounts hold {total}, not {self.world.total}, at ledger {last}")
        assert isinstance(cross, list)
        if any(value != last for value in cross):
            self.verdict.violated("cross_table", f"tables show {cross} at ledger {last}")

    def _whole(self, session: psycopg.Connection[tuple[object, ...]]) -> None:
        row = session.execute(_WHOLE, (OPENING,)).fetchone()
        assert row is not None
        n, ledger, once, transfers, wrong_balances, wrong_parties = row
        self.verdict.count("snapshots")
        self.verdict.count("snapshots.whole")
        assert isinstance(ledger, list)
        assert isinstance(once, list)
        count, first, last, once_rows, once_sum, transfer_rows = ledger
        self._ledger(n, last)
        if count != last or first != 1:
            self.verdict.violated("ledger", f"{count} entries from {first} to {last}")
        if once != [once_rows, once_sum]:
            self.verdict.violated(
                "exactly_once", f"{once[0]} rows, sum {once[1]}; the ledger says {once_rows} and {once_sum}"
            )
        if transfers != transfer_rows:
            self.verdict.violated("bank", f"{transfers} transfers, the ledger says {transfer_rows}")
        if wrong_balances:
            self.verdict.violated("bank", f"{wrong_balances} balances disagree with the transfers at ledger {last}")
        if wrong_parties:
            self.verdict.violated("ids", f"{wrong_parties} transfers point to another account than on the source")

    def _ledger(self, n: object, last: int) -> None:
        if n != last:
            self.verdict.violated("ledger", f"the counter says {n}, the last entry is {last}")
        if last < self.furthest:
            self.verdict.violated("ledger", f"went back from {self.furthest} to {last}")
        self.furthest = max(self.furthest, last)
