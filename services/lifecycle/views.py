"""One message as its reader sees it: projection, timeline, and the content while its data key lives."""

from typing import Any

from libs.bus import Bus
from libs.errors import ResourceNotFound
from libs.pg import Pool, Row
from libs.rpc import EventView, MessageView, Resolve, Resolved
from libs.seal import KeyRing, SealError, associated, key_id_of

from . import queries
from .accept import CONTENT_COLUMN


class Views:
    def __init__(self, pool: Pool, bus: Bus, ring: KeyRing) -> None:
        self._pool = pool
        self._bus = bus
        self._ring = ring

    async def message(self, application_id: str, message_id: str) -> MessageView:
        """Raises `ResourceNotFound` for an unknown id and for another application's alike."""
        async with self._pool.connection() as c:
            row = await queries.message(c, message_id, application_id)
            events = await queries.events(c, message_id, application_id) if row is not None else []
        if row is None:
            raise ResourceNotFound(id=message_id)
        sealed = next((event["sealed"] for event in events if event["kind"] == "created"), None)
        content = None if sealed is None else await self._open(application_id, message_id, sealed)
        return _view(row, events, content)

    async def _open(self, application_id: str, message_id: str, sealed: bytes) -> bytes | None:
        key_id = key_id_of(sealed)
        request = Resolve(application_id, [], [key_id])
        keys = (await self._bus.call("subscription", "resolve", request, Resolved)).keys
        if key_id not in keys:
            return None
        try:
            key = self._ring.unwrap(key_id, keys[key_id])
            return key.open(sealed, associated(application_id, CONTENT_COLUMN, message_id))
        except SealError:
            return None


def _view(row: Row, events: list[Row], content: bytes | None) -> MessageView:
    return MessageView(
        id=str(row["id"]),
        subscription_id=str(row["subscription_id"]),
        channel=row["channel"],
        lane=row["lane"],
        category=row["category"],
        status=row["status"],
        attempt=row["attempt"],
        created_at_ms=_required(row["created_at"]),
        sent_at_ms=_ms(row["sent_at"]),
        received_at_ms=_ms(row["received_at"]),
        converted_at_ms=_ms(row["converted_at"]),
        failed_at_ms=_ms(row["failed_at"]),
        cancelled_at_ms=_ms(row["cancelled_at"]),
        reason=row["reason"],
        content=content,
        events=[_event(event) for event in events],
        next_attempt_at_ms=_ms(row["due_at"]),
        next_attempt_reason=row["due_reason"],
    )


def _event(event: Row) -> EventView:
    return EventView(
        kind=event["kind"],
        attempt=event["attempt"],
        key=event["key"],
        occurred_at_ms=_required(event["occurred_at"]),
        reason=event["reason"],
        data=event["data"] or {},
    )


def _required(moment: Any) -> int:
    milliseconds: int = round(moment.timestamp() * 1000)
    return milliseconds


def _ms(moment: Any) -> int | None:
    return None if moment is None else _required(moment)
