"""How the cost of one change grows: with the row's width, batch_bytes, transactions, tables and the backlog.

Each curve drains backlogs that differ in one thing, in turns, and draws microseconds per change into
docs/performance/<name>.svg. A backlog is half INSERTs, half UPDATEs of those rows by key, spread over the tables.
Refuses to know how a drain is timed. The invariant: everything but the thing on the horizontal axis stays at the
values of `Load`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench import drain, results
from tests.bench.backlogs import MARKS, PLAIN_MAPPING, Backlog, Shape
from tests.bench.compare import Expectation, same
from tests.bench.contenders import Crossfade, Native
from tests.bench.ground import Ground
from tests.bench.plot import Line, Point, number, svg
from tests.bench.results import CROSSFADE, NATIVE
from tests.servers.databases import Side

FOLDER: Final = Path(__file__).parents[2] / "docs" / "performance"


@dataclass(frozen=True, slots=True)
class Load:
    """One backlog: `changes` in all, `width` bytes of text a row, `transaction` changes each, over `tables`."""

    changes: int = 100_000
    width: int = 100
    transaction: int = 1000
    tables: int = 1
    batch_bytes: int | None = None

    @property
    def settings(self) -> str:
        if self.batch_bytes is None:
            return ""
        return f"[stream]\nbatch_bytes = {self.batch_bytes}\npipe_bytes = {max(self.batch_bytes, 16 * 2**20)}\n"


@dataclass(frozen=True, slots=True)
class Curve:
    """`at` makes the load of one place of the axis; `with_native` says whether the subscription is drawn too."""

    name: str
    title: str
    x_label: str
    places: tuple[int, ...]
    at: Callable[[Load, int], Load]
    with_native: bool = True


def _bounded(load: Load, place: int) -> Load:
    """As many bytes for all widths: 16 KiB a row would be 1.6 GB otherwise."""
    return replace(load, width=place, changes=min(load.changes, max(2000, load.changes * 1000 // place)))


CURVES: Final = (
    Curve("row-width", "Row width", "bytes of text in a row", (10, 100, 1_000, 10_000, 100_000), _bounded),
    Curve(
        "batch-bytes",
        "Size of a batch",
        "stream.batch_bytes, KiB",
        (16, 64, 256, 1024, 4096, 16384, 65536),
        lambda load, place: replace(load, batch_bytes=place * 1024),
        with_native=False,
    ),
    Curve(
        "transaction-size",
        "Size of a transaction",
        "changes in a transaction",
        (1, 10, 100, 1_000, 10_000, 100_000),
        lambda load, place: replace(load, transaction=place),
    ),
    Curve(
        "tables",
        "Number of tables",
        "tables, taking turns in transactions of 20 changes",
        (1, 10, 100, 1_000),
        lambda load, place: replace(load, tables=place, transaction=20),
    ),
    Curve(
        "backlog",
        "Size of the backlog",
        "changes in the backlog",
        (10_000, 100_000, 1_000_000),
        lambda load, place: replace(load, changes=place),
    ),
)


def backlog(load: Load) -> Backlog:
    """Tables `item_1` to `item_<n>`; transaction after transaction goes to the next one."""
    names = [f"public.item_{n}" for n in range(1, load.tables + 1)]
    ddl = "".join(
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, n integer NOT NULL, body text NOT NULL);"
        f"ALTER TABLE {name} ALTER body SET STORAGE EXTERNAL;"
        for name in names
    ) + MARKS.format(schema="public")
    shape = Shape(ddl, PLAIN_MAPPING, tuple(same(name, "id, n, body") for name in names))
    return Backlog(
        "curve",
        ddl,
        (*names, "public.bench_marks"),
        (),
        lambda ground, source, size: None,
        lambda ground, source, size: _pile_up(source, load),
        lambda size: size,
        shape,
    )


def _pile_up(source: Side, load: Load) -> None:
    """Per transaction half INSERTs, half UPDATEs of what was inserted just before; single changes take turns."""
    with source.connect() as session:
        session.execute("SET synchronous_commit = off")
        session.execute(_script(load).encode())


def _script(load: Load) -> str:
    # Stored uncompressed, and changed by the UPDATE: what is unchanged and out of line would not be sent at all.
    body = f"left(repeat(md5(i::text), {load.width // 32 + 1}), {load.width})"
    half = max(1, load.transaction // 2)
    transactions = max(1, load.changes // (2 * half) if load.transaction > 1 else load.changes // 2)
    middle = "COMMIT;" if load.transaction == 1 else ""
    return f"""DO $$
        DECLARE name text; first bigint;
        BEGIN
            FOR t IN 0 .. {transactions - 1} LOOP
                name := 'public.item_' || t % {load.tables} + 1;
                first := t::bigint * {half} + 1;
                EXECUTE 'INSERT INTO ' || name || ' SELECT i, 0, {body}
                         FROM generate_series($1, $2) i' USING first, first + {half - 1};
                {middle}
                EXECUTE 'UPDATE ' || name || ' SET n = n + 1, body = upper(body) WHERE id BETWEEN $1 AND $2'
                    USING first, first + {half - 1};
                COMMIT;
            END LOOP;
        END $$"""


def measure(
    ground: Ground, wanted: Sequence[str], *, quick: bool, big: bool, say: Callable[[str], None]
) -> dict[str, list[Line]]:
    """Measure the curves asked for, draw each, and keep the numbers in build/curves.json."""
    found: dict[str, list[Line]] = {}
    for curve in CURVES:
        if curve.name not in wanted:
            continue
        places = curve.places
        if quick:
            places = tuple(place for place in places[:-1] if curve.name != "tables" or place < 1000)
        elif big and curve.name == "backlog":
            places = (*places, 10_000_000)
        base = Load(changes=20_000 if quick else 100_000)
        say(f"curve {curve.name}: {', '.join(f'{place:,}' for place in places)}")
        lines = found[curve.name] = _measure(ground, curve, base, places, repetitions=1 if quick else 3, say=say)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{curve.name}.svg").write_text(draw(curve, lines))
    build = FOLDER.parents[1] / "build"
    build.mkdir(exist_ok=True)
    numbers = {name: [asdict(line) for line in lines] for name, lines in found.items()}
    (build / "curves.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return found


def draw(curve: Curve, lines: Sequence[Line]) -> str:
    """One curve as SVG."""
    return svg(
        title=curve.title,
        x_label=curve.x_label,
        y_label="microseconds for one change, median",
        lines=lines,
        note="bars: smallest to largest",
    )


def markdown(drawn: Mapping[str, Sequence[Line]]) -> str:
    """The pictures and their numbers, for docs/performance.md."""
    out: list[str] = []
    for curve in CURVES:
        lines = drawn.get(curve.name)
        if not lines:
            continue
        places = [point.x for point in lines[0].points]
        out += [f"### {curve.title}", "", f"![{curve.title}](performance/{curve.name}.svg)", ""]
        out.append(f"| {curve.x_label} | " + " | ".join(number(place) for place in places) + " |")
        out.append("|---|" + "---:|" * len(places))
        for line in lines:
            cells = [f"{point.y:.1f} ({point.low:.1f} to {point.high:.1f})" for point in line.points]
            out.append(f"| {line.name}, us | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out).rstrip("\n")


def _measure(
    ground: Ground,
    curve: Curve,
    base: Load,
    places: Sequence[int],
    *,
    repetitions: int,
    say: Callable[[str], None],
) -> list[Line]:
    measured: dict[tuple[str, int], list[float]] = {}
    for repetition in range(repetitions):
        for place in places:
            load = curve.at(base, place)
            for run in _drains(
                ground, load, with_native=curve.with_native, number=repetition, tag=f"c{repetition}_{place}"
            ):
                cost = run.value * 1e6 / load.changes
                measured.setdefault((run.contender, place), []).append(cost)
                say(f"{curve.name:<18} {place:>10,} {run.contender:<10} {cost:8.2f} us a change")
    contenders = dict.fromkeys(name for name, _ in measured)
    return [
        Line(
            name,
            tuple(
                Point(place, statistics.median(costs), min(costs), max(costs))
                for place in places
                if (costs := measured.get((name, place)))
            ),
        )
        for name in contenders
    ]


def _drains(ground: Ground, load: Load, *, with_native: bool, number: int, tag: str) -> list[results.Run]:
    pile = backlog(load)
    taking_part = [drain.Entry(CROSSFADE, Crossfade, pile.plain, ("curve",), settings=load.settings)]
    if with_native:
        taking_part.insert(0, drain.Entry(NATIVE, Native, pile.plain, ("curve",)))
    with drain.prepared(ground, pile, load.changes, taking_part, tag) as repetition:
        expected = Expectation(repetition.source.admin)
        return [
            drain.drain(ground, repetition, entry, contender, expected)
            for entry, contender in drain.rotated(repetition.contenders, number)
        ]
