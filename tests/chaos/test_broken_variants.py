"""Daemons broken on purpose are caught: a suite that passes them could not fail, and its passes would mean nothing.

Each test switches one promise off by a failpoint, sets the scene in which that loses or doubles rows, and names the
oracle that must notice. Beside each stands the same scene with the promise kept.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psycopg
import pytest

from crossfade.lsn import Lsn
from tests.chaos.stage import Stage, is_stopped, wait_until
from tests.oracles.compare import unequal
from tests.oracles.positions import mark, wait_durable
from tests.servers.daemon import Daemon

pytestmark = pytest.mark.chaos

# Pieces are made of what exceeds the batch, so the batch is small and the transactions are not.
_PIECES = '[stream]\nbatch_bytes = 1024\npipe_bytes = 65536\nstatus_interval = "500ms"\n'


def _progress(stage: Stage) -> tuple[Lsn, int]:
    with psycopg.connect(stage.world.target) as session:
        row = session.execute("SELECT end_lsn::text, epoch FROM crossfade.progress").fetchone()
    assert row is not None
    return Lsn.parse(str(row[0])), int(str(row[1]))


def _confirmed(stage: Stage) -> Lsn:
    with psycopg.connect(stage.world.source) as session:
        row = session.execute(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'crossfade'"
        ).fetchone()
    assert row is not None
    return Lsn.parse(str(row[0]))


def _blocked_then_killed(stage: Stage) -> None:
    """The target's tables are locked, the source goes on writing, the daemon is killed while it waits (A4)."""
    stage.wait_for_phase("streaming")
    wait_durable(stage.world, mark(stage.world, "before")[1])
    with psycopg.connect(stage.world.target) as holder:
        holder.execute(
            "LOCK TABLE app.ledger, app.items, app.bulk, app.marks, app.model_steps IN ACCESS EXCLUSIVE MODE"
        )
        ours = holder.info.backend_pid
        wait_until(lambda: stage.sessions(stage.target, f"{ours} = ANY (pg_blocking_pids(pid))"), "blocked")
        durable, _ = _progress(stage)
        _, written = mark(stage.world, "while blocked")
        deadline = time.monotonic() + 6  # several status intervals
        while _confirmed(stage) <= durable and time.monotonic() < deadline:
            time.sleep(0.05)
        stage.daemon.kill9()
        holder.rollback()
    stage.gate.pause()
    assert written > durable


def test_A4_nothing_is_acknowledged_while_the_target_is_blocked(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=11) as stage:
        stage.start()
        _blocked_then_killed(stage)
        stage.daemon.start()
        stage.settle()
        stage.verdict.require_clean()


def test_acknowledging_early_is_caught(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=12) as stage:
        stage.start(failpoints="ack_early")
        _blocked_then_killed(stage)
        assert "early_ack" in stage.verdict.caught_by(), stage.situation()
        # And it is no false alarm: what was acknowledged early is gone, and an honest daemon says so (A7).
        stage.gate.pause()
        honest = stage.start()
        assert honest.wait(timeout=60) == 3, honest.text()[-2000:]
        assert unequal(stage.world.source, stage.world.target) != []


def test_cutting_a_transaction_in_two_is_caught(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=13, extra=_PIECES) as stage:
        stage.start(failpoints="cut_transactions")
        stage.wait_for_phase("streaming")
        wait_until(
            lambda: stage.verdict.caught_by() & {"bank", "ledger", "cross_table", "exactly_once"}, "an oracle", 60
        )


def test_applying_in_pieces_keeps_transactions_whole(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=13, extra=_PIECES) as stage:
        stage.start()
        stage.wait_for_phase("streaming")
        wait_until(lambda: stage.verdict.counts["snapshots"] > 150, "snapshots", 60)
        stage.settle()
        stage.verdict.require_clean()


