"""Live writes on the legacy side: a shop that goes on working while it is moved.

Several connections, a fixed mix of transactions drawn from a seed: orders, sign-ups, price changes beside big texts,
deletes that cascade, keys that change under their children, bulk updates, savepoints taken back, rows that wander
between partitions. Refuses to know that anybody is reading along. The invariant: every transaction it counts as
committed was committed, and `run` returns with none open.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
import random
import string
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from crossfade.faults import Unreachable

Connection = psycopg.AsyncConnection[tuple[object, ...]]

# What a busy shop's own transactions do to each other: tried again with other rows, as an application would.
_TAKEN_BACK: Final = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.ForeignKeyViolation,  # the customer was deleted while the order was typed in
    errors.UniqueViolation,  # two clerks gave the same customer the same new number
)
# In these hours of 2026 clocks go back and forward in New York (sql: see local_time in legacy.sql).
_TWICE: Final = dt.datetime(2026, 11, 1, 1, 0)  # noqa: DTZ001  # local time is the point
_NEVER: Final = dt.datetime(2026, 3, 8, 2, 0)  # noqa: DTZ001
_SETTINGS: Final = "-c search_path=public -c timezone=America/New_York"


@dataclass(slots=True)
class Counts:
    """What was done so far, by everybody. `rows` counts inserts, updates and deletes we asked for, not cascades."""

    committed: int = 0
    rolled_back: int = 0  # on purpose
    taken_back: int = 0  # by the server: deadlocks and the like
    rows: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranges:
    """The highest ids when the writers began: where to look for rows to touch."""

    user: int
    order: int
    product: int
    event: int
    category: int


@dataclass(slots=True)
class Clerk:
    """One connection at work. `freed` are user ids this clerk deleted and may give away again."""

    connection: Connection
    rng: random.Random
    number: int
    ranges: Ranges
    counts: Counts
    serial: Iterator[int] = field(default_factory=itertools.count)
    freed: list[int] = field(default_factory=list)

    async def change(self, statement: str, *values: object) -> int:
        """Run one writing statement; returns how many rows it touched itself."""
        cursor = await self.connection.execute(statement.encode(), values)
        self.counts.rows += max(cursor.rowcount, 0)
        return cursor.rowcount

    async def number_of(self, statement: str, *values: object) -> int | None:
        """The first column of the first row, None when there is no row."""
        row = await (await self.connection.execute(statement.encode(), values)).fetchone()
        return None if row is None else int(str(row[0]))

    async def some_user(self) -> int | None:
        """Somebody, at random; None when the ids above the one drawn are all gone."""
        drawn = self.rng.randint(1, self.ranges.user)
        return await self.number_of("SELECT id FROM users WHERE id >= %s ORDER BY id LIMIT 1", drawn)

    async def some_order(self) -> int | None:
        """An order, at random."""
        drawn = self.rng.randint(1, self.ranges.order)
        return await self.number_of("SELECT id FROM orders WHERE id >= %s ORDER BY id LIMIT 1", drawn)

    def some_product(self) -> int:
        """A product; they are never deleted."""
        return self.rng.randint(1, self.ranges.product)

    def local_time(self) -> dt.datetime:
        """A local time of 2026; one in ten is in an hour New York has twice or never."""
        spread = dt.timedelta(microseconds=self.rng.randrange(3_600_000_000))
        match self.rng.randrange(20):
            case 0:
                return _TWICE + spread
            case 1:
                return _NEVER + spread
        return dt.datetime(2026, 1, 1) + dt.timedelta(hours=self.rng.randrange(8700)) + spread  # noqa: DTZ001

    def word(self, length: int = 10) -> str:
        """Letters nobody has used before, all but certainly."""
        return "".join(self.rng.choices(string.ascii_lowercase, k=length))

    async def log(self, action: str, product: int | None = None) -> None:
        """A line in the log, as every part of the application writes one."""
        await self.change(
            "INSERT INTO audit_log VALUES (localtimestamp, %s, %s, %s, %s)",
            f"clerk{self.number}",
            action,
            product,
            Jsonb({"n": next(self.serial)}) if self.rng.random() < 0.7 else None,
        )


# -- what the shop does: each is one transaction


async def place_order(clerk: Clerk) -> None:
    """An order with its lines, the stock, a line in the log: four tables."""
    if (user := await clerk.some_user()) is None:
        return
    order = await clerk.number_of(
        "INSERT INTO orders (user_id, status, total, note, placed_at) VALUES (%s, 'placed', %s, %s, %s) RETURNING id",
        user,
        clerk.rng.randrange(10_000_000) / 1000,
        clerk.rng.choice([None, "", "Ring twice \\ mind the dog\n"]),
        clerk.local_time(),
    )
    clerk.counts.rows += 1
    for line in range(1, clerk.rng.randint(2, 4)):
        product = clerk.some_product()
        await clerk.change(
            "INSERT INTO order_lines VALUES (%s, %s, %s, %s, %s, %s)",
            order,
            line,
            product,
            clerk.rng.randint(1, 9),
            clerk.rng.randrange(1, 50_000) / 100,
            [0.05, None] if clerk.rng.random() < 0.2 else None,
        )
    await clerk.change("UPDATE products SET stock = stock - 1 WHERE id = %s", product)
    await clerk.log("order", product)


async def pay_order(clerk: Clerk) -> None:
    """A small update."""
    await clerk.change("UPDATE orders SET status = 'paid', total = total + 1 WHERE id = %s", await clerk.some_order())


async def ship_order(clerk: Clerk) -> None:
    """One line of an order leaves a warehouse: a row under a composite foreign key."""
    order = await clerk.some_order()
    await clerk.change("UPDATE orders SET status = 'shipped', shipped_on = current_date WHERE id = %s", order)
    await clerk.change(
        "INSERT INTO shipments (order_id, line_no, warehouse_code, tracking, weights, sent_at)"
        " SELECT order_id, line_no, (SELECT min(code) FROM warehouses WHERE code >= %s), md5(%s)::uuid, %s, %s"
        "   FROM order_lines WHERE order_id = %s ORDER BY line_no LIMIT 1",
        f"WH-{chr(clerk.rng.randint(65, 77))}",
        clerk.word(),
        [clerk.rng.randrange(1000) / 8, None],
        clerk.local_time(),
        order,
    )
    await clerk.log("ship")


async def cancel_order(clerk: Clerk) -> None:
    """A delete that takes lines and shipments along."""
    await clerk.change("DELETE FROM orders WHERE id = %s", await clerk.some_order())
    await clerk.log("cancel")


async def sign_up(clerk: Clerk) -> None:
    """A new customer, sometimes under the number of one who left; and what they did first."""
    freed = clerk.freed.pop() if clerk.freed and clerk.rng.random() < 0.5 else None
    user = await clerk.number_of(
        "INSERT INTO users"
        " (id, email, name, plan_code, referred_by, tags, birthday, last_ip, created_at, expires_at)"
        " VALUES (coalesce(%s, nextval('users_id_seq')), %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        freed,
        f"{clerk.word(16)}@example.net",
        f"Newcomer {clerk.word()}",
        clerk.rng.randint(1, 3),
        await clerk.some_user() if clerk.rng.random() < 0.3 else None,
        ["new", "with, comma", 'and "quotes"'][: clerk.rng.randrange(4)],
        dt.date(1950, 1, 1) + dt.timedelta(days=clerk.rng.randrange(20_000)),
        f"10.1.{clerk.rng.randrange(256)}.{clerk.rng.randrange(256)}",
        clerk.local_time(),
        clerk.rng.choice(["infinity", "-infinity", None, "2031-01-01 12:00"]),
    )
    clerk.counts.rows += 1
    await _event(clerk, user, "sign-up")
    await clerk.log("sign-up")


async def log_in(clerk: Clerk) -> None:
    """The most ordinary update there is."""
    user = await clerk.some_user()
    await clerk.change(
        "UPDATE users SET last_login = %s, balance = balance + 0.01 WHERE id = %s", clerk.local_time(), user
    )
    await _event(clerk, user, "log-in")


async def erase_user(clerk: Clerk) -> None:
    """A customer leaves: orders, lines and shipments go, events and referrals forget who it was."""
    if (user := await clerk.some_user()) is None:
        return
    if await clerk.change("DELETE FROM users WHERE id = %s", user):
        clerk.freed.append(user)
    await clerk.log("erase")


async def renumber_user(clerk: Clerk) -> None:
    """The key changes, and with it that of every child; a third of them take a number that was in use before."""
    user = await clerk.some_user()
    freed = clerk.freed.pop() if clerk.freed and clerk.rng.random() < 0.33 else None
    await clerk.change(
        "UPDATE users SET id = coalesce(%s, nextval('users_id_seq')), plan_code = 3 WHERE id = %s", freed, user
    )


async def renumber_order(clerk: Clerk) -> None:
    """A key change of two levels: lines and their shipments follow."""
    sequence = "nextval(pg_get_serial_sequence('orders', 'id'))"
    await clerk.change(f"UPDATE orders SET id = {sequence} WHERE id = %s", await clerk.some_order())


async def renumber_lines(clerk: Clerk) -> None:
    """Every key of an order moves at once, then the first moves back."""
    order = await clerk.some_order()
    await clerk.change("UPDATE order_lines SET line_no = line_no + 100 WHERE order_id = %s", order)
    await clerk.change("UPDATE order_lines SET line_no = 1 WHERE order_id = %s AND line_no = 101", order)


async def rename_warehouse(clerk: Clerk) -> None:
    """A text key changes under a great many shipments."""
    code = f"WH-{clerk.word(3)}"
    await clerk.change(
        "UPDATE warehouses SET code = %s WHERE code = (SELECT min(code) FROM warehouses WHERE code >= %s)",
        code,
        f"WH-{clerk.rng.choice(string.ascii_letters)}",
    )


async def sell(clerk: Clerk) -> None:
    """Price and stock of products whose texts are stored out of line and therefore not sent."""
    product = clerk.some_product()
    await clerk.change(
        "UPDATE products SET stock = stock - 1, price = price + 0.01, updated_at = %s"
        " WHERE id = (SELECT id FROM products WHERE id >= %s AND length(description) > 8000 ORDER BY id LIMIT 1)",
        clerk.local_time(),
        product,
    )
    await clerk.change("UPDATE products SET rating = %s, is_active = NOT is_active WHERE id = %s", 4.5, product)


async def rewrite_product(clerk: Clerk) -> None:
    """The texts themselves: a big one, a small one, an empty one, none; then a plain update in the same transaction."""
    product = clerk.some_product()
    text = clerk.rng.choice([clerk.rng.randbytes(6000).hex(), "Short.", "", None])
    await clerk.change("UPDATE products SET description = %s WHERE id = %s", text, product)
    if clerk.rng.random() < 0.3:
        sheet = Jsonb({"sheet": clerk.rng.randbytes(4500).hex(), "price": "€ 1"})
        photo = clerk.rng.randbytes(clerk.rng.choice([0, 64, 9000]))
        await clerk.change("UPDATE products SET attributes = %s, photo = %s WHERE id = %s", sheet, photo, product)
    await clerk.change("UPDATE products SET stock = stock + 10, flags = '{bulky}' WHERE id = %s", product)


async def new_product(clerk: Clerk) -> None:
    """A product and, half of the time, a category for it that is a child of another."""
    category = clerk.rng.randint(1, clerk.ranges.category)
    if clerk.rng.random() < 0.5:
        made = await clerk.number_of(
            "INSERT INTO categories (parent_id, name, position) VALUES (%s, %s, %s) RETURNING id",
            category,
            clerk.word(),
            clerk.rng.randrange(100),
        )
        clerk.counts.rows += 1
        category = made or category
    await clerk.change(
        "INSERT INTO products (sku, category_id, name, description, price, warranty, updated_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        clerk.word(18),
        category,
        f"Product {clerk.word()}",
        clerk.rng.randbytes(5000).hex() if clerk.rng.random() < 0.2 else "New.",
        clerk.rng.randrange(1, 100_000) / 100,
        "1 year 2 mons -3 days",
        clerk.local_time(),
    )


async def move_category(clerk: Clerk) -> None:
    """A branch of the tree is hung elsewhere; now and then under itself, which nobody forbids."""
    child, parent = (clerk.rng.randint(1, clerk.ranges.category) for _ in range(2))
    await clerk.change("UPDATE categories SET parent_id = %s WHERE id = %s", parent, child)


async def delete_category(clerk: Clerk) -> None:
    """Children and products lose their parent (SET NULL)."""
    await clerk.change("DELETE FROM categories WHERE id = %s AND id > 8", clerk.rng.randint(1, clerk.ranges.category))


async def raise_prices(clerk: Clerk) -> None:
    """A bulk update: some hundred rows in one statement."""
    low = clerk.some_product()
    await clerk.change(
        "UPDATE products SET price = price * 1.01 WHERE id IN"
        " (SELECT id FROM products WHERE id BETWEEN %s AND %s ORDER BY id FOR UPDATE)",
        low,
        low + 200,
    )


async def close_orders(clerk: Clerk) -> None:
    """Another bulk update, beside live orders, with bulk inserts into the log."""
    low = clerk.rng.randint(1, clerk.ranges.order)
    await clerk.change(
        "UPDATE orders SET status = 'returned', note = coalesce(note, '') || '.' WHERE id IN"
        " (SELECT id FROM orders WHERE id BETWEEN %s AND %s ORDER BY id FOR UPDATE)",
        low,
        low + 150,
    )
    await clerk.change(
        "INSERT INTO audit_log SELECT localtimestamp, 'batch', 'close', id, NULL FROM products ORDER BY id LIMIT 50"
    )


async def change_mind(clerk: Clerk) -> None:
    """Savepoints: one part is taken back, another stays."""
    user = await clerk.some_user()
    await clerk.change("UPDATE users SET balance = balance - 5 WHERE id = %s", user)
    async with clerk.connection.transaction():
        await _regret(clerk, user)
    async with clerk.connection.transaction():
        await clerk.change("UPDATE users SET tags = tags || 'kept'::text WHERE id = %s", user)
    await clerk.log("kept")


async def _regret(clerk: Clerk, user: int | None) -> None:
    await clerk.change("UPDATE users SET name = name || ' (undone)' WHERE id = %s", user)
    await clerk.change("DELETE FROM orders WHERE id = %s", await clerk.some_order())
    await clerk.log("undone")
    raise psycopg.Rollback


async def give_up(clerk: Clerk) -> None:
    """Everything is taken back; the log has a gap in its ids and nothing else."""
    await clerk.change("DELETE FROM order_lines WHERE order_id = %s", await clerk.some_order())
    await clerk.log("given up")
    raise psycopg.Rollback


async def swap_emails(clerk: Clerk) -> None:
    """Two customers exchange a unique value by way of a third."""
    first, second = await clerk.some_user(), await clerk.some_user()
    if first is None or second is None or first == second:
        return
    rows = await (
        await clerk.connection.execute(
            "SELECT id, email FROM users WHERE id IN (%s, %s) ORDER BY id FOR UPDATE", (first, second)
        )
    ).fetchall()
    if len(rows) < 2:
        return
    (one, mine), (other, theirs) = rows
    for user, email in ((one, f"{clerk.word(20)}@swap.example"), (other, mine), (one, theirs)):
        await clerk.change("UPDATE users SET email = %s WHERE id = %s", email, user)


async def record_events(clerk: Clerk) -> None:
    """A handful of rows over all partitions, and one that wanders to another: a delete and an insert."""
    for _ in range(clerk.rng.randint(1, 5)):
        await _event(clerk, await clerk.some_user(), "click")
    drawn = clerk.rng.randint(1, clerk.ranges.event)
    await clerk.change("UPDATE events SET occurred_at = %s, kind = 'moved' WHERE id = %s", clerk.local_time(), drawn)
    await clerk.change("DELETE FROM events WHERE id = %s", clerk.rng.randint(1, clerk.ranges.event))


async def _event(clerk: Clerk, user: int | None, kind: str) -> None:
    await clerk.change(
        "INSERT INTO events VALUES (nextval('events_id_seq'), %s, %s, %s, %s)",
        clerk.local_time(),
        kind,
        user,
        Jsonb({"ms": clerk.rng.randrange(5000)}),
    )


Work = Callable[[Clerk], Awaitable[None]]
# How often each happens, in thousandths.
MIX: Final[tuple[tuple[int, Work], ...]] = (
    (220, place_order),
    (150, log_in),
    (130, pay_order),
    (110, sell),
    (90, ship_order),
    (60, sign_up),
    (60, record_events),
    (50, cancel_order),
    (30, change_mind),
    (20, rewrite_product),
    (20, give_up),
    (12, new_product),
    (10, renumber_user),
    (8, renumber_order),
    (6, erase_user),
    (6, renumber_lines),
    (6, swap_emails),
    (5, move_category),
    (3, raise_prices),
    (2, close_orders),
    (1, delete_category),
    (1, rename_warehouse),
)


@dataclass(slots=True)
class Writers:
    """The whole shop at work: `rate` transactions a second in all, over `connections` connections.

    `run` may be called again after it returned; the counts go on. The mix is drawn from `seed`; which transaction
    meets which is up to the server.
    """

    dsn: str
    rate: float = 300.0
    connections: int = 4
    seed: int = 2026
    counts: Counts = field(default_factory=Counts)
    _runs: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop`; returns when every connection has finished its transaction.

        Raises `Unreachable` when the legacy server cannot be reached or goes away.
        """
        self._runs += 1
        try:
            ranges = await self._look()
            async with asyncio.TaskGroup() as group:
                for number in range(self.connections):
                    group.create_task(self._work(number, ranges, stop), name=f"demo.writer.{number}")
        except* psycopg.OperationalError:
            raise Unreachable(
                "The live writes lost the legacy database.", where="demo", do="Look into the server's log."
            ) from None

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self.dsn, autocommit=True, application_name="shop", options=_SETTINGS
        )

    async def _look(self) -> Ranges:
        async with await self._connect() as connection:
            highest = []
            for table in (each.name for each in dataclasses.fields(Ranges)):
                name = {"category": "categories"}.get(table, f"{table}s")
                statement = f"SELECT coalesce(max(id), 1) FROM {name}".encode()
                row = await (await connection.execute(statement)).fetchone()
                highest.append(int(str(row[0])) if row else 1)
        return Ranges(*highest)

    async def _work(self, number: int, ranges: Ranges, stop: asyncio.Event) -> None:
        rng = random.Random(f"{self.seed}.{self._runs}.{number}")
        kinds = [work for _, work in MIX]
        weights = list(itertools.accumulate(weight for weight, _ in MIX))
        clock = asyncio.get_running_loop().time
        pause = self.connections / self.rate
        async with await self._connect() as connection:
            clerk = Clerk(connection, rng, number, ranges, self.counts)
            due = clock() + rng.random() * pause
            while not stop.is_set():
                await asyncio.sleep(max(due - clock(), 0))
                # Late by more than a second: the machine is slow, do not try to make up for it.
                due = max(due + pause, clock() - 1.0)
                await self._one(clerk, rng.choices(kinds, cum_weights=weights)[0])

    async def _one(self, clerk: Clerk, work: Work) -> None:
        before = self.counts.rows
        try:
            async with clerk.connection.transaction():
                await work(clerk)
        except _TAKEN_BACK:
            self.counts.taken_back += 1
            self.counts.rows = before
            return
        if work is give_up:
            self.counts.rolled_back += 1
            self.counts.rows = before
        else:
            self.counts.committed += 1
            name = getattr(work, "__name__", "?")
            self.counts.by_kind[name] = self.counts.by_kind.get(name, 0) + 1
