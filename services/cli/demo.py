"""The demonstration of `make run`: a message to two devices, a small batch, and the receipts of an app."""

import asyncio
from pathlib import Path

import click
from rich.console import Console

from libs.api.messages import BatchBody, ConvertBody, MessageBody, MessageItem, StatusBody, Timeline
from libs.client import AsyncClient
from services.cli import timeline
from services.cli.datadir import DataDir, Runtime
from services.cli.gateway import gateway, register
from services.cli.options import data_dir_option

BATCH = 20
_DEADLINE = 30.0
_IOS_TOKEN = "a5" * 32
_ANDROID_TOKEN = "demo-device:" + "APA91b" + "x" * 134  # the form of an FCM registration token


async def demonstrate(runtime: Runtime, console: Console) -> None:
    """Raises `Failure` when a message does not arrive."""
    async with gateway(runtime.api_url, runtime.api_key) as client:
        devices = [await register(client, "iOSPush", _IOS_TOKEN), await register(client, "AndroidPush", _ANDROID_TOKEN)]
        console.print("\n[bold]One message to an iPhone[/], from the API to the provider and back into the log:")
        body = MessageBody(subscription_id=devices[0], title="Hello", body="Your first message")
        message_id = str((await client.messages.send(body)).message_id)
        console.print(timeline.table(await _arrived(client, message_id)))
        await _batch(client, devices, console)
        await _receipts(client, message_id, console)


async def _batch(client: AsyncClient, devices: list[str], console: Console) -> None:
    console.print(f"\n[bold]A batch of {BATCH}[/] to an iPhone and an Android phone:")
    items = [
        MessageItem(subscription_id=devices[number % 2], title=f"Number {number + 1}", body=f"{number + 1} of {BATCH}")
        for number in range(BATCH)
    ]
    answer = await client.messages.send_batch(BatchBody(messages=items))
    ids = [str(result.message_id) for result in answer.results]
    for found in await asyncio.gather(*(_arrived(client, message_id) for message_id in ids)):
        console.print(timeline.table(found))


async def _receipts(client: AsyncClient, message_id: str, console: Console) -> None:
    console.print("\n[bold]The app reports back[/]: received, then opened.")
    await client.messages.status(message_id, StatusBody("received"))
    await client.messages.convert(message_id, ConvertBody(action="opened"))
    console.print(timeline.table(await client.messages.events(message_id)))


async def _arrived(client: AsyncClient, message_id: str) -> Timeline:
    return await timeline.until(client, message_id, _DEADLINE)


@click.command(hidden=True)
@data_dir_option
def demo(data_dir: Path) -> None:
    """Send the demonstration messages to what is running."""
    asyncio.run(demonstrate(DataDir(data_dir).runtime(), Console(highlight=False)))
