"""Numbered SQL files come to the schema that is written down, once, whoever applies them."""

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from libs.migrate import SQL, MigrationChanged, migrate
from libs.pg import single_connection
from services.cli.wheels import postgres_bin
from tests import schema
from tests.databases import Database

FILES = sorted(file.name for file in SQL.glob("[0-9]*.sql"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that may be changed."""
    return Path(shutil.copytree(SQL, tmp_path / "sql"))


async def test_the_migrations_come_to_the_schema_that_is_written_down(database: Database) -> None:
    async with single_connection(database.admin_dsn) as connection:
        version = connection.get_server_version().major
    if version != 18:
        pytest.skip(f"schema.sql is written with pg_dump of PostgreSQL 18 ({postgres_bin()}), the server is {version}")
    assert schema.SCHEMA.read_text() == schema.dump(database.admin_dsn), "make generate"


async def test_files_are_applied_in_order_and_once(empty_database: Database) -> None:
    assert await migrate(empty_database.admin_dsn) == FILES
    assert await migrate(empty_database.admin_dsn) == []


async def test_simultaneous_runs_apply_each_file_once(empty_database: Database) -> None:
    runs = await asyncio.gather(*(migrate(empty_database.admin_dsn) for _ in range(4)))
    assert sorted(name for run in runs for name in run) == FILES


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(database: Database, folder: Path) -> None:
    with (folder / FILES[1]).open("a") as file:
        file.write("-- changed\n")
    with pytest.raises(MigrationChanged, match=FILES[1]):
        await migrate(database.admin_dsn, folder=folder)


async def test_a_file_that_fails_leaves_nothing_of_itself_and_is_applied_when_mended(
    database: Database, folder: Path
) -> None:
    mended = folder / "0900_next.sql"
    mended.write_text("CREATE TABLE public.half (id integer); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database.admin_dsn, folder=folder)
    mended.write_text("CREATE TABLE public.half (id integer);")
    assert await migrate(database.admin_dsn, folder=folder) == [mended.name]


async def test_a_password_is_set_for_known_services_only(database: Database) -> None:
    with pytest.raises(ValueError, match="postgres"):
        await migrate(database.admin_dsn, {"postgres": "secret"})
