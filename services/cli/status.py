"""`automata status`."""

import asyncio
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from services.cli.control import Request, ask
from services.cli.datadir import DataDir
from services.cli.options import data_dir_option, json_option
from services.cli.supervisor import ProcessStatus, how_it_ended


@click.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Show every process in DIR. Exit code 1 when one of them is not ready, or nothing runs."""
    found = asyncio.run(ask(DataDir(data_dir), Request("status"), 15.0)).processes
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(highlight=False).print(_table(found))
    if not all(process.ready for process in found):
        raise SystemExit(1)


def _table(found: list[ProcessStatus]) -> Table:
    table = Table()
    for column in ("process", "pid", "state", "ready", "up", "restarts", "last end"):
        table.add_column(column, justify="right" if column in ("pid", "restarts") else "left")
    for process in found:
        table.add_row(
            process.name,
            str(process.pid or ""),
            process.state,
            "[green]yes[/]" if process.ready else "[red]no[/]",
            _age(process.started_at) if process.pid else "",
            str(process.restarts),
            "" if process.last_exit is None else how_it_ended(process.last_exit),
        )
    return table


def _age(started_at: float) -> str:
    minutes, seconds = divmod(int(time.time() - started_at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
