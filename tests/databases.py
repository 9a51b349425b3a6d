"""One migrated template database, copied for each test."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from libs.migrate import SERVICES, migrate
from libs.pg import single_connection

_LOCK = 0x74657374  # "test"


class Database(NamedTuple):
    """A database of the test's own, migrated and empty."""

    admin_dsn: str

    def dsn(self, service: str) -> str:
        """As the role of a service connects."""
        parts = urlsplit(self.admin_dsn)
        host = f"{parts.hostname}:{parts.port or 5432}"
        return urlunsplit(parts._replace(netloc=f"automata_{service}:{password(service)}@{host}"))


def password(service: str) -> str:
    """The same in every run: roles belong to the cluster, which several test processes may share."""
    return f"test-{service}"


def renamed(dsn: str, name: str) -> str:
    """The DSN of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def create_template(server_dsn: str) -> str:
    """Its name. Test processes take turns: roles are shared, and migrations lock one database only."""
    name = f"automata_template_{secrets.token_hex(4)}"
    async with single_connection(server_dsn) as admin:
        await admin.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await admin.execute(f"CREATE DATABASE {name}")
        await migrate(renamed(server_dsn, name), {service: password(service) for service in SERVICES})
    return name


async def drop(server_dsn: str, name: str) -> None:
    async with single_connection(server_dsn) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def cloned(server_dsn: str, template: str | None) -> AsyncIterator[Database]:
    """A copy of `template`, or without one an empty database; dropped at the end."""
    name = f"automata_test_{secrets.token_hex(6)}"
    async with single_connection(server_dsn) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
    try:
        yield Database(renamed(server_dsn, name))
    finally:
        await drop(server_dsn, name)
