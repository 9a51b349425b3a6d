"""The numbered migrations and the whole schema in one file come to the same (STYLE, habit 5)."""

from libs.pg import single_connection
from tests.databases import Database
from tests.schema import SCHEMA, dump


async def test_schema_sql_makes_what_the_migrations_make(database: Database, empty_database: Database) -> None:
    async with single_connection(empty_database.admin_dsn) as connection:
        await connection.execute(SCHEMA.read_text())
    assert dump(empty_database.admin_dsn) == dump(database.admin_dsn)
