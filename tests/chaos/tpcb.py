"""pgbench's TPC-B as source load for a minute: ids become uuid, mtime becomes timestamptz, and both sides end equal.

`python -m tests.chaos.tpcb [--seconds 60] [--scale 1] [--clients 4] [--rate 300]`
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from tests.chaos.ground import Ground
from tests.oracles.compare import Pair, old_id, unequal, utc

_TARGET: Final = """
CREATE SCHEMA app;
CREATE TABLE app.branches (id uuid PRIMARY KEY, balance bigint, filler char(88));
CREATE TABLE app.tellers (
    id uuid PRIMARY KEY, branch_id uuid REFERENCES app.branches, balance bigint, filler char(84));
CREATE TABLE app.accounts (
    id uuid PRIMARY KEY, branch_id uuid REFERENCES app.branches, balance bigint, filler char(84));
CREATE TABLE app.history (
    teller_id uuid, branch_id uuid, account_id uuid, delta integer, mtime timestamptz, filler char(22));
"""
_MAPPING: Final = """\
version: 1
ids:
  branch: {from: public.pgbench_branches.bid, to: uuid, strategy: uuid7}
  teller: {from: public.pgbench_tellers.tid, to: uuid, strategy: uuid7}
  account: {from: public.pgbench_accounts.aid, to: uuid, strategy: uuid7}
tables:
  app.branches:
    from: public.pgbench_branches
    columns: {id: {from: bid, remap: branch}, balance: bbalance}
  app.tellers:
    from: public.pgbench_tellers
    columns: {id: {from: tid, remap: teller}, branch_id: bid, balance: tbalance}
  app.accounts:
    from: public.pgbench_accounts
    columns: {id: {from: aid, remap: account}, branch_id: bid, balance: abalance}
  app.history:
    from: public.pgbench_history
    append_only: true
    columns:
      teller_id: tid
      branch_id: bid
      account_id: aid
      mtime: {timezone: America/New_York}
"""
_PAIRS: Final = (
    Pair("pgbench_branches", "bid::text, bbalance, filler", f"{old_id('branch', 'id')}, balance, filler", "branches"),
    Pair(
        "pgbench_tellers",
        "tid::text, bid::text, tbalance, filler",
        f"{old_id('teller', 'id')}, {old_id('branch', 'branch_id')}, balance, filler",
        "tellers",
    ),
    Pair(
        "pgbench_accounts",
        "aid::text, bid::text, abalance, filler",
        f"{old_id('account', 'id')}, {old_id('branch', 'branch_id')}, balance, filler",
        "accounts",
    ),
    Pair(
        "pgbench_history",
        f"tid::text, bid::text, aid::text, delta, {utc('mtime')}, filler",
        f"{old_id('teller', 'teller_id')}, {old_id('branch', 'branch_id')}, {old_id('account', 'account_id')},"
        " delta, mtime, filler",
        "history",
    ),
)


def run(folder: Path, *, seconds: int, scale: int, clients: int, rate: int) -> str:
    """Load, copy and follow under load, compare. Raises `AssertionError` when the sides differ. Returns a summary."""
    with Ground(folder, fsync=False) as ground:
        pgbench = str(ground.source.binaries.bindir / "pgbench")
        source = ground.databases.source_admin

        def bench(*arguments: str) -> str:
            done = subprocess.run([pgbench, *arguments, source], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
            return done.stdout

        bench("-i", "-q", "-s", str(scale), "--foreign-keys")
        with psycopg.connect(source, autocommit=True) as session:
            # So that even what runs now crosses a change of the clocks: sessions write local time of this zone.
            session.execute("ALTER DATABASE shop SET timezone = 'America/New_York'")
        ground.databases.prepare(target=_TARGET)
        ground.databases.publish(
            *(f"public.pgbench_{name}" for name in ("branches", "tellers", "accounts")),
            append=("public.pgbench_history",),
        )
        ground.workspace.write(_MAPPING)
        daemon = ground.workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
        # The load begins before the copy is over, so that copy and stream overlap.
        load = ("-n", "-T", str(seconds), "-c", str(clients), *(("-R", str(rate)) if rate else ()))
        told = bench(*load)
        began = time.monotonic()
        daemon.wait_for_phase("streaming", timeout=600)
        daemon.wait_until_caught_up(timeout=600)
        took = time.monotonic() - began
        found = unequal(source, ground.databases.target_admin, _PAIRS)
        assert found == [], "\n".join([*found, daemon.situation()])
        with psycopg.connect(make_conninfo(ground.databases.target_admin)) as session:
            row = session.execute(
                """SELECT (SELECT sum(balance) FROM app.accounts), (SELECT sum(balance) FROM app.tellers),
                          (SELECT sum(balance) FROM app.branches), coalesce(sum(delta), 0), count(*) FROM app.history"""
            ).fetchone()
        assert row is not None
        assert len(set(row[:4])) == 1, f"TPC-B's own rule is broken on the target: {row}"
        assert row[4] > 0
        assert daemon.terminate() == 0
        rates = [line for line in told.splitlines() if line.startswith(("tps", "number of transactions actually"))]
        return f"equal: {row[4]} transactions; caught up {took:.1f} s after the load ended; pgbench: {'; '.join(rates)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rate", type=int, default=300, help="transactions a second; 0: as many as it can")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crossfade-tpcb-") as folder:
        print(run(Path(folder), **vars(given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
