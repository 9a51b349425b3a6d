"""`automata down`."""

import asyncio
import time
from pathlib import Path

import click

from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option

_PATIENCE = 90.0


@click.command()
@data_dir_option
def down(data_dir: Path) -> None:
    """Stop what `automata up` started in DIR: the API first, the database last. Data stays."""
    data = DataDir(data_dir)
    if not data.is_running():
        click.echo(f"Nothing is running in {data.path}.")
        return
    asyncio.run(ask(data, Request("down"), 10.0))
    deadline = time.monotonic() + _PATIENCE
    while data.is_running():
        if time.monotonic() > deadline:
            raise Failure(f"still stopping after {_PATIENCE:g} s", f"look into {data.logs}")
        time.sleep(0.05)
    click.echo("Stopped.")
