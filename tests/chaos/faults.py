"""The fault menu: each entry does one thing to a running stage and proves that it was done.

A fault returns a short text of what really happened, or raises `Missed` when it could not be injected (the moment
never came): a campaign counts the first and never takes the second for survival. Knows how to hurt, not how to judge.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from tests.chaos.proxy import Flow, Proxy, Trap
from tests.chaos.stage import Stage, is_stopped, wait_until

Fault = Callable[[Stage, random.Random], str]
_TABLES: Final = ("accounts", "ledger", "items", "people", "bulk", "once", "cross_2")


class Missed(Exception):
    """The fault did not happen: nobody came by."""


def _pause(low: float, high: float, rng: random.Random) -> None:
    time.sleep(rng.uniform(low, high))


# -- the daemon


def kill_daemon(stage: Stage, rng: random.Random) -> str:
    """kill -9 at a random moment, and start again."""
    _pause(0.0, 0.5, rng)
    daemon = stage.daemon
    daemon.kill9()
    if daemon.exit_code != -signal.SIGKILL:
        raise Missed(f"it had ended before, with {daemon.exit_code}")
    daemon.start()
    return "killed"


def kill_daemon_thrice(stage: Stage, rng: random.Random) -> str:
    """kill -9 while it is still coming up."""
    for _ in range(3):
        kill_daemon(stage, rng)
        _pause(0.3, 1.5, rng)
    return "killed 3 times"


def freeze_daemon(stage: Stage, rng: random.Random) -> str:
    """SIGSTOP, long enough for the source to give up on it at times, and SIGCONT."""
    daemon = stage.daemon
    daemon.signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(daemon.pid), "stopped", 5)
    seconds = rng.choice((0.3, 1.0, 6.0))
    time.sleep(seconds)
    daemon.signal(signal.SIGCONT)
    return f"stopped for {seconds} s"


def stop_daemon(stage: Stage, rng: random.Random) -> str:
    """SIGTERM under load: it must drain and exit 0; then it is started again."""
    _pause(0.0, 0.3, rng)
    began = time.monotonic()
    code = stage.daemon.terminate(timeout=40)
    if code != 0:
        stage.verdict.violated("daemon", f"SIGTERM ended with exit code {code}")
    stage.daemon.start()
    return f"exit {code} after {time.monotonic() - began:.1f} s"


# -- the servers


def crash_source(stage: Stage, rng: random.Random) -> str:
    """`-m immediate` under load."""
    stage.source.stop("immediate")
    _pause(0.0, 1.0, rng)
    stage.source.start()
    return "restarted"


def crash_target(stage: Stage, rng: random.Random) -> str:
    stage.target.stop("immediate")
    _pause(0.0, 1.0, rng)
    stage.target.start()
    return "restarted"


def crash_both(stage: Stage, rng: random.Random) -> str:
    """Both servers, and the daemon with them; it is started when they are back, since it exits with 5 before."""
    stage.target.stop("immediate")
    stage.source.stop("immediate")
    stage.daemon.kill9()
    stage.source.start()
    _pause(0.0, 1.0, rng)
    stage.target.start()
    stage.daemon.start()
    return "restarted, daemon killed"


def stop_source_fast(stage: Stage, rng: random.Random) -> str:
    """A polite shutdown under load: nobody may hang it (B16)."""
    began = time.monotonic()
    stage.source.stop("fast")
    seconds = time.monotonic() - began
    if seconds > 25:
        stage.verdict.violated("shutdown", f"the source's fast shutdown took {seconds:.0f} s (B16)")
    stage.source.start()
    return f"fast shutdown took {seconds:.1f} s"


def terminate_walsender(stage: Stage, rng: random.Random) -> str:
    hit = stage.terminate(stage.source, "backend_type = 'walsender'")
    if not hit:
        raise Missed("no walsender")
    return f"{hit} terminated"


def terminate_applier(stage: Stage, rng: random.Random) -> str:
    """Every session of ours on the target, in mid-transaction or not."""
    hit = stage.terminate(stage.target)
    if not hit:
        raise Missed("no session")
    return f"{hit} terminated"


def lock_target(stage: Stage, rng: random.Random) -> str:
    """Somebody locks a table on the target; the daemon has to wait, and may be killed while it does."""
    table = rng.choice(_TABLES)
    kill = rng.random() < 0.4
    with psycopg.connect(stage.world.target) as holder:
        holder.execute(f"LOCK TABLE app.{table} IN ACCESS EXCLUSIVE MODE".encode())
        ours = holder.info.backend_pid

        def blocked() -> bool:
            return bool(stage.sessions(stage.target, f"{ours} = ANY (pg_blocking_pids(pid))"))

        try:
            wait_until(blocked, "blocked", 10)
        except AssertionError:
            raise Missed(f"nobody wanted {table}") from None
        _pause(0.5, 6.0, rng)  # beyond wal_sender_timeout: feedback must go on
        if kill:
            stage.daemon.kill9()
        holder.rollback()
    if kill:
        stage.daemon.start()
    return f"{table} locked{', killed while waiting' if kill else ''}"


# -- the network


def _spring(proxy: Proxy, trap: Trap, *, only_position: bool, seconds: float = 10) -> str:
    before = proxy.counts[trap.value]
    proxy.arm(trap, only_position=only_position)
    if not proxy.wait_for(trap.value, more_than=before, seconds=seconds):
        proxy.disarm()
        raise Missed(f"no {trap.value} in {seconds:.0f} s")
    return trap.value


def cut_before_commit(stage: Stage, rng: random.Random) -> str:
    return _spring(stage.to_target, Trap.BEFORE_COMMIT, only_position=True)


def cut_after_commit(stage: Stage, rng: random.Random) -> str:
    """The target has committed, nobody was told (A18)."""
    return _spring(stage.to_target, Trap.AFTER_COMMIT, only_position=True)


def cut_blind_commit(stage: Stage, rng: random.Random) -> str:
    return _spring(stage.to_target, Trap.BLIND_COMMIT, only_position=True)


def cut_before_status(stage: Stage, rng: random.Random) -> str:
    return _spring(stage.to_source, Trap.BEFORE_STATUS, only_position=False)


def cut_after_status(stage: Stage, rng: random.Random) -> str:
    return _spring(stage.to_source, Trap.AFTER_STATUS, only_position=False)


def cut_replication(stage: Stage, rng: random.Random) -> str:
    hit = stage.to_source.cut(replication=True)
    if not hit:
        raise Missed("no replication connection")
    return f"{hit} cut"


def cut_everything(stage: Stage, rng: random.Random) -> str:
    hit = stage.to_source.cut() + stage.to_target.cut()
    if not hit:
        raise Missed("no connection")
    return f"{hit} cut"


def cut_at_random_byte(stage: Stage, rng: random.Random) -> str:
    proxy = rng.choice((stage.to_source, stage.to_target))
    before = proxy.counts["random_cut"]
    size = rng.choice((rng.randint(0, 300), rng.randint(0, 20_000)))
    proxy.cut_within(size)
    if not proxy.wait_for("random_cut", more_than=before, seconds=15):
        proxy.disarm()
        raise Missed("too few bytes came by")
    return f"after {size} bytes"


def half_open_source(stage: Stage, rng: random.Random) -> str:
    """The stream's network vanishes: no FIN, no data (B4, B3)."""
    return _half_open(stage.to_source, rng)


