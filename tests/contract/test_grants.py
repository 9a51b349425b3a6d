"""What each service's role may do in Postgres, whatever the service's code says."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.migrate import SERVICES
from libs.pg import Connection, single_connection
from tests.databases import Database

TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname = ANY ($1) ORDER BY 1
"""
LOG = """
SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'lifecycle' AND relkind IN ('r', 'p')
    AND (relname = 'message_events' OR pg_class.oid IN (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'lifecycle.message_events'::regclass))
"""
NEXT_YEAR = "date_trunc('week', now())::date + 350"
HISTORY = "subscription.subscription_events"

Refused = asyncpg.InsufficientPrivilegeError


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    async with single_connection(database.admin_dsn) as connection:
        yield connection


async def tables(admin: Connection, *schemas: str) -> list[str]:
    return [row[0] for row in await admin.fetch(TABLES, schemas)]


async def is_refused(connection: Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except Refused:
        return True
    return False


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_cannot_read_or_write_the_tables_of_another(
    database: Database, admin: Connection, service: str
) -> None:
    foreign = await tables(admin, *(set(SERVICES) - {service}), "public")
    assert len(foreign) > 5
    async with single_connection(database.dsn(service)) as connection:
        for table in foreign:
            assert await is_refused(connection, f"SELECT FROM {table}"), table
            assert await is_refused(connection, f"DELETE FROM {table}"), table
            assert await is_refused(connection, f"INSERT INTO {table} DEFAULT VALUES"), table


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_can_read_its_own_tables(database: Database, admin: Connection, service: str) -> None:
    own = [table for table in await tables(admin, service) if table not in await partitions(admin)]
    async with single_connection(database.dsn(service)) as connection:
        for table in own:
            await connection.execute(f"SELECT FROM {table}")


async def test_lifecycle_cannot_change_or_remove_what_is_in_the_log(database: Database, admin: Connection) -> None:
    log = [row[0] for row in await admin.fetch(LOG)]
    assert len(log) > 5
    async with single_connection(database.dsn("lifecycle")) as connection:
        for table in log:
            assert await is_refused(connection, f"UPDATE {table} SET reason = 'other'"), table
            assert await is_refused(connection, f"DELETE FROM {table}"), table
            assert await is_refused(connection, f"TRUNCATE {table}"), table
            assert await is_refused(connection, f"DROP TABLE {table}"), table
            assert await is_refused(connection, f"ALTER TABLE {table} DISABLE TRIGGER ALL"), table
            assert await is_refused(connection, f"SELECT FROM {table} FOR UPDATE"), table


async def test_partitions_that_lifecycle_makes_are_not_its_own(database: Database, admin: Connection) -> None:
    known = {row[0] for row in await admin.fetch(LOG)}
    async with single_connection(database.dsn("lifecycle")) as connection:
        for table in ("messages", "message_events"):
            await connection.execute(f"SELECT lifecycle.add_partition('{table}', {NEXT_YEAR})")
        made = {row[0] for row in await admin.fetch(LOG)} - known
        assert made
        for table in made:
            assert await is_refused(connection, f"DELETE FROM {table}"), table
            assert await is_refused(connection, f"DROP TABLE {table}"), table


async def test_subscription_cannot_change_its_history(database: Database) -> None:
    async with single_connection(database.dsn("subscription")) as connection:
        assert await is_refused(connection, f"UPDATE {HISTORY} SET actor = 'other'")
        assert await is_refused(connection, f"DELETE FROM {HISTORY}")
        assert await is_refused(connection, f"TRUNCATE {HISTORY}")


async def test_application_cannot_bring_a_key_to_another_application_or_scope(database: Database) -> None:
    async with single_connection(database.dsn("application")) as connection:
        assert await is_refused(connection, "UPDATE application.api_keys SET scopes = '{manage}'")
        assert await is_refused(connection, "UPDATE application.api_keys SET application_id = gen_random_uuid()")
        assert await is_refused(connection, "DELETE FROM application.api_keys")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_can_neither_make_tables_nor_become_another_role(database: Database, service: str) -> None:
    async with single_connection(database.dsn(service)) as connection:
        for schema in (*SERVICES, "public"):
            assert await is_refused(connection, f"CREATE TABLE {schema}.own (id integer)"), schema
        for role in set(SERVICES) - {service}:
            assert await is_refused(connection, f"SET ROLE automata_{role}"), role
        assert await is_refused(connection, "COPY (SELECT 1) TO PROGRAM 'true'")
        assert await is_refused(connection, "SELECT pg_read_file('postgresql.conf')")


async def partitions(admin: Connection) -> set[str]:
    """They are reached through their parent only."""
    return {row[0] for row in await admin.fetch("SELECT inhrelid::regclass::text FROM pg_inherits")}
