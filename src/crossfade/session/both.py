"""Both databases photographed at once, for whoever compares their schemas.

Refuses to know what the photographs are for. The invariant: it holds no connection when it returns.
"""

from __future__ import annotations

import asyncio

import psycopg

from crossfade.catalog import Catalog
from crossfade.session.connect import connect, server_fault
from crossfade.session.introspect import read_catalog


async def read_both(source_dsn: str, target_dsn: str, *, purpose: str) -> tuple[Catalog, Catalog]:
    """The catalogs of source and target. Raises as `connect` does."""
    source, target = await asyncio.gather(
        _read(source_dsn, "source", purpose=purpose), _read(target_dsn, "target", purpose=purpose)
    )
    return source, target


async def _read(dsn: str, endpoint: str, *, purpose: str) -> Catalog:
    async with await connect(dsn, purpose=purpose, endpoint=endpoint) as connection:
        try:
            return await read_catalog(connection)
        except psycopg.Error as error:
            raise server_fault(error, where=endpoint) from None
