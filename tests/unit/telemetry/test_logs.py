from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from crossfade.events import (
    Acknowledged,
    Connected,
    LagMeasured,
    LeaderChanged,
    Note,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    Recovered,
)
from crossfade.faults import Refused
from crossfade.lsn import Lsn
from crossfade.telemetry.logs import LogListener, configure, logger, recent_lines, stray_error
from tests.unit.telemetry.facts import Clock, applied, copied, failed, received, sampled


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("info", "auto", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def listener(out: io.StringIO, clock: Clock) -> LogListener:
    return LogListener(logger("shop"), monotonic=clock)


def test_not_a_terminal_means_json_with_utc_times(out: io.StringIO) -> None:
    logger("shop").info("hello", durable="0/16B3748")
    (line,) = lines(out)
    assert line["event"] == "hello"
    assert line["workflow"] == "shop"
    assert line["durable"] == "0/16B3748"
    assert line["level"] == "info"
    assert str(line["timestamp"]).endswith("Z")


def test_the_standard_library_ends_in_the_same_stream(out: io.StringIO) -> None:
    logging.getLogger("some.library").warning("it said %s", "so")
    logging.getLogger("aiohttp.access").info("chatter")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("it said so", "some.library", "warning")


def test_the_level_holds(out: io.StringIO) -> None:
    configure("error", "json", stream=out)
    logger("shop").warning("quiet")
    logger("shop").error("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_console_lines_are_text(out: io.StringIO) -> None:
    configure("info", "console", stream=out)
    logger("shop").info("hello")
    assert "hello" in out.getvalue()
    assert not out.getvalue().startswith("{")
    assert "\x1b[" not in out.getvalue()


def test_K6_a_traceback_tells_places_and_never_an_exception_s_text(out: io.StringIO) -> None:
    try:
        raise RuntimeError("Key (email)=(ada@example.org) already exists")
    except RuntimeError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    assert "ada@example.org" not in out.getvalue()
    (line,) = lines(out)
    assert line["exception"] == "RuntimeError"
    assert "test_logs.py" in str(line["traceback"])


def test_our_own_faults_keep_their_text(out: io.StringIO) -> None:
    try:
        raise Refused("The slot is gone.", do="Teardown.")
    except Refused:
        logging.getLogger("crossfade").exception("stopped")
    assert lines(out)[0]["exception"] == "Refused: The slot is gone. Teardown."


def test_one_readable_line_per_fact(out: io.StringIO, listener: LogListener) -> None:
    for event in (
        Connected("source", 150018, is_reconnect=False),
        Connected("target", 180006, is_reconnect=True),
        LeaderChanged(True),
        PhaseChanged(Phase.COPY),
        PhaseChanged(Phase.COPY),
        copied("pending", 0),
        copied("running", 0),
        copied("done", 1000),
        Paused(PauseReason.OPERATOR),
        Paused(None),
        Recovered(),
        Note("lock_yielded", "Copy gave way.", "warning", alert=True),
        Note("lock_yielded", "", "info", cleared=True),
    ):
        listener.observe(event)
    assert [line["event"] for line in lines(out)] == [
        "connected to the source",
        "connected again to the target",
        "leading",
        "phase is copy",
        "copy of public.users is running",
        "copy of public.users is done",
        "paused: operator",
        "not paused any more",
        "working again after the error",
        "Copy gave way.",
        "over: lock_yielded",
    ]


def test_an_error_that_repeats_is_counted_and_told_once_a_minute(
    out: io.StringIO, listener: LogListener, clock: Clock
) -> None:
    for _ in range(100):
        listener.observe(failed(retry_in=1.0))
        clock.advance(1.0)
    first, second = lines(out)
    assert "trying again in 1.0 s" in str(first["event"])
    assert first["level"] == "error"
    assert second["repeated"] == 59


def test_a_transient_error_is_a_warning_and_the_last_one_an_error(out: io.StringIO, listener: LogListener) -> None:
    listener.observe(failed("stream", sqlstate="57P01", retry_in=0.2))
    listener.observe(failed("stream", sqlstate="08006", retry_in=None))
    assert [line["level"] for line in lines(out)] == ["warning", "error"]
    assert "the process ends" in str(lines(out)[1]["event"])


def test_positions_every_half_minute_while_streaming(out: io.StringIO, listener: LogListener, clock: Clock) -> None:
    listener.observe(PhaseChanged(Phase.STREAMING))
    for second in range(60):
        clock.advance(1.0)
        listener.observe(received(0x100 + second))
        listener.observe(applied(0x100 + second))
        listener.observe(Acknowledged(Lsn(0x100)))
        listener.observe(LagMeasured(0.5, 10))
    told = [line for line in lines(out) if line["event"] == "positions"]
    assert len(told) == 2
    assert (told[0]["durable"], told[0]["acknowledged"], told[0]["lag_seconds"]) == ("0/11D", "0/100", 0.5)
    assert told[0]["transactions"] == 30


def test_copy_progress_is_paced(out: io.StringIO, listener: LogListener, clock: Clock) -> None:
    for rows in range(100):
        listener.observe(copied("running", rows))
        clock.advance(1.0)
    assert len(lines(out)) == 4


def test_a_slot_in_danger_is_an_error(out: io.StringIO, listener: LogListener) -> None:
    for status in ("reserved", "reserved", "extended", "unreserved", "lost"):
        listener.observe(sampled(wal_status=status))
    assert [(line["wal_status"], line["level"]) for line in lines(out)] == [
        ("extended", "info"),
        ("unreserved", "error"),
        ("lost", "error"),
    ]


def test_the_end_of_what_was_never_told_is_not_told(out: io.StringIO, listener: LogListener) -> None:
    listener.observe(Note("slot_waits", "The slot exists.", "info", alert=True, cleared=True))
    assert lines(out) == []


def test_K6_an_error_nobody_waited_for_is_told_without_its_text(out: io.StringIO) -> None:
    async def fails() -> None:
        raise ValueError("(email)=(ada@example.org)")

    async def forgetful() -> None:
        asyncio.get_running_loop().set_exception_handler(stray_error)
        task = asyncio.create_task(fails())
        await asyncio.wait({task})
        del task
        gc.collect()

    asyncio.run(forgetful())
    (told,) = lines(out)
    assert (told["event"], told["exception"]) == ("Task exception was never retrieved", "ValueError")
    assert "ada" not in out.getvalue()


def test_what_was_logged_last_is_kept_as_json(out: io.StringIO) -> None:
    configure("info", "console", stream=out)
    logger("shop").info("hello", durable="0/16B3748")
    logger("shop").debug("not at this level")
    last = json.loads(recent_lines().splitlines()[-1])
    assert (last["event"], last["workflow"], last["durable"], last["level"]) == ("hello", "shop", "0/16B3748", "info")


def test_only_so_much_is_kept(out: io.StringIO) -> None:
    for number in range(1100):
        logger("shop").info(f"line {number}")
    logger("shop").info("x" * 100_000)
    kept = recent_lines().splitlines()
    assert len(kept) == 1000
    assert len(kept[-1]) <= 4096
    assert json.loads(kept[-2])["event"] == "line 1099"


def test_K6_what_is_kept_has_no_exception_s_text_either(out: io.StringIO) -> None:
    try:
        raise ValueError("ada@example.org is a duplicate")
    except ValueError:
        logger("shop").error("it broke", exc_info=True)
    assert "ada@example.org" not in recent_lines()
    assert json.loads(recent_lines().splitlines()[-1])["exception"] == "ValueError"
