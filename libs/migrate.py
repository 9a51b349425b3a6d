"""Numbered SQL files, forward only, applied once each under a session lock; a changed file is refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from libs.pg import Connection, single_connection

SQL = Path(__file__).resolve().parent.parent / "deploy" / "sql"
LOCK = 0x6175746F  # "auto"
LEDGER = """
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
APPLIED = "SELECT name, sha256 FROM public.schema_migrations"
RECORD = "INSERT INTO public.schema_migrations (name, sha256) VALUES ($1, $2)"
SERVICES = ("application", "subscription", "templating", "lifecycle")


class MigrationChanged(Exception):
    """A file that was applied is not what it was: write a new one instead."""


async def migrate(dsn: str, passwords: Mapping[str, str] | None = None, folder: Path = SQL) -> list[str]:
    """Apply what is missing and set the passwords of the service roles. Returns the names applied now.

    The session lock is taken before reading what is applied: a transaction's lock loses that race.
    """
    async with single_connection(dsn) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        try:
            applied = await _apply_missing(connection, folder)
            for service, password in (passwords or {}).items():
                await _set_password(connection, service, password)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
    return applied


async def _apply_missing(connection: Connection, folder: Path) -> list[str]:
    await connection.execute("SELECT set_config('automata.epoch', '1', false)")
    await connection.execute(LEDGER)
    known = {row["name"]: row["sha256"] for row in await connection.fetch(APPLIED)}
    applied = []
    for file in _files(folder):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if file.name in known:
            if known[file.name] != digest:
                raise MigrationChanged(file.name)
            continue
        async with connection.transaction():
            await connection.execute(file.read_text())
            await connection.execute(RECORD, file.name, digest)
        applied.append(file.name)
    return applied


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.sql"))


async def _set_password(connection: Connection, service: str, password: str) -> None:
    if service not in SERVICES:
        raise ValueError(f"no role for service {service}")
    async with connection.transaction():
        await connection.execute("SELECT set_config('automata.password', $1, true)", password)
        await connection.execute(
            f"DO $$ BEGIN EXECUTE format('ALTER ROLE automata_{service} PASSWORD %L', "
            "current_setting('automata.password')); END $$"
        )
