"""wire.zones and wire.fields against the server's own `AT TIME ZONE`, casts and COPY (F6, F19, F30).

The arithmetic is compared on the tz database file that *this* server reads, so that not one microsecond may differ. Our
own copy of the database may be of another release; it is compared where releases agree, the past.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import psycopg
import pytest
from psycopg import sql

from crossfade.faults import RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.zones import END, LOWEST, MICROSECONDS, Zone
from tests.servers.databases import Databases

ZONES = (
    "Africa/Casablanca",  # negative daylight time around Ramadan, listed until 2087
    "America/Caracas",  # changes of half an hour without daylight time
    "America/New_York",
    "America/Sao_Paulo",  # clocks changed at midnight; no rule any more
    "Asia/Kathmandu",  # +05:45
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",  # half an hour of daylight time
    "Etc/GMT+12",
    "Europe/Dublin",  # winter is the daylight time, with a negative shift
    "Europe/Moscow",  # "standard" on both sides of a change (2014)
    "Pacific/Apia",  # a day that never was (2011-12-30)
    "Pacific/Kiritimati",  # +14
    "Asia/Manila",  # local mean time on the other side of the date line
    "America/Juneau",  # a day that was twice (1867)
    "UTC",
)
PER_ZONE = 2_500
YEAR_2040 = 2_208_988_800
UNIX_TO_2000 = 946_684_800
ROW = Struct("!hiiiq")  # COPY BINARY: two fields, lengths 4 and 8
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
YEAR_1 = -63_082_281_600 * MICROSECONDS  # 0001-01-01


@pytest.fixture
def server(databases: Databases) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with databases.source.connect(datestyle="ISO", timezone="UTC", client_encoding="UTF8") as connection:
        yield connection


def files_of(server: psycopg.Connection[tuple[object, ...]]) -> Path:
    """The tz database this server reads: its own, or the one it was built to share with the system."""
    settings = dict(server.execute("SELECT name, setting FROM pg_config").fetchall())
    shared = re.search(r"--with-system-tzdata=([^' ]+)", str(settings["CONFIGURE"]))
    return Path(shared[1]) if shared else Path(str(settings["SHAREDIR"]), "timezone")


def instants(zone: Zone, seed: str) -> list[int]:
    """Local times worth asking for: random ones, the far ends, and both sides of each transition in either reading."""
    rng = random.Random(seed)
    year = 365 * 86_400 * MICROSECONDS
    found = [rng.randrange(YEAR_1, 1001 * year) for _ in range(PER_ZONE // 2)]  # years 1 to 3000
    found += [rng.randrange(-150 * year, 50 * year) for _ in range(PER_ZONE // 2)]  # years 1850 to 2050
    found += [rng.randrange(LOWEST + year, END - year) for _ in range(200)]
    found += [LOWEST + 86_400 * MICROSECONDS, END - 86_400 * MICROSECONDS - 1]
    later = [start for start in zone.transitions() if start > YEAR_2040]
    for start in [*zone.transitions()[: -len(later) or None], *rng.sample(later, min(len(later), 60))]:
        for offset in {zone.offset_at(start - 1), zone.offset_at(start)}:
            local = start - UNIX_TO_2000 + offset
            found += [
                (local + by) * MICROSECONDS for by in (-86_400, -7_200, -3_600, -1_800, -1, 0, 1, 1_799, 3_600, 86_400)
            ]
            found.append(local * MICROSECONDS - 1)
    return [each for each in found if LOWEST + 86_400 * MICROSECONDS <= each < END - 86_400 * MICROSECONDS]


def ask(server: psycopg.Connection[tuple[object, ...]], zone: str, local: list[int]) -> list[int]:
    """`timestamp AT TIME ZONE zone` for all of them, without any text in between."""
    with server.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS asked (n int, at timestamp); TRUNCATE asked")
        with cursor.copy("COPY asked FROM STDIN (FORMAT binary)") as copy:
            rows = b"".join(ROW.pack(2, 4, number, 8, at) for number, at in enumerate(local))
            copy.write(COPY_HEADER + rows + b"\xff\xff")
        query = sql.SQL("COPY (SELECT n, at AT TIME ZONE {} FROM asked ORDER BY n) TO STDOUT (FORMAT binary)")
        with cursor.copy(query.format(sql.Literal(zone))) as copy:
            answer = b"".join(bytes(part) for part in copy)
    body = answer[len(COPY_HEADER) : -2]
    return [row[4] for row in ROW.iter_unpack(body)]


@pytest.mark.parametrize("name", ZONES)
def test_F19_utc_is_what_at_time_zone_says(server: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    zone = Zone.parse(name, (files_of(server) / name).read_bytes())
    local = instants(zone, name)
    assert len(local) >= PER_ZONE
    ours = [zone.to_utc(at, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)[0] for at in local]
    theirs = ask(server, name, local)
    wrong = [(at, us, them) for at, us, them in zip(local, ours, theirs, strict=True) if us != them]
    assert not wrong, f"{len(wrong)} of {len(local)} differ; (local, ours, the server's) in microseconds: {wrong[:5]}"


@pytest.mark.parametrize("name", ZONES)
def test_our_tz_database_agrees_about_the_past(server: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    # From 1970, before which releases and the server's packagers differ on purpose (backward data), to 2024, after
    # which a newer release may know of a decision that an older one does not.
    zone = Zone.load(name)
    rng = random.Random(name)
    local = [rng.randrange(-30 * 31_556_952, 24 * 31_556_952) * MICROSECONDS for _ in range(1_000)]
    ours = [zone.to_utc(at, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)[0] for at in local]
    assert ours == ask(server, name, local)


@pytest.mark.parametrize("name", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York", "UTC"])
def test_F6_the_ends_of_time_are_refused_where_the_server_refuses(
    server: psycopg.Connection[tuple[object, ...]], name: str
) -> None:
    zone = Zone.parse(name, (files_of(server) / name).read_bytes())
    step = 1800 * MICROSECONDS
    for at in [LOWEST + n * step for n in range(60)] + [END - 1 - n * step for n in range(60)]:
        try:
            theirs = ask(server, name, [at])[0]
        except psycopg.errors.DatetimeFieldOverflow:
            with pytest.raises(RowRefused):
                zone.to_utc(at, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
        else:
            assert zone.to_utc(at, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT) == (theirs, "")
