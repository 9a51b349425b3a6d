"""`automata projections`."""

import asyncio
import importlib
import os
from pathlib import Path

import click

from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option


@click.group()
def projections() -> None:
    """What is derived from the log, and can be made again from it."""


@projections.command()
@data_dir_option
def rebuild(data_dir: Path) -> None:
    """Empty `messages`, fill it again from the log, and compare the checksums. Exit code 1 when they differ.

    In the database that DATABASE_URL names, else in what runs in DIR.
    """
    dsn = os.environ.get("DATABASE_URL") or DataDir(data_dir).runtime().postgres_dsn
    # Services do not import each other; lifecycle owns the log, and this command is a door to it.
    lifecycle = importlib.import_module("services.lifecycle.rebuild")
    rebuilt = asyncio.run(lifecycle.rebuild(dsn))
    click.echo(f"messages         {rebuilt.messages}")
    click.echo(f"checksum before  {rebuilt.checksum_before}")
    click.echo(f"checksum after   {rebuilt.checksum_after}")
    if rebuilt.checksum_before != rebuilt.checksum_after:
        raise Failure(
            "the projection was changed by the rebuild",
            "if messages were flowing, run it again when they have ended; else it was wrong before, and is right now",
        )
