"""Transactions on the source that keep the invariants the snapshot checker judges by.

Each committed transaction takes the next number from a locked counter (so numbers are in commit order), moves money
between several accounts, writes the number to five tables and to the ledger, and appends rows to a table without a
key. Some abort, some abort a savepoint, some are prepared first and committed later. Knows nothing of the daemon or
of the target. The invariant: whatever is killed meanwhile, a transaction either happened whole or not at all, and
the ledger on the source says which.
"""

from __future__ import annotations

import random
import threading
from typing import Final

import psycopg

from tests.oracles.connection import LostError, Reconnecting, Session
from tests.oracles.verdict import Loop, Verdict
from tests.oracles.world import CROSS, World

_WEIRD: Final = (
    "", " ", "plain", "tab\there", "line\nbreak", "cr\rlf\r\n", "back\\slash", "\\N", "\\.", "'quoted' \"twice\"",
    "emoji \U0001f600", "combining e\u0301", "\x01control\x7f", "NULL", "{a,\"b\"}", "%s {} $1", "\u2028", "x" * 3000,
)  # fmt: skip


def weird_text(rng: random.Random) -> str | None:
    """Text that breaks encoders, or NULL."""
    return None if rng.random() < 0.15 else rng.choice(_WEIRD)


class Gate:
    """Lets writers be paused between transactions, and tells when all of them are."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._inside = 0
        self._idle = threading.Condition(self._lock)

    def __enter__(self) -> bool:
        """True: go on with a transaction. False: paused, ask again later."""
        with self._lock:
            if not self._open.is_set():
                return False
            self._inside += 1
            return True

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            self._idle.notify_all()

    def pause(self, seconds: float = 60) -> None:
        with self._lock:
            self._open.clear()
            if not self._idle.wait_for(lambda: self._inside <= 0, seconds):
                raise TimeoutError("the writers do not come to rest")

    def resume(self) -> None:
        self._open.set()


class BankWriter:
    """One session that moves money. `two_phase` needs max_prepared_transactions on the source."""

    def __init__(
        self, world: World, verdict: Verdict, gate: Gate, *, number: int, seed: int, pace: float, two_phase: bool
    ) -> None:
        self.world = world
        self.verdict = verdict
        self.gate = gate
        self.number = number
        self.pace = pace
        self.two_phase = two_phase
        self.random = random.Random(f"{seed}.bank.{number}")
        self._connection = Reconnecting(world.source, f"oracle bank {number}")
        self._seen_opened = 0
        self._loop = Loop(f"oracle.bank.{number}", verdict, self.step)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        self._connection.drop()

    def step(self) -> float:
        inside = self.gate.__enter__()
        if not inside:
            return 0.005
        try:
            with self._connection.session() as session:
                if self._connection.times_opened != self._seen_opened:
                    self._resolve_prepared(session)
                    self._seen_opened = self._connection.times_opened
                self._transaction(session)
        except LostError:
            self.verdict.count("writers.connection_lost")
            return 0.1
        except (psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            self.verdict.count("writers.retried")
            self._connection.drop()
        finally:
            self.gate.__exit__()
        return self.pace * self.random.uniform(0.2, 1.8)

    def _resolve_prepared(self, session: Session) -> None:
        rows = session.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE %s", (f"bank {self.number} %",)
        ).fetchall()
        for (gid,) in rows:
            verb = self.random.choice(("COMMIT", "ROLLBACK"))
            session.execute(f"{verb} PREPARED '{gid}'".encode())
            self.verdict.count("writers.prepared_resolved")

    def _transaction(self, session: Session) -> None:
        rng = self.random
        fate = rng.random()
        session.execute("BEGIN")
        transfers = [
            (*rng.sample(range(1, self.world.accounts + 1), 2), rng.randint(1, 20)) for _ in range(rng.randint(1, 4))
        ]
        for account in sorted({a for d, c, _ in transfers for a in (d, c)}):  # one order, or writers deadlock
            session.execute("SELECT FROM public.accounts WHERE id = %s FOR UPDATE", (account,))
        if rng.random() < 0.25:
            session.execute("SAVEPOINT wrong")
            session.execute("UPDATE public.accounts SET balance = balance + 777 WHERE id = %s", (transfers[0][0],))
            session.execute("INSERT INTO public.once VALUES (-1, 777, 'never')")
            session.execute("ROLLBACK TO SAVEPOINT wrong")
            if rng.random() < 0.5:
                session.execute("RELEASE SAVEPOINT wrong")
            self.verdict.count("writers.savepoints_aborted")
        for debit, credit, amount in transfers:
            if rng.random() < 0.2:
                session.execute("SAVEPOINT kept")
            session.execute(
                """WITH d AS (UPDATE public.accounts SET balance = balance - %(amount)s WHERE id = %(debit)s),
                        c AS (UPDATE public.accounts SET balance = balance + %(amount)s, note = %(note)s
                              WHERE id = %(credit)s)
                   SELECT""",
                {"amount": amount, "debit": debit, "credit": credit, "note": weird_text(rng)},
            )
        values = [rng.randint(-(2**40), 2**40) for _ in range(rng.randint(0, 3))]
        row = session.execute("UPDATE public.counter SET n = n + 1 RETURNING n").fetchone()
        assert row is not None
        number = row[0]
        assert isinstance(number, int)
        for debit, credit, amount in transfers:
            session.execute(
                """INSERT INTO public.transfers (txn_no, debit_id, debit_code, credit_id, credit_code, amount, made_at)
                   VALUES (%s, %s, %s, %s, %s, %s, timestamp '2018-11-04' + %s * interval '1 minute')""",
                (number, debit, f"code-{debit}", credit, f"code-{credit}", amount, rng.randint(-300_000, 300_000)),
            )
        for value in values:
            session.execute("INSERT INTO public.once VALUES (%s, %s, %s)", (number, value, weird_text(rng)))
        session.execute(
            "; ".join(
                f"INSERT INTO public.cross_{i} VALUES ({number % 50}, {number})"
                " ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                for i in rng.sample(range(CROSS), CROSS)
            ).encode()
        )
        session.execute(
            "INSERT INTO public.ledger VALUES (%s, %s, %s, %s, %s, %s)",
            (number, self.number, "transfer", len(values), sum(values), len(transfers)),
        )
        if fate < 0.06:
            session.execute("ROLLBACK")
            self.verdict.count("writers.aborted")
        elif fate < 0.12 and self.two_phase:
            gid = f"bank {self.number} {number} {rng.random()}"
            session.execute(f"PREPARE TRANSACTION '{gid}'".encode())
            verb = "ROLLBACK" if rng.random() < 0.3 else "COMMIT"
            session.execute(f"{verb} PREPARED '{gid}'".encode())
            self.verdict.count("writers.prepared")
        else:
            session.execute("COMMIT")
            self.verdict.count("writers.committed")


class BulkWriter:
    """Touches random rows of the big table, so that copy and stream overlap (G6)."""

    def __init__(self, world: World, verdict: Verdict, gate: Gate, *, seed: int, pace: float) -> None:
        self.world = world
        self.verdict = verdict
        self.gate = gate
        self.pace = pace
        self.random = random.Random(f"{seed}.bulk")
        self._next = world.bulk + 1
        self._connection = Reconnecting(world.source, "oracle bulk")
        self._loop = Loop("oracle.bulk", verdict, self.step)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        self._connection.drop()

    def step(self) -> float:
        inside = self.gate.__enter__()
        if not inside:
            return 0.005
        rng = self.random
        try:
            with self._connection.session() as session:
                lowest = rng.randint(1, max(1, self.world.bulk))
                choice = rng.random()
                if choice < 0.6:
                    session.execute(
                        "UPDATE public.bulk SET n = n + 1 WHERE id BETWEEN %s AND %s",
                        (lowest, lowest + rng.choice((0, 0, 5, 200))),
                    )
                elif choice < 0.75:
                    session.execute("DELETE FROM public.bulk WHERE id = %s", (lowest,))
                else:
                    self._next += 1
                    session.execute(
                        "INSERT INTO public.bulk VALUES (%s, 0, %s, '1999-12-31 23:59:59.999999')",
                        (self._next, weird_text(rng)),
                    )
                self.verdict.count("writers.bulk")
        except LostError:
            self.verdict.count("writers.connection_lost")
            return 0.1
        except psycopg.errors.UniqueViolation:
            self.verdict.count("writers.retried")  # committed although the answer was lost
        except (psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled):
            self._connection.drop()
        finally:
            self.gate.__exit__()
        return self.pace * rng.uniform(0.2, 1.8)
