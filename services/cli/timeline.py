"""The life of one message as a table: what happened, when, and why."""

import asyncio
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from libs.api.messages import Event, Timeline
from libs.client import AsyncClient
from services.cli.failure import Failure

FINAL = frozenset({"successful", "failed", "received", "converted", "cancelled"})
_POLL = 0.1


def table(found: Timeline) -> RenderableType:
    moments = [datetime.fromisoformat(event.occurred_at) for event in found.events]
    day = f" [dim]({min(moments):%Y-%m-%d}, UTC)[/]" if moments else ""
    rows = Table.grid(padding=(0, 2))
    for event, moment in zip(found.events, moments, strict=True):
        rows.add_row(
            f"  {moment:%H:%M:%S.%f}"[:-3],
            f"+{(moment - min(moments)).total_seconds():.3f} s",
            f"[bold]{escape(event.event_type)}[/]",
            f"#{event.attempt}" if event.attempt else "",
            escape(_why(event)),
        )
    return Group(f"[bold]Message {escape(found.id)}: {escape(found.status)}[/]{day}", rows, *_outlook(found))


def _why(event: Event) -> str:
    return event.why or event.reason or ""


def _outlook(found: Timeline) -> list[str]:
    """What the last event does not say."""
    told = _why(found.events[-1]) if found.events else ""
    parts = [found.why] if found.why and found.why != told else []
    parts += [f"Next attempt: {found.next_attempt_at}"] if found.next_attempt_at else []
    return [f"  [dim]{escape(' '.join(parts))}[/]"] if parts else []


async def until(client: AsyncClient, message_id: str, seconds: float) -> Timeline:
    """The events once the message is final. Raises `Failure` naming what it waits for after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await client.messages.get(message_id)
                if message.status in FINAL:
                    break
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise Failure(
            f"message {message_id} is not final after {seconds:g} s",
            f"see what it waits for with `automata events show {message_id}`",
        ) from None
    return await client.messages.events(message_id)
