"""`make stack`: what deploy/compose.yaml starts, without containers: databases, a shop, crossfade, Prometheus, alerts.

    python -m tests.deploy.stack --rows 50000 --rate 100 --rules deploy/prometheus/alerts.yml

Two embedded PostgreSQL servers, the live writes of `crossfade demo`, the daemon, and Prometheus and Alertmanager from
their Debian packages, with the shipped rules. What Alertmanager tells is printed. It goes on until Ctrl-C; a daemon
that ends (kill it and see) is not started again, so that an alert can be watched. The invariant: nothing outlives us.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from crossfade.demo.daemon import WATCHER, Daemon, DemoFailed
from crossfade.demo.shop import keep_open
from crossfade.demo.stage import Stage, furnish, set_up
from crossfade.demo.writers import Writers
from crossfade.faults import Fault
from tests.deploy import prometheus as programs
from tests.servers.daemon import free_port

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARDS: Final = ROOT / "deploy" / "grafana"
# So that slot panels and alerts have a limit to show, as in deploy/compose.yaml.
WAL_LIMIT: Final = {"max_slot_wal_keep_size": "4GB"}
DISKS: Final = {"CROSSFADE_SOURCE__DISK_CAPACITY": "20 GiB", "CROSSFADE_TARGET__DISK_CAPACITY": "20 GiB"}
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for. `rate` in transactions a second, `interval` in seconds between two scrapes."""

    rows: int = 50_000
    rate: float = 100.0
    interval: int = 5
    rules: Path = RULES


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after Ctrl-C or SIGTERM, 1 with a sentence when something cannot be started."""
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__.partition("\n")[0] if __doc__ else "")
    wishes = Wishes()
    parser.add_argument("--rows", type=int, default=wishes.rows, help="in the legacy database")
    parser.add_argument("--rate", type=float, default=wishes.rate, help="transactions a second")
    parser.add_argument("--interval", type=int, default=wishes.interval, help="seconds between two scrapes")
    parser.add_argument("--rules", type=Path, default=wishes.rules, help="alert rules")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_run(Wishes(given.rows, given.rate, given.interval, given.rules.resolve())))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    except (Fault, pytest.skip.Exception) as error:  # what tests skip for, cannot be had here either
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _run(wishes: Wishes) -> None:
    task = asyncio.current_task()
    assert task is not None  # we are inside asyncio.run
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    prometheus, alertmanager = programs.prometheus(), programs.alertmanager()
    async with contextlib.AsyncExitStack() as stack:
        stage = await asyncio.to_thread(set_up)
        stack.callback(stage.close)
        stage.legacy.configure(WAL_LIMIT)
        _tell(f"Two servers run: {stage.legacy} and {stage.new}.")
        await asyncio.to_thread(furnish, stage, rows=wishes.rows)
        _tell("The shop is furnished, and opens.")
        writers = Writers(stage.application_dsn, wishes.rate)
        shop = await stack.enter_async_context(_open(writers))
        told = await stack.enter_async_context(_listening())
        alerts = await stack.enter_async_context(_alertmanager(alertmanager, stage.folder, told))
        # Before the daemon, so that the copy is seen from its beginning.
        metrics = await stack.enter_async_context(_prometheus(prometheus, stage, wishes, alerts))
        daemon = Daemon(stage.environment | DISKS, stage.listen, stage.folder / "crossfade.log")
        stack.push_async_callback(daemon.stop)
        await daemon.start()
        _direct(stage, daemon, metrics, alerts)
        await _watch(daemon, shop)


async def _watch(daemon: Daemon, shop: asyncio.Task[None]) -> None:
    """Until we are cancelled, which is how this ends."""
    told = False
    while True:
        await asyncio.sleep(0.5)
        if shop.done():
            shop.result()
        if not daemon.pid and not told:
            told = True
            _tell("crossfade has ended. CrossfadeDown fires when nobody was there for two minutes (see its `for`).")
            _tell(f"Its log: {daemon.log}")


@contextlib.asynccontextmanager
async def _open(writers: Writers) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(keep_open(writers, stop), name="stack.shop")
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task], timeout=_STOP_SECONDS)
        task.cancel()
        _tell(f"The shop is closed after {writers.counts.committed:,} transactions.")


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[str]:
    """Prints what Alertmanager tells; yields the address it is to tell it to."""

    async def hear(request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            labels, said = alert["labels"], alert["annotations"]
            _tell(f"ALERT {alert['status']}: {labels['alertname']} ({labels['severity']}): {said['summary']}")
        return web.Response()

    app = web.Application()
    app.router.add_post("/", hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _alertmanager(command: Sequence[str], folder: Path, told: str) -> AsyncIterator[str]:
    config = {
        "route": {
            "receiver": "us",
            "group_by": ["workflow"],
            "group_wait": "1s",
            "group_interval": "5s",
            # It always fires, for whoever notices when it does not.
            "routes": [{"receiver": "nobody", "matchers": ['alertname="CrossfadeWatchdog"']}],
        },
        "receivers": [{"name": "nobody"}, {"name": "us", "webhook_configs": [{"url": told, "send_resolved": True}]}],
    }
    file = folder / "alertmanager.json"
    file.write_text(json.dumps(config))  # JSON is YAML
    at = f"127.0.0.1:{free_port()}"
    arguments = (
        f"--config.file={file}",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address={at}",
        "--cluster.listen-address=",
    )
    async with _running(*command, *arguments, at=at, log=folder / "alertmanager.log"):
        yield at


@contextlib.asynccontextmanager
async def _prometheus(binary: Path, stage: Stage, wishes: Wishes, alerts: str) -> AsyncIterator[str]:
    every = f"{wishes.interval}s"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(wishes.rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
        "scrape_configs": [{"job_name": "crossfade", "static_configs": [{"targets": [stage.listen]}]}],
    }
    file = stage.folder / "prometheus.json"
    file.write_text(json.dumps(config))
    at = f"127.0.0.1:{free_port()}"
    arguments = (
        f"--config.file={file}",
        f"--storage.tsdb.path={stage.folder}/prometheus",
        f"--web.listen-address={at}",
    )
    async with _running(str(binary), *arguments, at=at, log=stage.folder / "prometheus.log"):
        yield at


@contextlib.asynccontextmanager
async def _running(*command: str, at: str, log: Path) -> AsyncIterator[None]:
    """One of the Go programs, ready inside, gone outside, and never there longer than we are."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    watcher = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", WATCHER, "crossfade-stack-watcher", str(process.pid)),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        await _until_ready(process, at, log)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        with contextlib.suppress(ConnectionError):
            await watcher.communicate(b"done\n")


