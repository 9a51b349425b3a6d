"""`automata send`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from libs.api.messages import MessageBody
from services.cli import timeline
from services.cli.gateway import installed, register
from services.cli.options import data_dir_option

EXAMPLES = """\b
Examples:
  automata send --type iOSPush --token 8f3a… --title Hello --body World
  automata send --subscription 0199… --title Hello --data '{"screen": "orders"}'
  AUTOMATA_API_URL=https://signal.example.com AUTOMATA_API_KEY=… automata send …
"""


@click.command(epilog=EXAMPLES)
@click.option("--subscription", metavar="ID", help="Whom to send to.")
@click.option("--type", "kind", type=click.Choice(["iOSPush", "AndroidPush"]), help="With --token: the kind of device.")
@click.option("--token", help="Register this push token, unless it is registered, and send to it.")
@click.option("--title", help="Title; this or --body is needed.")
@click.option("--body", help="Text.")
@click.option("--data", metavar="JSON", help="Additional data for the app, a JSON object.")
@click.option("--wait", "seconds", type=float, default=30.0, show_default=True, help="Seconds to wait for its outcome.")
@data_dir_option
def send(
    subscription: str | None,
    kind: str | None,
    token: str | None,
    title: str | None,
    body: str | None,
    data: str | None,
    seconds: float,
    data_dir: Path,
) -> None:
    """Send one message, wait for its outcome and show its timeline.

    Through the API that AUTOMATA_API_URL and AUTOMATA_API_KEY name, else through what runs in DIR.
    """
    if (subscription is None) == (kind is None or token is None):
        raise click.UsageError("name the receiver: --subscription ID, or --type and --token")
    if title is None and body is None:
        raise click.UsageError("give --title or --body")
    message = MessageBody(subscription_id=subscription, title=title, body=body, data=_json_object(data))
    asyncio.run(_send(data_dir, message, (kind or "", token or ""), seconds))


async def _send(data_dir: Path, message: MessageBody, device: tuple[str, str], seconds: float) -> None:
    async with installed(data_dir) as client:
        if message.subscription_id is None:
            message = msgspec.structs.replace(message, subscription_id=await register(client, *device))
        message_id = str((await client.messages.send(message)).message_id)
        click.echo(f"accepted: {message_id}")
        Console(highlight=False).print(timeline.table(await timeline.until(client, message_id, seconds)))


def _json_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--data is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError("--data must be a JSON object")
    return value
