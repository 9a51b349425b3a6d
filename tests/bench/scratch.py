"""A database of the benchmark's own beside the system's, on the same server, dropped afterwards."""

import contextlib
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg


@contextlib.asynccontextmanager
async def scratch_database(dsn: str, purpose: str) -> AsyncIterator[str]:
    """The address of an empty database; `dsn` must belong to a role that may create one."""
    name = f"bench_{purpose}_{os.getpid()}"
    owner = await asyncpg.connect(dsn, timeout=10)
    try:
        await owner.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        finally:
            await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await owner.close()
