"""The life of one message as a table: what happened, when, and why."""

import asyncio
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from services.cli.failure import Failure
from services.cli.gateway import Gateway

FINAL = frozenset({"successful", "failed", "received", "converted", "cancelled"})
_POLL = 0.1


def table(message_id: str, found: dict[str, Any]) -> RenderableType:
    """`found` is the data of GET /messages/:id/events."""
    moments = [datetime.fromisoformat(event["occurred_at"]) for event in found["events"]]
    day = f" [dim]({min(moments):%Y-%m-%d}, UTC)[/]" if moments else ""
    rows = Table.grid(padding=(0, 2))
    for event, moment in zip(found["events"], moments, strict=True):
        rows.add_row(
            f"  {moment:%H:%M:%S.%f}"[:-3],
            f"+{(moment - min(moments)).total_seconds():.3f} s",
            f"[bold]{escape(event['event_type'])}[/]",
            f"#{event['attempt']}" if event["attempt"] else "",
            escape(_why(event)),
        )
    return Group(f"[bold]Message {escape(message_id)}: {escape(found['status'])}[/]{day}", rows, *_outlook(found))


def _why(event: dict[str, Any]) -> str:
    return event.get("why") or event.get("reason") or ""


def _outlook(found: dict[str, Any]) -> list[str]:
    """What the last event does not say."""
    told = _why(found["events"][-1]) if found["events"] else ""
    parts = [found["why"]] if found.get("why") and found["why"] != told else []
    parts += [f"Next attempt: {found['next_attempt_at']}"] if found.get("next_attempt_at") else []
    return [f"  [dim]{escape(' '.join(parts))}[/]"] if parts else []


async def until(gateway: Gateway, message_id: str, seconds: float) -> dict[str, Any]:
    """The events once the message is final. Raises `Failure` naming what it waits for after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await gateway.get(f"/messages/{message_id}")
                if message["status"] in FINAL:
                    break
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise Failure(
            f"message {message_id} is not final after {seconds:g} s",
            f"see what it waits for with `automata events show {message_id}`",
        ) from None
    return await events_of(gateway, message_id)


async def events_of(gateway: Gateway, message_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await gateway.get(f"/messages/{message_id}/events")
    return found
