"""`automata tail`."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from libs import subjects
from libs.bus import Bus
from libs.config import Nats
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
            batch = msgspec.json.decode(message.data)
            for event in batch["events"]:
                click.echo(line(batch["application_id"], event, as_json))
    finally:
        await bus.close()


def line(application_id: str, event: dict[str, Any], as_json: bool) -> str:
    """One event, for people or, as one JSON object, for programs."""
    if as_json:
        return msgspec.json.encode({"application_id": application_id, **event}).decode()
    reason = f"  {event['reason']}" if event.get("reason") else ""
    return f"{_time(event['occurred_at'])}  {event['message_id']}  {event['kind']:<10} #{event['attempt']}{reason}"


def _time(moment: str | float) -> str:
    """RFC 3339, or Unix milliseconds."""
    if isinstance(moment, str):
        return moment
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