def _passed_before_commit(stage: Stage, failpoints: str) -> tuple[Daemon, Daemon]:
    """A17: D1 is stopped with its rows written but not committed, loses its walsender, D2 takes over, D1 wakes up.

    The rows go to a table without a key, so that nothing but the compare-and-set stands between them and a duplicate;
    D1 is stopped before it touched its position, or D2 would wait for its row lock: in a transaction of several pieces,
    whose position goes out behind the last of them.
    """
    one = stage.start(failpoints=failpoints)
    stage.wait_for_phase("streaming")
    stage.settle(resume=False)
    with psycopg.connect(stage.world.target) as holder, psycopg.connect(stage.world.source) as source:
        holder.execute("LOCK TABLE app.twins IN ACCESS EXCLUSIVE MODE")
        ours = holder.info.backend_pid
        source.execute("INSERT INTO public.twins SELECT 77, 'only once', NULL FROM generate_series(1, 50)")
        source.commit()
        stage.model.state.twins[77, "only once", None] += 50
        wait_until(lambda: stage.sessions(stage.target, f"{ours} = ANY (pg_blocking_pids(pid))"), "D1 blocked")
        (backend,) = stage.sessions(stage.target, f"{ours} = ANY (pg_blocking_pids(pid))")
        one.signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(one.pid), "D1 stopped")
        holder.rollback()
    wait_until(lambda: stage.sessions(stage.target, f"pid = {backend} AND state ~ '^idle in tr'"), "D1's rows written")
    stage.to_source.half_open()  # D1 shall not learn from its stream that it was passed
    stage.terminate(stage.source, "backend_type = 'walsender'")
    two = stage.start(failpoints=failpoints)
    _, position = mark(stage.world, "for D2")
    wait_durable(stage.world, position)  # D2 has applied what D1 still holds open
    one.signal(signal.SIGCONT)
    return one, two


def test_A17_the_writer_that_was_passed_fails_its_compare_and_set(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=14, extra=_PIECES) as stage:
        one, _ = _passed_before_commit(stage, "no_leader_lock")
        one.wait_for_line("moved by somebody else", timeout=30)
        one.kill9()
        stage.settle()
        stage.verdict.require_clean()


def test_writing_without_compare_and_set_is_caught(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=15, extra=_PIECES) as stage:
        one, _ = _passed_before_commit(stage, "no_leader_lock,skip_cas")
        time.sleep(2)
        one.kill9()
        with pytest.raises(AssertionError, match="twins"):
            stage.settle(seconds=30)
        assert stage.verdict.caught_by() & {"equal", "positions"}


def test_A17_a_standby_waits_for_a_leader_that_is_stopped_and_takes_over_when_it_is_gone(tmp_path: Path) -> None:
    with Stage(tmp_path, seed=18) as stage:
        one = stage.start(failpoints="stop:before_commit")
        wait_until(lambda: is_stopped(one.pid), "D1 stopped before COMMIT", 60)
        two = stage.start()
        two.wait_for_line("standby", timeout=30)
        one.kill9()
        stage.wait_for_phase("streaming")
        stage.settle()
        stage.verdict.require_clean()


# Every place where the copy can end half-way: run again, it must end equal (G4, G5).
_COPY_POINTS = ("after_slot_recorded", "after_slot_created", "in_copy", "after_copy_table_commit", "after_copy")


@pytest.mark.parametrize("point", _COPY_POINTS)
def test_G4_a_crash_at_any_point_of_the_copy_is_made_good(tmp_path: Path, point: str) -> None:
    with Stage(tmp_path, seed=16, bulk=3000) as stage:
        crashed = stage.start(failpoints=f"crash:{point}")
        assert crashed.wait(timeout=60) == 137, crashed.text()[-2000:]
        stage.start()
        stage.wait_for_phase("streaming")
        stage.settle()
        stage.verdict.require_clean()


@pytest.mark.parametrize("point", ["before_commit", "after_commit", "before_ack", "after_ack"])
def test_A18_a_crash_around_commit_and_acknowledgement_is_made_good(tmp_path: Path, point: str) -> None:
    with Stage(tmp_path, seed=17) as stage:
        for _ in range(2):
            crashed = stage.start(failpoints=f"crash:{point}")
            assert crashed.wait(timeout=60) == 137, crashed.text()[-2000:]
        stage.start()
        stage.wait_for_phase("streaming")
        stage.settle()
        _, position = mark(stage.world, "after")
        wait_durable(stage.world, position)
        stage.verdict.require_clean()
