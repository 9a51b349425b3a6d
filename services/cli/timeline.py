"""The life of one message as a table: what happened, when, and why."""

import asyncio
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from services.cli.failure import Failure
from services.cli.gateway import Gateway

FINAL = frozenset({"successful", "failed", "received", "converted", "cancelled"})
_POLL = 0.1


def table(message_id: str, found: dict[str, Any]) -> RenderableType:
    """`found` is the data of GET /messages/:id/events."""
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("time (UTC)", "since", "event", "attempt", "why"):
        rows.add_column(column, overflow="fold")
    moments = [_moment(event["occurred_at"]) for event in found["events"]]
    for event, moment in zip(found["events"], moments, strict=True):
        rows.add_row(
            moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            f"+{(moment - min(moments)).total_seconds():.3f} s",
            f"[bold]{escape(event['event_type'])}[/]",
            str(event["attempt"]),
            escape(event.get("why") or event.get("reason") or ""),
        )
    outlook = _outlook(found)
    title = f"[bold]Message {escape(message_id)}: {escape(found['status'])}[/]"
    return Group(title, rows, f"{outlook}\n") if outlook else Group(title, rows)


def _outlook(found: dict[str, Any]) -> str:
    next_attempt = found.get("next_attempt_at")
    parts = [found.get("why") or "", f"Next attempt: {next_attempt}" if next_attempt else ""]
    return escape(" ".join(part for part in parts if part))


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


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
