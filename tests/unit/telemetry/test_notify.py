"""Datagrams to systemd, received on a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.notify import Notifier
from crossfade.telemetry.pulse import pulse


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            name = str(tmp_path / "notify")
            receiver.bind(name)
        else:
            name = f"@crossfade-test-{os.getpid()}"
            receiver.bind(f"\0{name[1:]}")
        receiver.settimeout(5)
        yield name, receiver


def test_each_message(listening: tuple[str, socket.socket]) -> None:
    name, receiver = listening
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
    assert notifier.ready("copying\nREADY=0")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=copying READY=0"
    assert notifier.status("lag 0 s")
    assert receiver.recv(4096) == b"STATUS=lag 0 s"
    assert notifier.watchdog()
    assert receiver.recv(4096) == b"WATCHDOG=1"
    assert notifier.stopping()
    assert receiver.recv(4096) == b"STOPPING=1"


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.ready()
    assert notifier.watchdog_seconds is None


def test_a_manager_that_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "nobody")).ready()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_with_our_pid(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_environment(environment, pid=42).watchdog_seconds == seconds


async def test_the_pulse_feeds_the_watchdog_and_ends_when_told(listening: tuple[str, socket.socket]) -> None:
    name, receiver = listening
    metrics, stopped = Metrics("shop"), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pulse(Notifier(name, watchdog_seconds=0.01), metrics, stopped))
        for _ in range(3):
            assert await asyncio.to_thread(receiver.recv, 4096) == b"WATCHDOG=1"
        stopped.set()
    assert metrics.registry.get_sample_value("crossfade_event_loop_lag_seconds") is not None
