"""Passwords and keys of an embedded installation: made once, kept in DIR/secrets, never shown.

Each secret that a process needs lies in a file of its own, so that its environment can name the file.
"""

import secrets
from pathlib import Path

import msgspec

from services.cli import datadir
from services.cli.datadir import DataDir

ROLES = ("application", "subscription", "templating", "lifecycle")
"""Services with a schema, each with a database role of its own."""
POSTGRES_OWNER = "automata"
NATS_USER = "automata"
DATABASE = "automata"


class Passwords(msgspec.Struct, frozen=True):
    """Hexadecimal, so that none needs quoting in a URL or a configuration file."""

    postgres: str
    nats: str
    nats_store: str
    """Encrypts JetStream's files (R14)."""
    roles: dict[str, str]


class Demo(msgspec.Struct, frozen=True):
    """The demonstration application."""

    application_id: str
    api_key: str = ""
    """Empty until it has been created."""
    credentials: str = ""
    """Digest of the provider credentials that were last handed over."""


def passwords(data: DataDir) -> Passwords:
    """Those of this directory, made at the first call; a service that is newer than the directory gets its own."""
    path = data.secrets / "passwords.json"
    found = datadir.read(path, Passwords)
    if found is None:
        found = Passwords(
            postgres=secrets.token_hex(24),
            nats=secrets.token_hex(24),
            nats_store=secrets.token_hex(32),
            roles={},
        )
    missing = {role: secrets.token_hex(24) for role in ROLES if role not in found.roles}
    if missing:
        found = msgspec.structs.replace(found, roles=found.roles | missing)
        datadir.write(path, found)
    return found


def postgres_dsn(port: int, password: str, user: str = POSTGRES_OWNER) -> str:
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{DATABASE}"


def nats_url(port: int, password: str) -> str:
    return f"nats://{NATS_USER}:{password}@127.0.0.1:{port}"


def secret_file(data: DataDir, name: str, content: str) -> Path:
    """Keep one secret in a file of its own, for `<VARIABLE>_FILE`."""
    path = data.secrets / name
    datadir.write_bytes(path, content.encode())
    return path
