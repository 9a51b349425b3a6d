"""`automata stop NAME`: a fault on purpose."""

import asyncio
from pathlib import Path

import click

from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.options import data_dir_option

TIMEOUT = 150.0


@click.command(hidden=True)
@click.argument("name")
@data_dir_option
def stop(name: str, data_dir: Path) -> None:
    """Stop the process NAME and keep it down until `automata start NAME`: to see how the rest gets on without it."""
    asyncio.run(ask(DataDir(data_dir), Request("stop", name), TIMEOUT))
    click.echo(f"{name} is stopped.")
