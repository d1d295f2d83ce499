"""How much memory the daemon needs at its peak: for a transaction of millions of rows, and for very large values.

Peak resident memory (VmHWM) of one daemon per case, through copy and stream. Bounds: 200 MB for the transaction,
150 MB + 9 times the largest value. Takes minutes; run by hand (`make memory`) or
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


def measure(folder: Path, case: str, bound_mb: float, *, before: str, during: str) -> Measured:
    """`before` is there for the copy, `during` is one transaction while streaming; the peak covers both."""
    folder.mkdir()
    with Ground(folder, fsync=False, in_memory=False) as ground:
        ground.databases.prepare(source=_SOURCE, target=_TARGET)
        ground.databases.publish("public.numbers", "public.blobs")
        ground.workspace.write(_MAPPING)
        source = ground.databases.source
        if before:
            source.execute(before)
        daemon = ground.workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
        daemon.wait_for_phase("streaming", timeout=1800)
        began = time.monotonic()
        if during:
            with psycopg.connect(source.admin) as session:
                session.execute(during.encode())
        daemon.wait_until_caught_up(timeout=7200)
        seconds = time.monotonic() - began
        for table in ("numbers", "blobs"):
            query = f"SELECT count(*), sum(n), sum(length(body)) FROM {{0}}.{table}"
            ours, theirs = source.execute(query.format("public")), ground.databases.target.execute(query.format("app"))
            assert ours == theirs, f"{table}: {ours} on the source, {theirs} on the target"
        return Measured(case, peak_mb(daemon), bound_mb, seconds)


def cases(rows: int, values: list[int]) -> list[tuple[str, float, str, str]]:
    """(case, bound in MB, SQL before the copy, SQL while streaming)."""
    row = "i, i % 1000, md5(i::text), timestamp '2020-01-01'"
    fill = f"INSERT INTO public.numbers SELECT {row} FROM generate_series({{}}, {{}}) i"
    found = [
        ("idle", 150.0, "", ""),
        (f"{rows:,} rows in one transaction", 200.0, fill.format(1, 1000), fill.format(1001, rows + 1000)),
        (f"copy of {rows:,} rows", 200.0, fill.format(1, rows), ""),
    ]
    for size in values:
        # Of hexadecimal digits, so that neither wire nor TOAST makes it smaller; a bytea doubles in text form.
        text = f"SELECT {{}}, 1, repeat(md5(random()::text), {size} * 32768), NULL"
        raw = f"SELECT {{}}, 1, NULL, decode(repeat(md5(random()::text), {size} * 32768), 'hex')"
        bound = 150.0 + 9 * size
        for kind, value in (("text", text), ("bytea in hex", raw)):
            for way in ("copied", "streamed"):
                insert = f"INSERT INTO public.blobs {value.format(1)}"
                found.append(
                    (
                        f"{size} MB of {kind}, {way}",
                        bound,
                        insert if way == "copied" else "",
                        insert * (way == "streamed"),
                    )
                )
        moved = "; ".join(
            (
                f"INSERT INTO public.blobs {text.format(1)}",
                "UPDATE public.blobs SET n = 2",
                "UPDATE public.blobs SET id = 9",
            )
        )
        found.append((f"{size} MB of text, inserted, kept, moved", bound, "", moved))
    return found


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
        for number, (case, bound, before, during) in enumerate(chosen):
            if given.only in case:
                results.append(measure(Path(folder) / str(number), case, bound, before=before, during=during))
                print(results[-1], flush=True)
    return int(any(each.peak_mb > each.bound_mb for each in results))


if __name__ == "__main__":
    sys.exit(main())
