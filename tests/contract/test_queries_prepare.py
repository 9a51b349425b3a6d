"""Every SQL constant is a statement that Postgres takes, with the grants of the service's own role."""

import importlib
from types import ModuleType

import asyncpg
import pytest

from tests.databases import Database

MODULES = (
    "application.queries",
    "application.queries_limits",
    "application.queries_keys",
    "subscription.queries",
    "subscription.queries_keys",
    "subscription.queries_reading",
    "subscription.queries_lists",
    "lifecycle.queries_erasure",
    "subscription.queries_export",
    "subscription.queries_erasure",
    "subscription.queries_users",
    "lifecycle.queries",
    "lifecycle.queries_accept",
    "lifecycle.queries_handoff",
    "lifecycle.queries_tail",
    "lifecycle.queries_messages",
    "lifecycle.queries_expiry",
    "lifecycle.queries_partitions",
    "lifecycle.queries_stops",
    "lifecycle.queries_breakers",
    "lifecycle.queries_caps",
    "lifecycle.queries_rebuild",
    "lifecycle.queries_reconcile",
    "lifecycle.queries_schedule",
    "lifecycle.queries_window",
    "templating.queries",
)


def queries(module: str) -> ModuleType:
    return importlib.import_module(f"services.{module}")


def statements(module: str) -> dict[str, str]:
    """The UPPER_CASE texts that are whole: what stands inside of another one is a part of that."""
    texts = {name: text for name, text in vars(queries(module)).items() if name.isupper() and isinstance(text, str)}
    return {
        name: text
        for name, text in texts.items()
        if not any(text.strip() in other and text != other for other in texts.values())
    }


@pytest.mark.parametrize("module", MODULES)
async def test_every_statement_is_prepared_and_permitted(module: str, database: Database) -> None:
    found = statements(module)
    assert found
    connection = await asyncpg.connect(database.dsn(module.partition(".")[0]))
    try:
        await connection.execute("SELECT set_config('automata.epoch', '1', false)")
        for name, text in found.items():
            try:
                await connection.prepare(text)
                await connection.execute(f"EXPLAIN (GENERIC_PLAN) {text}")  # looks at the grants too
            except asyncpg.PostgresError as error:
                pytest.fail(f"{module}.{name}: {error}")
    finally:
        await connection.close()
