"""The demonstration's shop by itself, on servers that somebody else runs: what deploy/compose.yaml starts.

    python -m crossfade.demo.shop prepare --rows 200000     make both databases, once
    python -m crossfade.demo.shop open --rate 100           live writes on the legacy side, until SIGTERM

Connection strings come from files in one folder (`--secrets`, default /run/secrets), so that no password is on a
command line or in an environment: `source_admin_dsn`, `target_admin_dsn`, `application_dsn`, `source__dsn`,
`target__dsn`. Refuses to know crossfade. The invariant: `open` returns with no transaction of its own open.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

from crossfade.demo.furnish import Shop, furnish, is_furnished
from crossfade.demo.writers import Writers
from crossfade.faults import Fault, Unreachable

_FOLDER: Final = Path("/run/secrets")
_SAY_EVERY: Final = 30.0  # seconds between two lines about the writes
_AGAIN: Final = 2.0  # seconds until the legacy server is tried again


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when done; 1 with a sentence on stderr when a server cannot be reached or holds something else."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.demo.shop", description="The demonstration's shop.")
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="make both databases, unless they are there")
    prepare.add_argument("--rows", type=int, default=200_000)
    opened = commands.add_parser("open", help="live writes on the legacy side, until SIGTERM or Ctrl-C")
    opened.add_argument("--rate", type=float, default=100.0, help="transactions a second")
    opened.add_argument("--seed", type=int, default=2026)
    opened.add_argument("--pulse", type=Path, help="a file to touch while writing, for a health check")
    for each in (prepare, opened):
        each.add_argument("--secrets", type=Path, default=_FOLDER)
    given = parser.parse_args(arguments)
    try:
        if given.command == "prepare":
            _prepare(shop_of(given.secrets), given.rows)
        else:
            writers = Writers(_read(given.secrets, "application_dsn"), given.rate, seed=given.seed)
            asyncio.run(_open(writers, given.pulse))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


def shop_of(folder: Path) -> Shop:
    """Read the connection strings. Raises `Unreachable` for a file that is not there."""
    return Shop(
        source_admin=_read(folder, "source_admin_dsn"),
        target_admin=_read(folder, "target_admin_dsn"),
        application=_read(folder, "application_dsn"),
        source=_read(folder, "source__dsn"),
        target=_read(folder, "target__dsn"),
    )


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unreachable(
            "A file with a connection string cannot be read.",
            where=str(folder / name),
            means=error.strerror or type(error).__name__,
            do="Name the folder with --secrets.",
        ) from None


def _prepare(shop: Shop, rows: int) -> None:
    try:
        if is_furnished(shop):
            _tell("The shop is there already.")
            return
        furnish(shop, rows=rows)
    except psycopg.OperationalError:
        raise Unreachable(
            "A database server does not answer, or refuses the login.", where="demo", do="Look into the server's log."
        ) from None
    _tell(f"The shop is there: about {rows:,} rows in the legacy database, an empty schema in the new one.")


async def _open(writers: Writers, pulse: Path | None) -> None:
    """Write until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell_now_and_then(writers, stop, pulse), name="shop.teller")
        await keep_open(writers, stop)
    _tell(f"Closed after {writers.counts.committed:,} transactions.")


async def keep_open(writers: Writers, stop: asyncio.Event) -> None:
    """Write until `stop`; a legacy server that goes away is tried again, as an application would."""
    while not stop.is_set():
        try:
            await writers.run(stop)
        except* Unreachable:
            _tell("The legacy database does not answer the shop; trying again.")
            await _wait(stop, _AGAIN)


async def _tell_now_and_then(writers: Writers, stop: asyncio.Event, pulse: Path | None) -> None:
    before, said = writers.counts.committed, 0.0
    while not stop.is_set():
        committed = writers.counts.committed
        if pulse is not None and committed != before:
            await asyncio.to_thread(pulse.touch)
        before = committed
        if time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            _tell(f"Open: {committed:,} transactions so far.")
        await _wait(stop, 1.0)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