async def _until_ready(process: asyncio.subprocess.Process, at: str, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while asyncio.get_running_loop().time() < deadline and process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"http://{at}/-/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise DemoFailed(
        f"{log.stem} does not get ready.",
        where="make stack",
        do=f"Its log ends:\n{log.read_text(errors='replace')[-2000:]}",
    )


def _direct(stage: Stage, daemon: Daemon, metrics: str, alerts: str) -> None:
    """Where to look."""
    source, target = stage.judge_dsns
    exports = [f"  export {name}={shlex.quote(value)}" for name, value in (stage.overrides | DISKS).items()]
    lines = [
        "Everything runs, until Ctrl-C.",
        f"  crossfade     http://{stage.listen}/api/v1/status    (pid {daemon.pid})",
        f"  Prometheus    http://{metrics}/alerts",
        f"  Alertmanager  http://{alerts}",
        f"  legacy        psql {shlex.quote(source)}",
        f"  new           psql {shlex.quote(target)}",
        f"  Grafana       is not started here; import {DASHBOARDS}/*.json and give it http://{metrics}",
        "As its operator, in another terminal:",
        *exports,
        "  crossfade status",
        f"  kill -9 {daemon.pid}    to see CrossfadeDown fire",
    ]
    for line in lines:
        _tell(line)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
