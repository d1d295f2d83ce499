"""What whoever watches is sent, second by second."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

from crossfade.catalog import TableName
from crossfade.events import LagMeasured, Operation
from crossfade.telemetry import feed as feeding
from crossfade.telemetry.document import POINT_FIELDS
from crossfade.telemetry.feed import Feed
from crossfade.telemetry.status import StatusBook, WatchedTable
from tests.unit.telemetry.facts import ACCOUNTS, TABLES, Clock, applied, copied, received, sampled


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> StatusBook:
    return StatusBook("shop", TABLES, clock=clock, monotonic=clock)


def read(chunk: bytes | None) -> list[dict[str, Any]]:
    """The events of a chunk as a browser would read them: name, id, data."""
    assert chunk is not None
    assert chunk.endswith(b"\n\n")
    found = []
    for block in chunk.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            found.append({"event": fields["event"], "id": fields.get("id", ""), "data": json.loads(fields["data"])})
        else:
            found.append({"event": "", "retry": int(fields["retry"])})
    return found


async def test_the_first_thing_sent_is_all_that_is_known(book: StatusBook, clock: Clock) -> None:
    feed = Feed(book)
    for lag in (0.5, None, 2.0):
        book.observe(LagMeasured(lag, 100))
        book.observe(sampled(5000))
        feed.tick()
        clock.advance(1)
    first = read(await feed.follow().next())
    assert [each["event"] for each in first] == ["", "history", "status"]
    assert first[0]["retry"] == 1000
    history = first[1]["data"]
    assert tuple(history["fields"]) == POINT_FIELDS
    points = [dict(zip(history["fields"], point, strict=True)) for point in history["points"]]
    assert [point["lag_seconds"] for point in points] == [0.5, None, 2.0]
    assert [point["at"] for point in points] == [1_800_000_000.0, 1_800_000_001.0, 1_800_000_002.0]
    assert points[-1]["retained_bytes"] == 4000
    assert first[2]["data"]["name"] == "shop"
    assert first[2]["data"]["lag_seconds"] == 2.0


async def test_every_second_brings_a_point_and_the_document(book: StatusBook, clock: Clock) -> None:
    feed = Feed(book)
    feed.tick()
    follower = feed.follow()
    await follower.next()
    waiting = asyncio.ensure_future(follower.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    book.observe(LagMeasured(7.0, 1))
    feed.tick()
    sent = read(await waiting)
    assert [each["event"] for each in sent] == ["point", "status"]
    assert sent[0]["data"][POINT_FIELDS.index("lag_seconds")] == 7.0
    assert sent[1]["data"]["lag_seconds"] == 7.0


async def test_who_was_slow_gets_the_points_missed_and_one_document(book: StatusBook) -> None:
    feed = Feed(book)
    feed.tick()
    follower = feed.follow()
    await follower.next()
    for _ in range(4):
        feed.tick()
    sent = read(await follower.next())
    assert [each["event"] for each in sent] == ["point"] * 4 + ["status"]
    numbers = [int(each["id"].partition("-")[2]) for each in sent[:4]]
    assert numbers == [2, 3, 4, 5]


async def test_who_comes_back_is_told_what_was_missed(book: StatusBook) -> None:
    feed = Feed(book)
    feed.tick()
    seen = read(await feed.follow().next())[1]["id"]
    feed.tick()
    feed.tick()
    again = read(await feed.follow(seen).next())
    assert [each["event"] for each in again] == ["", "point", "point", "status"]
    nothing_new = read(await feed.follow(again[2]["id"]).next())
    assert [each["event"] for each in nothing_new] == ["", "status"]


@pytest.mark.parametrize(
    "unknown", ["", "nonsense", "00000000-1", "{session}-99", "{session}--1", "{session}-", "{session}-1é"]
)
async def test_who_comes_from_another_daemon_is_told_all(book: StatusBook, unknown: str) -> None:
    feed = Feed(book)
    feed.tick()
    session = read(await feed.follow().next())[1]["id"].partition("-")[0]
    events = [each["event"] for each in read(await feed.follow(unknown.format(session=session)).next())]
    assert events == ["", "history", "status"]


async def test_only_so_much_is_kept(book: StatusBook, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(book)
    feed.tick()
    old = read(await feed.follow().next())[1]["id"]
    for _ in range(feeding.KEPT + 5):
        feed.tick()
    events = read(await feed.follow().next())
    assert len(events[1]["data"]["points"]) == feeding.KEPT
    missed = [each for each in read(await feed.follow(old).next()) if each["event"] == "point"]
    assert len(missed) == feeding.KEPT
    assert int(missed[-1]["id"].partition("-")[2]) == feed.number


async def test_a_large_document_is_not_sent_every_second() -> None:
    many = [WatchedTable(TableName("public", f"table_{n}"), TableName("app", f"table_{n}")) for n in range(1000)]
    feed = Feed(StatusBook("shop", many))
    feed.tick()
    follower = feed.follow()
    assert len(await follower.next() or b"") > 64 * 1024
    sent = []
    for _ in range(10):
        feed.tick()
        sent.append([each["event"] for each in read(await follower.next())])
    assert sent == [["point"]] * 4 + [["point", "status"]] + [["point"]] * 4 + [["point", "status"]]


async def test_the_document_is_encoded_once_for_all(book: StatusBook, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(book)
    feed.tick()
    assert feed.status_event().endswith(feed.status_event()[-50:])
    calls = []
    monkeypatch.setattr(feeding.orjson, "dumps", lambda value: calls.append(value) or b"{}")
    feed.tick()
    for _ in range(3):
        feed.status_event()
    assert len(calls) == 1


def test_a_point_is_what_the_document_says(book: StatusBook, clock: Clock) -> None:
    book.observe(LagMeasured(0.12345, 77))
    book.observe(sampled(5000))
    book.observe(received(0x3000))
    book.observe(applied(0x2000, changes={(ACCOUNTS, Operation.UPDATE): 25}))
    book.observe(copied("running", 0))
    clock.advance(2)
    book.observe(copied("running", 100))
    document, point = book.document(), dict(zip(POINT_FIELDS, book.point(), strict=True))
    assert document["slot"] is not None
    assert point == {
        "at": datetime.fromisoformat(document["at"]).timestamp(),
        "lag_seconds": document["lag_seconds"],
        "lag_bytes": document["lag_bytes"],
        "changes_per_second": document["rates"]["changes_per_second"],
        "bytes_per_second": document["rates"]["bytes_per_second"],
        "rows_per_second": document["copy"]["rows_per_second"],
        "retained_bytes": document["slot"]["retained_bytes"],
    }
    assert (point["rows_per_second"], point["changes_per_second"]) == (50.0, 12.5)


async def test_without_followers_no_document_is_made(book: StatusBook, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(book)
    monkeypatch.setattr(book, "document", None)
    for _ in range(3):
        feed.tick()
    assert feed.number == 3


async def test_the_end_is_told_to_all(book: StatusBook) -> None:
    feed = Feed(book)
    feed.tick()
    followers = [feed.follow(), feed.follow()]
    for follower in followers:
        await follower.next()
    waiting = [asyncio.ensure_future(follower.next()) for follower in followers]
    await asyncio.sleep(0)
    feed.close()
    assert await asyncio.gather(*waiting) == [None, None]
    late = feed.follow()
    assert read(await late.next())[1]["event"] == "history"
    assert await late.next() is None


async def test_it_ticks_until_told_to_stop(book: StatusBook) -> None:
    feed, stopped = Feed(book), asyncio.Event()
    running = asyncio.ensure_future(feed.run(stopped))
    follower = feed.follow()
    await asyncio.sleep(0)
    assert feed.number == 1
    await follower.next()
    stopped.set()
    await running
    assert await follower.next() is None