def half_open_target(stage: Stage, rng: random.Random) -> str:
    return _half_open(stage.to_target, rng)


def _half_open(proxy: Proxy, rng: random.Random) -> str:
    frozen = proxy.half_open()
    if not frozen:
        raise Missed("no connection")
    swallowed = proxy.wait_for("half_open", more_than=proxy.counts["half_open"], seconds=3)
    _pause(1.0, 8.0, rng)
    proxy.bury()  # what the kernels' keepalives do to a real one, sooner
    if not swallowed:
        raise Missed("nobody spoke meanwhile")
    return f"{frozen} connections"


def _stall(proxy: Proxy, flow: Flow, rng: random.Random) -> str:
    before = proxy.counts[flow.value]
    proxy.flow(flow)
    held = proxy.wait_for(flow.value, more_than=before, seconds=5)
    seconds = rng.choice((0.5, 2.0, 6.0))
    time.sleep(seconds)
    proxy.flow(Flow.PASS)
    if not held:
        raise Missed("nobody spoke meanwhile")
    return f"{flow.value} for {seconds} s"


def stall_source(stage: Stage, rng: random.Random) -> str:
    return _stall(stage.to_source, rng.choice((Flow.STALL, Flow.STALL_UP, Flow.STALL_DOWN)), rng)


def stall_target(stage: Stage, rng: random.Random) -> str:
    return _stall(stage.to_target, rng.choice((Flow.STALL, Flow.STALL_UP, Flow.STALL_DOWN)), rng)


def refuse_target(stage: Stage, rng: random.Random) -> str:
    """Cut off, and turned away for a while."""
    proxy = stage.to_target
    before = proxy.counts["refused"]
    proxy.refuse(True)
    proxy.cut()
    turned = proxy.wait_for("refused", more_than=before, seconds=10)
    _pause(0.5, 2.0, rng)
    proxy.refuse(False)
    if not turned:
        raise Missed("nobody came back")
    return f"{proxy.counts['refused'] - before} turned away"


def tiny_segments(stage: Stage, rng: random.Random) -> str:
    """Every message in pieces of a few bytes, on both links."""
    before = stage.to_source.counts["split"], stage.to_target.counts["split"]
    stage.to_source.split(rng.choice((1, 3, 17)))
    stage.to_target.split(rng.choice((1, 3, 17)))
    time.sleep(1.5)
    stage.to_source.split(0)
    stage.to_target.split(0)
    if stage.to_source.counts["split"] == before[0] or stage.to_target.counts["split"] == before[1]:
        raise Missed("nothing was split")
    return "split"


def storm(stage: Stage, rng: random.Random) -> str:
    """Two at once: the daemon is killed while a server goes down or the network is cut."""
    other = rng.choice((crash_source, crash_target, cut_everything, terminate_applier))
    failed: list[BaseException] = []

    def hurt() -> None:
        try:
            other(stage, random.Random(rng.random()))
        except (Missed, psycopg.Error) as error:
            failed.append(error)

    hurting = threading.Thread(target=hurt)
    hurting.start()
    try:
        return f"{kill_daemon(stage, rng)} during {other.__name__}"
    finally:
        hurting.join()


MENU: Final[tuple[Fault, ...]] = (
    kill_daemon,
    crash_target,
    cut_after_commit,
    crash_source,
    cut_before_commit,
    cut_replication,
    half_open_source,
    terminate_walsender,
    terminate_applier,
    lock_target,
    freeze_daemon,
    cut_blind_commit,
    half_open_target,
    cut_after_status,
    cut_before_status,
    cut_at_random_byte,
    kill_daemon_thrice,
    crash_both,
    stop_daemon,
    stop_source_fast,
    cut_everything,
    stall_source,
    stall_target,
    refuse_target,
    tiny_segments,
    storm,
)
SHORT: Final = MENU[:13]
