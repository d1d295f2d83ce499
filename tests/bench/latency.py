"""From a commit on the source to the row visible on the target, under a steady load.

Writers, in a process of their own, commit at a fixed rate whatever the answers take (an open loop): each transaction
updates an account and inserts a stamp. A probe, in another process, asks the target for each writer's newest stamp
every 0.2 ms. Both read the same monotonic clock: a stamp's latency is the time from the moment its writer was told of
the commit to the moment the probe's answer held it. Refuses to know the contender; the probe costs everybody alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import psycopg

from tests.bench.backlogs import MARKS, PLAIN_MAPPING, Backlog, Shape
from tests.bench.compare import Expectation, same
from tests.bench.contenders import Contender
from tests.bench.ground import Ground, NotMeasured, wait_until
from tests.bench.results import Run, percentile
from tests.servers.daemon import environment
from tests.servers.databases import Side

WRITERS: Final = 4
RATE: Final = 500
_POLL_SECONDS: Final = 0.0002
_WARM_UP: Final = 0.5  # seconds whose stamps are not counted
_ACCOUNTS: Final = 10_000

_DDL: Final = """
CREATE TABLE public.stamps (writer integer, n integer, body text NOT NULL, at timestamp, PRIMARY KEY (writer, n));
CREATE TABLE public.accounts (id integer PRIMARY KEY, balance bigint NOT NULL, at timestamp NOT NULL);
""" + MARKS.format(schema="public")
_TRANSACTION: Final = """
WITH changed AS (UPDATE public.accounts SET balance = balance + 1, at = clock_timestamp() WHERE id = %s)
INSERT INTO public.stamps VALUES (%s, %s, 'the body of a stamp, as long as such things are', clock_timestamp())"""
_NEWEST: Final = (
    "SELECT "
    + ", ".join(
        f"coalesce((SELECT n FROM public.stamps WHERE writer = {w} ORDER BY n DESC LIMIT 1), 0)" for w in range(WRITERS)
    )
).encode()


def _fill(ground: Ground, source: Side, size: int) -> None:
    source.execute(f"INSERT INTO public.accounts SELECT i, 0, now() FROM generate_series(1, {_ACCOUNTS}) i")


def _nothing(ground: Ground, source: Side, size: int) -> None:
    pass


LOAD: Final = Backlog(
    "latency",
    _DDL,
    ("public.stamps", "public.accounts", "public.bench_marks"),
    (),
    _fill,
    _nothing,
    lambda size: size,
    Shape(
        _DDL,
        PLAIN_MAPPING,
        (same("public.stamps", "writer, n, body, at"), same("public.accounts", "id, balance, at")),
    ),
)


def measure(ground: Ground, contender: Contender, source: Side, seconds: float) -> tuple[Run, Run]:
    """p50 and p99 of one contender, prepared and running for `seconds` under load, in ms."""
    ground.checkpoint()
    contender.start()
    admin = ground.pair.admin(ground.source)
    query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
    wait_until(lambda: admin.execute(query, (contender.slot,)).fetchone(), "the slot is read", timeout=120)
    time.sleep(0.5)  # let it settle
    before = ground.cpu(contender.daemon_pid)
    probe = _start("probe", contender.target.admin, seconds)
    writers = _start("write", source.admin, seconds)
    written = _stamps(writers, seconds)
    source.execute("INSERT INTO public.bench_marks VALUES (1)")
    with contender.target.connect() as session:
        wait_until(
            lambda: session.execute("SELECT 1 FROM public.bench_marks").fetchone(), "the last stamp arrives", timeout=60
        )
    used = ground.cpu(contender.daemon_pid).since(before)
    seen = _stamps(probe, seconds)
    peak = contender.peak_mb()
    contender.stop()
    Expectation(source.admin).check(contender.target.admin, LOAD.plain.compared, contender=contender.name)
    latencies = latencies_ms(written, seen, skip_before=_WARM_UP)
    rate = sum(len(theirs) for theirs in written.values()) / seconds
    told: Mapping[str, object] = {"rate": round(rate, 1), "transactions": len(latencies), "polls_ms": _gap_ms(seen)}
    if rate < RATE * 0.9:
        raise NotMeasured(f"the writers reached {rate:.0f} transactions a second of {RATE}: this machine is too busy")
    half, most = percentile(latencies, 0.5), percentile(latencies, 0.99)
    return (
        Run("latency_p50", contender.name, half, cpu=used, peak_mb=peak, details=told),
        Run("latency_p99", contender.name, most, cpu=used, details=told),
    )


Stamps = dict[int, list[tuple[int, float]]]  # by writer: (stamp, moment), in order


def latencies_ms(written: Stamps, seen: Stamps, *, skip_before: float) -> list[float]:
    """For each stamp: from its writer being told to the first poll that showed it or a later one, in ms.

    The first `skip_before` seconds do not count. Raises `NotMeasured` for a stamp no poll has shown.
    """
    found: list[float] = []
    first = min(moment for stamps in written.values() for _, moment in stamps)
    for writer, stamps in written.items():
        polls = iter(seen.get(writer, []))
        newest, at = 0, 0.0
        for stamp, moment in stamps:
            while newest < stamp:
                try:
                    newest, at = next(polls)
                except StopIteration:
                    raise NotMeasured(f"stamp {stamp} of writer {writer} was never seen") from None
            if moment >= first + skip_before:
                found.append((at - moment) * 1000)
    return found


def _gap_ms(seen: Stamps) -> float:
    gaps = seen.get(-1, [(0, 0.0)])
    return round(gaps[0][1] * 1000, 3)


# -- the two processes


def _start(what: str, dsn: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.latency", what, str(seconds)],
        env=environment({"BENCH_DSN": dsn}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def _stamps(process: subprocess.Popen[str], seconds: float) -> Stamps:
    out, _ = process.communicate(timeout=seconds + 120)
    if process.returncode != 0:
        raise NotMeasured(f"a process of the latency measurement ended with {process.returncode}")
    return {int(writer): [(int(n), float(at)) for n, at in stamps] for writer, stamps in json.loads(out).items()}


def _write(dsn: str, seconds: float) -> Stamps:
    found: Stamps = {writer: [] for writer in range(WRITERS)}
    start = time.monotonic() + 0.5
    every = WRITERS / RATE

    def write(writer: int) -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=1) as session:
            for n in range(1, int(seconds * RATE / WRITERS) + 1):
                due = start + (n + writer / WRITERS) * every
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                session.execute(_TRANSACTION, ((n * WRITERS + writer) * 7919 % _ACCOUNTS + 1, writer, n))
                found[writer].append((n, time.monotonic()))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _probe(dsn: str, seconds: float) -> Stamps:
    """Every change of each writer's newest stamp, until all of them are there; -1 holds the mean time of a poll."""
    last = int(seconds * RATE / WRITERS)
    known = [0] * WRITERS
    found: Stamps = {writer: [] for writer in range(WRITERS)}
    polls, began = 0, time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as session:
        raw = session.pgconn
        raw.prepare(b"newest", _NEWEST)
        while min(known) < last and time.monotonic() < began + seconds + 90:
            answer = raw.exec_prepared(b"newest", [])
            now = time.monotonic()
            for writer in range(WRITERS):
                newest = int(answer.get_value(0, writer) or b"0")
                if newest != known[writer]:
                    known[writer] = newest
                    found[writer].append((newest, now))
            polls += 1
            time.sleep(_POLL_SECONDS)
    found[-1] = [(polls, (time.monotonic() - began) / max(1, polls))]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """One of the two processes; the connection string comes in the environment, so that `ps` does not show it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("write", "probe"))
    parser.add_argument("seconds", type=float)
    given = parser.parse_args(arguments)
    work = _write if given.what == "write" else _probe
    json.dump(work(os.environ["BENCH_DSN"], given.seconds), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
