"""The log as lifecycle's pool sees it. Loaded as a plugin: `pytest_plugins = ["tests.contract.lifecycle_fixtures"]`."""

from collections.abc import AsyncIterator

import pytest

from libs.config import Database as DatabaseSettings
from libs.pg import Pool, connect_pool
from services.lifecycle import queries
from tests.contract.aged_log import AgedLog
from tests.databases import Database


@pytest.fixture
def pool_size() -> int:
    """Override it for more or fewer connections."""
    return 4


@pytest.fixture
async def pool(database: Database, pool_size: int) -> AsyncIterator[Pool]:
    settings = DatabaseSettings(url=database.dsn("lifecycle"), pool=pool_size)
    found = await connect_pool(settings, prepare=queries.SET_EPOCH)
    yield found
    await found.close()


@pytest.fixture
def log(pool: Pool, database: Database) -> AgedLog:
    return AgedLog(pool, database)
