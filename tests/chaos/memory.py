"""How much memory the daemon needs at its peak: for a transaction of millions of rows, and for very large values.

Peak resident memory (VmHWM) of one daemon per case, through copy and stream. Bounds: 200 MB for the transaction,
150 MB + 5 times the largest value in binary, 9 times in text. One value is so large that only binary can carry it
(F1). Takes minutes; run by hand (`make memory`) or
`python -m tests.chaos.memory [--rows 5000000] [--values 20,50,100]`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from tests.chaos.ground import Ground
from tests.servers.daemon import Daemon

MB: Final = 1024 * 1024
_SOURCE: Final = """
CREATE TABLE public.numbers (id bigint PRIMARY KEY, n integer, body text, at timestamp);
CREATE TABLE public.blobs (id bigint PRIMARY KEY, n integer, body text, raw bytea);
"""
_TARGET: Final = """
CREATE SCHEMA app;
CREATE TABLE app.numbers (id uuid PRIMARY KEY, n integer, body text, at timestamptz);
CREATE TABLE app.blobs (id bigint PRIMARY KEY, n integer, body text, raw bytea);
"""
_MAPPING: Final = """\
version: 1
schemas: {public: app}
ids:
  number: {from: public.numbers.id, to: uuid, strategy: uuid7}
tables:
  app.numbers:
    columns: {id: {remap: number}, at: {timezone: America/New_York}}
"""


# PostgreSQL cannot print it: in text it would be above the gigabyte that anything may have in memory at once.
_HUGE: Final = 600


@dataclass(frozen=True, slots=True)
class Case:
    """`before` is there for the copy, `during` is one transaction while streaming, both SQL; `wire` as the setting."""

    name: str
    bound_mb: float
    before: str = ""
    during: str = ""
    wire: str = "auto"


@dataclass(frozen=True, slots=True)
class Measured:
    case: str
    peak_mb: float
    bound_mb: float
    seconds: float

    def __str__(self) -> str:
        verdict = "ok" if self.peak_mb <= self.bound_mb else "TOO MUCH"
        return f"{self.case:<44} {self.peak_mb:8.0f} MB {self.bound_mb:8.0f} MB {self.seconds:8.1f} s  {verdict}"


def peak_mb(daemon: Daemon) -> float:
    """VmHWM since its start, in MB."""
    fields = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in fields.splitlines() if line.startswith("VmHWM")) / 1024


def measure(folder: Path, case: Case) -> Measured:
    """The peak covers copy and stream."""
    folder.mkdir()
    with Ground(folder, fsync=False, in_memory=False) as ground:
        ground.databases.prepare(source=_SOURCE, target=_TARGET)
        ground.databases.publish("public.numbers", "public.blobs")
        ground.workspace.write(_MAPPING, extra=f'[stream]\nwire = "{case.wire}"\n')
        source = ground.databases.source
        if case.before:
            source.execute(case.before)
        daemon = ground.workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
        daemon.wait_for_phase("streaming", timeout=1800)
        began = time.monotonic()
        if case.during:
            with psycopg.connect(source.admin) as session:
                session.execute(case.during.encode())
        daemon.wait_until_caught_up(timeout=7200)
        seconds = time.monotonic() - began
        for table in ("numbers", "blobs"):
            query = f"SELECT count(*), sum(n), sum(length(body)){{1}} FROM {{0}}.{table}"
            more = ", sum(octet_length(raw)), min(md5(raw))" if table == "blobs" else ""
            ours = source.execute(query.format("public", more))
            theirs = ground.databases.target.execute(query.format("app", more))
            assert ours == theirs, f"{table}: {ours} on the source, {theirs} on the target"
        return Measured(case.name, peak_mb(daemon), case.bound_mb, seconds)


def cases(rows: int, values: list[int]) -> list[Case]:
    """Of one transaction of `rows`, and of values of so many MB."""
    row = "i, i % 1000, md5(i::text), timestamp '2020-01-01'"
    fill = f"INSERT INTO public.numbers SELECT {row} FROM generate_series({{}}, {{}}) i"
    found = [
        Case("idle", 150.0),
        Case(f"{rows:,} rows in one transaction", 200.0, fill.format(1, 1000), fill.format(1001, rows + 1000)),
        Case(f"copy of {rows:,} rows", 200.0, before=fill.format(1, rows)),
    ]
    for size in values:
        # Of hexadecimal digits, so that neither wire nor TOAST makes it smaller; a bytea doubles in text form.
        text = f"INSERT INTO public.blobs SELECT {{}}, 1, repeat(md5(random()::text), {size} * 32768), NULL"
        raw = _raw(size)
        for wire, factor in (("auto", 5), ("text", 9)):
            bound, form = 150.0 + factor * size, {"auto": "binary", "text": "text"}[wire]
            for kind, value in (("text", text), ("bytea", raw)):
                insert = value.format(1)
                found.append(Case(f"{size} MB of {kind}, copied, in {form}", bound, before=insert, wire=wire))
                found.append(Case(f"{size} MB of {kind}, streamed, in {form}", bound, during=insert, wire=wire))
            moved = f"{text.format(1)}; UPDATE public.blobs SET n = 2; UPDATE public.blobs SET id = 9"
            found.append(Case(f"{size} MB of text, inserted, kept, moved, in {form}", bound, during=moved, wire=wire))
    if values:
        found.append(Case(f"{_HUGE} MB of bytea, streamed, in binary", 150.0 + 5 * _HUGE, during=_raw(_HUGE).format(1)))
    return found


def _raw(size: int) -> str:
    """A bytea of `size` MB, put together without a text of twice that."""
    block = "decode(repeat(md5(random()::text), 65536), 'hex')"  # 1 MB
    return f"INSERT INTO public.blobs SELECT {{}}, 1, NULL, string_agg({block}, '') FROM generate_series(1, {size})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--values", default="20,50,100", help="sizes in MB, comma-separated")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    given = parser.parse_args()
    print(f"{'case':<44} {'peak':>11} {'bound':>11} {'time':>10}")
    results: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="crossfade-memory-") as folder:
        chosen = cases(given.rows, [int(size) for size in given.values.split(",") if size])
        for number, case in enumerate(chosen):
            if given.only in case.name:
                results.append(measure(Path(folder) / str(number), case))
                print(results[-1], flush=True)
    return int(any(each.peak_mb > each.bound_mb for each in results))


if __name__ == "__main__":
    sys.exit(main())
