"""The proxy does what its counters say: tried with psycopg against a real server, without a daemon."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import generators, pq

from crossfade.demo.servers import Server, embedded
from tests.chaos.proxy import Flow, Frame, Framer, Proxy, Statements, Trap

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(embedded(), name="proxied", fsync=False) as server, psycopg.connect(server.dsn(), autocommit=True) as c:
        c.execute("CREATE TABLE public.t (n bigint PRIMARY KEY, body text)")
        c.execute("CREATE SCHEMA crossfade")
        c.execute("CREATE TABLE crossfade.progress (n bigint)")
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with psycopg.connect(server.dsn(), autocommit=True) as c:
        c.execute("TRUNCATE public.t")
    with Proxy(server.port, seed=7) as proxy:
        yield proxy


def _connect(server: Server, proxy: Proxy, name: str = "crossfade apply", **more: object) -> psycopg.Connection:
    return psycopg.connect(server.dsn(), port=proxy.port, application_name=name, connect_timeout=5, **more)


def _count(server: Server) -> int:
    with psycopg.connect(server.dsn()) as c:
        row = c.execute("SELECT count(*) FROM public.t").fetchone()
    assert row is not None
    return int(row[0])


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!I", len(body) + 4) + body


STARTUP = struct.pack("!II", 8, 80877103) + struct.pack("!II", 16, 196608) + b"user\0x\0\0"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_framer_finds_every_message_whatever_the_segments(size: int) -> None:
    messages = [(b"Q", b"SELECT 1\0"), (b"S", b""), (b"d", b"r" + bytes(33)), (b"d", b"x" * 400), (b"X", b"")]
    stream = STARTUP + b"".join(_message(*m) for m in messages)
    framer = Framer(startup=True)
    seen: list[Frame] = []
    where: list[tuple[int, int]] = []
    for at in range(0, len(stream), size):
        for frame in framer.feed(stream[at : at + size]):
            seen.append(frame)
            where.append((at + frame.start, at + frame.end))
    assert [(f.tag, f.head) for f in seen[2:]] == messages
    assert where[0] == (0, 8)
    assert [b for _, b in where[:-1]] == [a for a, _ in where[1:]], "frames lie end to end"
    assert where[-1][1] == len(stream)


def test_framer_steps_over_the_answer_to_an_ssl_request() -> None:
    framer = Framer(startup=False)
    framer.raw_bytes = 1
    assert [f.tag for f in framer.feed(b"N" + _message(b"R", bytes(4)) + _message(b"Z", b"I"))] == [b"R", b"Z"]


@pytest.mark.parametrize(
    ("statement", "is_commit"),
    [
        ("COMMIT", True),
        (" commit;", True),
        ("UPDATE t SET n = 1; COMMIT", True),
        ("END", True),
        ("COMMIT PREPARED 'x'", False),
        ("SELECT 'COMMIT'", False),
        ("ROLLBACK", False),
        ("COMMITTED", False),
    ],
)
def test_statements_know_a_commit(statement: str, is_commit: bool) -> None:
    simple = Statements()
    assert simple.sees(Frame(b"Q", 0, 1, statement.encode() + b"\0"))[0] is is_commit
    extended = Statements()
    assert not extended.sees(Frame(b"P", 0, 1, b"s1\0" + statement.encode() + b"\0\0\0"))[0]
    assert not extended.sees(Frame(b"B", 0, 1, b"p1\0s1\0"))[0]
    assert extended.sees(Frame(b"E", 0, 1, b"p1\0\0\0\0\0"))[0] is is_commit
    assert extended.sees(Frame(b"S", 0, 1, b""))[1] is is_commit


def test_statements_know_which_commit_moves_the_position() -> None:
    statements = Statements()

    def run(text: bytes) -> tuple[bool, bool, bool]:
        return statements.sees(Frame(b"Q", 0, 1, text + b"\0"))

    run(b"BEGIN")
    run(b'UPDATE "crossfade"."progress" SET end_lsn = $1')
    assert run(b"COMMIT") == (True, True, True)
    run(b"BEGIN")
    assert run(b"COMMIT") == (True, True, False)
    run(b"UPDATE crossfade.progress SET end_lsn = $1")
    run(b"ROLLBACK")
    assert run(b"COMMIT") == (True, True, False)


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(
    ("trap", "done"), [(Trap.BEFORE_COMMIT, 0), (Trap.AFTER_COMMIT, 1)], ids=lambda v: getattr(v, "value", v)
)
def test_commit_is_cut_on_the_side_asked_for(
    server: Server, proxy: Proxy, trap: Trap, done: int, pipelined: bool
) -> None:
    connection = _connect(server, proxy)
    proxy.arm(trap, only_position=True, applications="apply")
    connection.execute("SELECT 1")
    connection.commit()  # moves no position: passes

    def transaction() -> None:
        with connection.pipeline() if pipelined else contextlib.nullcontext():
            connection.execute("INSERT INTO public.t VALUES (1, 'x')")
            connection.execute("INSERT INTO crossfade.progress VALUES (1)")
            connection.commit()

    with pytest.raises(psycopg.OperationalError):
        transaction()
    connection.close()
    assert proxy.counts[trap.value] == 1
    assert _count(server) == done


def test_blind_commit_cuts_once(server: Server, proxy: Proxy) -> None:
    connection = _connect(server, proxy)
    proxy.arm(Trap.BLIND_COMMIT)
    connection.execute("INSERT INTO public.t VALUES (1, 'x')")
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    connection.close()
    assert proxy.counts["blind_commit"] == 1
    with _connect(server, proxy) as again:
        again.execute("INSERT INTO public.t VALUES (2, 'x')")
    assert _count(server) in {1, 2}


def test_refused_commit_is_not_counted_as_cut_after_commit(server: Server, proxy: Proxy) -> None:
    connection = _connect(server, proxy)
    proxy.arm(Trap.AFTER_COMMIT)
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT FROM public.no_such_table")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("COMMIT")  # answered ROLLBACK
    connection.close()
    assert proxy.counts["after_commit"] == 0
    assert proxy.counts["after_commit_refused"] == 1


def test_split_and_throttled_bytes_arrive_unchanged(server: Server, proxy: Proxy) -> None:
    proxy.split(11)
    with _connect(server, proxy) as connection:
        text = "äöü\n" * 5000
        row = connection.execute("SELECT %s::text", (text,)).fetchone()
        assert row == (text,)
    assert proxy.counts["split"] > 0


@pytest.mark.parametrize("flow", [Flow.STALL, Flow.STALL_UP, Flow.STALL_DOWN])
def test_stall_holds_everything_and_loses_nothing(server: Server, proxy: Proxy, flow: Flow) -> None:
    with _connect(server, proxy, autocommit=True) as connection:
        proxy.flow(flow)
        answered = threading.Event()

        def ask() -> None:
            connection.execute("INSERT INTO public.t VALUES (1, 'x')")
            answered.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert proxy.wait_for(flow.value)
        assert not answered.wait(0.2)
        if flow is Flow.STALL_DOWN:
            deadline = time.monotonic() + 5
            while _count(server) == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert _count(server) == (1 if flow is Flow.STALL_DOWN else 0)
        proxy.flow(Flow.PASS)
        asking.join(10)
        assert answered.is_set()
        assert _count(server) == 1


def test_half_open_connection_hears_nothing_and_new_ones_pass(server: Server, proxy: Proxy) -> None:
    connection = _connect(server, proxy, autocommit=True)
    assert proxy.half_open(applications="apply") == 1
    failed = threading.Event()

    def ask() -> None:
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError:
            failed.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert proxy.wait_for("half_open")
    with _connect(server, proxy) as other:
        assert other.execute("SELECT 2").fetchone() == (2,)
    assert not failed.wait(0.2)
    proxy.bury()
    asking.join(10)
    assert failed.is_set()
    connection.close()


def test_cuts_hit_whom_they_are_meant_for(server: Server, proxy: Proxy) -> None:
    with _connect(server, proxy, "crossfade other") as spared:
        hit = _connect(server, proxy, "crossfade apply")
        assert proxy.cut(applications="apply") == 1
        with pytest.raises(psycopg.OperationalError):
            hit.execute("SELECT 1")
        hit.close()
        assert spared.execute("SELECT 1").fetchone() == (1,)
        proxy.cut_within(1000)
        with pytest.raises(psycopg.OperationalError):
            spared.execute("SELECT repeat('x', 5000)")
    assert proxy.counts["random_cut"] == 1
    assert proxy.counts["cut"] == 1


@pytest.mark.parametrize("trap", [Trap.BEFORE_STATUS, Trap.AFTER_STATUS])
def test_replication_is_cut_around_a_status_update(server: Server, proxy: Proxy, trap: Trap) -> None:
    # Through psycopg, whose waiting lets the proxy's thread run; libpq's own blocking calls would not.
    connection = _connect(server, proxy, "crossfade stream", replication="database", autocommit=True)
    try:
        connection.execute("CREATE_REPLICATION_SLOT proxied TEMPORARY LOGICAL pgoutput")
        raw = connection.pgconn
        raw.send_query(b"START_REPLICATION SLOT proxied LOGICAL 0/0 (proto_version '1', publication_names 'none')")
        (begun,) = connection.wait(generators.fetch_many(raw))
        assert begun.status == pq.ExecStatus.COPY_BOTH
        proxy.arm(trap)
        raw.put_copy_data(b"r" + bytes(33))
        raw.flush()
        assert proxy.wait_for(trap.value)
    finally:
        connection.close()
