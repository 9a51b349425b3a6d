"""`automata events`."""

import asyncio
from pathlib import Path

import click
import msgspec
from rich.console import Console

from libs.api.messages import Timeline
from services.cli import timeline
from services.cli.gateway import installed
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
    found = asyncio.run(_fetch(data_dir, message_id))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        Console(highlight=False).print(timeline.table(found))


async def _fetch(data_dir: Path, message_id: str) -> Timeline:
    async with installed(data_dir) as client:
        return await client.messages.events(message_id)
