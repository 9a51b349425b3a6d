"""The demonstration of `make run`: a message to two devices, a small batch, and the receipts of an app."""

import asyncio
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from services.cli import timeline
from services.cli.datadir import DataDir, Runtime
from services.cli.gateway import Gateway
from services.cli.options import data_dir_option

BATCH = 20
_DEADLINE = 30.0
_IOS_TOKEN = "a5" * 32
_ANDROID_TOKEN = "demo-device:" + "APA91b" + "x" * 134  # the form of an FCM registration token


async def demonstrate(runtime: Runtime, console: Console) -> None:
    """Raises `Failure` when a message does not arrive."""
    async with Gateway(runtime.api_url, runtime.api_key) as gateway:
        devices = [
            await gateway.register("iOSPush", _IOS_TOKEN),
            await gateway.register("AndroidPush", _ANDROID_TOKEN),
        ]
        console.print("\n[bold]One message to an iPhone[/], from the API to the provider and back into the log:")
        body = {"subscription_id": devices[0], "title": "Hello", "body": "Your first message"}
        message = await gateway.post("/messages", body)
        console.print(timeline.table(message["message_id"], await _arrived(gateway, message["message_id"])))
        await _batch(gateway, devices, console)
        await _receipts(gateway, message["message_id"], console)


async def _batch(gateway: Gateway, devices: list[str], console: Console) -> None:
    console.print(f"\n[bold]A batch of {BATCH}[/] to an iPhone and an Android phone:")
    bodies = [
        {"subscription_id": devices[number % 2], "title": f"Number {number + 1}", "body": f"{number + 1} of {BATCH}"}
        for number in range(BATCH)
    ]
    answer = await gateway.post("/messages/batch", {"messages": bodies})
    ids = [result["message_id"] for result in answer["results"]]
    for message_id, found in zip(ids, await asyncio.gather(*(_arrived(gateway, i) for i in ids)), strict=True):
        console.print(timeline.table(message_id, found))


async def _receipts(gateway: Gateway, message_id: str, console: Console) -> None:
    console.print("\n[bold]The app reports back[/]: received, then opened.")
    await gateway.post(f"/messages/{message_id}/status", {"status": "received"})
    await gateway.post(f"/messages/{message_id}/convert", {"action": "opened"})
    console.print(timeline.table(message_id, await timeline.events_of(gateway, message_id)))


async def _arrived(gateway: Gateway, message_id: str) -> dict[str, Any]:
    return await timeline.until(gateway, message_id, _DEADLINE)


@click.command(hidden=True)
@data_dir_option
def demo(data_dir: Path) -> None:
    """Send the demonstration messages to what is running."""
    asyncio.run(demonstrate(DataDir(data_dir).runtime(), Console(highlight=False)))
