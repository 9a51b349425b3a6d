"""`automata start NAME`."""

import asyncio
from pathlib import Path

import click

from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.options import data_dir_option
from services.cli.stop import TIMEOUT


@click.command(hidden=True)
@click.argument("name")
@data_dir_option
def start(name: str, data_dir: Path) -> None:
    """Start the process NAME after `automata stop NAME`, and wait until it is ready."""
    asyncio.run(ask(DataDir(data_dir), Request("start", name), TIMEOUT))
    click.echo(f"{name} is ready.")
