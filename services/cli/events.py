"""`automata events`."""

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from services.cli import timeline
from services.cli.gateway import Gateway, gateway
from services.cli.options import data_dir_option, json_option


@click.group()
def events() -> None:
    """The facts that the log holds about a message."""


@events.command()
@click.argument("message_id")
@data_dir_option
@json_option
def show(message_id: str, data_dir: Path, as_json: bool) -> None:
    """Show what happened to MESSAGE_ID, when, and why; also why it was not sent, and when it will be tried again."""
    found = asyncio.run(_fetch(gateway(data_dir), message_id))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(highlight=False).print(timeline.table(message_id, found))


async def _fetch(opened: Gateway, message_id: str) -> dict[str, Any]:
    async with opened as session:
        return await timeline.events_of(session, message_id)
