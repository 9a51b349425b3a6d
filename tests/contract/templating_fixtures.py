"""The templating service in this process."""

from collections.abc import AsyncIterator

import pytest

from libs import config
from libs.pg import Connection, single_connection
from services.templating.__main__ import start
from services.templating.settings import Settings
from tests.databases import Database
from tests.in_process import running


@pytest.fixture
def settings(database: Database, nats_settings: config.Nats) -> Settings:
    return Settings(config.Database(database.dsn("templating"), pool=4), nats_settings)


@pytest.fixture
async def templating(settings: Settings) -> AsyncIterator[None]:
    async with running("templating", start, settings):
        yield


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    async with single_connection(database.admin_dsn) as connection:
        yield connection
