"""`automata tail`."""

import asyncio
import os
from datetime import UTC
from pathlib import Path

import click
import msgspec

from libs import subjects
from libs.bus import Bus
from libs.config import Nats
from libs.events import PublishedEvent, decode_batch
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option, json_option


@click.command()
@click.option("--application", metavar="ID", help="Default: the demonstration application; `*` for all.")
@data_dir_option
@json_option
def tail(application: str | None, data_dir: Path, as_json: bool) -> None:
    """Follow lifecycle events from now on, as any subscriber of the event stream gets them. Ctrl-C ends it.

    From the NATS server that NATS_URL names (then --application is needed), else from what runs in DIR.
    """
    url = os.environ.get("NATS_URL")
    if url is None or application is None:
        runtime = DataDir(data_dir).runtime()
        url, application = url or runtime.nats_url, application or runtime.application_id
    try:
        asyncio.run(_follow(url, application, as_json))
    except KeyboardInterrupt:
        click.echo(err=True)


async def _follow(url: str, application: str, as_json: bool) -> None:
    try:
        async with asyncio.timeout(10):
            bus = await Bus.connect(Nats(url=url), "tail")
    except (OSError, TimeoutError):
        raise Failure("NATS cannot be reached", "check NATS_URL, or `automata status`") from None
    try:
        subscription = await bus.client.subscribe(subjects.events(application))
        click.echo("following; Ctrl-C ends it", err=True)
        async for message in subscription.messages:
            batch = decode_batch(message.data)
            for event in batch.events:
                click.echo(as_object(batch.application_id, event) if as_json else as_line(event))
    finally:
        await bus.close()


def as_line(event: PublishedEvent) -> str:
    """For people."""
    moment = event.occurred_at.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    reason = f"  {event.reason}" if event.reason else ""
    return f"{moment}  {event.message_id}  {event.kind:<10} #{event.attempt}{reason}"


def as_object(application_id: str, event: PublishedEvent) -> str:
    """For programs: one JSON object on one line."""
    return msgspec.json.encode({"application_id": application_id, **msgspec.structs.asdict(event)}).decode()
