"""`automata migrate`."""

import asyncio
import os

import click
import msgspec

from libs.config import SettingsError, load
from libs.migrate import SERVICES, MigrationChanged
from libs.migrate import migrate as apply
from services.cli.failure import Failure

EXAMPLES = """\b
Example:
  DATABASE_URL=postgresql://owner:…@db/automata \\
  AUTOMATA_ROLES__LIFECYCLE_PASSWORD_FILE=/run/secrets/lifecycle automata migrate
"""


class Owner(msgspec.Struct, frozen=True):
    url: str


class Roles(msgspec.Struct, frozen=True):
    """Passwords to set; a role whose password is not given keeps the one it has."""

    application_password: str | None = None
    subscription_password: str | None = None
    templating_password: str | None = None
    lifecycle_password: str | None = None


class Settings(msgspec.Struct, frozen=True):
    database: Owner
    roles: Roles


@click.command(epilog=EXAMPLES)
def migrate() -> None:
    """Apply the migrations that DATABASE_URL lacks, and set the passwords of the services' roles.

    DATABASE_URL names the owner of the database, who may create roles and schemas. Passwords come from
    AUTOMATA_ROLES__APPLICATION_PASSWORD, …__SUBSCRIPTION_PASSWORD, …__TEMPLATING_PASSWORD and …__LIFECYCLE_PASSWORD, or
    from files named by the same variables with _FILE. Running it twice, or twice at once, does no harm.
    """
    try:
        settings = load(Settings, os.environ)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    given = {name: getattr(settings.roles, f"{name}_password") for name in SERVICES}
    applied = _apply(settings.database.url, {name: value for name, value in given.items() if value})
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("The schema is up to date.")


def _apply(dsn: str, passwords: dict[str, str]) -> list[str]:
    try:
        return asyncio.run(apply(dsn, passwords))
    except MigrationChanged as error:
        raise Failure(f"migration {error} was changed after it had been applied", "restore the file") from None
    except OSError as error:
        raise Failure(f"the database cannot be reached ({type(error).__name__})", "check DATABASE_URL") from None
