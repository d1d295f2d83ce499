from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from crossfade.events import Event, Note, Notified
from crossfade.telemetry import hooks
from crossfade.telemetry.document import AlertEntry
from crossfade.telemetry.hooks import MOST_WAITING, Channel, Command, NotTold
from crossfade.telemetry.notices import FIRING, Notice
from tests.unit.telemetry.facts import Clock


class Scripted(Channel):
    """Fails as told, remembers what it was to tell."""

    name = "webhook"

    def __init__(self, heard: list[Event], clock: Clock) -> None:
        super().__init__(heard.append, timeout=0.05, clock=clock)
        self.clock = clock
        self.answers: list[Callable[[], Coroutine[None, None, None]]] = []
        self.tried: list[str] = []
        self.is_closed = False

    async def send(self, notice: Notice) -> None:
        self.tried.append(notice.alert["name"])
        if self.answers:
            await self.answers.pop(0)()

    async def close(self) -> None:
        self.is_closed = True


async def fails() -> None:
    raise NotTold("it answered 503")


async def refuses() -> None:
    raise NotTold("it answered 404", is_final=True)


async def never_answers() -> None:
    await asyncio.Event().wait()


def notice(name: str, told_at: float = 0.0) -> Notice:
    return Notice(FIRING, AlertEntry(name=name, level="error", text="So it is.", since=""), "", told_at)


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def channel(heard: list[Event]) -> Scripted:
    return Scripted(heard, Clock(0.0))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch, channel: Scripted) -> list[float]:
    """Nobody waits; how long it would have been. The clock goes on by that."""
    waited: list[float] = []

    async def at_once(event: asyncio.Event, seconds: float) -> None:
        waited.append(seconds)
        channel.clock.advance(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(hooks, "until", at_once)
    return waited


def outcomes(heard: list[Event]) -> list[str]:
    return [event.outcome for event in heard if isinstance(event, Notified)]


def run(channel: Scripted, *, until: Callable[[], bool]) -> None:
    """Run the channel until something holds, then as at the end of a daemon."""

    async def scene() -> None:
        stopped = asyncio.Event()

        async def stop() -> None:
            while not until():
                await asyncio.sleep(0)
            stopped.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(channel.run(stopped))
            group.create_task(stop())

    asyncio.run(scene())
    assert channel.is_closed


def test_what_fails_is_tried_again_in_order_more_and_more_rarely(
    channel: Scripted, heard: list[Event], waits: list[float]
) -> None:
    channel.answers = [fails] * 8
    channel.put(notice("first"))
    channel.put(notice("second"))
    run(channel, until=lambda: channel.tried[-1:] == ["second"])
    assert channel.tried == ["first"] * 9 + ["second"]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert outcomes(heard) == ["failed"] * 8 + ["sent", "sent"]


def test_a_refusal_is_final_and_the_next_is_told(channel: Scripted, heard: list[Event]) -> None:
    channel.answers = [refuses]
    channel.put(notice("first"))
    channel.put(notice("second"))
    run(channel, until=lambda: len(channel.tried) == 2)
    assert outcomes(heard) == ["dropped", "sent"]
    (told,) = [event for event in heard if isinstance(event, Note)]
    assert "it answered 404" in told.text
    assert not told.alert  # or it would be told in turn


def test_news_of_an_hour_ago_is_none(channel: Scripted, heard: list[Event]) -> None:
    channel.answers = [fails] * 1000
    channel.put(notice("first"))
    run(channel, until=lambda: outcomes(heard)[-1:] == ["dropped"])
    assert 3600 < channel.clock.now < 3700


def test_no_answer_is_a_failure(channel: Scripted, heard: list[Event]) -> None:
    channel.answers = [never_answers]
    channel.put(notice("first"))
    run(channel, until=lambda: outcomes(heard)[-1:] == ["sent"])
    assert outcomes(heard) == ["failed", "sent"]


def test_the_queue_is_bounded_and_loses_the_oldest(channel: Scripted, heard: list[Event]) -> None:
    for number in range(MOST_WAITING + 2):
        channel.put(notice(str(number)))
    assert outcomes(heard) == ["dropped", "dropped"]
    run(channel, until=lambda: len(channel.tried) == MOST_WAITING)
    assert channel.tried[0] == "2"


def test_what_waits_at_the_end_is_told_once_more(channel: Scripted, heard: list[Event]) -> None:
    channel.put(notice("last word"))
    run(channel, until=lambda: True)
    assert channel.tried == ["last word"]
    assert outcomes(heard) == ["sent"]


def test_a_program_that_ends_without_reading_was_told_all_the_same(heard: list[Event]) -> None:
    command = Command(("/bin/true",), heard.append, workflow="shop", timeout=30)

    async def tell_often() -> None:  # whether it is gone before it is written to is a matter of luck
        for _ in range(20):
            await command.send(notice("lag_high"))

    uvloop.run(tell_often())
