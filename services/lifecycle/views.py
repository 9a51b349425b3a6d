"""One message as its reader sees it: projection, timeline, and the content while its data key lives."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from libs.errors import ResourceNotFound
from libs.pg import Pool, Row
from libs.rpc import EventView, MessageSummary, MessageView
from libs.seal import key_id_of
from libs.waits import wait_of

from . import queries
from .queries import ms
from .seals import Keys, Seals, detached, opened


class Views:
    def __init__(self, pool: Pool, seals: Seals) -> None:
        self._pool = pool
        self._seals = seals

    async def message(self, application_id: str, message_id: str) -> MessageView:
        """Raises `ResourceNotFound` for an unknown id and for another application's alike."""
        async with self._pool.connection() as c:
            row = await queries.message(c, message_id, application_id)
            events = await queries.events(c, message_id, application_id) if row is not None else []
        if row is None:
            raise ResourceNotFound(id=message_id)
        return view_of(row, events, await self._seals.keys(application_id, sealing_keys(events)))


def sealing_keys(events: Iterable[Row]) -> set[bytes]:
    """Ids of the data keys under which parts of these events are sealed."""
    return {key_id_of(event["sealed"]) for event in events if event["sealed"] is not None}


def view_of(row: Row, events: Sequence[Row], keys: Keys) -> MessageView:
    application_id, message_id = str(row["application_id"]), str(row["id"])
    sealed = next((event["sealed"] for event in events if event["kind"] == "created"), None)
    content = None if sealed is None else opened(keys, application_id, message_id, sealed)
    return MessageView(
        **msgspec.structs.asdict(summary_of(row)),
        content=content,
        events=[_event(event, application_id, message_id, keys) for event in events],
    )


def summary_of(row: Row) -> MessageSummary:
    wait = wait_of(row["due_reason"] or "")
    return MessageSummary(
        id=str(row["id"]),
        subscription_id=str(row["subscription_id"]),
        channel=row["channel"],
        lane=row["lane"],
        category=row["category"],
        status=row["status"],
        attempt=row["attempt"],
        created_at_ms=_required_ms(row["created_at"]),
        sent_at_ms=ms(row["sent_at"]),
        received_at_ms=ms(row["received_at"]),
        converted_at_ms=ms(row["converted_at"]),
        failed_at_ms=ms(row["failed_at"]),
        cancelled_at_ms=ms(row["cancelled_at"]),
        reason=row["reason"],
        user_id=_text(row["user_id"]),
        template_id=_text(row["template_id"]),
        template_version=row["template_version"],
        next_attempt_at_ms=None if wait is not None and wait.open_ended else ms(row["due_at"]),
        next_attempt_reason=row["due_reason"],
    )


def _event(event: Row, application_id: str, message_id: str, keys: Keys) -> EventView:
    """What an app attached to a conversion stands in its `data` while the data key lives."""
    data = event["data"] or {}
    if event["sealed"] is not None and event["kind"] == "converted":
        attached = detached(keys, application_id, message_id, event["key"], event["sealed"])
        data = {**data, "content_erased": True} if attached is None else {**data, "data": attached}
    return EventView(
        kind=event["kind"],
        attempt=event["attempt"],
        key=event["key"],
        occurred_at_ms=_required_ms(event["occurred_at"]),
        reason=event["reason"],
        data=data,
    )


def _required_ms(moment: Any) -> int:
    milliseconds: int = round(moment.timestamp() * 1000)
    return milliseconds


def _text(identifier: Any) -> str | None:
    return None if identifier is None else str(identifier)
